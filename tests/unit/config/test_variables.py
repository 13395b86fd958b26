"""Where a variable's value comes from: Ansible's precedence, late evaluation, and circles."""

from __future__ import annotations

import pytest

from provisioner.config.build import build_desired, host_value
from provisioner.config.inventory import load_inventory
from provisioner.errors import ConfigError
from tests.unit.config.projects import Project


def value(project: Project, name: str = "x", **options: object) -> str:
    """What a task of the role sees."""
    project.file("roles/web/tasks/main.yml", f"- file: {{name: /x, content: '{{{{ {name} }}}}'}}")
    return next(iter(project.build(**options).of("file"))).resource.content  # type: ignore[attr-defined]


INVENTORY = "all: {hosts: {h1: }, vars: {nsprov_roles: [ENTRY]}}"


def base(project: Project, entry: str = "web") -> Project:
    return project.write(inventory=INVENTORY.replace("ENTRY", entry), web__defaults__main="x: default")


def test_a_default_gives_way_to_everything(project: Project) -> None:
    assert value(base(project)) == "default"
    project.file("group_vars/all.yml", "x: inventory")
    assert value(project) == "inventory"
    project.write(web__vars__main="x: role")
    assert value(project) == "role"


def test_block_then_task_variables_are_stronger_than_those_of_the_role(project: Project) -> None:
    base(project).write(web__vars__main="{x: role, y: role}")
    project.tasks("""
        - vars: {x: block, y: block}
          block:
            - netns: {name: "{{ x }}-{{ y }}"}
              vars: {y: task}
    """)
    assert project.names() == ["block-task"]


def test_those_of_an_entry_stand_between_the_role_and_its_tasks_and_extra_variables_above_all(project: Project) -> None:
    base(project, "{role: web, vars: {x: entry}}")
    project.write(
        web__vars__main="x: role",
        web__tasks__main="""
        - netns: {name: "{{ x }}"}
        - netns: {name: "{{ x }}"}
          vars: {x: task}
    """,
    )
    assert project.names() == ["entry", "task"]
    assert project.names(extra_vars={"x": "extra"}) == ["extra"]


def test_arguments_see_the_defaults_of_their_role(project: Project) -> None:
    base(project, "{role: web, vars: {y: 'from-{{ x }}'}}")
    assert value(project, "y") == "from-default"


def test_a_default_sees_the_arguments(project: Project) -> None:
    base(project, "{role: web, loop: [a, b], vars: {name: '{{ item }}'}}")
    project.write(web__defaults__main="x: 'n-{{ name }}'", web__tasks__main="- netns: {name: '{{ x }}'}")
    assert project.names() == ["n-a", "n-b"]


def test_an_argument_means_the_item_that_it_was_given_for_even_inside_another_loop(project: Project) -> None:
    base(project, "{role: web, loop: [a], vars: {tenant: '{{ item }}'}}")
    project.write(
        web__tasks__main="""
        - netns: {name: "{{ tenant }}{{ item }}"}
          loop: [1, 2]
    """
    )
    assert project.names() == ["a1", "a2"]


def test_a_variable_of_the_inventory_may_use_what_only_the_role_knows(project: Project) -> None:
    base(project, "{role: web, loop: [a, b], vars: {tenant: '{{ item }}'}}")
    project.file("group_vars/all.yml", "size: \"{{ 'big' if tenant == 'a' else 'small' }}\"")
    project.write(web__tasks__main="- netns: {name: '{{ tenant }}-{{ size }}'}")
    assert project.names() == ["a-big", "b-small"]


def test_each_use_of_a_role_has_its_own_variables(project: Project) -> None:
    base(project, "{role: web, vars: {x: one}}, {role: web, vars: {y: two}}")
    project.write(web__defaults__main="{x: dx, y: dy}", web__tasks__main="- netns: {name: '{{ x }}-{{ y }}'}")
    assert project.names() == ["one-dy", "dx-two"]


def test_variables_of_an_include_are_stronger_than_arguments(project: Project) -> None:
    base(project, "{role: web, vars: {x: argument}}")
    project.write(
        web__tasks__main="""
            - include_tasks: more.yml
              vars: {x: include}
            - netns: {name: "{{ x }}"}
        """,
        web__tasks__more="- netns: {name: '{{ x }}'}",
    )
    assert project.names() == ["include", "argument"]


def test_an_included_role_sees_its_own_defaults_and_the_arguments_of_the_one_that_includes_it(project: Project) -> None:
    base(project, "{role: web, vars: {tenant: blue}}")
    project.write(
        web__tasks__main="- include_role: {name: wall}\n  vars: {port: 80}",
        wall__defaults__main="{port: 1, zone: z}",
        wall__tasks__main="- netns: {name: '{{ tenant }}-{{ port }}-{{ zone }}'}",
    )
    assert project.names() == ["blue-80-z"]


def test_a_role_sees_the_variables_of_those_that_it_depends_on(project: Project) -> None:
    base(project)
    project.write(
        web__meta__main="dependencies: [bridge]",
        bridge__defaults__main="{bridge: br0, x: other}",
        web__tasks__main="- netns: {name: '{{ bridge }}-{{ x }}'}",
    )
    assert project.names() == ["br0-default"]


