"""The credentials of units, at rest: files that only root reads, in memory, until their units are gone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from provisioner.errors import HostError
from provisioner.isolation.credentials import FOLDER

__all__ = ["read", "remove", "write"]


def read(unit: str) -> dict[str, str] | None:
    """The credentials that rest for a unit; None where there is no folder of them."""
    try:
        files = sorted(one for one in Path(FOLDER, unit).iterdir() if one.is_file() and one.name[0] != ".")
        return {one.name: one.read_bytes().decode("utf-8", "surrogateescape") for one in files}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HostError.from_os(f"cannot read the credentials of {unit}", error) from None


def write(unit: str, credentials: Mapping[str, str] | None) -> None:
    """Make these the credentials that rest for a unit."""
    if not credentials:
        remove(unit)
        return
    folder = Path(FOLDER, unit)
    try:
        for one in (folder.parent.parent, folder.parent, folder):
            one.mkdir(mode=0o700, exist_ok=True)
        for name, text in credentials.items():
            _write(folder / name, text.encode("utf-8", "surrogateescape"))
        for path in folder.iterdir():
            if path.name not in credentials:
                path.unlink()
    except OSError as error:
        raise HostError.from_os(f"cannot write the credentials of {unit}", error) from None


def _write(path: Path, data: bytes) -> None:
    """Replace a file in one piece: a unit that restarts meanwhile reads the old or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    fresh.rename(path)


def remove(unit: str) -> None:
    """Forget a unit's credentials, and leave nothing of the folder where they were the last."""
    folder = Path(FOLDER, unit)
    try:
        if not folder.exists():
            return
        shutil.rmtree(folder)
    except OSError as error:
        raise HostError.from_os(f"cannot remove the credentials of {unit}", error) from None
    for empty in (folder.parent, folder.parent.parent):
        try:
            empty.rmdir()
        except OSError:
            return  # other units', or what else is kept there
