"""What ``nsprov explain`` says, and that the committed reference pages say the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from provisioner.host import Host
from provisioner.model import Driver, Effect, Kind, Resource, Scope, Step, StepResult, spec
from provisioner.report.reference import (
    FieldEntry,
    KindEntry,
    entry_of,
    field_text,
    index_text,
    kind_text,
    pages,
    task_text,
)
from provisioner.report.schema import task_schema
from provisioner.resources import kinds

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"


class End(BaseModel):
    name: str = spec(..., doc="the interface's name", examples=["eth0"])
    addresses: list[str] | None = spec(None, doc="its addresses", examples=[["10.0.0.2/24"]])


class Cable(Resource):
    """A cable between two ends.

    It is made of copper.
    """

    kind: ClassVar[str] = "cable"

    name: str = spec(..., effect=Effect.REPLACE, doc="what it is called", examples=["c1"])
    colour: Literal["red", "blue"] | None = spec(None, doc="the sleeve's colour", examples=["blue"])
    length: int = spec(1, effect=Effect.REPLACE, doc="how long it is, in metres")
    end: End = spec(..., effect=Effect.RESTART, doc="the far end")


class CableDriver(Driver[Cable]):
    def observe(self, host: Host, scope: Scope) -> Iterable[Cable]:
        return []

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        return iter(())


CABLE = Kind("cable", Cable, CableDriver())


@pytest.fixture
def cable() -> KindEntry:
    return entry_of(CABLE)


def test_a_kind_is_described_by_its_docstring(cable: KindEntry) -> None:
    assert (cable.summary, cable.about) == ("A cable between two ends.", "It is made of copper.")


def test_a_field_tells_its_type_default_effect_and_doc(cable: KindEntry) -> None:
    assert cable.field("length") == FieldEntry(
        "length", "integer", "how long it is, in metres", default=1, effect=Effect.REPLACE
    )
    assert cable.field("colour").type == "red | blue"
    assert cable.field("colour").given == "not managed when left out"
    assert cable.field("end.addresses").type == "list of text"
    assert cable.field("end").required


def test_a_kind_in_the_terminal(cable: KindEntry) -> None:
    text = kind_text(cable)
    assert text.startswith("cable: A cable between two ends.")
    assert "length  <integer>  default 1\n      how long it is, in metres\n      changing it: replaces" in text
    assert "its fields: nsprov explain cable.end" in text
    assert text.endswith(
        "- cable:\n      name: c1\n      colour: blue\n      end: {name: eth0, addresses: [10.0.0.2/24]}"
    )


def test_a_field_in_the_terminal(cable: KindEntry) -> None:
    text = field_text("cable", "end", cable.field("end"))
    assert text.startswith("cable.end  <mapping>  required")
    assert "addresses  <list of text>" in text


def test_an_unknown_field_names_the_part_that_is_wrong(cable: KindEntry) -> None:
    with pytest.raises(KeyError, match="adresses"):
        cable.field("end.adresses")


def test_the_list_of_kinds_is_one_line_each(cable: KindEntry) -> None:
    assert "  cable  A cable between two ends." in index_text([cable]).splitlines()


def test_the_schema_knows_fields_keywords_and_templates() -> None:
    schema = task_schema({"cable": CABLE})
    task = schema["$defs"]["task"]["properties"]
    assert {"cable", "expect", "when", "loop", "block"} <= set(task)
    fields, template = task["cable"]["anyOf"]
    assert template == {"$ref": "#/$defs/template"}
    assert template in fields["properties"]["length"]["anyOf"]
    assert fields["additionalProperties"] is False
    assert "register" not in task
    references = set(_references(schema))
    assert all(one.removeprefix("#/$defs/") in schema["$defs"] for one in references)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for one in value.values():
            yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


@pytest.mark.parametrize("name", sorted(kinds()))
def test_every_kind_and_field_is_documented(name: str) -> None:
    def check(path: str, fields: Sequence[FieldEntry]) -> Iterator[str]:
        for one in fields:
            if not one.doc and path + one.name != "name":
                yield path + one.name
            yield from check(f"{path}{one.name}.", one.fields)

    entry = entry_of(kinds()[name])
    assert entry.summary.endswith(".")
    assert list(check("", entry.fields)) == []


@pytest.mark.parametrize("name", sorted(kinds()))
def test_the_example_of_every_kind_is_right(name: str) -> None:
    (task,) = yaml.safe_load(task_text(entry_of(kinds()[name])))
    assert list(task) == [name]
    kinds()[name].resource.model_validate(task[name])


def test_the_reference_pages_are_up_to_date() -> None:
    wanted = pages(kinds())
    found = {path.name: path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md")}
    stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    assert not stale, f"run: nsprov explain --write docs/reference   (differs: {', '.join(stale)})"


def explain(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "provisioner", "explain", *arguments], capture_output=True, text=True, check=False
    )


def test_explain_lists_every_kind() -> None:
    done = explain()
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in kinds())


def test_explain_gives_a_schema_of_task_files() -> None:
    schema = json.loads(explain("--format", "json-schema").stdout)
    assert set(kinds()) <= set(schema["$defs"]["task"]["properties"])


def test_explain_of_an_unknown_kind_suggests_the_right_one() -> None:
    done = explain("brige")
    assert done.returncode == 64
    assert "did you mean" in done.stderr
    assert "bridge" in done.stderr


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    made = task_schema(kinds())
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


@pytest.mark.parametrize("path", sorted(ROOT.glob("roles/*/tasks/*.yml")), ids=lambda path: path.parts[-3])
def test_the_tasks_of_the_shipped_roles_fit_the_schema(schema: Draft202012Validator, path: Path) -> None:
    assert [error.message for error in schema.iter_errors(yaml.safe_load(path.read_text()))] == []


@pytest.mark.parametrize(
    "task",
    [
        {"netnss": {"name": "blue"}},
        {"slice": {"name": "a.slice", "MemoryMaxx": "1G"}},
        {"veth": {"name": "v", "peer": {"nam": "eth0"}}},
        {"netns": {"name": "blue"}, "bridge": {"name": "br0"}},
        {"netns": {"name": "blue"}, "register": "result"},
        {"unit": "web.service"},
    ],
    ids=lambda task: " ".join(task),
)
def test_a_task_that_the_loader_refuses_does_not_fit_the_schema(schema: Draft202012Validator, task: Any) -> None:
    assert not schema.is_valid([task])


@pytest.mark.parametrize(
    "task",
    [
        {"netns": {"name": "{{ tenant }}"}, "when": ["a", True], "loop": "{{ tenants }}", "tags": "x"},
        {"unit": "{{ everything }}"},
        {"template": {"dest": "/etc/a", "src": "a.j2"}},
        {"sysctl": {"name": "net.ipv4.ip_forward", "value": 1}},
        {"block": [{"expect": {"from": "blue", "to": "10.0.0.1"}}], "when": "x is defined"},
        {"include_role": {"name": "tenant"}, "vars": {"tenant_name": "blue"}},
        {"assert": {"that": "x > 1", "fail_msg": "more"}},
    ],
    ids=lambda task: " ".join(task),
)
def test_a_task_that_the_loader_takes_fits_the_schema(schema: Draft202012Validator, task: Any) -> None:
    assert schema.is_valid([task])


@pytest.mark.parametrize(("topic", "right"), [("veth.peer.adresses", "addresses"), ("unit.MemoryMx", "MemoryMax")])
def test_explain_of_an_unknown_field_suggests_the_right_one(topic: str, right: str) -> None:
    done = explain(topic)
    assert done.returncode == 64
    assert f"did you mean '{right}'?" in done.stderr


def test_explain_of_a_directive_says_what_it_takes() -> None:
    assert "a size such as 512M" in explain("unit.MemoryMax").stdout


def test_explain_knows_what_a_task_expects() -> None:
    assert "  expect " in explain().stdout
    text = explain("expect").stdout
    assert text.startswith("expect: Declares who reaches whom")
    assert "result  <reached | refused | dropped>  default reached" in text
    assert "changing it" not in text
    assert "not managed" not in text
    assert "the namespace that sends" in explain("expect.from").stdout
    assert "did you mean 'from'?" in explain("expect.form").stderr


def test_explain_knows_the_directives_of_a_units_socket_and_timer() -> None:
    text = explain("unit.socket").stdout
    assert "systemd.socket(5): Accept" in text
    assert text.index("systemd.socket(5)") < text.index("systemd.exec(5)")
    assert "a port, address:port" in explain("unit.socket.ListenStream").stdout
    assert "a calendar event" in explain("unit.timer.OnCalendar").stdout
    assert "did you mean 'ListenStream'?" in explain("unit.socket.ListenSteam").stderr
    assert "its directives: nsprov explain unit.socket" in explain("unit").stdout


def test_a_part_of_a_field_does_what_the_field_does() -> None:
    entry = entry_of(kinds()["unit"])
    for field, part in (("root", "overlay"), ("binds", "read_only")):
        (found,) = (one for one in entry.field(field).fields if one.name == part)
        assert found.changing == "restarts the workload"


def test_a_unit_keeps_its_name_in_another_namespace_and_an_interface_does_not() -> None:
    assert entry_of(kinds()["unit"]).field("netns").changing == "restarts the workload"
    assert entry_of(kinds()["veth"]).field("netns").changing == "makes it another resource"
