"""PID 1, over its private D-Bus socket: lists and reads units, starts transient ones, changes and stops them.

Owns the connection, the encoding of calls by their signatures, and the waiting for jobs. It knows nothing of
directives: what it sends are properties. Starts no program, but ``journalctl`` for the last words of a unit
that failed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from provisioner.errors import HostError

__all__ = ["Job", "Systemd", "SystemdError", "UnitState"]

_NAME = b"org.freedesktop.systemd1"
_ROOT = b"/org/freedesktop/systemd1"
_MANAGER = b"org.freedesktop.systemd1.Manager"
_PROPERTIES = b"org.freedesktop.DBus.Properties"
_PRIVATE = Path("/run/systemd/private")

#: Calls that change nothing, and so may be made again.
_READS = frozenset({"Get", "GetAll", "ListUnitsByPatterns", "Introspect"})
_HUNG_UP = frozenset({errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE})

#: Longer than systemd's own default for stopping a unit (90 s) before it kills.
JOB_TIMEOUT = 180.0


class SystemdError(HostError):
    """systemd refused a call. ``error`` is D-Bus's name of the refusal."""

    error = ""

    @property
    def missing(self) -> bool:
        """Whether it refused since the unit is not there."""
        return "not loaded" in self.detail or "not found" in self.detail or "NoSuchUnit" in self.error

    @property
    def exists(self) -> bool:
        """Whether it refused since a unit of this name is there already."""
        return "already loaded or has a fragment" in self.detail or "UnitExists" in self.error


class UnitState(NamedTuple):
    """One line of ``systemctl list-units``."""

    name: str
    description: str
    load: str
    active: str
    sub: str
    following: str
    path: str
    job_id: int
    job_type: str
    job_path: str


class Job(NamedTuple):
    """A queued start or stop of a unit."""

    unit: str
    path: str


