"""Runs a written suite with pytest, in a process of its own that the user's pytest settings do not reach."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from xml.etree import ElementTree

from provisioner.errors import UnreachableError, UsageError
from provisioner.secrets import redact, without_secrets
from provisioner.verify.relay import RELAY_FOLDER, RELAY_SCHEME, relay
from provisioner.verify.suite import file_stems, write_suite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from provisioner.model import Desired
    from provisioner.verify.reach import Reach

__all__ = ["FactResult", "Failure", "VerifyResult", "run_suite", "verify_hosts"]

_PROCESSORS = os.cpu_count() or 1


class Failure(NamedTuple):
    """A fact that does not hold: its title, why in one line, and where it is declared."""

    title: str
    message: str
    declared: str | None = None


class FactResult(NamedTuple):
    """What became of one fact, or of one test of a role."""

    title: str
    outcome: Literal["passed", "failed", "skipped"]
    message: str = ""
    declared: str | None = None
    #: What pytest printed of it: the check's code and the values in it.
    details: str = ""


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What pytest found of one host. ``error`` says why the facts, or the rest of them, could not be checked.

    ``lost`` says that the host was not there any more.
    """

    facts: tuple[FactResult, ...] = ()
    error: str | None = None
    lost: bool = False

    @property
    def passed(self) -> int:
        return self._count("passed")

    @property
    def failed(self) -> int:
        return self._count("failed")

    @property
    def skipped(self) -> int:
        return self._count("skipped")

    @property
    def total(self) -> int:
        return len(self.facts)

    @property
    def ok(self) -> bool:
        return self.error is None and self.failed == 0

    @property
    def failures(self) -> tuple[Failure, ...]:
        return tuple(Failure(one.title, one.message, one.declared) for one in self.facts if one.outcome == "failed")

    def _count(self, outcome: str) -> int:
        return sum(one.outcome == outcome for one in self.facts)


def verify_hosts(
    hosts: Mapping[str, tuple[Desired, Reach]], *, project: str = "default", junitxml: Path | None = None
) -> dict[str, VerifyResult]:
    """Checks every fact of hosts, each with the way to it; results by host, in the order given.

    Writes a suite into a folder that goes when the work is done. Hosts that are connected share as many processes of
    pytest as there are processors; one that is reached by a URI has its own. With ``junitxml``, one report for all.
    """
    if not hosts:
        return {}
    stems = file_stems(hosts)
    connected = {stems[name]: reach for name, (_, reach) in hosts.items() if not isinstance(reach, str)}
    ways = {
        name: reach if isinstance(reach, str) else f"{RELAY_SCHEME}://{stems[name]}"
        for name, (_, reach) in hosts.items()
    }
    with tempfile.TemporaryDirectory(prefix="nsprov-verify-") as temporary:
        folder = Path(temporary, "suite")
        # It checks that secrets are the declared ones; the key is in no file, and nowhere once this ends.
        key = secrets.token_bytes(32)
        desired = {name: one for name, (one, _) in hosts.items()}
        write_suite(folder, desired, project=project, targets=ways, key=key)
        groups = _groups(hosts)
        reports = [Path(temporary, f"{number}.xml") for number in range(len(groups))]

        def check(number: int) -> _Run:
            parts = [part for name in groups[number] for part in _parts(folder, stems[name])]
            return _run_pytest(
                folder, parts, junitxml=reports[number] if junitxml else None, key=key, relayed=Path(temporary)
            )

        with relay(Path(temporary), connected), ThreadPoolExecutor(max_workers=2 * _PROCESSORS) as pool:
            runs = list(pool.map(check, range(len(groups))))
        run_of = {name: run for names, run in zip(groups, runs, strict=True) for name in names}
        results = {name: _result_of(name, stems[name], hosts[name][1], run_of[name]) for name in hosts}
        if junitxml:
            _write_junit(junitxml, reports, {stems[name]: name for name in hosts}, results)
    return results


def run_suite(
    folder: Path,
    target: str,
    *,
    host: str | None = None,
    junitxml: Path | None = None,
    select: Sequence[str] = (),
    key: bytes | None = None,
) -> VerifyResult:
    """Runs a suite, or the part of it that is about ``host``, on one host, by a testinfra URI.

    ``select`` are further arguments for pytest (``-k``, ``eth0``). The files of the suite are left as they were.
    """
    folder = folder.resolve()
    parts = [folder]
    if host is not None:
        declared = json.loads((folder / "declared.json").read_text())
        parts = [part for stem, one in declared.items() if one["name"] == host for part in _parts(folder, stem)]
    run = _run_pytest(folder, parts, hosts=target, junitxml=junitxml, select=select, key=key)
    error = run.error or "\n".join(run.unreached.values()) or (_left(sum(run.left.values())) if run.left else None)
    return VerifyResult(() if run.unreached else tuple(fact for _, fact in run.found), error)


class _Run(NamedTuple):
    """What one process of pytest found; each host is called as files have its name."""

    found: Sequence[tuple[str, FactResult]] = ()
    #: Hosts that could not be reached, and why.
    unreached: Mapping[str, str] = {}
    #: How many tests of a host were not come to.
    left: Mapping[str, int] = {}
    error: str | None = None


def _groups(hosts: Mapping[str, tuple[Desired, Reach]]) -> list[list[str]]:
    """The hosts that share a process: most of the time of a few facts is pytest's own start."""
    alone = [[name] for name, (_, reach) in hosts.items() if isinstance(reach, str)]
    connected = [name for name, (_, reach) in hosts.items() if not isinstance(reach, str)]
    shared = [connected[number::_PROCESSORS] for number in range(_PROCESSORS)]
    return [*alone, *(group for group in shared if group)]


