"""Roles: found on the search path, and read once, in Ansible's layout.

Owns ``defaults/``, ``vars/``, ``meta/`` and where ``tasks/``, ``templates/``, ``files/`` and ``tests/`` are.
What the tasks mean is in ``tasks``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner.config.argspec import EntryPoint, read_argument_specs
from provisioner.config.source import Map, load_yaml, source_of
from provisioner.errors import ConfigError, Problem, Problems, Source, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Role", "Roles", "as_seen_from_here", "default_role_path", "project_folders", "shipped_roles"]

_META_KEYS = frozenset(
    ["dependencies", "galaxy_info", "allow_duplicates", "argument_specs", "collections", "standalone", "requirements"]
)


def shipped_roles() -> Path:
    """The folder of the roles that come with the package."""
    import provisioner

    return Path(provisioner.__file__).parent / "shipped" / "roles"


def project_folders(base_dirs: Iterable[Path]) -> list[Path]:
    """The folders that may hold a project's ``roles/``, ``templates/`` and ``files/``: those of the inventories,
    and the ones around a folder ``inventories``."""
    made: list[Path] = []
    for base in base_dirs:
        made.append(base)
        full = base.absolute()
        if full.name == "inventories":
            made.append(base.parent if base.name else Path(".."))
        elif full.parent.name == "inventories":
            made.append(base.parent.parent if len(base.parts) > 1 else base / ".." / "..")
    return list(dict.fromkeys(made))


def as_seen_from_here(path: Path) -> Path:
    """The path as people write it: relative, when it is below the working directory."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path


def default_role_path(inventory: Any) -> list[Path]:
    """Where roles are looked for: beside the inventory, then ``NSPROV_ROLES_PATH``, then those that are shipped."""
    made = [as_seen_from_here(base / "roles") for base in project_folders(inventory.base_dirs)]
    made += [Path(part) for part in os.environ.get("NSPROV_ROLES_PATH", "").split(os.pathsep) if part]
    made.append(shipped_roles())
    return list(dict.fromkeys(made))


@dataclass(frozen=True, slots=True)
class Role:
    """One role, as its files say. ``problems`` is what is wrong with them."""

    name: str
    path: Path
    defaults: Map
    vars: Map
    dependencies: tuple[Any, ...] = ()
    specs: dict[str, EntryPoint] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def task_file(self, name: str = "main") -> Path | None:
        """A file of ``tasks/``, by its name with or without an ending."""
        return _file(self.path / "tasks", name)

    def tests(self) -> Path | None:
        """The role's own tests, where it has any."""
        folder = self.path / "tests"
        return folder if folder.is_dir() and any(folder.glob("test_*.py")) else None


def _file(folder: Path, name: str) -> Path | None:
    endings = ("",) if Path(name).suffix in (".yml", ".yaml", ".json") else (".yml", ".yaml", ".json", "")
    for ending in endings:
        path = folder / f"{name}{ending}"
        if path.is_file() or (path.is_symlink() and not path.is_dir()):
            return path
    return None


class Roles:
    """The roles of a search path, each read when it is first used."""

    def __init__(self, search: Sequence[Path]) -> None:
        self.search = tuple(search)
        self._read: dict[tuple[str, str, str], Role] = {}

    def find(self, name: str, source: Source | None) -> Path:
        """The folder of a role. Raises ConfigError with where it was looked for, and which roles there are."""
        if "/" in name and Path(name).is_dir():
            return Path(name)
        for base in self.search:
            if (base / name).is_dir() and name not in ("", ".", ".."):
                return base / name
        there = sorted(
            {one.name for base in self.search if base.is_dir() for one in base.iterdir() if one.is_dir()}
            - {"__pycache__"}
        )
        searched = ", ".join(str(base) for base in self.search if base.is_dir()) or "no folder of roles exists"
        hint = did_you_mean(name, there)
        if name.count(".") >= 2:
            hint = "roles of Ansible collections are not looked for: put the role into a folder of the search path"
        raise ConfigError(Problem(f"there is no role '{name}' (searched: {searched})", source, hint))

    def load(self, name: str, source: Source | None, *, vars_from: str = "main", defaults_from: str = "main") -> Role:
        """A role by its name. Raises ConfigError when there is none."""
        key = (name, vars_from, defaults_from)
        role = self._read.get(key)
        if role is None:
            role = self._read[key] = _read_role(name, self.find(name, source), vars_from, defaults_from)
        return role


def _read_role(name: str, path: Path, vars_from: str, defaults_from: str) -> Role:
    problems = Problems()
    meta = _read_main(path / "meta", "main", problems)
    for key in meta:
        if key not in _META_KEYS:
            problems.add(f"the role's meta has no key '{key}'", meta.key_at(key), hint=did_you_mean(key, _META_KEYS))
    specs = meta.get("argument_specs")
    own = _read_main(path / "meta", "argument_specs", problems)
    if own:
        for key in own:
            if key != "argument_specs":
                hint = did_you_mean(key, ["argument_specs"]) or "the file has one key, argument_specs"
                problems.add(f"the argument specification has no key '{key}'", own.key_at(key), hint=hint)
        specs = own.get("argument_specs", specs)
    dependencies = meta.get("dependencies") or []
    if not isinstance(dependencies, list):
        problems.add("dependencies must be a list of roles", meta.at("dependencies"))
        dependencies = []
    return Role(
        name=path.name,
        path=path,
        defaults=_read_main(path / "defaults", defaults_from, problems),
        vars=_read_main(path / "vars", vars_from, problems),
        dependencies=tuple(dependencies),
        specs=read_argument_specs(specs, problems),
        problems=tuple(problems.found),
    )


def _read_main(folder: Path, name: str, problems: Problems) -> Map:
    """The mapping of a file, or of the files of a folder of that name in the order of their names."""
    path = _file(folder, name)
    if path is not None:
        return _read_map(path, problems)
    merged = Map()
    if (folder / name).is_dir():
        for one in sorted((folder / name).rglob("*")):
            if one.is_file() and one.suffix in (".yml", ".yaml", ".json") and not one.name.startswith("."):
                found = _read_map(one, problems)
                merged.update(found)
                merged.keys_at.update(found.keys_at)
                merged.values_at.update(found.values_at)
    elif name != "main" and name != "argument_specs":
        problems.add(f"the role has no {folder.name} file '{name}'", Source(str(folder)))
    return merged


def _read_map(path: Path, problems: Problems) -> Map:
    try:
        made = load_yaml(path)
    except ConfigError as error:
        problems.extend(error)
        return Map()
    if made is None:
        return Map()
    if not isinstance(made, Map):
        problems.add("the file must be a mapping of names to values", source_of(made) or Source(str(path)))
        return Map()
    return made
