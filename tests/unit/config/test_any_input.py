"""Whatever is written where: a desired graph, or a located error of the configuration, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner.config.build import build_desired
from provisioner.config.inventory import load_inventory
from provisioner.errors import ConfigError, Problem
from tests.unit.config.projects import FACTS

TEXTS = st.sampled_from(
    [
        "blue",
        "web",
        "main",
        "{{",
        "a",
        "}}",
        "{{",
        "b.c",
        "}}",
        "{{",
        "item",
        "}}",
        "{{",
        "nowhere",
        "}}",
        "{{",
        "a",
        "{%",
        "if",
        "%}",
        "{{",
        "[1]",
        "}}",
        "{{",
        "{}",
        "}}",
        "{{",
        "omit",
        "}}",
        "{{",
        "c",
        "}}",
        "x==1",
        "x:",
        "true",
        "5",
        "10.0.0.1/24",
        "../x",
        "/",
        ".",
        "{{",
        "a.b.c|default(1)",
        "}}",
        "{{",
        "lookup('file','x')",
        "}}",
        "{{",
        "hostvars.h1.a",
        "}}",
        "{{",
        "range(3)",
        "}}",
        "{{",
        "''.x.y",
        "}}",
        "{{",
        "a[0]",
        "}}",
        "{{",
        "a.items",
        "}}",
        "{{",
        "host.kernel",
        "}}",
        "{{",
        "1/0",
        "}}",
        "{{",
        "item.name",
        "}}",
        "main.yml",
        "more",
        "é",
        "\x7f",
    ]
) | st.text(max_size=6)
SCALARS = st.none() | st.booleans() | st.integers(-5, 70000) | st.floats(allow_nan=False) | TEXTS
KEYS = st.sampled_from(
    [
        "name",
        "when",
        "loop",
        "loop_control",
        "tags",
        "vars",
        "block",
        "include_tasks",
        "import_tasks",
        "include_role",
        "import_role",
        "assert",
        "fail",
        "expect",
        "netns",
        "bridge",
        "veth",
        "route",
        "rule",
        "nftables",
        "sysctl",
        "slice",
        "unit",
        "file",
        "directory",
        "template",
        "register",
        "shell",
        "with_items",
        "rescue",
        "loop_var",
        "index_var",
        "extended",
        "role",
        "tasks_from",
        "apply",
        "that",
        "msg",
        "fail_msg",
        "from",
        "to",
        "proto",
        "result",
        "peer",
        "addresses",
        "routes",
        "via",
        "type",
        "required",
        "default",
        "choices",
        "elements",
        "options",
        "aliases",
        "main",
        "argument_specs",
        "dependencies",
        "mutually_exclusive",
        "required_if",
        "required_by",
        "required_together",
        "mtu",
        "ruleset",
        "table",
        "content",
        "key",
        "value",
        "netns.name",
        "source",
    ]
) | st.text(max_size=4)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
KINDS = st.sampled_from(
    ["netns", "bridge", "veth", "route", "rule", "nftables", "sysctl", "slice", "unit", "file", "directory", "template"]
)
TASKS = st.lists(
    st.builds(
        lambda kind, fields, rest: {kind: fields, **rest},
        KINDS
        | st.sampled_from(
            ["block", "expect", "assert", "fail", "include_tasks", "import_tasks", "include_role", "import_role"]
        ),
        VALUES,
        st.dictionaries(
            st.sampled_from(["name", "when", "loop", "loop_control", "tags", "vars", "register"]), VALUES, max_size=2
        ),
    )
    | VALUES,
    max_size=3,
)
FILES = {
    "tasks": "roles/web/tasks/main.yml",
    "entry": "inventory.yml",
    "defaults": "roles/web/defaults/main.yml",
    "meta": "roles/web/meta/main.yml",
    "specs": "roles/web/meta/argument_specs.yml",
}


def built(folder: Path, files: dict[str, Any]) -> None:
    """Write the files over those of a project that works, and build it."""
    good: dict[str, Any] = {
        "tasks": [{"netns": {"name": "{{ a }}"}}],
        "entry": {"all": {"hosts": {"h1": None}, "vars": {"nsprov_roles": ["web"], "a": "blue", "b": {"c": 1}}}},
        "defaults": {"c": "{{ c }}", "d": "{{ a }}"},
        "meta": {},
        "specs": {"argument_specs": {}},
    }
    for name, path in FILES.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(files.get(name, good[name])))
    problems: Sequence[Problem] = ()
    try:
        inventory = load_inventory([str(folder / "inventory.yml")])
        build_desired(inventory, "h1", FACTS, role_path=[folder / "roles"])
    except ConfigError as error:
        problems = error.problems
    assert all(problem.source is not None for problem in problems), problems


#: More of them find more, and take longer.
EXAMPLES = int(os.environ.get("NSPROV_FUZZ", "25"))
FUZZ = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(TASKS)
def test_any_tasks(tmp_path: Path, tasks: Any) -> None:
    built(tmp_path, {"tasks": tasks})


@FUZZ
@given(VALUES)
def test_any_roles(tmp_path: Path, roles: Any) -> None:
    built(tmp_path, {"entry": {"all": {"hosts": {"h1": {"nsprov_roles": roles}}, "vars": {"a": "x"}}}})


@FUZZ
@given(VALUES)
def test_any_entry(tmp_path: Path, entry: Any) -> None:
    entries = (
        [{"role": "web", "vars": {"a": "x"}, **entry}] if isinstance(entry, dict) else [{"role": "web", "loop": entry}]
    )
    built(tmp_path, {"entry": {"all": {"hosts": {"h1": {"nsprov_roles": entries}}, "vars": {"a": "x"}}}})


@FUZZ
@given(st.dictionaries(st.sampled_from("abcd"), VALUES), VALUES)
def test_any_variables(tmp_path: Path, defaults: Any, field: Any) -> None:
    built(tmp_path, {"defaults": defaults, "tasks": [{"netns": {"name": "{{ a }}-{{ d }}", "loopback": field}}]})


@FUZZ
@given(VALUES)
def test_any_meta(tmp_path: Path, meta: Any) -> None:
    built(tmp_path, {"meta": meta})
    built(tmp_path, {"meta": {"dependencies": meta}})


@FUZZ
@given(VALUES, VALUES)
def test_any_argument_specs(tmp_path: Path, options: Any, given_value: Any) -> None:
    built(tmp_path, {"specs": options})
    built(tmp_path, {"specs": {"argument_specs": {"main": {"options": options}}}})
    built(
        tmp_path,
        {"specs": {"argument_specs": {"main": {"options": {"a": options}}}}, "defaults": {"a": given_value}},
    )
    built(tmp_path, {"specs": {"argument_specs": {"main": {"options": {"a": {}, "b": {}}, "required_if": options}}}})
    built(tmp_path, {"specs": {"argument_specs": {"main": {"options": {"a": {}, "b": {}}, "required_by": options}}}})
    built(
        tmp_path, {"specs": {"argument_specs": {"main": {"options": {"a": {}, "b": {}}, "required_together": options}}}}
    )


EXPRESSION = st.text("{}%#()[]|.,:+-*/~'\"= abin0159\n\\", max_size=16)


@FUZZ
@given(EXPRESSION, EXPRESSION)
def test_any_template(tmp_path: Path, text: str, condition: str) -> None:
    built(
        tmp_path, {"tasks": [{"netns": {"name": "{{ " + text + " }}"}, "when": condition}, {"netns": {"name": text}}]}
    )


@pytest.mark.parametrize(
    "data", [b"\x00\x01", b"\xff\xfe", b"{{", b"- - -", b"&a [*a]", b"a: &x {b: *x}", b"%", b"\t- a: b"]
)
@pytest.mark.parametrize("name", sorted(FILES))
def test_any_bytes(tmp_path: Path, name: str, data: bytes) -> None:
    built(tmp_path, {})
    (tmp_path / FILES[name]).write_bytes(data)
    with pytest.raises(ConfigError):
        build_desired(load_inventory([str(tmp_path / "inventory.yml")]), "h1", FACTS, role_path=[tmp_path / "roles"])
