"""Prints what the agent's bundle weighs, and how long a host takes from the first word to the agent's answers.

    python -m benchmarks.bundle [--rounds 20] [--pyinstaller] [--json FILE] [--check]

Times are the least of all rounds: what else runs on the machine makes them longer and never shorter. Everything is in
a folder of this program's own, and is gone when it ends. ``--pyinstaller`` makes the same agent with
PyInstaller, which must be installed for that, as one folder, and measures it in the same way.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.claims import add_options, conclude
from provisioner.fleet import bundle

_HELLO, _FACTS = '{"do": "hello"}\n', '{"do": "facts"}\n'
_CHECK = f"sha256sum --check --status --strict {bundle.SUMS}"
_ENTRY = "from provisioner.fleet.serving import main\n\nmain()\n"
_MOST_BYTES, _MOST_SECONDS = 40 << 20, 0.25


@dataclass(frozen=True)
class Measured:
    """Bytes and seconds."""

    files: int
    copied: int
    unpacked: int
    check: float
    hello: float
    facts: float


def main() -> int:
    options = _options()
    if options.pyinstaller and importlib.util.find_spec("PyInstaller") is None:
        print("there is no PyInstaller here: pip install pyinstaller", file=sys.stderr)
        return 64
    with tempfile.TemporaryDirectory(prefix="nsprov-bench-") as scratch:
        made = bundle.find(os.uname().machine)
        tree = Path(scratch, "agent")
        tree.mkdir()
        subprocess.run(["tar", "-xzf", made.archive, "-C", tree], check=True)
        found = {"bundle": _measure(tree, made.archive, options.rounds)}
        if options.pyinstaller:
            found["PyInstaller"] = _measure(*_by_pyinstaller(Path(scratch)), options.rounds)
    print(f"{'':>12}{'files':>8}{'copied':>12}{'unpacked':>12}{'check':>10}{'hello':>10}{'facts':>10}")
    for name, one in found.items():
        sizes = f"{one.files:>8}{one.copied / 2**20:>8.1f} MiB{one.unpacked / 2**20:>8.1f} MiB"
        print(f"{name:>12}{sizes}" + "".join(f"{each * 1000:>7.0f} ms" for each in (one.check, one.hello, one.facts)))
    ours = found["bundle"]
    claims = [
        (ours.copied <= _MOST_BYTES, f"at most {_MOST_BYTES >> 20} MiB are copied"),
        (ours.check + ours.hello <= _MOST_SECONDS, f"checked, and its first answer in {_MOST_SECONDS * 1000:.0f} ms"),
    ]
    return conclude(claims, {name: asdict(one) for name, one in found.items()}, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bundle", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="measure this often, and take the least")
    parser.add_argument("--pyinstaller", action="store_true", help="make it with PyInstaller too, and compare")
    add_options(parser)
    return parser.parse_args()


def _measure(tree: Path, archive: Path, rounds: int) -> Measured:
    files = [path for path in tree.rglob("*") if path.is_file()]
    return Measured(
        files=len(files),
        copied=archive.stat().st_size,
        unpacked=sum(path.stat().st_size for path in files),
        check=_least(rounds, tree, ["sh", "-c", _CHECK], "", 0),
        hello=_least(rounds, tree, ["./agent"], _HELLO, 1),
        facts=_least(rounds, tree, ["./agent"], _HELLO + _FACTS, 2),
    )


def _least(rounds: int, tree: Path, command: Sequence[str], requests: str, answers: int) -> float:
    return min(_seconds(tree, command, requests, answers) for _ in range(rounds))


def _seconds(tree: Path, command: Sequence[str], requests: str, answers: int) -> float:
    """From the start until this many lines came; until the end where there are none to wait for."""
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=tree, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(requests)
        process.stdin.flush()
        for _ in range(answers):
            if not process.stdout.readline():
                raise SystemExit(f"{command[0]} ended without an answer")
        if not answers:
            process.wait()
        return time.perf_counter() - began


def _by_pyinstaller(scratch: Path) -> tuple[Path, Path]:
    """The same agent as PyInstaller makes it: its folder, and an archive of it."""
    (scratch / "entry.py").write_text(_ENTRY)
    collected = [f"--collect-submodules=provisioner.{one}" for one in ("host", "resources", "directives", "engine")]
    collected += ["--collect-data=provisioner.directives", "--hidden-import=pystemd.utils"]
    left_out = [f"--exclude-module={one}" for one in ("lxml", "typer", "rich", "jinja2", "yaml", "pytest", "asyncio")]
    ours = f"--paths={Path(__file__).parents[1]}"
    command = [sys.executable, "-m", "PyInstaller", "--log-level=ERROR", "--name=agent", ours, *collected, *left_out]
    subprocess.run([*command, "entry.py"], cwd=scratch, check=True)
    tree, archive = scratch / "dist" / "agent", scratch / "pyinstaller.tar.gz"
    listed = f"find . -type f ! -name {bundle.SUMS} -exec sha256sum {{}} + >{bundle.SUMS}"
    subprocess.run(["sh", "-c", listed], cwd=tree, check=True)
    subprocess.run(["tar", "-czf", archive, "-C", tree, "."], check=True)
    return tree, archive


if __name__ == "__main__":
    sys.exit(main())
