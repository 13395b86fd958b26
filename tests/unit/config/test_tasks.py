"""Tasks: loops, conditions, blocks, includes, tags, and what is refused."""

from __future__ import annotations

import pytest

from provisioner.config.tags import chosen
from tests.unit.config.projects import Project


def test_a_task_declares_a_resource_and_says_where_it_was_written(project: Project) -> None:
    project.tasks(
        """\
        - name: "A namespace for {{ who }}"
          netns: {name: "{{ who }}"}
    """,
        "who: blue",
    )
    declared = next(project.build().of("netns"))
    assert str(declared.resource.address) == "netns/blue"
    assert (declared.role, declared.task) == ("web", "A namespace for blue")
    assert declared.source is not None
    assert declared.source.line == 1
    assert (declared.fields["name"].line, declared.fields["name"].column) == (2, 17)


def test_every_value_within_a_field_has_its_place(project: Project) -> None:
    project.tasks("- veth:\n    name: v\n    peer:\n      name: eth0\n      addresses:\n        - 10.0.0.2/24\n")
    fields = next(project.build().of("veth")).fields
    assert {path: (at.line, at.column) for path, at in fields.items()} == {
        "name": (2, 11), "peer": (4, 7), "peer.name": (4, 13), "peer.addresses": (6, 9), "peer.addresses.0": (6, 11)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("- netns: {name: '{{ item }}'}\n  loop: [a, b]", ["a", "b"]),
        ("- netns: {name: '{{ item }}'}\n  loop: '{{ names }}'", ["blue", "green"]),
        (
            "- netns: {name: '{{ one }}{{ at }}'}\n  loop: [a, b]\n  loop_control: {loop_var: one, index_var: at}",
            ["a0", "b1"],
        ),
        ("- netns: {name: '{{ item }}'}\n  loop: '{{ range(2) | list }}'", ["0", "1"]),
        ("- netns: {name: '{{ item }}'}\n  loop: [a, b]\n  when: item != 'a'", ["b"]),
        ("- netns: {name: '{{ item }}{{ suffix }}'}\n  loop: [a]\n  vars: {suffix: '-{{ item }}'}", ["a-a"]),
        ("- netns: {name: '{{ item.key }}{{ item.value }}'}\n  loop: '{{ sizes | dict2items }}'", ["a1", "b2"]),
        (
            (
                "- netns: {name: '{{ ansible_loop.index }}{{ ansible_loop.last }}'}\n"
                "  loop: [x, y]\n  loop_control: {extended: true}"
            ),
            ["1False", "2True"],
        ),
        ("- netns: {name: a}\n  when: false", []),
        ("- netns: {name: a}\n  when: [true, 1 == 1]", ["a"]),
        ("- netns: {name: a}\n  when: [true, 1 == 2]", []),
        ("- netns: {name: '{{ nowhere }}'}\n  loop: '{{ nowhere }}'\n  when: false", []),
        ("- block: [{netns: {name: a}}, {netns: {name: b}}]\n  when: names | length == 2", ["a", "b"]),
        ("- block: [{netns: {name: a}}]\n  when: false", []),
        ("- ansible.builtin.include_tasks: more.yml", ["from-more"]),
        ("- include_tasks: more.yml\n  loop: [1, 2]\n  vars: {who: 'w{{ item }}'}", ["w1", "w2"]),
        ("- include_tasks: {file: '{{ which }}.yml'}\n  vars: {which: more}", ["from-more"]),
        ("- import_tasks: more.yml\n  when: false", []),
        ("- include_role: {name: wall}\n  loop: [1, 2]\n  vars: {zone: 'z{{ item }}'}", ["wall-z1", "wall-z2"]),
        ("- import_role: {name: wall}", ["wall-default"]),
        ("- include_role: {name: wall, tasks_from: other}", ["wall-other"]),
        ("- include_role: {name: wall, tasks_from: other.yml}", ["wall-other"]),
        ("- assert: {that: [names | length == 2], fail_msg: never}\n- netns: {name: a}", ["a"]),
        ("- fail: {msg: never}\n  when: false\n- netns: {name: a}", ["a"]),
        ("- netns: '{{ whole }}'", ["whole"]),
    ],
)
def test_tasks_mean_what_they_mean_in_ansible(project: Project, task: str, names: list[str]) -> None:
    project.tasks(task, "{names: [blue, green], sizes: {a: 1, b: 2}, whole: {name: whole}}")
    project.write(
        web__defaults__main="who: from-more",
        web__tasks__more="- netns: {name: '{{ who }}'}",
        wall__defaults__main="zone: default",
        wall__tasks__main="- netns: {name: 'wall-{{ zone }}'}",
        wall__tasks__other="- netns: {name: wall-other}",
    )
    assert project.names() == names


