"""Wrong fields of resources: what is wrong, in words, where it was written, and where the value came from."""

from __future__ import annotations

import pytest

from tests.unit.config.projects import Project


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("- bridge: {name: br0, mtu: big}", "1:28: bridge.mtu: must be a whole number, not 'big'"),
        ("- bridge: {name: br0, mtu: [1]}", "1:28: bridge.mtu: must be a whole number, not a list"),
        ("- bridge: {name: br0, stp: perhaps}", "1:28: bridge.stp: must be true or false, not 'perhaps'"),
        ("- bridge: {name: {a: 1}}", "1:18: bridge.name: must be a text, not a mapping"),
        ("- bridge: {name: null}", "1:18: bridge.name: must be a text, not nothing (null)"),
        (
            "- expect: {from: a, to: b, result: droped}",
            "1:36: expect.result: must be 'reached', 'refused' or 'dropped'",
        ),
        ("- veth: {name: v, peer: here}", "1:25: veth.peer: must be a mapping of fields, not 'here'"),
        ("- bridge: {name: br0, mtuu: 1}", "1:23: bridge has no field 'mtuu' | did you mean 'mtu'?"),
        (
            "- veth: {name: v, peer: {nmae: eth0, netns: a}}",
            "1:26: veth.peer has no field 'nmae' | did you mean 'name'?",
        ),
        ("- bridge: {mtu: 1500}", "1:3: bridge needs the field 'name'"),
        (
            "- bridge: {name: br0, mtu: '{{ n.m }}'}",
            "must be a whole number, not 'x' (the value comes from group_vars/all.yml",
        ),
        (
            "- bridge: {name: br0, mtu: '{{ o }}'}",
            "must be a whole number, not 'x' (the value comes from group_vars/all.yml:1:9)",
        ),
        ("- bridge: {name: br0, mtu: '{{ n.m | upper }}'}", "not 'X' (the value comes from group_vars/all.yml:1:9)"),
        (
            "- bridge: '{{ b }}'",
            "bridge.mtu: must be a whole number, not 'big' (the value comes from group_vars/all.yml:1:56)",
        ),
    ],
)
def test_a_wrong_field_is_told_in_words_at_its_place(project: Project, task: str, message: str) -> None:
    project.tasks(task, "{n: {m: x}, o: '{{ n.m }}', b: {name: br0, 'mtu':      big}}")
    assert any(message in error for error in project.errors()), project.errors()