class Systemd:
    """The system manager of this host. Connects when first used."""

    def __init__(self) -> None:
        self._bus: Any = None
        self._signals = False
        self._finished: dict[str, str] = {}
        self._units: dict[str, UnitState] | None = None
        self._files: dict[str, str] | None = None
        self._version: int | None = None
        self._pristine: dict[str, dict[str, Any]] = {}
        self._signatures: dict[str, dict[str, str]] = {}

    # -- the connection ---------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop what was listed; the connection stays."""
        self._units = None
        self._files = None

    def close(self) -> None:
        bus, self._bus = self._bus, None
        self._signals = False
        self._signatures = {}
        self.forget()
        if bus is not None:
            bus.close()

    @property
    def bus(self) -> Any:
        """The open connection. Raises HostError where systemd does not run."""
        if self._bus is None:
            self._bus = self._connect()
        return self._bus

    def _connect(self) -> Any:
        if not Path("/run/systemd/system").is_dir():
            raise HostError(
                "systemd is not running here: PID 1 is another program",
                hint="try the inventory out in a sandbox, which brings its own systemd: nsprov rehearse INVENTORY",
            )
        from pystemd.dbusexc import DBusBaseError
        from pystemd.dbuslib import DBus, DBusAddress

        private = os.geteuid() == 0 and _PRIVATE.exists()
        bus = DBusAddress(b"unix:path=" + bytes(_PRIVATE), peer_to_peer=True) if private else DBus()
        try:
            bus.open()
        except DBusBaseError as error:
            raise HostError(
                "cannot talk to systemd",
                detail=_words(error),
                hint="run as root, or install dbus" if not private else None,
            ) from None
        return bus

    def _call(
        self, method: str, signature: str = "", *values: Any, path: bytes = _ROOT, interface: bytes = _MANAGER
    ) -> Any:
        from pystemd.dbusexc import DBusBaseError

        arguments = encode(signature, values)
        for attempt in (1, 2):
            bus = self.bus
            try:
                return bus.call_method(_NAME, path, interface, method.encode(), arguments).body
            except DBusBaseError as error:
                code = abs(int(error.errno or 0))
                if code in _HUNG_UP:  # systemd was executed anew: the next call connects again
                    self.close()
                    if attempt == 1 and method in _READS:
                        continue
                made = SystemdError(f"systemd refused {method}", detail=_words(error), code=code)
                made.error = type(error).__name__
                raise made from None
        raise AssertionError("both attempts have returned or raised")

    # -- reading ----------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """systemd's major version."""
        if self._version is None:
            text = _text(self._property(_ROOT, _MANAGER, "Version"))
            match = re.match(r"\d+", text)
            self._version = int(match[0]) if match else 0
        return self._version

    def manager_property(self, name: str) -> Any:
        """One property of the manager."""
        return _plain(self._property(_ROOT, _MANAGER, name))

    def units(self) -> Mapping[str, UnitState]:
        """Every loaded unit by name. Listed once, until ``forget``."""
        if self._units is None:
            self._units = self.list_units(())
        return self._units

    def list_units(self, patterns: Sequence[str]) -> dict[str, UnitState]:
        """The loaded units that match one of the glob patterns; all of them for none."""
        rows = self._call("ListUnitsByPatterns", "asas", [], list(patterns))
        found = {}
        for row in rows or ():
            unit = UnitState._make(_plain(row))
            found[unit.name] = unit
        return found

    def unit_files(self) -> Mapping[str, str]:
        """The unit files and drop-in folders on disk (transient ones too): name, and path. Listed once.

        A drop-in folder is there under its own name (``web.service.d``).
        """
        if self._files is None:
            found: dict[str, str] = {}
            for folder in self.manager_property("UnitPath"):
                try:
                    with os.scandir(folder) as entries:
                        for entry in entries:
                            found.setdefault(entry.name, entry.path)
                except OSError:
                    continue
            self._files = found
        return self._files

    def properties(self, unit: str, names: Iterable[str]) -> dict[str, Any]:
        """Some properties of a loaded unit, as plain values: texts, numbers, lists, tuples.

        Those that this systemd does not have are left out.
        """
        path = self.object_path(unit)
        interface = _interface(unit)
        found: dict[str, Any] = {}
        for name in names:
            for where in (interface, b"org.freedesktop.systemd1.Unit"):
                try:
                    found[name] = _plain(self._property(path, where, name))
                    break
                except SystemdError:
                    continue
        return found

    def all_properties(self, unit: str) -> dict[str, Any]:
        """Every property of a unit's own interface, and of units in general. Costs a millisecond."""
        path = self.object_path(unit)
        found: dict[str, Any] = {}
        for interface in (b"org.freedesktop.systemd1.Unit", _interface(unit)):
            body = self._call("GetAll", "s", interface.decode(), path=path, interface=_PROPERTIES)
            found.update({_text(key): _plain(value) for key, value in (body or {}).items()})
        return found

    def pristine(self, suffix: str) -> Mapping[str, Any]:
        """The properties of a unit of this type (``slice``, ``service``) that sets nothing: this host's defaults."""
        if suffix not in self._pristine:
            self._pristine[suffix] = self.all_properties(f"nsprov-defaults.{suffix}")
        return self._pristine[suffix]

    def signatures(self, suffix: str) -> Mapping[str, str]:
        """The D-Bus signature of each property that this systemd has for a type of unit, by introspection.

        Asked once: a systemd that is replaced by another one hangs up.
        """
        if suffix not in self._signatures:
            path = self.object_path(f"nsprov-defaults.{suffix}")
            text = _text(self._call("Introspect", path=path, interface=b"org.freedesktop.DBus.Introspectable"))
            self._signatures[suffix] = dict(re.findall(r'<property name="(\w+)" type="([^"]+)"', text))
        return self._signatures[suffix]

    def object_path(self, unit: str) -> bytes:
        """The path of a unit's object."""
        from pystemd.dbuslib import path_encode

        made: bytes = path_encode(_ROOT + b"/unit", unit.encode())
        return made

    def _property(self, path: bytes, interface: bytes, name: str) -> Any:
        return self._call("Get", "ss", interface.decode(), name, path=path, interface=_PROPERTIES)

    # -- changing ---------------------------------------------------------------------------------

    def start_transient(
        self,
        unit: str,
        properties: Sequence[tuple[str, str, Any]],
        auxiliary: Sequence[tuple[str, Sequence[tuple[str, str, Any]]]] = (),
    ) -> Job:
        """Make a transient unit of these properties and queue its start. Returns without waiting.

        ``auxiliary`` units are made with it and not started (the service of a timer).
        """
        self._listen()
        path = self._call(
            "StartTransientUnit",
            "ssa(sv)a(sa(sv))",
            unit,
            "replace",
            [(name, (signature, value)) for name, signature, value in properties],
            [(name, [(one, (signature, value)) for one, signature, value in more]) for name, more in auxiliary],
        )
        return Job(unit, _text(path))

    def set_properties(self, unit: str, properties: Sequence[tuple[str, str, Any]]) -> None:
        """Change what can change on a running unit, until the next boot."""
        made = [(name, (signature, value)) for name, signature, value in properties]
        self._call("SetUnitProperties", "sba(sv)", unit, True, made)

    def start(self, unit: str) -> Job:
        return self._queue("StartUnit", unit)

    def stop(self, unit: str) -> Job | None:
        """Queue a unit's stop. None where it is not loaded."""
        try:
            return self._queue("StopUnit", unit)
        except SystemdError as error:
            if error.missing:
                return None
            raise

    def restart(self, unit: str) -> Job:
        return self._queue("RestartUnit", unit)

    def reset_failed(self, unit: str) -> None:
        """Forget that a unit failed, so that systemd lets go of it. Nothing where it is not loaded."""
        try:
            self._call("ResetFailedUnit", "s", unit)
        except SystemdError as error:
            if not error.missing:
                raise

    def reload(self) -> None:
        """Have systemd read its unit files again."""
        self._call("Reload")
        self.forget()

    def _queue(self, method: str, unit: str) -> Job:
        self._listen()
        return Job(unit, _text(self._call(method, "ss", unit, "replace")))

    # -- jobs -------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._signals:
            return
        finished = self._finished

        def removed(message: Any, error: Any = None, userdata: Any = None) -> None:
            message.process_reply(False)
            _, path, _, result = message.body
            finished[_text(path)] = _text(result)

        bus = self.bus
        bus.match_signal(None, _ROOT, _MANAGER, b"JobRemoved", removed)
        self._removed = removed  # the bus keeps no reference of its own
        if os.geteuid() != 0 or not _PRIVATE.exists():
            self._call("Subscribe")
        self._signals = True

    def wait(self, jobs: Iterable[Job], timeout: float = JOB_TIMEOUT) -> dict[str, str]:
        """Wait until jobs are gone from systemd's queue; each unit's result (``done``, ``failed``, ``timeout``, …).

        Those still queued after ``timeout`` seconds in which nothing moved have the result ``waiting``.
        """
        waiting = {job.path: job.unit for job in jobs}
        results: dict[str, str] = {}
        last_moved = time.monotonic()
        while True:
            self.bus.process()
            for path in self._finished.keys() & waiting.keys():
                results[waiting.pop(path)] = self._finished.pop(path)
                last_moved = time.monotonic()
            if not waiting:
                break
            left = last_moved + timeout - time.monotonic()
            if left <= 0:
                results.update(dict.fromkeys(waiting.values(), "waiting"))
                break
            self._wait_for_message(min(left, 1.0))
        self._finished.clear()
        return results

    def settle(self, seconds: float) -> None:
        """Let what was just started run for a moment, reading what systemd says meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.bus.process()
            self._wait_for_message(left)
        self._finished.clear()
        self.forget()

    def _wait_for_message(self, seconds: float) -> None:
        from pystemd.dbusexc import DBusBaseError

        try:
            self.bus.wait(max(1, int(seconds * 1_000_000)))
        except DBusBaseError as error:
            if abs(int(error.errno or 0)) != 4:  # EINTR: a signal of ours, and Python handles it
                raise HostError("lost the connection to systemd", detail=_words(error)) from None

    # -- what a failed unit said ------------------------------------------------------------------

    def last_words(self, unit: str, lines: int = 5) -> list[str]:
        """The last lines that a unit logged since it was started. Empty where there is no journal.

        Among them is what systemd's own child said before it became the unit's program (``Failed to locate
        executable``). A process that ends at once may be gone before the journal can see whose it was, and in
        which run: systemd's child says its unit in the field UNIT, which only root can be trusted with, and what
        says no run is of this one where it is no older.
        """
        known = self.properties(unit, ["InvocationID", "InactiveExitTimestamp"])
        run = bytes(known.get("InvocationID", ())).hex().strip("0") and bytes(known["InvocationID"]).hex()
        since = int(known.get("InactiveExitTimestamp", 0)) // 10**6
        when = [f"--since=@{since - 1}"] if since else []  # the process is older than the state that it leads to
        _journal("--sync")  # what was written a moment ago may still be on its way
        # PID 1 itself only repeats what the unit's state says: more is read than is told, and its lines left out.
        match = [f"_SYSTEMD_UNIT={unit}", "+", f"UNIT={unit}", "_UID=0"]
        read = _journal("--boot", "--output=json", f"--lines={lines + 30}", *when, *match)
        entries = [json.loads(line) for line in read.splitlines()]
        said = [
            _message(entry)
            for entry in entries
            if entry.get("_PID") != "1" and (not run or _run_of(entry) in ("", run))
        ]
        return [line for text in said for line in text.splitlines() if line.strip()][-lines:]


def _run_of(entry: Mapping[str, Any]) -> str:
    """The run of a unit that a journal entry is of; empty where it does not say."""
    return str(entry.get("_SYSTEMD_INVOCATION_ID") or entry.get("INVOCATION_ID") or "")


def _journal(*arguments: str) -> str:
    """What journalctl prints; nothing where there is no journal, or none that answers."""
    import os
    import subprocess

    from provisioner.secrets import without_secrets

    command = ["journalctl", "--no-pager", "--quiet", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
            env=without_secrets(os.environ),
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _message(entry: Mapping[str, Any]) -> str:
    """A journal entry's text: an array of bytes where it is no UTF-8, null where it is too long to be shown."""
    message = entry.get("MESSAGE")
    return bytes(message).decode("utf-8", "replace") if isinstance(message, list) else str(message or "")


