"""Prints how long nsprov takes for tenants' wiring, beside ``ip -batch`` for the same, in one run.

    python -m benchmarks [--sizes 100,300,1000] [--rounds 1] [--json FILE] [--check]

Needs root. Everything is built in namespaces of this program's own, and is gone when it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.claims import add_options, conclude

_STAGES = ("apply", "re-apply", "plan", "change one", "destroy")
_UNSHARE = [
    "unshare",
    "--mount",
    "--net",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--propagation",
    "private",
]

Measured = dict[str, float]


def main() -> int:
    options = _options()
    if os.geteuid() != 0:
        print("benchmarks build real namespaces, and need root: run them with sudo", file=sys.stderr)
        return 77
    found: dict[int, dict[str, Measured]] = {}
    print(_heading())
    for size in options.sizes:
        rounds = [{tool: _measure(tool, size) for tool in ("ip", "nsprov")} for _ in range(options.rounds)]
        found[size] = {tool: _medians([one[tool] for one in rounds]) for tool in ("ip", "nsprov")}
        print(_row(size, found[size]), flush=True)
    return conclude(_claims(found), found, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=_sizes, default=[100, 300, 1000], help="how many tenants, by commas")
    parser.add_argument("--rounds", type=int, default=1, help="measure this often, and take medians")
    add_options(parser)
    return parser.parse_args()


def _sizes(text: str) -> list[int]:
    return sorted(int(part) for part in text.split(","))


def _measure(tool: str, size: int) -> Measured:
    _settle()
    command = [*_UNSHARE, sys.executable, "-m", "benchmarks.measure", tool, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    if done.returncode != 0:
        raise SystemExit(f"{tool} with {size} tenants failed:\n{done.stdout}{done.stderr}")
    measured: Measured = json.loads(done.stdout.splitlines()[-1])
    if measured.pop("links"):
        raise SystemExit(f"{tool} with {size} tenants left interfaces behind")
    return measured


def _settle() -> None:
    """Wait until the kernel has taken apart the namespaces of the run before: it does so on its own time."""
    last, since = _namespaces(), time.monotonic()
    deadline = since + 60
    while time.monotonic() < min(since + 2, deadline):
        time.sleep(0.1)
        if (now := _namespaces()) != last:
            last, since = now, time.monotonic()


def _namespaces() -> str:
    """How many network namespaces the kernel has, as far as it tells."""
    try:
        lines = Path("/proc/slabinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split()[1] for line in lines if line.startswith("net_namespace")), "")


def _medians(rounds: Sequence[Measured]) -> Measured:
    return {stage: statistics.median(one[stage] for one in rounds) for stage in rounds[0]}


def _heading() -> str:
    columns = "".join(f"{stage:>12}" for stage in _STAGES)
    return f"{'tenants':>8}{'ip apply':>12}{'ip destroy':>12}{columns}{'peak MB':>10}"


def _row(size: int, found: dict[str, Measured]) -> str:
    ip, ours = found["ip"], found["nsprov"]
    columns = "".join(f"{ours[stage]:>11.2f}s" for stage in _STAGES)
    return f"{size:>8}{ip['apply']:>11.2f}s{ip['destroy']:>11.2f}s{columns}{ours['memory']:>10.0f}"


def _claims(found: dict[int, dict[str, Measured]]) -> list[tuple[bool, str]]:
    """What is claimed of the largest size, and whether this run bears it out."""
    size = max(found)
    ip, ours = found[size]["ip"], found[size]["nsprov"]
    claims = [
        (ours["apply"] < ip["apply"], f"apply of {size} is faster than ip -batch ({ours['apply'] / ip['apply']:.2f})"),
        (
            ours["re-apply"] <= ip["apply"] / 5,
            f"a no-op of {size} takes at most a fifth of ip -batch ({ours['re-apply'] / ip['apply']:.2f})",
        ),
    ]
    least = min(found)
    if least < size:
        each, first = ours["apply"] / size, found[least]["nsprov"]["apply"] / least
        words = f"it grows linearly: a tenant takes {each * 1000:.1f} ms among {size}, {first * 1000:.1f} among {least}"
        claims.append((each <= first * 1.5, words))
    return claims


if __name__ == "__main__":
    sys.exit(main())
