"""The systemd units that pull again and again: their text, and putting them on the host and away.

A unit carries the checksum of its own text, so that what somebody edited by hand is never written over unasked.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioner.errors import HostError, NsprovError, UsageError

__all__ = ["UNITS", "EditedError", "Schedule", "Units", "install", "quoted", "remove", "schedule", "units"]

#: Where an administrator's units live.
UNITS = Path("/etc/systemd/system")
_MARK = "# Made by 'nsprov pull --install-timer'; change it there. Checksum of what follows: "
_SPAN = re.compile(r"(\d+)\s*(s|sec|seconds?|m|min|minutes?|h|hr|hours?|d|days?)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SPLAY = 3600


class EditedError(NsprovError):
    """A unit's file that is not as nsprov wrote it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a host pulls: systemd's calendar expression, and over how many seconds the hosts spread."""

    calendar: str
    splay: int


@dataclass(frozen=True, slots=True)
class Units:
    """The two units of a pull: the files' names, and their texts."""

    name: str
    service: str
    timer: str

    @property
    def files(self) -> dict[str, str]:
        return {f"nsprov-pull-{self.name}.service": self.service, f"nsprov-pull-{self.name}.timer": self.timer}


def schedule(every: str, splay: int | None) -> Schedule:
    """``5min``, or systemd's ``OnCalendar``, and the splay: by default the whole of the span, at most an hour.

    A span becomes a calendar expression, for only those are made up for after the host was off, and only then is
    the time between two pulls the span itself, and not the span and the splay.
    """
    found = _SPAN.fullmatch(every.strip().lower())
    if found is None:
        return Schedule(every.strip(), 300 if splay is None else splay)
    seconds = int(found[1]) * _SECONDS[found[2][0]]
    calendar = _calendar(seconds)
    if calendar is None:
        raise UsageError(
            f"--every {every}: hosts cannot pull at the same distance all day",
            hint="a span that divides a minute, an hour or a day (30s, 5min, 6h), or an OnCalendar expression",
        )
    return Schedule(calendar, min(seconds, _LONGEST_SPLAY) if splay is None else splay)


def _calendar(seconds: int) -> str | None:
    if seconds <= 0:
        return None
    if seconds < 60:
        return f"*-*-* *:*:00/{seconds}" if 60 % seconds == 0 else None
    minutes, rest = divmod(seconds, 60)
    if rest:
        return None
    if minutes < 60:
        return f"*-*-* *:00/{minutes}:00" if 60 % minutes == 0 else None
    hours, rest = divmod(minutes, 60)
    if rest or 24 % hours:
        return None
    return "*-*-* 00:00:00" if hours == 24 else f"*-*-* 00/{hours}:00:00"


def quoted(word: str) -> str:
    """A word of a command line as a unit's file spells it: nothing in it is a specifier, a variable or a space."""
    if not word.isprintable():
        raise UsageError(f"{word!r} cannot stand in a unit's file")
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return text if re.fullmatch(r"[\w@%+=:,./-]+", text) else f'"{text}"'


def units(name: str, repo: str, command: Sequence[str], when: Schedule) -> Units:
    """The service and the timer of a pull."""
    told = repo.replace("%", "%%")
    service = f"""\
[Unit]
Description=nsprov pull {name}: what {told} has for this host
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={" ".join(quoted(word) for word in command)}
WorkingDirectory=/
# Another apply held the host: the next pull does it.
SuccessExitStatus=75
TimeoutStartSec=30min
# An apply that is told to end puts the host back first, and needs its children for that.
KillMode=mixed
TimeoutStopSec=5min
UMask=0077
# An apply makes mounts, namespaces and units for the whole host: no mount namespace of its own, so none of the
# Protect directives that need one. What it never does is taken away.
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_RAWIO CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_AUDIT_CONTROL
KeyringMode=private
"""
    timer = f"""\
[Unit]
Description=nsprov pull {name}, again and again

[Timer]
OnCalendar={when.calendar}
OnBootSec=1min
# Each host has a moment of its own, the same every time; a server sees the hosts spread over it.
RandomizedDelaySec={when.splay}
FixedRandomDelay=yes
AccuracySec=1s
# A pull that was missed while the host was off is made up for.
Persistent=yes

[Install]
WantedBy=timers.target
"""
    return Units(name, _marked(service), _marked(timer))


