"""The manifest's text: read back as it was written, and refused where it is not what was written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provisioner.engine.manifest import dump, load
from provisioner.errors import NsprovError
from provisioner.model import Address, Manifest, Owned

BLUE = {"address": ["netns", "blue", None], "spec": {"name": "blue"}, "source": "tasks/main.yml:1:3"}


def text(*resources: Any, version: Any = 1) -> str:
    return json.dumps({"version": version, "project": "shop", "resources": list(resources)})


def test_it_is_read_back_as_it_was_written() -> None:
    owned = {
        Address("netns", "blue"): Owned({"name": "blue"}, "x:1:1"),
        Address("sysctl", "a.b", "blue"): Owned({}, ""),
    }
    written = Manifest("shop", owned, {})
    assert load("shop", {"shop": dump(written)}) == written


def test_what_other_projects_own_is_known_by_their_names() -> None:
    assert load("shop", {"bank": text(BLUE)}).others == {Address("netns", "blue"): "bank"}


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "\ufffd\ufffd",
        "[]",
        "{}",
        "null",
        text(1),
        text(version="1"),
        text({}),
        text({**BLUE, "address": [1, 2, None]}),
        text({**BLUE, "address": ["netns"]}),
        text({**BLUE, "address": ["netns", "blue", 5]}),
        text({**BLUE, "spec": None}),
        text({**BLUE, "spec": [1]}),
        text({**BLUE, "source": 5}),
    ],
)
def test_a_damaged_one_is_refused_and_never_guessed_at(damaged: str) -> None:
    with pytest.raises(NsprovError, match="the manifest of project 'shop' on the host is damaged"):
        load("shop", {"shop": damaged})


def test_one_of_a_newer_nsprov_is_refused() -> None:
    with pytest.raises(NsprovError, match="written by a newer nsprov"):
        load("shop", {"shop": text(version=2)})


def test_a_kind_that_is_not_known_is_refused_in_this_project_alone() -> None:
    unknown = text({**BLUE, "address": ["wormhole", "blue", None]})
    with pytest.raises(NsprovError, match="owns wormhole/blue on the host, and this nsprov has no kind 'wormhole'"):
        load("shop", {"shop": unknown})
    assert load("shop", {"bank": unknown}).owned == {}
