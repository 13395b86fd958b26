"""Namespaces with a name: what each type has, what they refer to, and which changes make them anew."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from provisioner.model import Address, Declared, Desired, Effect
from provisioner.resources.namespace import Namespace, id_map, offset
from provisioner.resources.netns import Netns


def refused(**fields: Any) -> tuple[str, str]:
    with pytest.raises(ValidationError) as error:
        Namespace(**{"name": "box", **fields})
    (one,) = error.value.errors()
    return one["msg"], one.get("ctx", {}).get("hint", "")


def test_its_type_is_part_of_its_address() -> None:
    assert Namespace(type="uts", name="box").address == Address("namespace", "uts/box")
    assert Namespace(type="ipc", name="box").address != Namespace(type="uts", name="box").address


@pytest.mark.parametrize(
    ("fields", "words", "hint"),
    [
        ({"type": "net"}, "a network namespace is a kind of its own", "netns"),
        ({"type": "utz"}, "'uts'", ""),
        ({"type": "ipc", "hostname": "box"}, "hostname is for namespaces of type uts", ""),
        ({"type": "uts", "boottime_offset": "1d"}, "boottime_offset is for namespaces of type time", ""),
        ({"type": "time", "uid_map": ["0 1 1"]}, "uid_map is for namespaces of type user", ""),
        ({"type": "uts", "nesting": True}, "nesting is for namespaces of type user", ""),
        ({"type": "user", "owner": "other"}, "has no owner", ""),
        ({"type": "uts", "hostname": "-box"}, "not a host's name", "letters"),
        ({"type": "uts", "name": "a/b"}, "cannot name a namespace", ""),
        ({"type": "time", "boottime_offset": "soon"}, "time span", "1d"),
        ({"type": ["user"]}, "", ""),
        ({"type": {}}, "", ""),
    ],
)
def test_what_cannot_be_is_told_with_what_could(fields: dict[str, Any], words: str, hint: str) -> None:
    message, could = refused(**fields)
    assert words in message
    assert hint in could


def test_it_lives_in_the_users_that_own_it() -> None:
    owner = Address("namespace", "user/box")
    assert list(Namespace(type="uts", name="a", owner="box").lives_in()) == [owner]
    assert list(Netns(name="a", owner="box").lives_in()) == [owner]
    assert list(Namespace(type="uts", name="a").requires()) == list(Netns(name="a").requires()) == []


def test_users_that_two_namespaces_share_are_told() -> None:
    first, second, third = (
        Namespace(type="user", name=name, uid_map=lines)
        for name, lines in (("a", ["0 100000 10"]), ("b", ["0 100009 10"]), ("c", ["0 100019 10"]))
    )
    desired = Desired({one.address: Declared(one) for one in (first, second, third)})
    told = [issue.message for one in (first, second, third) for issue in one.audit(desired)]
    assert told == ["its users 100009 to 100018 overlap those of namespace/user/b"]


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        ({"type": "uts", "hostname": "a"}, {"type": "uts", "hostname": "b"}, Effect.LIVE),
        ({"type": "time", "boottime_offset": "1d"}, {"type": "time", "boottime_offset": "2d"}, Effect.REPLACE),
        ({"type": "uts"}, {"type": "uts", "owner": "box"}, Effect.REPLACE),
        ({"type": "user", "uid_map": ["0 1 1"]}, {"type": "user", "uid_map": ["0 2 1"]}, Effect.REPLACE),
        ({"type": "user", "nesting": True}, {"type": "user"}, Effect.REPLACE),
    ],
)
def test_a_name_changes_as_it_stands_and_the_rest_makes_it_anew(
    before: dict[str, Any], after: dict[str, Any], effect: Effect
) -> None:
    old, new = Namespace(name="n", **before), Namespace(name="n", **after)
    assert [change.effect for change in new.changes_from(old, old)] == [effect]
    assert new.changes_from(new, new) == []


def test_without_a_map_any_users_will_do() -> None:
    there = Namespace(type="user", name="n", uid_map=["0 589824 65536"], gid_map=["0 589824 65536"])
    wanted = Namespace(type="user", name="n")
    assert wanted.changes_from(there, wanted) == []
    assert wanted.changes_from(there, there) == []
    assert ("uid_map", "65536 users of its own") in wanted.summary()


_LINES = st.lists(
    st.tuples(st.integers(0, 2**32 + 5), st.integers(0, 2**32 + 5), st.integers(0, 2**32 + 5)), max_size=6
)


@given(_LINES)
def test_a_map_that_is_taken_is_one_that_the_kernel_takes(lines: list[tuple[int, int, int]]) -> None:
    from pydantic_core import PydanticCustomError

    try:
        made = id_map([" ".join(map(str, line)) for line in lines])
    except PydanticCustomError:
        return
    assert id_map(made) == made
    for number in (0, 1):
        ranges = sorted((int(one.split()[number]), int(one.split()[2])) for one in made)
        end = 0
        for start, count in ranges:
            assert start >= end
            assert count
            end = start + count
        assert end < 2**32


@given(st.integers(-(10**9), 10**9))
def test_an_offset_has_one_form(seconds: int) -> None:
    made = offset(seconds)
    assert offset(made) == made
    assert made.startswith("-") == (seconds < 0)
