"""Runs one tool in a throwaway network of its own, and says how long each stage took.

This module is started inside ``unshare``: it has a mount, network and process namespace to itself, an
empty /run, and nothing that it builds outlives it. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import wiring

_HERE = Path(__file__).parent


def main(tool: str, count: int) -> None:
    _empty_folders()
    measured = {"ip": _measure_ip, "nsprov": _measure_nsprov}[tool](wiring.tenants(count))
    measured["links"] = _links()
    print(json.dumps(measured))


def _empty_folders() -> None:
    """Give this mount namespace folders of its own where state is kept."""
    for folder in ("/run", "/var/lib"):
        subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)


def _measure_ip(wired: list[wiring.Tenant]) -> dict[str, float]:
    built, removed = wiring.ip_batches(wired), wiring.ip_removal(wired)
    apply = _timed(lambda: _ip(built))
    _expect_tenants(len(wired))
    return {"apply": apply, "destroy": _timed(lambda: _ip(removed))}


def _ip(commands: list[tuple[list[str], str]]) -> None:
    for command, batch in commands:
        subprocess.run(command, input=batch, text=True, check=True, stdout=subprocess.DEVNULL)


def _measure_nsprov(wired: list[wiring.Tenant]) -> dict[str, float]:
    measured: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "roles").symlink_to(_HERE / "roles")
        path = wiring.inventory(Path(folder), wired)
        _compile_once(folder, path)
        measured["apply"], measured["memory"] = _nsprov("apply", str(path), "--yes")
        _expect_tenants(len(wired))
        # What changes nothing can be measured often, and is short enough to suffer from what else runs here.
        measured["re-apply"] = median(_nsprov("apply", str(path), "--yes", expect="no changes")[0] for _ in range(3))
        measured["plan"] = median(_nsprov("plan", str(path), expect="no changes")[0] for _ in range(3))
        middle = len(wired) // 2
        wired[middle] = replace(wired[middle], addresses=(wired[middle].addresses[0].replace(".1.", ".2."),))
        wiring.inventory(Path(folder), wired)
        measured["change one"], _ = _nsprov("apply", str(path), "--yes")
        measured["destroy"], _ = _nsprov("destroy", str(path), "--yes")
    return measured


def _compile_once(folder: str, inventory: Path) -> None:
    """Have Python keep what it compiles, as it does of an installed package; a checkout may be told not to."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"
    _nsprov("plan", str(inventory))


def _nsprov(*arguments: str, expect: str = "") -> tuple[float, float]:
    """Seconds that the command took, and the most memory (MB) that it had."""
    command = [sys.executable, "-m", "provisioner", *arguments]
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode()
    if process.returncode != 0 or expect not in text:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{text[-4000:]}")
    return seconds, usage.ru_maxrss / 1024


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _expect_tenants(count: int) -> None:
    """Both tools must have built the same: every namespace, and a first and a last tenant that reach their gateway."""
    made = len(os.listdir("/run/netns"))  # noqa: PTH208
    if made != count:
        raise SystemExit(f"{made} namespaces were made, and not {count}")
    for tenant in (wiring.tenants(count)[0], wiring.tenants(count)[-1]):
        ping = ["ip", "netns", "exec", tenant.name, "ping", "-c1", "-W2", "-q", tenant.gateway]
        subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)


def _links() -> int:
    """What is left in the end: nothing but the loopback."""
    return len(subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines()) - 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
