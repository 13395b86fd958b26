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

from provisioner.errors import UsageError
from provisioner.secrets import redact, without_secrets
from provisioner.verify.relay import RELAY_FOLDER, RELAY_SCHEME, relay
from provisioner.verify.suite import file_stem, write_suite

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

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
    """What pytest found of one host. ``error`` says why the facts could not be checked at all."""

    facts: tuple[FactResult, ...] = ()
    error: str | None = None

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
    connected = {file_stem(name): reach for name, (_, reach) in hosts.items() if not isinstance(reach, str)}
    with tempfile.TemporaryDirectory(prefix="nsprov-verify-") as temporary:
        folder = Path(temporary, "suite")
        # It checks that secrets are the declared ones; the key is in no file, and nowhere once this ends.
        key = secrets.token_bytes(32)
        write_suite(folder, {name: desired for name, (desired, _) in hosts.items()}, project=project, key=key)
        groups = _groups(hosts)

        def check(number: int) -> _Run:
            names = groups[number]
            first = hosts[names[0]][1]
            uris = [first] if isinstance(first, str) else [f"{RELAY_SCHEME}://{file_stem(one)}" for one in names]
            parts = [part for name in names for part in _parts(folder, name)]
            report = Path(temporary, f"{number}.xml") if junitxml else None
            return _run_pytest(folder, uris, parts, junitxml=report, key=key, relayed=Path(temporary))

        with relay(Path(temporary), connected), ThreadPoolExecutor(max_workers=2 * _PROCESSORS) as pool:
            runs = list(pool.map(check, range(len(groups))))
        results: dict[str, VerifyResult] = {}
        for names, run in zip(groups, runs, strict=True):
            results |= {name: _result_of(name, hosts[name][1], run) for name in names}
        results = {name: results[name] for name in hosts}
        if junitxml:
            _write_junit(junitxml, [Path(temporary, f"{number}.xml") for number in range(len(groups))], results)
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
    parts = [folder] if host is None else _parts(folder, host)
    run = _run_pytest(folder, [target], parts, junitxml=junitxml, select=select, key=key)
    return VerifyResult(tuple(fact for _, fact in run.found), run.error)


class _Run(NamedTuple):
    """What one process of pytest found: facts with the host (as files have its name) that each is of."""

    found: Sequence[tuple[str, FactResult]]
    error: str | None


def _groups(hosts: Mapping[str, tuple[Desired, Reach]]) -> list[list[str]]:
    """The hosts that share a process: most of the time of a few facts is pytest's own start."""
    alone = [[name] for name, (_, reach) in hosts.items() if isinstance(reach, str)]
    connected = [name for name, (_, reach) in hosts.items() if not isinstance(reach, str)]
    shared = [connected[number::_PROCESSORS] for number in range(_PROCESSORS)]
    return [*alone, *(group for group in shared if group)]


def _parts(folder: Path, host: str) -> list[Path]:
    stem = file_stem(host)
    return [path for path in (folder / f"test_{stem}.py", folder / stem) if path.exists()]


def _run_pytest(
    folder: Path,
    uris: Sequence[str],
    parts: Sequence[Path],
    *,
    junitxml: Path | None = None,
    select: Sequence[str] = (),
    key: bytes | None = None,
    relayed: Path | None = None,
) -> _Run:
    with tempfile.TemporaryDirectory(prefix="nsprov-results-") as temporary:
        results, arguments = Path(temporary, "results.json"), Path(temporary, "arguments")
        # In a file, as the names of many hosts are more than a command line takes.
        arguments.write_text("".join(f"{one}\n" for one in ["--hosts", ",".join(uris), *map(str, parts)]))
        command = [
            *(sys.executable, "-P", "-m", "pytest", "--quiet", "--color=no", "--tb=short"),
            *("-c", str(folder / "pytest.ini"), "--rootdir", str(folder), "-p", "no:cacheprovider"),
            *("-p", "testinfra.plugin", "-p", "provisioner.verify.plugin"),
            # A role's test that cannot be read is that host's failure, and the others' facts are checked.
            *("--continue-on-collection-errors", "--nsprov-results", str(results)),
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
    loaded = json.loads(results.read_text()) if results.exists() else []
    found = [(one.pop("host"), FactResult(**one)) for one in loaded]
    # 0 all passed, 1 some failed, 2 a file could not be read (it is among the failed), 5 there are none.
    if done.returncode in (0, 1, 5) or (done.returncode == 2 and found):
        return _Run(found, None)
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    reasons = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    return _Run(found, "\n".join(reasons or said[-5:]) or f"pytest ended with {done.returncode}")


def _result_of(name: str, reach: Reach, run: _Run) -> VerifyResult:
    lost = None if isinstance(reach, str) else reach.lost
    if lost is not None:  # what did not hold from then on says nothing of the host
        return VerifyResult(error=str(lost))
    stem = file_stem(name)
    return VerifyResult(tuple(fact for host, fact in run.found if host == stem), run.error)


def _write_junit(path: Path, reports: Iterable[Path], results: Mapping[str, VerifyResult]) -> None:
    """One JUnit report of what each process wrote, a test suite for each host."""
    root = ElementTree.Element("testsuites", name="nsprov verify")
    suites = {file_stem(name): ElementTree.Element("testsuite", name=name) for name in results}
    for report in reports:
        for found in ElementTree.parse(report).getroot() if report.exists() else ():
            for case in found:
                if (suite := suites.get(_host_of_case(case, suites))) is not None:
                    suite.attrib |= {key: found.attrib[key] for key in ("timestamp", "hostname") if key in found.attrib}
                    suite.append(case)
    for name, result in results.items():
        suite = suites[file_stem(name)]
        if result.error:
            suite[:] = []
            case = ElementTree.SubElement(suite, "testcase", classname=name, name="the facts can be checked")
            ElementTree.SubElement(case, "error", message=result.error.splitlines()[0]).text = result.error
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


def _host_of_case(case: ElementTree.Element, known: Container[str]) -> str:
    """The host that a test is about, by its file: ``test_HOST``, or ``HOST.ROLE.test_…`` where a host has dots too."""
    parts = (case.get("classname") or case.get("name") or "").split(".")
    whole = ".".join(parts).removeprefix("test_")
    if whole in known:
        return whole
    return next((head for n in range(len(parts), 0, -1) if (head := ".".join(parts[:n])) in known), "")
