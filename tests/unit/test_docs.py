"""The documentation tells the truth: its examples work, its links lead somewhere, its pages name no one's machine."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from provisioner import resources
from provisioner.directives import known
from provisioner.host import Host
from provisioner.model import Action, Address, Scope, Step
from provisioner.report.reference import entry_of, kind_text
from tests.escape.attempts import ATTEMPTS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_name_no_ones_machine(page: Path) -> None:
    assert not re.search(r"/(work|home/\w+|root|tmp)/|/Users/", page.read_text(encoding="utf-8"))


def test_the_page_of_escapes_names_every_attempt_and_what_it_is_up_against() -> None:
    rows = re.findall(r"^\| (.*?\.) \| (.*) \|$", (ROOT / "docs" / "escapes.md").read_text("utf-8"), re.MULTILINE)
    assert [(does, against.replace("`", "")) for does, against in rows] == [
        (one.does, one.against) for one in ATTEMPTS.values()
    ]


def test_the_page_of_limits_names_every_directive_of_resource_control_and_what_is_live_of_them() -> None:
    rows = re.findall(r"^\| (`.*?) \|.*\| (yes|no) \|$", (ROOT / "docs" / "limits.md").read_text("utf-8"), re.MULTILINE)
    told = {name: live for names, live in rows for name in re.findall(r"`([A-Z]\w+)`", names)}
    there = [one for one in known("service").values() if one.group == "resource-control"]
    assert told == {one.name: "yes" if one.live else "no" for one in there}


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The kind that the guide adds, on a hosts file of our own."""
    text = (ROOT / "docs" / "adding-a-kind.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "register(" in block)
    monkeypatch.setattr(resources, "_registry", dict(resources._registry))
    module = ModuleType("host_entry")
    monkeypatch.setitem(sys.modules, "host_entry", module)
    exec(compile(code, "docs/adding-a-kind.md", "exec"), module.__dict__)
    module.__dict__["PATH"] = str(tmp_path / "hosts")
    (tmp_path / "hosts").write_text("127.0.0.1 localhost me # mine\n")
    return module


def test_the_kind_of_the_guide_works(example: ModuleType, tmp_path: Path) -> None:
    kind = resources._registry["host_entry"]
    entry = kind.resource(name="db.internal", ip="fd00:0::0001")
    scope = Scope({entry.address: [entry], Address("host_entry", "localhost"): []})
    with Host() as host:
        created = list(kind.driver.carry_out(host, [Step(Action.CREATE, entry.address, after=entry)]))
        assert [one.error for one in created] == [None]
        observed = {one.address: one for one in kind.driver.observe(host, scope)}
        assert observed[entry.address] == entry
        assert observed[Address("host_entry", "localhost")].declared()["ip"] == "127.0.0.1"
        assert not entry.changes_from(observed[entry.address], entry)
        list(kind.driver.carry_out(host, [Step(Action.DELETE, entry.address, before=entry)]))
        assert (tmp_path / "hosts").read_text() == "127.0.0.1 localhost me # mine\n"


def test_the_kind_of_the_guide_is_explained(example: ModuleType) -> None:
    text = kind_text(entry_of(resources._registry["host_entry"]))
    assert "- host_entry:\n      name: db.internal\n      ip: 10.60.2.2" in text