def _parts(folder: Path, stem: str) -> list[Path]:
    return [path for path in (folder / f"test_{stem}.py", folder / stem) if path.exists()]


def _run_pytest(
    folder: Path,
    parts: Sequence[Path],
    *,
    hosts: str | None = None,
    junitxml: Path | None = None,
    select: Sequence[str] = (),
    key: bytes | None = None,
    relayed: Path | None = None,
) -> _Run:
    with tempfile.TemporaryDirectory(prefix="nsprov-results-") as temporary:
        results, arguments = Path(temporary, "results.json"), Path(temporary, "arguments")
        # In a file, as the names of many hosts are more than a command line takes.
        arguments.write_text("".join(f"{part}\n" for part in parts))
        command = [
            *(sys.executable, "-P", "-m", "pytest", "--quiet", "--color=no", "--tb=short"),
            *("-c", str(folder / "pytest.ini"), "--rootdir", str(folder), "-p", "no:cacheprovider"),
            *("-p", "testinfra.plugin", "-p", "provisioner.verify.plugin"),
            # A role's test that cannot be read is that host's failure, and the others' facts are checked.
            *("--continue-on-collection-errors", "--nsprov-results", str(results)),
            *([f"--hosts={hosts}"] if hosts else []),
            *([f"--junitxml={junitxml.resolve()}"] if junitxml else []),
            *select,
            f"@{arguments}",
        ]
        done = subprocess.run(
            command,
            env=_environment(key) | ({RELAY_FOLDER: str(relayed)} if relayed else {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        return _run_of(done, results)


def _environment(key: bytes | None) -> dict[str, str]:
    """This process's environment, without secrets, and without what would lead pytest astray."""
    given = without_secrets(os.environ)
    kept = {name: value for name, value in given.items() if not name.startswith(("PYTEST_", "COV_CORE_"))}
    package = str(Path(__file__).parents[2])
    return (
        kept
        | ({"NSPROV_VERIFY_KEY": key.hex()} if key else {})
        | {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        }
    )


def _run_of(done: subprocess.CompletedProcess[str], results: Path) -> _Run:
    told = json.loads(results.read_text()) if results.exists() else {"found": [], "unreached": {}, "left": {}}
    found = [(one.pop("host"), FactResult(**one)) for one in told.pop("found")]
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    reasons = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    # 0 all passed, 1 some failed, 2 it was ended early, or a file could not be read, 5 there are none.
    if results.exists() and (done.returncode in (0, 1, 5) or (done.returncode == 2 and (found or told["left"]))):
        return _Run(found, **told)
    if done.returncode == 0:  # a test ended it: what it printed is of no use
        said = []
    ended = f"pytest ended with {done.returncode}, and without a word on the facts"
    return _Run(found, **told, error="\n".join(reasons or said[-5:]) or ended)


def _result_of(name: str, stem: str, reach: Reach, run: _Run) -> VerifyResult:
    lost = None if isinstance(reach, str) else reach.lost
    facts = tuple(fact for host, fact in run.found if host == stem)
    if lost is not None:  # what did not hold from then on says nothing of the host
        held = tuple(fact for fact in facts if fact.outcome == "passed")
        return VerifyResult(held, error=str(lost), lost=isinstance(lost, UnreachableError))
    if stem in run.unreached:
        why = run.unreached[stem].replace(f"{RELAY_SCHEME}://{stem} ", f"{name} ")
        return VerifyResult(error=why, lost=True)
    error = run.error or (_left(run.left[stem]) if stem in run.left else None)
    return VerifyResult(facts, error)


def _left(number: int) -> str:
    return f"pytest was ended before {'a fact was' if number == 1 else f'{number} facts were'} checked"


def _write_junit(
    path: Path, reports: Iterable[Path], names: Mapping[str, str], results: Mapping[str, VerifyResult]
) -> None:
    """One JUnit report of what each process wrote, a test suite for each host; ``names`` are those of the files."""
    root = ElementTree.Element("testsuites", name="nsprov verify")
    suites = {stem: ElementTree.Element("testsuite", name=name) for stem, name in names.items()}
    for report in reports:
        for found in ElementTree.parse(report).getroot() if report.exists() else ():
            for case in found:
                if (suite := suites.get(_host_of_case(case))) is not None:
                    suite.attrib |= {key: found.attrib[key] for key in ("timestamp", "hostname") if key in found.attrib}
                    suite.append(case)
    for stem, suite in suites.items():
        error = results[names[stem]].error
        if error:
            suite[:] = [case for case in suite if not len(case) or case[-1].tag == "properties"]  # those that hold
            case = ElementTree.SubElement(suite, "testcase", classname=names[stem], name="the facts can be checked")
            ElementTree.SubElement(case, "error", message=error.splitlines()[0]).text = error
        counted = {"tests": len(suite)} | {
            plural: sum(case.find(kind) is not None for case in suite)
            for plural, kind in (("errors", "error"), ("failures", "failure"), ("skipped", "skipped"))
        }
        suite.attrib |= {kind: str(count) for kind, count in counted.items()}
        suite.set("time", f"{sum(float(case.get('time', 0)) for case in suite):.3f}")
        root.append(suite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        report_text = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True).decode()
        path.write_text(redact(report_text), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _host_of_case(case: ElementTree.Element) -> str:
    """The host that a test is about, by its file: ``test_HOST``, or ``HOST.ROLE.test_…``. A stem has no dots."""
    first, *inside = (case.get("classname") or case.get("name") or "").split(".")
    return first if inside else first.removeprefix("test_")
