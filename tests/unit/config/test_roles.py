"""Roles: where they are found, what their folders hold, their arguments, and those that they depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.config.build import default_role_path
from provisioner.config.inventory import load_inventory
from provisioner.config.roles import shipped_roles
from provisioner.engine.graph import check_desired
from tests.unit.config.projects import Project

NAMES = "- netns: {name: '{{ name }}'}"


def test_roles_are_looked_for_beside_the_inventory_then_in_the_environment_then_among_those_shipped(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSPROV_ROLES_PATH", "/srv/roles:/opt/roles")
    project.file("inventories/demo.yml", "all: {hosts: {h1: }}").file(
        "inventories/big/hosts.yml", "all: {hosts: {h1: }}"
    )
    folder = project.folder
    found = default_role_path(load_inventory([str(folder / "inventories" / "demo.yml")]))
    assert found == [
        folder / "inventories/roles",
        folder / "roles",
        Path("/srv/roles"),
        Path("/opt/roles"),
        shipped_roles(),
    ]
    found = default_role_path(load_inventory([str(folder / "inventories" / "big")]))
    assert found[:2] == [folder / "inventories/big/roles", folder / "roles"]
    monkeypatch.chdir(folder)
    found = default_role_path(load_inventory(["inventories/demo.yml"]))
    assert found[:2] == [Path("inventories/roles"), Path("roles")]


def test_the_shipped_roles_are_there() -> None:
    assert {"bridge_network", "tenant", "workload", "link", "router"} <= {one.name for one in shipped_roles().iterdir()}


def test_entries_accumulate_from_all_down_to_the_host_and_the_same_one_applies_once(project: Project) -> None:
    project.write(
        inventory="""
            all:
              vars: {nsprov_roles: [{role: web, vars: {name: all}}, base]}
              children:
                edge:
                  vars: {nsprov_roles: [{role: web, vars: {name: group}}, base]}
                  hosts: {h1: {nsprov_roles: [{role: web, vars: {name: own}}, {role: web, vars: {name: all}}]}}
        """,
        web__tasks__main=NAMES,
        base__tasks__main="- netns: {name: base}",
    )
    assert project.names() == ["all", "base", "group", "own"]


def test_an_entry_has_a_condition_tags_and_a_loop(project: Project) -> None:
    project.write(
        inventory="""
            all:
              hosts: {h1: {tenants: [{name: a, on: true}, {name: b, on: false}]}}
              vars:
                nsprov_roles:
                  - {role: web, when: item.on, loop: "{{ tenants }}", vars: {name: "{{ item.name }}"}, tags: tenants}
                  - {role: web, when: "name == 'from-default'"}
        """,
        web__tasks__main=NAMES,
        web__defaults__main="name: from-default",
    )
    assert project.names() == ["a", "from-default"]
    assert project.names(tags=["tenants"]) == ["a"]


def test_nsprov_roles_may_be_a_template(project: Project) -> None:
    project.write(
        inventory="all: {hosts: {h1: }, vars: {chosen: [web], nsprov_roles: '{{ chosen }}', name: x}}",
        web__tasks__main=NAMES,
    )
    assert project.names() == ["x"]


def test_defaults_and_vars_may_be_folders_of_files(project: Project) -> None:
    project.write(inventory="all: {hosts: {h1: }, vars: {nsprov_roles: [web]}}", web__tasks__main=NAMES)
    project.file("roles/web/defaults/main/10-a.yml", "{name: first, other: 1}")
    project.file("roles/web/defaults/main/20-b.yaml", "name: second")
    assert project.names() == ["second"]


def test_files_may_end_in_yaml(project: Project) -> None:
    project.write(inventory="all: {hosts: {h1: }, vars: {nsprov_roles: [web]}}")
    project.file("roles/web/tasks/main.yaml", NAMES).file("roles/web/defaults/main.yaml", "name: x")
    assert project.names() == ["x"]


def test_a_role_that_others_depend_on_comes_first_and_once(project: Project) -> None:
    project.write(
        inventory="all: {hosts: {h1: }, vars: {nsprov_roles: [{role: web, loop: [a, b], vars: {name: '{{ item }}'}}]}}",
        web__meta__main="dependencies: [base, {role: zone, vars: {zone: '{{ name }}'}}]",
        web__tasks__main=NAMES,
        base__tasks__main="- netns: {name: base}",
        zone__tasks__main="- netns: {name: 'zone-{{ zone }}'}",
    )
    assert project.names() == ["base", "zone-a", "a", "zone-b", "b"]


def test_a_dependency_sees_the_arguments_of_the_role_that_depends_on_it(project: Project) -> None:
    project.write(
        inventory="""
            all:
              hosts: {h1: }
              vars: {nsprov_roles: [{role: web, loop: [a, b], vars: {bridge: '{{ item }}'}}]}
        """,
        web__meta__main="dependencies: [base]",
        web__tasks__main="[]",
        base__defaults__main="bridge: br0",
        base__tasks__main="- netns: {name: '{{ bridge }}'}",
    )
    assert project.names() == ["a", "b"]


def test_a_roles_own_tests_are_gathered(project: Project) -> None:
    project.tasks("[]").file("roles/web/tests/test_web.py", "").file("roles/wall/tests/inventory", "")
    assert project.build().tests == (str(project.folder / "roles/web/tests"),)


SPEC = """
argument_specs:
  main:
    options:
      name: {type: str, required: true}
      port: {type: int}
      ratio: {type: float}
      on: {type: bool, default: true}
      ports: {type: list, elements: int}
      mode: {type: str, choices: [fast, safe]}
      modes: {type: list, elements: str, choices: [fast, safe]}
      where: {type: path}
      size: {type: bytes}
      anything: {type: raw}
      secret: {type: str, no_log: true, choices: [x]}
      routes:
        type: list
        elements: dict
        options:
          to: {type: str, required: true}
          via: {type: str}
          metric: {type: int, default: 5}
      limits:
        type: dict
        options: {memory: {type: str, aliases: [mem]}, tasks: {type: int}}
        mutually_exclusive: [[memory, tasks]]
    required_together: [[port, mode]]
    required_if: [[mode, safe, [ratio]]]
