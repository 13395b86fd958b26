"""Prints what it costs to reach hosts by OpenSSH, as nsprov does, and by asyncssh in its place.

    pip install asyncssh
    python -m benchmarks.transport [--sizes 1,5,50] [--sandboxes 5] [--rounds 5] [--json FILE] [--check]

Needs root, an installed sshd, and asyncssh, which nothing else here uses. Hosts and controller are sandboxes on one
wire, and are gone when it ends; where there are more hosts than sandboxes, several names are one sandbox, by
connections of their own. Each measurement is a process of its own, as a command of nsprov is, which has loaded what
nsprov has loaded by then. It reaches all hosts side by side, starts ``cat`` on each, and has a line back from each.
What OpenSSH is started with is nsprov's own, with its ``ControlMaster``; once more it has the key exchange that
asyncssh comes to, as its own may be a post-quantum one, which costs more. asyncssh is given the key and the known
hosts, checks them, and reads neither configuration nor agent.

CPU is that of everything in the controller: the process, every ssh, and connections that outlive a command. All
numbers are the least of all rounds: what else runs on the machine makes them more and never less.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.claims import add_options, conclude
from provisioner.fleet import bundle
from provisioner.host.sandbox import Sandbox
from tests.host.sshd import address_of, authorize, start_sshd

_TOOLS = {"openssh": "OpenSSH", "curve25519": "OpenSSH, curve25519", "asyncssh": "asyncssh"}
_LINE = json.dumps({"do": "observe", "with": ["veth:v-tenant"] * 10}).encode() + b"\n"
_TRIPS = 500
_HOME = "/root/.ssh"
#: What OpenSSH puts its sockets below; ``nsprov-ssh`` is the folder that nsprov makes there.
_RUNTIME = "/run/bench"
_FORGET = f"for one in {_RUNTIME}/nsprov-ssh/*; do ssh -q -O exit -o ControlPath=$one none; done; true"

Measured = dict[str, float]


def main() -> int:
    options = _options()
    if options.client:
        print(json.dumps(_measure(options.client, options.names.split(","), options.copy)))
        return 0
    if importlib.util.find_spec("asyncssh") is None:
        print("there is no asyncssh here: pip install asyncssh", file=sys.stderr)
        return 64
    if os.geteuid() != 0:
        print("the hosts are sandboxes, and need root: run it with sudo", file=sys.stderr)
        return 77
    archive = bundle.find(os.uname().machine).archive
    found: dict[str, Measured] = {}
    with ExitStack() as stack:
        controller = stack.enter_context(Sandbox.start("bench-controller"))
        count = min(options.sandboxes, max(options.sizes))
        hosts = [stack.enter_context(Sandbox.start(f"bench-{number}")) for number in range(count)]
        names = _open(controller, hosts, max(options.sizes))
        controller.run(f"mkdir -m 700 {_RUNTIME}")
        # The first round is for what is compiled and read from disk once, and does not count.
        for number in range(options.rounds + 1):
            for title, tool, size, copied, forget in _runs(options.sizes):
                one = _run(controller, tool, names[:size], archive if copied else None, forget)
                if number:
                    found[title] = {key: min(value, found.get(title, one)[key]) for key, value in one.items()}
            controller.run(_FORGET)
    _show(found, options.sizes, archive.stat().st_size)
    return conclude(_claims(found, options.sizes), found, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transport", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--sizes",
        type=lambda text: sorted(map(int, text.split(","))),
        default=[1, 5, 50],
        help="how many hosts, by commas; with one alone, lines and the bundle's copy are measured too",
    )
    parser.add_argument("--sandboxes", type=int, default=5, help="real hosts, which the names are dealt out to")
    parser.add_argument("--rounds", type=int, default=5, help="measure this often, and take the least")
    add_options(parser)
    parser.add_argument("--client", choices=list(_TOOLS), help=argparse.SUPPRESS)
    parser.add_argument("--names", default="", help=argparse.SUPPRESS)
    parser.add_argument("--copy", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _runs(sizes: list[int]) -> Iterator[tuple[str, str, int, bool, bool]]:
    """What is measured, in this order: its title, the tool, how many hosts, whether more than reaching them, and
    whether what was kept is forgotten before."""
    for size in sizes:
        for tool in _TOOLS:
            yield f"{tool} first {size}", tool, size, size == 1, True
            yield f"{tool} again {size}", tool, size, False, False


def _open(controller: Sandbox, hosts: list[Sandbox], count: int) -> list[str]:
    """Make ssh hosts of the sandboxes, which let the controller in; names enough for them."""
    controller.run(f"mkdir -p -m 700 {_HOME} && ssh-keygen -q -t ed25519 -N '' -f {_HOME}/id_ed25519")
    public = controller.run(f"cat {_HOME}/id_ed25519.pub").stdout
    keys, addresses = [], []
    for host in hosts:
        keys.append(start_sshd(host))
        authorize(host, "root", public)
        host.write("/root/.bashrc", "")  # bash reads it at each command by ssh, and this machine's may take its time
        addresses.append(address_of(host))
    names = [f"host{number}" for number in range(count)]
    known = [f"{name} {keys[number % len(hosts)]}\n" for number, name in enumerate(names)]
    resolved = [f"{addresses[number % len(hosts)]} {name}\n" for number, name in enumerate(names)]
    controller.write(f"{_HOME}/known_hosts", "".join(known))
    controller.run("cat >>/etc/hosts", input="".join(resolved))
    return names


def _run(controller: Sandbox, tool: str, names: list[str], archive: Path | None, forget: bool) -> Measured:
    if forget:
        controller.run(_FORGET)
    command = [sys.executable, "-m", "benchmarks.transport", "--client", tool, "--names", ",".join(names)]
    if archive is not None:
        command += ["--copy", str(archive)]
    folder = shlex.quote(str(Path(__file__).parents[1]))
    line = f"cd {folder} && export XDG_RUNTIME_DIR={_RUNTIME} && exec {shlex.join(command)}"
    done = controller.run(line, timeout=300, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{tool} to {len(names)} hosts failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    one: Measured = json.loads(done.stdout.splitlines()[-1])
    return one


# -- in the controller, a process for each measurement ------------------------------------------------


def _measure(tool: str, names: list[str], archive: Path | None) -> Measured:
    """Seconds and MiB of reaching these hosts; where there is an archive, of lines and of its copy to the first too."""
    import provisioner.cli.session
    import provisioner.fleet.agent
    import provisioner.fleet.rollout

    found: Measured = {}
    if tool == "asyncssh":
        with _timed(found, "import"):
            import asyncssh  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
        asyncio.run(_by_asyncssh(names, archive, found))
    else:
        with _timed(found, "import"):
            import provisioner.fleet.ssh  # noqa: F401
        words = ("-o", "KexAlgorithms=curve25519-sha256") if tool == "curve25519" else ()
        _by_openssh(names, archive, found, words)
    # What hanging up takes is a part of what a connection costs.
    found["reach CPU"] += found.pop("close CPU")
    del found["close"]
    return found


def _by_openssh(names: list[str], archive: Path | None, found: Measured, words: tuple[str, ...]) -> None:
    from provisioner.fleet.rollout import side_by_side
    from provisioner.fleet.ssh import SshChannel
    from provisioner.fleet.ssh_options import SshOptions

    def start(name: str, command: str) -> tuple[SshChannel, Any]:
        channel = SshChannel(name, SshOptions(name, user="root", arguments=words), command)
        return channel, channel.socket.makefile("rwb")

    def trip(line: Any) -> None:
        line.write(_LINE)
        line.flush()
        _expect(line.readline(), _LINE)

    def reach(name: str) -> tuple[SshChannel, Any]:
        channel, line = start(name, "cat")
        trip(line)
        return channel, line

    def close(name: str) -> None:
        channel, line = reached[name]
        line.close()
        channel.close()

    reached: dict[str, tuple[SshChannel, Any]] = {}
    with _timed(found, "reach"):
        for name, made in side_by_side(reach, names, len(names)):
            if isinstance(made, Exception):
                raise made
            reached[name] = made
    _weigh(found)
    if archive is not None:
        with _timed(found, "trips"):
            for _ in range(_TRIPS):
                trip(reached[names[0]][1])
        data = archive.read_bytes()
        channel, line = start(names[0], _counting(data))
        _expect(line.readline(), b"ready\n")
        with _timed(found, "copy"):
            channel.socket.sendall(data)
            _expect(line.readline(), b"%d\n" % len(data))
        line.close()
        channel.close()
    with _timed(found, "close"):
        list(side_by_side(close, names, len(names)))


async def _by_asyncssh(names: list[str], archive: Path | None, found: Measured) -> None:
    import asyncssh

    options = asyncssh.SSHClientConnectionOptions(
        username="root",
        client_keys=[f"{_HOME}/id_ed25519"],
        known_hosts=f"{_HOME}/known_hosts",
        config=None,
        agent_path=None,
        gss_auth=False,
        gss_kex=False,
        preferred_auth="publickey",
        connect_timeout=10,
        keepalive_interval=10,
        keepalive_count_max=3,
    )

    async def trip(process: Any) -> None:
        process.stdin.write(_LINE)
        _expect(await process.stdout.readline(), _LINE)

    async def reach(name: str) -> tuple[Any, Any]:
        connection = await asyncssh.connect(name, options=options)
        process = await connection.create_process("cat", encoding=None)
        await trip(process)
        return connection, process

    async def close(connection: Any, process: Any) -> None:
        process.stdin.write_eof()
        await process.wait_closed()
        connection.close()
        await connection.wait_closed()

    with _timed(found, "reach"):
        reached = await asyncio.gather(*map(reach, names))
    _weigh(found)
    connection, process = reached[0]
    if archive is not None:
        with _timed(found, "trips"):
            for _ in range(_TRIPS):
                await trip(process)
        data = archive.read_bytes()
        copy = await connection.create_process(_counting(data), encoding=None)
        _expect(await copy.stdout.readline(), b"ready\n")
        with _timed(found, "copy"):
            copy.stdin.write(data)
            _expect(await copy.stdout.readline(), b"%d\n" % len(data))
        copy.stdin.write_eof()
        await copy.wait_closed()
    with _timed(found, "close"):
        await asyncio.gather(*(close(*one) for one in reached))


def _counting(data: bytes) -> str:
    return f"echo ready; head -c {len(data)} | wc -c"


def _expect(got: bytes, wanted: bytes) -> None:
    if got != wanted:
        raise SystemExit(f"{got[:200]!r} came, and not {wanted[:200]!r}")


@contextmanager
def _timed(found: Measured, stage: str) -> Iterator[None]:
    cpu, began = _cpu(), time.perf_counter()
    yield
    found[stage] = time.perf_counter() - began
    found[f"{stage} CPU"] = _cpu() - cpu


def _cpu() -> float:
    """CPU seconds of the whole controller so far."""
    text = Path("/sys/fs/cgroup/cpu.stat").read_text()
    return int(text.split("usage_usec ")[1].split()[0]) / 1e6


def _weigh(found: Measured) -> None:
    """MiB of this process and every ssh: the most that each had, added up, and what they share counted once."""
    found["RSS"] = found["PSS"] = found["processes"] = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if process.name != str(os.getpid()) and (process / "comm").read_text() != "ssh\n":
                continue
            most = _field(process / "status", "VmHWM:")
            share = _field(process / "smaps_rollup", "Pss:")
        except (OSError, IndexError):  # it has just ended
            continue
        found["RSS"] += most
        found["PSS"] += share
        found["processes"] += 1


def _field(file: Path, name: str) -> float:
    return int(file.read_text().split(name)[1].split()[0]) / 1024


# -- what is shown --------------------------------------------------------------------------------------


def _show(found: dict[str, Measured], sizes: list[int], copied: int) -> None:
    print(f"{'':>26}{'hosts':>7}{'wall':>11}{'CPU':>11}{'peak RSS':>10}{'PSS':>10}{'processes':>11}")
    for size in sizes:
        for when in ("first", "again"):
            for tool, title in _TOOLS.items():
                one = found[f"{tool} {when} {size}"]
                print(
                    f"{f'{title}, {when}':>26}{size:>7}{_ms(one['reach'])}{_ms(one['reach CPU'])}"
                    f"{one['RSS']:>6.0f} MiB{one['PSS']:>6.0f} MiB{one['processes']:>11.0f}"
                )
    more = [tool for tool in _TOOLS if "trips" in found.get(f"{tool} first 1", {})]
    if more:
        print(
            f"\n{'':>26}{'import':>11}{'CPU':>11}{'a line':>11}{'CPU':>11}{f'{copied / 2**20:.1f} MiB':>11}{'CPU':>11}"
        )
    for tool in more:
        one = found[f"{tool} first 1"]
        line = (one["trips"] / _TRIPS, one["trips CPU"] / _TRIPS)
        cells = (one["import"], one["import CPU"], *line, one["copy"], one["copy CPU"])
        print(f"{_TOOLS[tool]:>26}" + "".join(map(_ms, cells)))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:>8.{0 if seconds >= 0.01 else 2}f} ms"


def _claims(found: dict[str, Measured], sizes: list[int]) -> list[tuple[bool, str]]:
    """What is claimed of a run that comes soon after another, and whether it is borne out."""

    def part(size: int, what: str) -> float:
        ours, theirs = found[f"openssh again {size}"], found[f"asyncssh again {size}"]
        return ours[f"reach{what}"] / (theirs[f"reach{what}"] + theirs[f"import{what}"])

    least, most = part(sizes[0], " CPU"), part(sizes[-1], "")
    return [
        (least <= 0.5, f"again, {sizes[0]} take at most half of asyncssh's CPU with its import: {least:.2f}"),
        (most <= 0.5, f"again, {sizes[-1]} are reached in at most half of its time: {most:.2f}"),
    ]


if __name__ == "__main__":
    sys.exit(main())