TAGGED = """
    - netns: {name: plain}
    - {netns: {name: red}, tags: red}
    - {netns: {name: blue}, tags: [blue, all-of-them]}
    - {netns: {name: always}, tags: always}
    - {netns: {name: never}, tags: [never, debug]}
    - block: [{netns: {name: in-block}, tags: inner}]
      tags: outer
    - {import_tasks: more.yml, tags: imported}
    - {include_tasks: more2.yml, tags: included}
    - {include_tasks: {file: more3.yml, apply: {tags: applied}}, tags: applied}
"""


@pytest.mark.parametrize(
    ("only", "skip", "names"),
    [
        ([], [], "plain red blue always in-block more more2 more3"),
        (["all"], [], "plain red blue always in-block more more2 more3"),
        (["red"], [], "red always"),
        (["red", "blue"], [], "red blue always"),
        (["inner"], [], "always in-block"),
        (["outer"], [], "always in-block"),
        (["debug"], [], "always never"),
        (["never"], [], "always never"),
        (["imported"], [], "always more"),
        (["included"], [], "always"),
        (["applied"], [], "always more3"),
        (["tagged"], [], "red blue always in-block more more3"),
        (["untagged"], [], "plain always"),
        ([], ["red"], "plain blue always in-block more more2 more3"),
        ([], ["tagged"], "plain"),
        ([], ["always"], "plain red blue in-block more more2 more3"),
        (["red"], ["always"], "red"),
    ],
)
def test_tags_choose_tasks_as_in_ansible(project: Project, only: list[str], skip: list[str], names: str) -> None:
    project.tasks(TAGGED).write(
        web__tasks__more="- netns: {name: more}",
        web__tasks__more2="- netns: {name: more2}",
        web__tasks__more3="- netns: {name: more3}",
    )
    assert project.names(tags=only, skip_tags=skip) == [
        name for name in names.split() if not (name == "more2" and only and only != ["all"])
    ]


def test_a_part_that_tags_chose_is_marked_so_that_nothing_is_pruned(project: Project) -> None:
    project.tasks(TAGGED).write(web__tasks__more="[]", web__tasks__more2="[]", web__tasks__more3="[]")
    assert not project.build().partial
    assert not project.build(tags=["all"]).partial
    assert project.build(tags=["red"]).partial
    assert project.build(skip_tags=["red"]).partial


def test_always_and_never_meet_skip_tags_as_in_ansible() -> None:
    assert chosen({"always"}, {"x"}, set())
    assert not chosen({"always"}, set(), {"always"})
    assert chosen({"always"}, set(), {"all"})
    assert not chosen({"never"}, set(), set())
    assert not chosen({"never"}, {"all"}, set())
    assert chosen({"never", "x"}, {"x"}, set())


def test_expectations_are_gathered_with_their_places(project: Project) -> None:
    project.tasks("- expect: {from: host, to: '10.0.0.{{ item }}:80', result: refused}\n  loop: [1, 2]\n")
    found = project.build().expects
    assert [(one.from_, one.to, one.result) for one, _ in found] == [
        ("host", "10.0.0.1:80", "refused"),
        ("host", "10.0.0.2:80", "refused"),
    ]
    assert all(source is not None and source.line == 1 for _, source in found)


def test_the_same_declaration_twice_is_one_and_another_of_its_name_is_refused(project: Project) -> None:
    project.tasks("- file: {name: /x, content: a}\n- file: {name: /x, content: a}\n")
    assert project.names("file") == ["/x"]
    project.tasks("- file: {name: /x, content: a}\n- file: {name: /x, content: b}\n")
    assert project.errors() == [
        (
            "roles/web/tasks/main.yml:2:16: file//x is declared twice, differently | "
            "it is declared at roles/web/tasks/main.yml:1:3 too"
        )
    ]


