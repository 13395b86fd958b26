"""The documentation tells the truth: its examples work, its links lead somewhere, its pages name no one's machine."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

from provisioner import resources
from provisioner.directives import Value, known
from provisioner.engine.fit import fit
from provisioner.engine.graph import check_desired, missing_references
from provisioner.host import Host
from provisioner.isolation.hardening import profile
from provisioner.isolation.ways import KINDS, PINNED, KindName, Wish, carried_out, ways
from provisioner.model import Action, Address, Scope, Step
from provisioner.report.reference import entry_of, kind_text
from tests.escape.attempts import ATTEMPTS
from tests.unit.config.projects import Project

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


# -- isolation ------------------------------------------------------------------------------------

ISOLATION = ROOT / "docs" / "isolation.md"


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the table below a heading of a page, row by row."""
    section = page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def carried(kind: KindName, systemd: int, netns: str | None = None) -> str:
    """What carries out a kind alone."""
    pins: dict[str, str] = {kind: f"/run/nsprov/ns/{kind}/web.service"} if kind in PINNED else {}
    wish = Wish("web.service", frozenset({kind}), {"ExecStart": ("/usr/bin/web",)}, netns=netns, pins=pins)
    return ways(carried_out(wish, systemd).directives, netns)[kind]


def test_the_page_of_isolation_says_what_carries_out_each_kind() -> None:
    told = {row[0].strip("`"): row for row in rows(ISOLATION, "The eight kinds")}
    assert tuple(told) == KINDS
    for kind in KINDS:
        for column, systemd in ((3, 252), (4, 257)):
            ways_there = [carried(kind, systemd)] + ([carried(kind, systemd, "blue")] if kind == "net" else [])
            assert [one.split(" where ")[0].strip("`") for one in told[kind][column].split(", or ")] == ways_there


def test_the_page_of_isolation_names_the_fields_of_each_kind() -> None:
    fields = resources.kind_of("unit").resource.model_fields
    for row in rows(ISOLATION, "The eight kinds"):
        for name in re.findall(r"`(\w+)`", row[2]):
            assert name in fields


def test_the_page_of_isolation_names_tests_that_there_are() -> None:
    for row in rows(ISOLATION, "The eight kinds"):
        file, _, name = row[-1].strip("`").partition("::")
        assert any(f"def {name}(" in one.read_text("utf-8") for one in (ROOT / "tests").rglob(file)), row[-1]


def test_the_page_of_isolation_has_every_directive_of_the_profiles() -> None:
    told = {row[0].strip("`"): row[1:3] for row in rows(ISOLATION, "Hardening") if len(row) == 4}
    standard, strict = profile("standard", 257), profile("strict", 257)
    assert told == {name: [_cell(standard.get(name)), _cell(strict.get(name))] for name in strict}


def test_the_pictures_of_namespaces_are_those_that_the_script_draws() -> None:
    drawn = runpy.run_path(str(ROOT / "scripts" / "draw-namespaces"))["drawn"]()
    folder = ROOT / "docs" / "namespaces"
    assert {one.name: one.read_text("utf-8") for one in folder.iterdir()} == drawn
    shown = re.findall(r"\]\(namespaces/(\S+)\)", (ROOT / "docs" / "namespaces-explained.md").read_text("utf-8"))
    assert sorted(shown) == sorted(drawn)


def _cell(value: Value | None) -> str:
    if value is None:
        return ""
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return f"`{text}`" if text else "empty"


def tasks_of(page: str) -> list[str]:
    """The examples of a page that are lists of tasks."""
    return re.findall(r"```yaml\n(- .*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)


TASKS = [
    pytest.param(tasks, id=f"{page}-{number}")
    for page in ("isolation.md", "namespaces-explained.md", "limits.md")
    for number, tasks in enumerate(tasks_of(page))
]


@pytest.mark.parametrize("systemd", [252, 257])
@pytest.mark.parametrize("tasks", TASKS)
def test_tasks_on_the_pages_can_be_applied(tasks: str, systemd: int, tmp_path: Path) -> None:
    desired = Project(tmp_path).tasks(tasks).build()
    check_desired(desired).raise_if_any()
    missing_references(desired, [Address("directory", "/run")]).raise_if_any()
    fitted = fit(desired, {"systemd": systemd})
    assert [issue for _, issue in fitted.concerns if issue.severity == "error"] == []


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
