"""Plans, manifests, saved plans, suites and pictures of resources that have secrets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from provisioner.engine import manifest as manifests
from provisioner.engine.plan import make_plan, scope_of
from provisioner.engine.seal import seal
from provisioner.errors import Source
from provisioner.model import Address, Declared, Desired, Manifest, Owned, Plan, Resource, Snapshot
from provisioner.report.data import plans_data
from provisioner.report.picture import picture
from provisioner.report.text import Style, plans_text
from provisioner.resources import kinds
from provisioner.secrets import Paths
from provisioner.verify.suite import write_suite

CONTENT: Paths = frozenset({("content",)})
KEY = b"k" * 32


def one(kind: str, **fields: Any) -> Resource:
    made: Resource = kinds()[kind].resource.model_validate(fields)
    return made


def declared(resource: Resource, *paths: tuple[str, ...]) -> Declared:
    return Declared(resource, Source("main.yml", 1), secrets=resource.secret_fields(frozenset(paths)))


def plan_of(wanted: Iterable[Declared], found: Iterable[Resource] = (), owned: Manifest | None = None) -> Plan:
    desired = Desired({d.resource.address: d for d in wanted})
    ours = Manifest("default", {d.resource.address: manifests.own(d) for d in desired.resources.values()})
    return make_plan(desired, Snapshot({r.address: r for r in found}), owned or ours)


def everything(plan: Plan) -> str:
    """All that is said of a plan, in each format."""
    plans = {"h1": plan}
    reasons = " ".join(step.reason for step in plan.steps)
    return plans_text(plans, Style(False)) + json.dumps([plans_data(plans), plans_data(plans, KEY)]) + reasons


#: Before, after, and which field of it is secret.
CHANGES: list[tuple[Resource, Resource, tuple[str, ...]]] = [
    (one("file", path="/x", content="OLD"), one("file", path="/x", content="NEW"), ("content",)),
    (one("file", path="/x", content="OLD\nb\n"), one("file", path="/x", content="NEW\nb\nc\n"), ("content",)),
    (one("file", path="/x", content="OLD"), one("file", path="/x", content_base64="TkVXAA=="), ("content_base64",)),
    (one("template", path="/x", content="OLD"), one("template", path="/x", content="NEW"), ("content",)),
    (
        one("unit", name="a", ExecStart="/bin/x", credentials={"pw": "OLD", "left": "OLD"}),
        one("unit", name="a", ExecStart="/bin/x", credentials={"pw": "NEW", "come": "NEW"}),
        ("credentials", "pw"),
    ),
    (
        one("nftables", table="inet a", ruleset='chain c { tcp dport 1 comment "OLD"; }\n').model_copy(
            update={"declared_as": 'chain c { tcp dport 1 comment "NEW"; }\n'}
        ),
        one("nftables", table="inet a", ruleset='chain c { tcp dport 1 comment "NEW"; }\n'),
        ("ruleset",),
    ),
    (one("sysctl", name="kernel.x", value="OLD"), one("sysctl", name="kernel.x", value="NEW"), ("value",)),
]  # fmt: skip
IDS = [f"{after.kind}.{'.'.join(path)}" for _, after, path in CHANGES]
change = pytest.mark.parametrize(("before", "after", "path"), CHANGES, ids=IDS)


@change
def test_no_plan_shows_it(before: Resource, after: Resource, path: tuple[str, ...]) -> None:
    made = declared(after, path)
    was = Manifest("default", {before.address: manifests.own(declared(before, path))})
    plans = [plan_of([made]), plan_of([made], [before], was), plan_of([], [before], was), plan_of([made], [before])]
    for plan in plans:
        assert len(plan.steps) == 1
        said = everything(plan)
        assert "OLD" not in said
        assert "NEW" not in said
        assert "TkVXAA" not in said
    assert "(secret)" in everything(plans[0])
    assert "(secret) -> (secret, changed)" in everything(plans[1])


@change
def test_it_is_still_a_secret_after_it_has_left_the_configuration(
    before: Resource, after: Resource, path: tuple[str, ...]
) -> None:
    """The host has yesterday's secret, and the field is none any more today."""
    was = Manifest("default", {before.address: manifests.own(declared(before, path))})
    assert "OLD" not in everything(plan_of([Declared(after)], [before], was))


