"""Reads and writes /proc/sys, in the host's and in named namespaces, and remembers what was there before.

Owns the record of the settings that nsprov has changed: /proc/sys itself has no place for it. The record
lies in /run, so that it goes with a reboot, as the settings do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner.errors import HostError

if TYPE_CHECKING:
    from provisioner.host.netlink import Network

__all__ = ["Setting", "Settings"]

_ROOT = Path("/proc/sys")
_RECORD = Path("/run/nsprov/sysctl.json")

#: A setting's namespace (None for the host's own) and its key, as ``net.ipv4.ip_forward``.
Setting = tuple[str | None, str]


class Settings:
    """The settings of a host that nsprov has set."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def read(self, wanted: Iterable[Setting]) -> dict[Setting, str]:
        """The values of those settings that nsprov has set, as they are now."""
        record = self._load()
        ours = [one for one in wanted if self._entry(record, one) is not None]
        found: dict[Setting, str] = {}
        for netns, keys in _by_netns(ours).items():
            values = self._network.run_in(netns, lambda keys=keys: [_read(key) for key in keys])  # type: ignore[misc]
            found.update({(netns, key): value for key, value in zip(keys, values, strict=True) if value is not None})
        return found

    def write(self, values: Mapping[Setting, str]) -> dict[Setting, HostError]:
        """Set values, and remember those that were there before the first time. Returns what failed."""
        record = self._load()
        failed: dict[Setting, HostError] = {}
        for netns, keys in _by_netns(values).items():
            if not self._network.exists(netns):
                for key in keys:
                    failed[netns, key] = HostError(f"cannot set {key}: there is no namespace {netns}", code=2)
                continue
            before = self._network.run_in(netns, lambda keys=keys: [_read(key) for key in keys])  # type: ignore[misc]
            for key, value in zip(keys, before, strict=True):
                if value is None:
                    failed[netns, key] = HostError(
                        f"cannot set {key}: this kernel has no such setting", code=2, hint="is its module loaded?"
                    )
                elif self._entry(record, (netns, key)) is None:
                    self._remember(record, (netns, key), value)
        # The record comes first: killed in between, the next apply still knows what to put back.
        self._save(record)
        for netns, keys in _by_netns(key for key in values if key not in failed).items():
            wanted = [(key, values[netns, key]) for key in keys]
            errors = self._network.run_in(netns, lambda wanted=wanted: [_set(key, value) for key, value in wanted])  # type: ignore[misc]
            failed.update({(netns, key): error for key, error in zip(keys, errors, strict=True) if error is not None})
        self._forget_failed(record, failed)
        return failed

    def put_back(self, wanted: Sequence[Setting]) -> dict[Setting, HostError]:
        """Set back what was there before. What went with its namespace or interface is done."""
        record = self._load()
        failed: dict[Setting, HostError] = {}
        for netns, keys in _by_netns(wanted).items():
            known = [(key, entry["before"]) for key in keys if (entry := self._entry(record, (netns, key))) is not None]
            if known:
                errors = self._network.run_in(netns, lambda known=known: [_restore(*one) for one in known])  # type: ignore[misc]
                for (key, _), error in zip(known, errors, strict=True):
                    if error is not None:
                        failed[netns, key] = error
            for key in keys:
                if (netns, key) not in failed:
                    record.pop(_name((netns, key)), None)
        self._save(record)
        return failed

    # -- the record -------------------------------------------------------------------------------

    def _entry(self, record: Mapping[str, Any], setting: Setting) -> Mapping[str, Any] | None:
        """What is remembered of a setting, if its namespace still is the one that it was set in."""
        entry: Mapping[str, Any] | None = record.get(_name(setting))
        if entry is None or not self._network.exists(setting[0]):
            return None
        return entry if setting[0] is None or entry["netns"] == self._network.identity(setting[0]) else None

    def _remember(self, record: dict[str, Any], setting: Setting, before: str) -> None:
        identity = 0 if setting[0] is None else self._network.identity(setting[0])
        record[_name(setting)] = {"before": before, "netns": identity}

    def _forget_failed(self, record: dict[str, Any], failed: Iterable[Setting]) -> None:
        """A setting that could not be set keeps its old value: then there is nothing to put back."""
        for setting in failed:
            entry = self._entry(record, setting)
            if entry is not None:
                now = self._network.run_in(setting[0], lambda key=setting[1]: _read(key))  # type: ignore[misc]
                if now in (None, entry["before"]):
                    record.pop(_name(setting), None)
        self._save(record)

    def _load(self) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(_RECORD.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise HostError(
                f"cannot read {_RECORD}, which has the values from before nsprov set others",
                detail=str(error),
                hint="remove it; those values are then forgotten, and stay as they are now",
            ) from None
        return record

    def _save(self, record: dict[str, Any]) -> None:
        for name in list(record):
            netns, _, key = name.partition(":")
            if self._entry(record, (netns or None, key)) is None:
                del record[name]  # it went with its namespace
        try:
            if record:
                _RECORD.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                fresh = _RECORD.with_suffix(".new")
                fresh.write_text(json.dumps(record, indent=1))
                fresh.rename(_RECORD)
                return
            _RECORD.unlink(missing_ok=True)
            _RECORD.parent.rmdir()
        except FileNotFoundError:
            pass  # nothing was ever recorded
        except OSError as error:
            if record:
                raise HostError.from_os(f"cannot write {_RECORD}", error) from None


def _name(setting: Setting) -> str:
    return f"{setting[0] or ''}:{setting[1]}"


def _by_netns(settings: Iterable[Setting]) -> dict[str | None, list[str]]:
    grouped: dict[str | None, list[str]] = {}
    for netns, key in settings:
        grouped.setdefault(netns, []).append(key)
    return grouped


def _path(key: str) -> Path:
    """The file of a key: dots separate, and a slash is a dot within a name (an interface ``eth0.100``)."""
    return _ROOT / key.translate(str.maketrans("./", "/."))


def _read(key: str) -> str | None:
    """A setting's value, white space folded; None where the kernel has no such setting."""
    try:
        return " ".join(_path(key).read_text().split())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise HostError.from_os(f"cannot read {key}", error) from None


def _set(key: str, value: str) -> HostError | None:
    """Write a setting, and see to it that the kernel has taken it as it was meant."""
    try:
        descriptor = os.open(_path(key), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{value}\n".encode())
        finally:
            os.close(descriptor)
        now = _read(key)
    except OSError as error:
        return HostError.from_os(f"cannot set {key} to '{value}'", error)
    except HostError as error:
        return error
    if now != value:
        return HostError(f"{key} was set to '{value}', and reads '{now}'", hint=f"write it as the kernel does: '{now}'")
    return None


def _restore(key: str, value: str) -> HostError | None:
    if _read(key) in (None, value):
        return None
    return _set(key, value)
