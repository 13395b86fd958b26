"""Runs a written suite with pytest, in a process of its own that the user's pytest settings do not reach."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple
from xml.etree import ElementTree

from provisioner.errors import UsageError
from provisioner.secrets import redact, without_secrets
from provisioner.verify.reach import REACH_FD, Reach, SshReach, uri_of
from provisioner.verify.suite import file_stem, write_suite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from provisioner.model import Desired

__all__ = ["FactResult", "Failure", "VerifyResult", "run_suite", "verify_hosts"]


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

    Writes a suite into a folder that goes when the work is done. With ``junitxml``, one report for all hosts.
    """
    if not hosts:
        return {}
    with tempfile.TemporaryDirectory(prefix="nsprov-verify-") as temporary:
        folder = Path(temporary, "suite")
        # It checks that secrets are the declared ones; the key is in no file, and nowhere once this ends.
        key = secrets.token_bytes(32)
        write_suite(folder, {name: desired for name, (desired, _) in hosts.items()}, project=project, key=key)
        reports = {name: Path(temporary, f"{number}.xml") for number, name in enumerate(hosts)}

        def check(name: str) -> VerifyResult:
            report = reports[name] if junitxml else None
            return run_suite(folder, hosts[name][1], host=name, junitxml=report, key=key)

        with ThreadPoolExecutor(max_workers=min(len(hosts), 2 * (os.cpu_count() or 1))) as pool:
            results = dict(zip(hosts, pool.map(check, hosts), strict=True))
        if junitxml:
            _write_junit(junitxml, reports, results)
    return results


def run_suite(
    folder: Path,
    target: Reach,
    *,
    host: str | None = None,
    junitxml: Path | None = None,
    select: Sequence[str] = (),
    key: bytes | None = None,
) -> VerifyResult:
    """Runs a suite, or the part of it that is about ``host``, on one host, by a testinfra URI or by ssh.

    ``select`` are further arguments for pytest (``-k``, ``eth0``). The files of the suite are left as they were.
    """
    folder = folder.resolve()
    parts = [folder]
    if host is not None:
        stem = file_stem(host)
        parts = [path for path in (folder / f"test_{stem}.py", folder / stem) if path.exists()]
    with tempfile.TemporaryDirectory(prefix="nsprov-results-") as temporary:
        results = Path(temporary, "results.json")
        command = [
            *(sys.executable, "-P", "-m", "pytest", "--quiet", "--color=no", "--tb=short"),
            *("-c", str(folder / "pytest.ini"), "--rootdir", str(folder), "-p", "no:cacheprovider"),
            *("-p", "testinfra.plugin", "-p", "provisioner.verify.plugin"),
            *("--hosts", uri_of(target), "--nsprov-results", str(results)),
            *([f"--junitxml={junitxml.resolve()}"] if junitxml else []),
            *select,
            *map(str, parts),
        ]
        with _told(target) as told:
            done = subprocess.run(
                command,
                env=_environment(key) | ({REACH_FD: str(told.fileno())} if told else {}),
                pass_fds=[told.fileno()] if told else [],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
        return _result(done, results)


@contextmanager
def _told(target: Reach) -> Iterator[IO[bytes] | None]:
    """What pytest must be told of the way to an ssh host: in memory, as it has passwords, and read once."""
    if not isinstance(target, SshReach):
        yield None
        return
    with os.fdopen(os.memfd_create("nsprov-verify"), "w+b", buffering=0) as file:
        file.write(target.to_json().encode())
        file.seek(0)
        yield file


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


def _result(done: subprocess.CompletedProcess[str], results: Path) -> VerifyResult:
    told: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {"facts": (), "lost": None}
    facts = tuple(FactResult(**one) for one in told["facts"])
    if told["lost"] is not None:
        return VerifyResult(facts, error=told["lost"], lost=True)
    # 0 all passed, 1 some failed, 2 a file could not be read (it is among the failed), 5 there are none.
    if done.returncode in (0, 1, 5) or (done.returncode == 2 and facts):
        return VerifyResult(facts)
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    reasons = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    return VerifyResult(facts, error="\n".join(reasons or said[-5:]) or f"pytest ended with {done.returncode}")


def _write_junit(path: Path, reports: Mapping[str, Path], results: Mapping[str, VerifyResult]) -> None:
    """One JUnit report of the hosts' reports, a test suite for each host."""
    root = ElementTree.Element("testsuites", name="nsprov verify")
    for name, report in reports.items():
        found = list(ElementTree.parse(report).getroot()) if report.exists() else []
        for suite in found:
            suite.set("name", name)
            root.append(suite)
        error = results[name].error
        if error:
            suite = ElementTree.SubElement(root, "testsuite", name=name, tests="1", errors="1")
            case = ElementTree.SubElement(suite, "testcase", classname=name, name="the facts can be checked")
            ElementTree.SubElement(case, "error", message=error.splitlines()[0]).text = error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        report = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True).decode()
        path.write_text(redact(report), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