def test_what_is_wrong_in_several_files_is_told_together(project: Project) -> None:
    project.tasks("- netns: {nam: a}\n- include_tasks: more.yml\n- include_role: {name: wall}\n")
    project.write(
        web__tasks__more="- shell: x\n- netns: {name: '{{ nowhere }}'}", wall__tasks__main="- netns: {name: [1]}"
    )
    assert [error.split(": ")[0] for error in project.errors()] == [
        "roles/web/tasks/main.yml:1:3",
        "roles/web/tasks/main.yml:1:11",
        "roles/web/tasks/more.yml:1:3",
        "roles/web/tasks/more.yml:2:17",
        "roles/wall/tasks/main.yml:1:17",
    ]


def test_an_unknown_key_brings_the_nearest_one(project: Project) -> None:
    project.tasks("- netsn: {name: a}\n- netns: {name: a}\n  wehn: x\n- brigde: {name: b}")
    assert [error.split(" | ")[1] for error in project.errors()] == [
        "did you mean 'netns'?",
        "did you mean 'when'?",
        "did you mean 'bridge'?",
    ]


@pytest.mark.parametrize(
    "key",
    [
        "register",
        "notify",
        "become",
        "delegate_to",
        "ignore_errors",
        "changed_when",
        "failed_when",
        "until",
        "retries",
        "environment",
        "async",
        "listen",
        "with_items",
        "with_dict",
        "with_fileglob",
        "run_once",
        "args",
        "shell",
        "command",
        "raw",
        "script",
        "copy",
        "apt",
        "yum",
        "dnf",
        "package",
        "pip",
        "systemd",
        "service",
        "user",
        "group",
        "lineinfile",
        "blockinfile",
        "get_url",
        "uri",
        "wait_for",
        "debug",
        "meta",
        "set_fact",
        "include_vars",
        "stat",
        "setup",
        "ansible.builtin.shell",
        "ansible.builtin.copy",
        "ansible.builtin.service",
        "ansible.builtin.file",
        "community.general.nmcli",
        "community.docker.docker_container",
        "ansible.posix.firewalld",
        "handlers",
        "include",
    ],
)
def test_what_ansible_has_and_nsprov_cannot_mean_is_refused_with_the_reason_and_what_to_write(
    project: Project, key: str
) -> None:
    project.tasks(f"- netns: {{name: a}}\n  {key}: x\n")
    (error,) = project.errors()
    assert error.startswith(f"roles/web/tasks/main.yml:2:3: '{key}' is refused: ")
    assert " | " in error


def test_roles_that_declare_much_for_many_are_not_quadratic(project: Project) -> None:
    project.write(
        inventory="""
            all:
              hosts: {h1: }
              vars:
                count: 300
                tenants: "{{ range(count) | map('string') | map('regex_replace', '^', 't') | list }}"
                nsprov_roles: [{role: web, loop: "{{ tenants }}", vars: {name: "{{ item }}"}}]
        """,
        web__tasks__main="- netns: {name: '{{ name }}'}\n  when: tenants | length == 300\n",
    )
    from provisioner.config import filters

    calls = []
    original = filters.regex_replace
    filters.regex_replace = lambda *args, **options: calls.append(1) or original(*args, **options)  # type: ignore[assignment]
    try:
        assert len(project.names()) == 300
    finally:
        filters.regex_replace = original
    # Once for the entry's loop and once for the tasks of the role, and not once for each tenant.
    assert len(calls) == 600


def test_the_tags_of_an_entry_reach_what_its_role_includes(project: Project) -> None:
    project.write(
        inventory="all: {hosts: {h1: }, vars: {nsprov_roles: [{role: web, tags: web}]}}",
        web__tasks__main="- {include_tasks: more.yml, tags: [web, more]}\n- {include_role: {name: wall}}",
        web__tasks__more="- netns: {name: more}",
        wall__tasks__main="- netns: {name: wall}",
    )
    assert project.names(tags=["web"]) == ["more", "wall"]
    assert project.names(tags=["more"]) == []
