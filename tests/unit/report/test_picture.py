"""What an inventory builds, drawn; and that the committed pictures are of the inventories as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from provisioner.model import Address, Declared, Desired, Expect, Resource
from provisioner.report.picture import picture
from provisioner.report.sketch import Cable, Namespace, Reach, sketch_of
from provisioner.resources import kinds

ROOT = Path(__file__).parents[3]
SVG = "{http://www.w3.org/2000/svg}"


def desired(resources: list[tuple[str, dict[str, object]]], expects: list[dict[str, str]]) -> Desired:
    made: dict[Address, Declared] = {}
    for kind, fields in resources:
        one: Resource = kinds()[kind].resource.model_validate(fields)
        made[one.address] = Declared(one)
    return Desired(made, [(Expect.model_validate(one), None) for one in expects])


TWO_TENANTS = desired(
    [
        ("bridge", {"name": "br0", "addresses": ["10.0.0.1/24"]}),
        ("netns", {"name": "blue"}),
        ("netns", {"name": "green"}),
        ("veth", {"name": "v-blue", "peer": {"netns": "blue", "name": "eth0", "addresses": ["10.0.0.2/24"]}}),
        ("veth", {"name": "v-green", "peer": {"netns": "green", "name": "eth0", "addresses": ["10.0.0.3/24"]}}),
        ("slice", {"name": "tenants-blue.slice", "MemoryMax": "512M", "CPUQuota": "50%"}),
        ("unit", {"name": "web.service", "netns": "blue", "ExecStart": "/usr/bin/web --on <8080>"}),
    ],
    [
        {"from": "host", "to": "10.0.0.2:8080"},
        {"from": "blue", "to": "10.0.0.3", "result": "dropped"},
        {"from": "green", "to": "10.0.0.2", "result": "dropped"},
    ],
)


def test_a_sketch_shows_addresses_workloads_and_limits_of_each_namespace() -> None:
    blue, green = sketch_of("host1", TWO_TENANTS).namespaces
    assert blue.addresses == (("eth0", "10.0.0.2/24"),)
    assert [one.name for one in blue.workloads] == ["web"]
    assert blue.limits == "512M memory, 50% of a CPU"
    assert green == Namespace("green", (("eth0", "10.0.0.3/24"),))


def test_a_sketch_shows_what_is_wired_to_what() -> None:
    assert sketch_of("host1", TWO_TENANTS).cables == (
        Cable("blue", "eth0", "v-blue"),
        Cable("green", "eth0", "v-green"),
    )


def test_ways_of_trying_the_same_expectation_are_one_arrow() -> None:
    expects = [{"from": "a", "to": "10.0.0.2"}, {"from": "a", "to": "10.0.0.2:80"}, {"from": "a", "to": "[fd00::2]:80"}]
    assert sketch_of("host1", desired([], expects)).reaches == (
        Reach("a", "10.0.0.2", "ping :80", "reached"),
        Reach("a", "fd00::2", ":80", "reached"),
    )


def test_a_picture_is_well_formed_and_escapes_what_it_shows() -> None:
    drawn = ElementTree.fromstring(picture({"host1": TWO_TENANTS}))
    texts = [one.text for one in drawn.iter(f"{SVG}text")]
    assert {"host1", "br0", "blue", "green", "v-blue", "web --on <8080>"} <= set(texts)


def test_expecting_the_same_of_each_other_is_one_arrow_with_two_heads() -> None:
    drawn = picture({"host1": TWO_TENANTS})
    assert drawn.count('marker-start="url(#stopped)"') == 1


def test_an_empty_inventory_has_a_picture() -> None:
    ElementTree.fromstring(picture({}))
    ElementTree.fromstring(picture({"host1": Desired()}))


@pytest.mark.parametrize(("inventory", "drawing"), [("demo.yml", "demo.svg"), ("lab.yml", "lab.svg")])
def test_the_committed_pictures_are_up_to_date(inventory: str, drawing: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "provisioner", "picture", str(ROOT / "inventories" / inventory)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = (ROOT / "docs" / drawing).read_text(encoding="utf-8")
    assert found == done.stdout, f"run: nsprov picture inventories/{inventory} -o docs/{drawing}"
