"""The kind ``directory``: a directory's owner and mode; what is in it is nobody's business here."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from provisioner.errors import ConfigError, Problem
from provisioner.model import Action, Check, Driver, Resource, StepResult
from provisioner.resources import register
from provisioner.resources.file import OnDisk, attributes_of, each_by_itself, owner_problems, spelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from provisioner.host import Host
    from provisioner.model import Change, Scope, Step

__all__ = ["Directory"]


class Directory(OnDisk):
    """A directory with this owner and mode. Its parent is there, or declared; it is deleted only when empty."""

    kind: ClassVar[str] = "directory"

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        assert isinstance(current, Directory)
        return self._attribute_changes(current)

    def summary(self) -> list[tuple[str, str]]:
        attributes = self._attributes()
        return [("mode", attributes)] if attributes else []

    def checks(self) -> Iterable[Check]:
        yield Check(f"{self.address} is a directory", f"assert file_type(host, {self.name!r}) == 'directory'")
        yield from self._attribute_checks()


class DirectoryDriver(Driver[Directory]):
    """Makes directories, sets their owner and mode, and removes those that are empty."""

    def observe(self, host: Host, scope: Scope) -> Iterable[Directory]:
        problems: list[Problem] = []
        found: list[Directory] = []
        for address, specs in scope.of("directory").items():
            known = [one for one in specs if isinstance(one, Directory)]
            if not known:
                # Only referred to, as the parent of a file: that it can be entered is all that matters.
                if host.files.is_directory(address.name):
                    found.append(Directory(name=address.name))
                continue
            entry = host.files.look(address.name)
            if entry is not None and entry.type == "directory":
                fields = {"name": address.name, "mode": f"{entry.mode:04o}", **spelled(host, entry, known)}
                found.append(Directory(**fields))
            if address in scope.undeclared:
                continue
            problems += owner_problems(host, known[:1])
            if entry is not None and entry.type != "directory":
                what = "a symbolic link" if entry.type == "link" else "not a directory"
                problems.append(
                    Problem(f"{address}: {address.name} is {what}", hint="remove it, or choose another path")
                )
        if problems:
            raise ConfigError(problems)
        return found

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        return each_by_itself(host, steps, _carry_out)


def _carry_out(host: Host, step: Step) -> None:
    if step.action is Action.DELETE:
        host.files.remove_directory(step.address.name)
        return
    assert isinstance(step.after, Directory)
    if step.action is Action.CREATE:
        host.files.make_directory(step.after.name, attributes_of(host, step.after, 0o755))
    else:
        host.files.change(step.after.name, attributes_of(host, step.after, None))


register(Directory, DirectoryDriver())