"""


def arguments(project: Project, given: str) -> list[str]:
    project.write(web__tasks__main=NAMES)
    project.file(
        "inventory.yml", f"all: {{hosts: {{h1: }}, vars: {{nsprov_roles: [{{role: web, vars: {{{given}}}}}]}}}}"
    )
    project.file("roles/web/meta/argument_specs.yml", SPEC)
    try:
        project.build()
    except Exception:
        return [error.partition(": ")[2].split(" | ")[0] for error in project.errors()]
    return []


@pytest.mark.parametrize(
    "given",
    [
        "name: a",
        "name: 5",
        "name: a, port: 80, mode: fast",
        "name: a, port: '80', mode: fast",
        "name: a, port: 80.0, mode: fast",
        "name: a, ratio: '1.5', on: 'yes'",
        "name: a, ports: [1, '2']",
        "name: a, ports: '1,2'",
        "name: a, modes: [fast, safe]",
        "name: a, size: 512M, where: /etc",
        "name: a, anything: {a: [1]}",
        "name: a, routes: [{to: default, via: 10.0.0.1}]",
        "name: a, limits: {mem: 1G}",
        "name: a, mode: null",
        "name: a, port: '{{ 40 + 40 }}', mode: fast",
    ],
)
def test_arguments_that_fit_are_taken(project: Project, given: str) -> None:
    assert arguments(project, given) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mode: fast, port: 1", "the role 'web' needs 'name'"),
        ("name: [a]", "'name' must be a text, not a list"),
        ("name: null", "'name' must be a text, not null"),
        ("name: a, mode: fast, port: x", "'port' must be a whole number, not 'x'"),
        ("name: a, mode: fast, port: 1.5", "'port' must be a whole number, not '1.5'"),
        ("name: a, mode: fast, port: true", "'port' must be a whole number, not 'True'"),
        ("name: a, on: maybe", "'on' must be true or false, not 'maybe'"),
        ("name: a, ports: [1, x]", "'ports.1' must be a whole number, not 'x'"),
        ("name: a, ports: {a: 1}", "'ports' must be a list, not a mapping"),
        ("name: a, modes: [slow]", "'modes.0' cannot be 'slow'"),
        ("name: a, size: lots", "'size' must be a size, such as 512M, not 'lots'"),
        ("name: a, limits: 5", "'limits' must be a mapping, not '5'"),
        ("name: a, limits: {memroy: 1G}", "'limits' has no key 'memroy'"),
        ("name: a, limits: {memory: 1G, tasks: 1}", "'limits' takes only one of memory, tasks"),
        ("name: a, routes: [{via: x}]", "'routes.0' needs 'routes.0.to'"),
        ("name: a, routes: [{to: x, metric: high}]", "'routes.0.metric' must be a whole number, not 'high'"),
        ("name: a, port: 80", "the role 'web' needs mode together with port"),
        ("name: a, port: 80, mode: safe", "the role 'web' needs ratio, as 'mode' is safe"),
        ("name: a, prot: 80", "the role 'web' has no variable 'prot'"),
        ("name: a, secret: hunter2", "'secret' cannot be what it is"),
        ("name: '{{ nowhere }}'", "'nowhere' is undefined"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_told(project: Project, given: str, message: str) -> None:
    assert arguments(project, given) == [message]


def test_where_a_template_was_looked_for_is_told_once_and_as_people_write_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    project.tasks("- template: {path: /etc/a, src: nope.j2}")
    (told,) = project.errors(role_path=[Path("roles")])
    assert "(searched: roles/web/templates, templates)" in told


def test_which_value_counts_is_in_the_order_that_the_documentation_gives(project: Project) -> None:
    givers = ["default", "inventory", "vars", "entry", "block", "task", "include"]
    for count in range(1, len(givers) + 1):
        x = {one: f"{{x: {one}}}" if one in givers[:count] else "{}" for one in givers}
        project.file("group_vars/all.yml", x["inventory"])
        project.write(
            inventory=f"all: {{hosts: {{h1: }}, vars: {{nsprov_roles: [{{role: web, vars: {x['entry']}}}]}}}}",
            web__defaults__main=x["default"],
            web__vars__main=x["vars"],
            web__tasks__more="- netns: {name: '{{ x }}'}",
            web__tasks__main=f"""
            - block:
                - {{netns: {{name: '{{{{ x }}}}'}}, vars: {x["task"]}, when: {count < 7}}}
                - {{include_tasks: more.yml, vars: {x["include"]}, when: {count == 7}}}
              vars: {x["block"]}
            """,
        )
        assert project.names() == [givers[count - 1]]
    assert project.names(extra_vars={"x": "extra"}) == ["extra"]


def test_a_dependency_takes_its_variables_under_vars_alone(project: Project) -> None:
    project.tasks("[]").write(web__meta__main="dependencies: [{role: base, size: 1}]", base__tasks__main="[]")
    (told,) = project.errors()
    assert "an entry of a role has no key 'size' | the role's variables stand under vars:" in told


def test_an_option_that_is_missing_is_told_once_and_not_by_what_is_made_of_it(project: Project) -> None:
    project.tasks("- netns: {name: '{{ label }}'}").write(
        web__defaults__main="{label: 'v-{{ tenant }}'}",
        web__meta__argument_specs="argument_specs: {main: {options: {label: {type: str}, tenant: {required: true}}}}",
    )
    (told,) = project.errors()
    assert "the role 'web' needs 'tenant'" in told


@pytest.mark.parametrize(("word", "right"), [("nsprov_role", "nsprov_roles"), ("nsprov_projct", "nsprov_project")])
def test_a_word_of_nsprovs_own_that_is_almost_right_is_told(project: Project, word: str, right: str) -> None:
    project.write(inventory=f"all: {{hosts: {{h1: }}, vars: {{{word}: web}}}}")
    assert project.errors() == [f"inventory.yml:1:29: nsprov reads no variable '{word}' | did you mean '{right}'?"]


def test_a_variable_of_a_role_may_begin_as_nsprovs_own_do(project: Project) -> None:
    project.write(inventory="all: {hosts: {h1: }, vars: {nsprov_demo_size: 5}}")
    assert project.names() == []


def test_a_clash_of_two_rounds_of_a_loop_is_told_as_one(project: Project) -> None:
    """Both are declared by one line, so that naming the line again would say nothing."""
    project.tasks(
        """
        - bridge: {name: "br{{ item }}", addresses: [10.0.0.1/24]}
          loop: [0, 1]
        """
    )
    (hint,) = {one.hint for one in check_desired(project.build()).found if "is claimed by bridge/br0" in one.message}
    assert hint == "two rounds of a loop, or two uses of the role, claim it: give each its own"