@change
def test_the_manifest_has_neither_it_nor_a_digest_and_still_knows_what_was_managed(
    before: Resource, after: Resource, path: tuple[str, ...]
) -> None:
    manifest = Manifest("default", {after.address: manifests.own(declared(after, path))})
    text = manifests.dump(manifest)
    assert "NEW" not in text
    other = manifests.dump(Manifest("default", {after.address: manifests.own(declared(before, path))}))
    if {*before.declared()} == {*after.declared()} and before.kind not in ("unit", "nftables"):
        assert text == other
    again = manifests.load("default", {"default": text})
    assert again == manifest
    plan = plan_of([declared(after, path)], [after], again)
    assert plan.steps == ()
    assert scope_of(Desired({after.address: declared(after, path)}), again).resources[after.address] == (after,)


def test_a_credential_that_is_left_out_is_taken_away_though_the_manifest_has_a_mask_for_it() -> None:
    before = one("unit", name="a", ExecStart="/bin/x", credentials={"pw": "OLD"})
    was = manifests.load(
        "default", {"default": manifests.dump(Manifest("default", {before.address: manifests.own(declared(before))}))}
    )
    (step,) = plan_of([Declared(one("unit", name="a", ExecStart="/bin/x"))], [before], was).steps
    assert [(one.field, one.after, one.effect) for one in step.changes] == [("credentials.pw", None, "restart")]


def test_the_fingerprint_is_no_way_to_guess_a_short_secret() -> None:
    """It is the same whatever the secret is; what is sealed with a key is not."""
    pins = [one("file", path="/x", content=pin) for pin in ("4711", "4712")]
    wanted = one("file", path="/x", content="1")
    plans = [plan_of([declared(wanted, ("content",))], [pin]) for pin in pins]
    assert plans[0].fingerprint == plans[1].fingerprint
    assert seal(plans[0].steps[0], KEY) != seal(plans[1].steps[0], KEY)
    assert seal(plans[0].steps[0], KEY) != seal(plans[0].steps[0], b"other" * 8)


def test_a_saved_plan_is_another_one_where_a_secret_is(tmp_path: Path) -> None:
    def saved(pin: str, key: bytes = KEY) -> dict[str, Any]:
        return plans_data({"h1": plan_of([declared(one("file", path="/x", content=pin), ("content",))])}, key)

    assert saved("4711") == saved("4711")
    assert saved("4711") != saved("4712")
    assert saved("4711")["sealed_with"] == saved("4712")["sealed_with"] != saved("4711", b"x")["sealed_with"]
    assert "4711" not in json.dumps(saved("4711"))


@change
def test_a_written_suite_and_a_picture_have_none(
    before: Resource, after: Resource, path: tuple[str, ...], tmp_path: Path
) -> None:
    made = declared(after, path)
    desired = Desired({after.address: made})
    write_suite(tmp_path / "suite", {"h1": desired}, project="p")
    drawn = picture({"h1": desired})
    texts = [file.read_text() for file in (tmp_path / "suite").rglob("*") if file.is_file()]
    for text in (*texts, drawn):
        assert "NEW" not in text
    import hashlib

    data: bytes = getattr(after, "data", None) or b"NEW"
    assert all(hashlib.sha256(data).hexdigest() not in text for text in texts)
    fields: Mapping[str, Any] = json.loads((tmp_path / "suite" / "declared.json").read_text())["h1"]["resources"][0]
    assert "(secret)" in json.dumps(fields)


def test_a_secret_that_everyone_may_read_is_warned_of() -> None:
    for mode, warned in ((None, True), ("0644", True), ("0640", False), ("0600", False)):
        made = declared(one("file", path="/x", content="s", mode=mode), ("content",))
        issues = list(made.resource.audit(Desired({made.resource.address: made})))
        assert [issue.severity for issue in issues] == (["warning"] if warned else [])


def test_what_has_no_secret_is_written_as_ever() -> None:
    resource = one("file", path="/x", content="c")
    assert Owned.of(resource, None, frozenset()) == Owned({"name": "/x", "content": "c"})
    text = manifests.dump(Manifest("default", {Address("file", "/x"): Owned.of(resource, None, frozenset())}))
    assert "secrets" not in text
