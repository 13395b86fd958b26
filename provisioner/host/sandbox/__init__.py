"""Throwaway hosts: a real systemd in namespaces of its own, over a copy-on-write view of a root file system.

Owns ``Sandbox``. What runs in one sees a whole machine; the machine sees a few processes, one cgroup and
one state file, and nothing of them outlives the sandbox, however it ends. Needs root. Imports nothing of
``config``, ``engine`` or ``cli``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from provisioner.errors import HostError, NotPermittedError, NsprovError, UnreachableError, UsageError
from provisioner.host.sandbox import boot, enter, guardian, state, underlay
from provisioner.host.sandbox.state import Record

__all__ = ["Connection", "Sandbox", "list_sandboxes"]

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_STOP_TIMEOUT = 20.0


class Sandbox:
    """A throwaway host. Start one, or attach to one that runs; as a context manager it stops at the end."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._child: int | None = None
        self._counter = itertools.count()
        self._init = -1
        with contextlib.suppress(ProcessLookupError):
            self._init = os.pidfd_open(record.pid)
        if not self.alive:
            raise HostError(f"the sandbox '{record.name}' has ended")

    def __del__(self) -> None:
        if self._init >= 0:
            os.close(self._init)

    # -- starting and ending ----------------------------------------------------------------------

    @classmethod
    def start(
        cls, name: str, *, root: Path | None = None, address: str | None = None, outlive: bool = False
    ) -> Sandbox:
        """Boot a sandbox over the machine's own root, or over a given root tree, and wait until it is up.

        It ends with this process, unless it shall ``outlive`` it. ``address`` is its own on the underlay, by
        default the next free of 192.0.2.0/24.

        Raises:
            NotPermittedError: this is not root.
            UsageError: the name or address is wrong, or in use.
            HostError: something that it needs is missing, or it did not boot (with its last words).
        """
        _check_name(name)
        _check_permission()
        tree = _check_root(root)
        _check_machine()
        wish = guardian.Wish(
            name=name,
            root=tree,
            address=underlay.check_address(address) if address else None,
            owner=None if outlive else os.getpid(),
        )
        child = _start_guardian(wish)
        record = state.read(name)
        if record is None or not record.ready:
            raise HostError(f"the sandbox '{name}' has ended")
        made = cls(record)
        made._child = child
        return made

    @classmethod
    def attach(cls, name: str) -> Sandbox:
        """The running sandbox of this name. Raises UsageError when there is none."""
        _check_permission()
        record = state.read(name)
        if record is None or not record.ready or not record.guarded:
            running = [other.name for other in list_sandboxes()]
            hint = f"start it: nsprov sandbox start {name}" + (f"   (running: {', '.join(running)})" if running else "")
            raise UsageError(f"no sandbox named '{name}' is running", hint=hint)
        return cls(record)

    def stop(self) -> None:
        """End the sandbox, and wait until nothing is left of it. Does nothing when it has ended already."""
        record = self._record
        with contextlib.suppress(ProcessLookupError):
            watched = os.pidfd_open(record.guardian)
            try:
                if state.is_running(record.guardian, record.guardian_start):
                    signal.pidfd_send_signal(watched, signal.SIGTERM)
                    state.wait_for_exit(watched, _STOP_TIMEOUT)
            finally:
                os.close(watched)
        if self._child is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._child, 0)
            self._child = None
        # For the case that the guardian had been killed, and its twin with it.
        state.remove_cgroup(Path(record.cgroup))
        state.forget(record.name, record.guardian)
        if self._init >= 0:
            os.close(self._init)
            self._init = -1

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- what it is -------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def pid(self) -> int:
        """Its first process, as the machine numbers it."""
        return self._record.pid

    @property
    def address(self) -> str:
        """Its address on the underlay, with the prefix length."""
        return self._record.address

    @property
    def root(self) -> Path:
        """The root tree that it is a copy-on-write view of."""
        return Path(self._record.root)

    @property
    def cgroup(self) -> Path:
        """The cgroup that it runs in, as the machine sees it."""
        return Path(self._record.cgroup)

    @property
    def since(self) -> float:
        """When it was started, in seconds since the epoch."""
        return self._record.since

    @property
    def lacks(self) -> list[str]:
        """What this machine's kernel cannot give it: controllers, user namespaces, nf_tables."""
        return list(self._record.lacks)

    @property
    def alive(self) -> bool:
        return self._init >= 0 and state.is_running(self._record.pid, self._record.pid_start)

    # -- going in ---------------------------------------------------------------------------------

    def run(
        self,
        command: str | Sequence[str],
        *,
        input: str | None = None,
        check: bool = True,
        timeout: float | None = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the sandbox, with a clean environment; a string is run by ``sh``.

        Raises HostError when the command fails, unless ``check`` is false, or when it takes too long.
        """
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
        shown = command if isinstance(command, str) else shlex.join(argv)
        with self._leaf() as leaf, self._popen(argv, leaf, pipes=True) as process:
            try:
                output, errors = process.communicate(input, timeout=timeout)
            except BaseException as error:
                _kill(leaf)
                process.kill()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise HostError(f"'{shown}' in the sandbox {self.name} took more than {timeout:g} s") from None
                raise
        result = subprocess.CompletedProcess(argv, process.returncode, output, errors)
        if check and result.returncode:
            words = (result.stderr.strip() or result.stdout.strip())[-4000:]
            raise HostError(
                f"'{shown}' in the sandbox {self.name} ended with {result.returncode}",
                detail=words,
                code=result.returncode,
            )
        return result

    def call(self, argv: Sequence[str]) -> int:
        """Run a command in the sandbox on this process's own terminal, and return its exit status."""
        environment = {"TERM": os.environ.get("TERM", "dumb")}
        with self._leaf() as leaf, self._popen(list(argv), leaf, pipes=False, environment=environment) as process:
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the command's to answer
            try:
                code = process.wait()
            finally:
                signal.signal(signal.SIGINT, handler)
        return code if code >= 0 else 128 - code

    def fork(self, function: Callable[[socket.socket], None], *, preload: Sequence[str] = ()) -> Connection:
        """Fork this Python process into the sandbox, and run a function there, with one end of a socket.

        Nothing is executed, so the sandbox's root needs no Python; modules that the function imports later
        are looked up in the sandbox, so name them in ``preload``. The fork ends when the function does, when
        this process does, or when the connection is closed.
        """
        for module in preload:
            importlib.import_module(module)
        near, far = socket.socketpair()
        words = os.memfd_create("nsprov-fork", os.MFD_CLOEXEC)
        leaf = self._make_leaf()
        owner = os.pidfd_open(os.getpid())
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        pid = os.fork()
        if pid == 0:
            _serve(function, far, words, lambda: self._enter(leaf, owner), owner, self._init)
        os.close(owner)
        far.close()
        return Connection(near, pid, words, leaf)

    def write(self, path: str | Path, text: str, mode: int = 0o644) -> None:
        """Write a file inside the sandbox, with the folders above it."""
        quoted = shlex.quote(str(path))
        self.run(f'mkdir -p "$(dirname {quoted})" && cat >{quoted} && chmod {mode:o} {quoted}', input=text)

    # -- how --------------------------------------------------------------------------------------

    def _popen(
        self, argv: list[str], leaf: Path, *, pipes: bool, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        if not self.alive:
            raise HostError(f"the sandbox '{self.name}' has ended")
        stream = subprocess.PIPE if pipes else None
        owner = os.pidfd_open(os.getpid())
        try:
            return subprocess.Popen(
                argv,
                stdin=stream,
                stdout=stream,
                stderr=stream,
                text=True,
                errors="replace",
                env={**enter.ENVIRONMENT, **(environment or {})},
                # The function forks once more: a process cannot move itself into a pid namespace.
                preexec_fn=lambda: self._enter(leaf, owner),
            )
        except FileNotFoundError:
            raise HostError(f"the sandbox {self.name} has no command '{argv[0]}'", code=127) from None
        except subprocess.SubprocessError:
            raise HostError(f"the sandbox '{self.name}' cannot be entered: has it ended?") from None
        finally:
            os.close(owner)

    def _enter(self, leaf: Path, owner: int) -> None:
        enter.enter(self._init, leaf, bool(self._record.shift), owner)

    def _make_leaf(self) -> Path:
        number = f"{os.getpid()}-{id(self)}-{next(self._counter)}"
        try:
            return enter.make_leaf(self.cgroup, self._record.shift, number)
        except FileNotFoundError:
            raise HostError(f"the sandbox '{self.name}' has ended") from None

    @contextlib.contextmanager
    def _leaf(self) -> Iterator[Path]:
        """A cgroup for one command. What the command leaves running stays in it."""
        leaf = self._make_leaf()
        try:
            yield leaf
        finally:
            with contextlib.suppress(OSError):
                leaf.rmdir()


@dataclass(slots=True)
class Connection:
    """The near end of a fork that runs in a sandbox: its socket, and its process as the machine numbers it."""

    socket: socket.socket
    pid: int
    _words: int
    _leaf: Path
    _status: int | None = None

    @property
    def errors(self) -> str:
        """What the fork wrote to standard error: the traceback, where its function failed."""
        return os.pread(self._words, 1 << 20, 0).decode(errors="replace") if self._words >= 0 else ""

    def broken(self, name: str) -> NsprovError:
        """That the fork has ended, with its last words."""
        detail = self.errors.strip() or "the agent there has ended"
        return UnreachableError(f"the connection to {name} broke", detail=detail)

    def wait(self) -> int:
        """Wait until the fork has ended, and return its exit status: 0, or 70 where its function failed."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def close(self) -> None:
        """End the fork, and forget it."""
        self.socket.close()
        if self._status is None:
            _kill(self._leaf)
            self.wait()
        with contextlib.suppress(OSError):
            self._leaf.rmdir()
        if self._words >= 0:
            os.close(self._words)
            self._words = -1

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def list_sandboxes() -> list[Sandbox]:
    """The sandboxes that run on this machine, by name."""
    _check_permission()
    found = []
    for record in state.records():
        if record.ready and record.guarded:
            with contextlib.suppress(HostError):
                found.append(Sandbox(record))
    return found


def _start_guardian(wish: guardian.Wish) -> int:
    """Fork the guardian, and wait until it says that the sandbox is up. Returns its process number."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    me = os.pidfd_open(os.getpid())
    child = os.fork()
    if child == 0:
        near.close()
        guardian.become_guardian(far, me, wish)
    os.close(me)
    far.close()
    with near:
        try:
            message = near.recv(65536)
        except BaseException:  # Ctrl-C while it boots
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            raise
    answer = json.loads(message) if message else {"error": f"the sandbox '{wish.name}' was killed while it started"}
    if answer.get("ready"):
        return child
    os.waitpid(child, 0)
    kind = UsageError if answer.get("usage") else HostError
    raise kind(answer["error"], hint=answer.get("hint"))


def _serve(
    function: Callable[[socket.socket], None],
    far: socket.socket,
    words: int,
    go_in: Callable[[], None],
    owner: int,
    init: int,
) -> NoReturn:
    """What the fork does: go into the sandbox, run the function, end. Never returns to the caller's stack."""
    code = 70
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        gc.freeze()  # the collector must not close, for an object of the caller's, a descriptor of ours
        guardian.close_all_but({far.fileno(), words, owner, init})
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.dup2(words, 2)
        go_in()
        for descriptor in (nothing, owner, init):
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(enter.ENVIRONMENT)
        function(far)
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _kill(leaf: Path) -> None:
    with contextlib.suppress(OSError):
        (leaf / "cgroup.kill").write_text("1")


# -- before the start -----------------------------------------------------------------------------


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' is not a name for a sandbox",
            hint="a sandbox is named like a host: up to 63 letters, digits and '-', which does not begin or end it",
        )


def _check_permission() -> None:
    if os.geteuid() != 0:
        raise NotPermittedError("a sandbox needs root", hint="run it with sudo")


def _check_root(root: Path | None) -> Path:
    tree = Path("/") if root is None else root.resolve()
    if not tree.is_dir():
        raise UsageError(f"the root tree {root} is not a folder")
    where = "" if root is None else f" in {root}"
    install = "apt-get install" if root is None else f"chroot {root} apt-get install"
    for package, paths in (
        ("systemd", ("usr/lib/systemd/systemd", "lib/systemd/systemd")),
        ("dbus", ("usr/bin/dbus-daemon", "usr/bin/dbus-broker-launch")),
    ):
        if not any((tree / path).exists() for path in paths):
            raise HostError(f"there is no {package}{where}, which a sandbox boots", hint=f"{install} {package}")
    return tree


def _check_machine() -> None:
    if boot.MANAGER.is_file() and boot.MANAGER.read_text() == "nsprov\n":
        raise HostError("sandboxes do not nest, and this host is one", hint="start it on the machine itself")
    if shutil.which("ip", path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        raise HostError("there is no 'ip' command, which wires sandboxes", hint="apt-get install iproute2")