def _marked(text: str) -> str:
    return f"{_MARK}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def is_ours(text: str) -> bool:
    """Whether a unit's file is as nsprov wrote it, whichever version did."""
    first, _, rest = text.partition("\n")
    return first == _MARK + hashlib.sha256(rest.encode()).hexdigest()


def install(wanted: Units, *, force: bool = False, folder: Path = UNITS) -> list[str]:
    """Put the units on the host, enable and start the timer. What was done, a line each; nothing when all was so."""
    done = []
    present = {name: _read(folder / name) for name in wanted.files}
    _refuse_edited(folder, present, force)
    for name, text in wanted.files.items():
        if present[name] != text:
            _write(folder / name, text)
            done.append(f"{'wrote' if present[name] is None else 'changed'} {folder / name}")
    timer = f"nsprov-pull-{wanted.name}.timer"
    if done:
        _systemctl("daemon-reload")
    if not _is("enabled", timer):
        _systemctl("enable", "--quiet", timer)
        done.append(f"enabled {timer}")
    if not _is("active", timer):
        _systemctl("start", timer)
        done.append(f"started {timer}")
    elif present[timer] != wanted.timer:
        _systemctl("restart", timer)
        done.append(f"restarted {timer}")
    return done


def remove(name: str, *, force: bool = False, folder: Path = UNITS) -> list[str]:
    """Stop the timer and take both units away. What was done, a line each."""
    files = [f"nsprov-pull-{name}.{kind}" for kind in ("timer", "service")]
    present = {one: text for one in files if (text := _read(folder / one)) is not None}
    _refuse_edited(folder, present, force)
    if not present:
        return []
    timer = files[0]
    if timer in present:
        _systemctl("disable", "--now", "--quiet", timer)
    for one in present:
        (folder / one).unlink(missing_ok=True)
    _systemctl("daemon-reload")
    # A failed service would stay listed without its file; one that did not fail is unknown by now.
    subprocess.run(["systemctl", "reset-failed", *files], capture_output=True, check=False)
    return [f"stopped and disabled {timer}"] * (timer in present) + [f"removed {folder / one}" for one in present]


def next_pull(name: str) -> str | None:
    """When a pull's timer fires next, as systemd says it; None where there is no timer."""
    timer = f"nsprov-pull-{name}.timer"
    if not _is("active", timer):
        return None
    done = subprocess.run(
        ["systemctl", "show", "-P", "NextElapseUSecRealtime", timer], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "soon"


def check_calendar(expression: str) -> None:
    """Raise UsageError for what this host's systemd does not take as a calendar expression."""
    try:
        done = subprocess.run(
            ["systemd-analyze", "calendar", "--", expression], capture_output=True, text=True, check=False
        )
    except OSError:
        return  # systemd itself refuses the timer then
    if done.returncode != 0:
        raise UsageError(
            f"--every {expression}: neither a span nor a calendar expression of systemd",
            hint="for example 5min, 1h, hourly, or '*-*-* 04:00:00'",
        )


def _refuse_edited(folder: Path, present: Mapping[str, str | None], force: bool) -> None:
    edited = [str(folder / name) for name, text in present.items() if text is not None and not is_ours(text)]
    if edited and not force:
        raise EditedError(
            f"not as nsprov wrote it: {', '.join(edited)}",
            hint="keep changes of your own in a drop-in (systemctl edit), or add --force to write over it",
        )


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError.from_os(f"cannot read {path}", error) from None


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644), "w") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except OSError as error:
        raise HostError.from_os(f"cannot write {path}", error) from None


def _is(what: str, unit: str) -> bool:
    return subprocess.run(["systemctl", f"is-{what}", "--quiet", unit], check=False).returncode == 0


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(f"systemctl {' '.join(words)} failed", detail=done.stderr.strip())
