"""Resources whose facts any machine can check, for tests of the machinery around them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from provisioner.errors import Source
from provisioner.model import Check, Declared, Desired, Expect, Resource

ROLE = "roles/tenant/tasks/main.yml"


class Note(Resource):
    """A file with a text in it."""

    kind = "note"
    path: str
    text: str

    def checks(self) -> Iterable[Check]:
        yield Check(f"{self.address} exists", f"assert host.file({self.path!r}).exists")
        yield Check(
            f"{self.address} says {self.text}",
            f"found = run(host, None, 'cat {self.path}').stdout.strip()\nassert found == {self.text!r}",
        )


class Claimed(Resource):
    """A resource with the checks that a test gives it."""

    kind = "claimed"
    facts: list[tuple[str, str]]

    def checks(self) -> Iterable[Check]:
        return [Check(title, code) for title, code in self.facts]


def desired(*resources: Resource, expects: Iterable[Expect] = (), tests: Iterable[Path] = ()) -> Desired:
    """What a host shall have, each resource declared on a line of its own."""
    return Desired(
        {one.address: Declared(one, Source(ROLE, 4 + at), role="tenant") for at, one in enumerate(resources)},
        [(one, Source(ROLE, 31)) for one in expects],
        [str(path) for path in tests],
    )


def claimed(*facts: tuple[str, str]) -> Claimed:
    return Claimed(name="this", facts=list(facts))


def expect(from_: str, to: str, result: str = "reached", proto: str | None = None) -> Expect:
    return Expect.model_validate({"from": from_, "to": to, "result": result, "proto": proto})