def _interface(unit: str) -> bytes:
    return b"org.freedesktop.systemd1." + unit.rpartition(".")[2].capitalize().encode()


def _words(error: Any) -> str:
    """systemd's own text of a refusal."""
    message = error.err_message
    text = _text(message) if message else ""
    return text or os.strerror(abs(int(error.errno or 0)))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """A decoded value with texts for bytes, all the way down."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value


# -- encoding -------------------------------------------------------------------------------------


def encode(signature: str, values: Sequence[Any]) -> list[tuple[int, Any]]:
    """The arguments of a call in the form that pystemd appends: a type and a value each, containers opened
    and closed. A variant's value is a pair of its signature and what is in it."""
    made: list[tuple[int, Any]] = []
    for one, value in zip(_types(signature), values, strict=True):
        _append(made, one, value)
    return made


def _append(made: list[tuple[int, Any]], signature: str, value: Any) -> None:
    kind = signature[0]
    if kind == "a":
        made.append((ord("a"), signature[1:].encode()))
        for item in value:
            _append(made, signature[1:], item)
        made.append((-1, None))
    elif kind == "(":
        made.append((ord("r"), signature[1:-1].encode()))
        for one, item in zip(_types(signature[1:-1]), value, strict=True):
            _append(made, one, item)
        made.append((-1, None))
    elif kind == "v":
        inner, item = value
        made.append((ord("v"), inner.encode()))
        _append(made, inner, item)
        made.append((-1, None))
    elif kind in "sog":
        made.append((ord(kind), value if isinstance(value, bytes) else str(value).encode()))
    else:
        made.append((ord(kind), value))


def _types(signature: str) -> Iterator[str]:
    """The complete types of a signature, one by one."""
    at = 0
    while at < len(signature):
        end = _end(signature, at)
        yield signature[at:end]
        at = end


def _end(signature: str, at: int) -> int:
    if signature[at] == "a":
        return _end(signature, at + 1)
    if signature[at] != "(":
        return at + 1
    depth = 0
    for end in range(at, len(signature)):
        depth += {"(": 1, ")": -1}.get(signature[end], 0)
        if depth == 0:
            return end + 1
    raise ValueError(f"the signature {signature} is not closed")