def test_the_other_hosts_and_the_groups_can_be_looked_at(project: Project) -> None:
    project.write(
        inventory="""
            all:
              vars: {nsprov_roles: [web], address: "10.0.0.{{ number }}"}
              children: {edge: {hosts: {h1: {number: 1}, h2: {number: 2}}}}
        """,
        web__tasks__main="""
            - file:
                name: /x
                content: "{{ groups.edge | map('extract', hostvars, 'address') | join(' ') }} {{ hostvars.h2.number }}"
        """,
    )
    found = next(iter(project.build().of("file"))).resource
    assert found.content == "10.0.0.1 10.0.0.2 2"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("inventory_hostname", "h1"),
        ("group_names | join(',')", "ungrouped"),
        ("host.kernel", "6.1.0"),
        ("host.interfaces.eth0.mtu", "1500"),
        ("role_name", "web"),
        ("'memory' in host.controllers", "True"),
        ("lookup('vars', 'x')", "default"),
        ("lookup('vars', 'nowhere', default='d')", "d"),
        ("query('vars', 'x') | first", "default"),
        ("lookup('env', 'NSPROV_TEST_WORD')", "word"),
        ("lookup('file', 'a.txt')", "a text"),
        ("lookup('template', 'a.j2')", "x is default"),
        ("lookup('ansible.builtin.file', 'a.txt')", "a text"),
    ],
)
def test_templates_see_facts_magic_variables_and_lookups(
    project: Project, expression: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSPROV_TEST_WORD", "word")
    base(project).file("roles/web/files/a.txt", "a text\n").file("roles/web/templates/a.j2", "x is {{ x }}")
    project.file("roles/web/tasks/main.yml", f'- file: {{name: /x, content: "{{{{ {expression} }}}}!"}}')
    found = next(iter(project.build().of("file"))).resource
    assert found.content == f"{expected}!"  # type: ignore[attr-defined]


def test_a_circle_is_printed_whole_and_told_once(project: Project) -> None:
    project.tasks(
        "- netns: {name: '{{ a }}'}\n- netns: {name: '{{ b }}'}", "{a: '{{ b }}', b: '{{ c }}', c: '{{ a }}'}"
    )
    errors = project.errors()
    assert len(errors) == 1
    assert errors[0].startswith("group_vars/all.yml:1:5: variables that need each other's values: a -> b -> c -> a")


def test_a_file_of_templates_is_looked_for_in_the_role_then_the_including_one_then_beside_the_inventory(
    project: Project,
) -> None:
    base(project)
    project.write(
        web__tasks__main="- include_role: {name: wall}",
        wall__tasks__main="""
            - file: {name: /a, content: "{{ lookup('template', 'a.j2') }}"}
            - file: {name: /b, content: "{{ lookup('template', 'b.j2') }}"}
            - file: {name: /c, content: "{{ lookup('template', 'c.j2') }}"}
        """,
    )
    for folder in ("roles/wall", "roles/web", "."):
        for name in "abc" if folder == "." else "ab" if folder == "roles/web" else "a":
            project.file(f"{folder}/templates/{name}.j2", folder)
    assert [one.resource.content for one in project.build().of("file")] == ["roles/wall", "roles/web", "."]  # type: ignore[attr-defined]


def test_a_template_file_includes_and_imports_others(project: Project) -> None:
    base(project)
    project.file("roles/web/templates/a.j2", "{% include 'b.j2' %}{% from 'c.j2' import m with context %}{{ m(1) }}\n")
    project.file("roles/web/templates/b.j2", "b sees {{ x }}, ")
    project.file("roles/web/templates/c.j2", "{% macro m(n) %}{{ n }} of {{ x }}{% endmacro %}")
    project.file("roles/web/tasks/main.yml", "- file: {name: /x, content: \"{{ lookup('template', 'a.j2') }}\"}")
    found = next(iter(project.build().of("file"))).resource
    assert found.content == "b sees default, 1 of default\n"  # type: ignore[attr-defined]


def test_a_variable_of_a_host_can_be_worked_out_before_roles_are(project: Project) -> None:
    project.write(
        inventory="""
        all:
          hosts: {h1: {number: 7, ansible_host: "10.0.0.{{ number }}", bad: "{{ nowhere }}"}}
    """
    )
    inventory = load_inventory([str(project.folder / "inventory.yml")])
    assert host_value(inventory, "h1", "ansible_host") == "10.0.0.7"
    assert host_value(inventory, "h1", "ansible_host", extra_vars={"number": 8}) == "10.0.0.8"
    assert host_value(inventory, "h1", "ansible_user", "root") == "root"
    with pytest.raises(ConfigError, match=r"inventory.yml:3:\d+: 'nowhere' is undefined"):
        host_value(inventory, "h1", "bad")


def test_hosts_of_one_inventory_do_not_see_each_others_values(project: Project) -> None:
    project.write(
        inventory="all: {hosts: {h1: {x: one}, h2: {x: two}}, vars: {nsprov_roles: [web], y: 'y-{{ x }}'}}",
        web__tasks__main="- netns: {name: '{{ y }}'}",
    )
    inventory = load_inventory([str(project.folder / "inventory.yml")])
    path = [project.folder / "roles"]
    for host, name in (("h1", "y-one"), ("h2", "y-two"), ("h1", "y-one")):
        (declared,) = build_desired(inventory, host, {}, role_path=path).resources.values()
        assert declared.resource.name == name
    (declared,) = build_desired(inventory, "h1", {}, role_path=path, extra_vars={"x": "extra"}).resources.values()
    assert declared.resource.name == "y-extra"


def test_a_variable_that_was_worked_out_is_worked_out_anew_where_what_it_uses_has_another_value(
    project: Project,
) -> None:
    project.tasks(
        """
        - netns: {name: "{{ net }}"}
        - netns: {name: "{{ net }}"}
          vars: {zone: b}
        - netns: {name: "{{ net }}{{ item }}"}
          vars: {zone: "c{{ item }}"}
          loop: [1, 2]
        - file: {name: "/{{ net }}"}
    """,
        "{zone: a, area: 'area-{{ zone }}', net: 'net-{{ area }}'}",
    )
    assert project.names() == ["net-area-a", "net-area-b", "net-area-c11", "net-area-c22"]
    assert project.names("file") == ["/net-area-a"]
