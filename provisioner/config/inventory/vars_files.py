"""Reads ``group_vars/`` and ``host_vars/`` beside the sources of an inventory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from provisioner.config.source import Map, load_yaml
from provisioner.errors import ConfigError, Problems, Source

__all__ = ["VarsFiles", "overlay"]

_EXTENSIONS = (".yml", ".yaml", ".json")


def overlay(base: Map, top: Map) -> None:
    """Set the variables of ``top`` in ``base``, with their positions. Mappings are replaced, not merged."""
    base.update(top)
    base.values_at.update(top.values_at)
    base.keys_at.update(top.keys_at)


class VarsFiles:
    """The variables files beside the sources. Each file is read once."""

    def __init__(self, folders: Sequence[Path], problems: Problems) -> None:
        self._problems = problems
        self._read: dict[str, Map | None] = {}
        self._group_vars = self._existing(folders, "group_vars")
        self._host_vars = self._existing(folders, "host_vars")

    def of_group(self, name: str) -> tuple[Map | None, ...]:
        """The variables that each source's ``group_vars/`` has for a group, in the order of the sources."""
        return tuple(self._variables(folder, name) for folder in self._group_vars)

    def of_host(self, name: str) -> tuple[Map | None, ...]:
        """The variables that each source's ``host_vars/`` has for a host, in the order of the sources."""
        return tuple(self._variables(folder, name) for folder in self._host_vars)

    def _existing(self, folders: Sequence[Path], name: str) -> list[Path | None]:
        found: list[Path | None] = []
        for folder in folders:
            path = folder / name
            found.append(path if path.is_dir() else None)
            if found[-1] is None and os.path.lexists(path):
                self._problems.add(f"{name} must be a folder", Source(str(path)))
        return found

    def _variables(self, folder: Path | None, name: str) -> Map | None:
        if folder is None or name.startswith("/"):  # a chroot's path may be the name of a host
            return None
        files = self._files(folder / name)
        if not files:
            return None
        merged = Map()
        for file in files:
            variables = self._load(file)
            if variables:
                merged.source = merged.source or variables.source
                overlay(merged, variables)
        return merged

    def _files(self, path: Path) -> list[Path]:
        """The files of one host or group: the first of NAME, NAME.yml, NAME.yaml and NAME.json that is there."""
        for extension in ("", *_EXTENSIONS):
            candidate = Path(f"{path}{extension}")
            if candidate.is_dir():
                return self._files_in(candidate, ())
            if os.path.lexists(candidate):
                return [candidate]
        return []

    def _files_in(self, folder: Path, inside: tuple[str, ...]) -> list[Path]:
        real = os.path.realpath(folder)
        if real in inside:
            self._problems.add(
                "a loop of links: this folder is inside itself", Source(str(folder)), hint=f"it leads to {real}"
            )
            return []
        found: list[Path] = []
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.name.endswith("~"):
                continue
            if path.is_dir():
                found.extend([] if path.suffix else self._files_in(path, (*inside, real)))
            elif not path.suffix or path.suffix in _EXTENSIONS:
                found.append(path)
        return found

    def _load(self, path: Path) -> Map | None:
        key = os.path.realpath(path)
        if key not in self._read:
            self._read[key] = None
            try:
                document = load_yaml(path)
            except ConfigError as error:
                self._problems.extend(error)
                return None
            if isinstance(document, Map):
                self._read[key] = document
            elif document is not None:
                self._problems.add(
                    "a file of variables must be a mapping of names and values",
                    getattr(document, "source", None) or Source(str(path)),
                )
        return self._read[key]
