"""Loads inventory sources: files, folders of files, and lists of hosts, one after the other."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from provisioner.config.inventory.graph import GroupGraph
from provisioner.config.inventory.ini_format import read_ini_inventory
from provisioner.config.inventory.inventory import Inventory
from provisioner.config.inventory.ranges import split_port
from provisioner.config.inventory.vars_files import VarsFiles
from provisioner.config.inventory.yaml_format import read_yaml_inventory
from provisioner.config.source import Map, load_yaml_text, read_text
from provisioner.errors import ConfigError, Problem, Problems, Source, UsageError, did_you_mean

__all__ = ["default_sources", "load_inventory"]

_YAML = (".yml", ".yaml", ".json")
#: A folder with more wrong files than this is not one of inventories.
_MOST_PROBLEMS = 200
#: What Ansible passes over in a folder of inventories.
_IGNORED = re.compile(
    r"^\.|^(host_vars|group_vars|vars_plugins)$|(\.(pyc|pyo|swp|bak|rpm|md|txt|rst|orig|cfg|retry)|~)$"
)
#: A first line that only YAML (or JSON) has, in a file whose name does not say what it is.
_YAML_START = re.compile(r"---|[{]|%YAML|[\w.\"' -]+:(\s|$)")


def default_sources(environ: Mapping[str, str] = os.environ, folder: Path | None = None) -> list[str]:
    """The sources when none are given: ``NSPROV_INVENTORY``, or ``inventory.yml``, or ``inventory/``."""
    if environ.get("NSPROV_INVENTORY"):
        return [environ["NSPROV_INVENTORY"]]
    for name in ("inventory.yml", "inventory.yaml", "inventory.ini", "inventory"):
        if ((folder or Path()) / name).exists():
            return [str(folder / name) if folder else name]
    raise UsageError("no inventory is given", hint="pass -i FILE, or set NSPROV_INVENTORY, or write inventory.yml")


def load_inventory(sources: Sequence[Path | str]) -> Inventory:
    """Load Ansible inventories: what a later source says wins over an earlier one.

    A source is a YAML or INI file, a folder of them (read in the order of names), or a list of hosts with
    a comma in it (``web1,web2,``). ``group_vars/`` and ``host_vars/`` beside each source are read as well.

    Raises:
        ConfigError: anything at all is wrong; it holds every problem, each with its file, line and column.
    """
    texts = [str(sources)] if isinstance(sources, (str, Path)) else [str(source) for source in sources]
    loader = _Loader()
    for text in texts:
        if text:
            loader.read_source(text)
    hosts, groups = loader.graph.finish()
    folders = VarsFiles(loader.folders, loader.problems)
    group_files = {name: folders.of_group(name) for name in groups}
    host_files = {name: folders.of_host(name) for name in hosts}
    loader.problems.raise_if_any()
    base_dirs = list(dict.fromkeys(_absolute(folder) for folder in loader.folders))
    return Inventory(hosts, groups, group_files, host_files, base_dirs)


class _Loader:
    def __init__(self) -> None:
        self.problems = Problems()
        self.graph = GroupGraph(self.problems)
        #: The folder of each source, in their order, for ``group_vars/`` and ``host_vars/``.
        self.folders: list[Path] = []

    def read_source(self, text: str) -> None:
        """One ``-i``."""
        if "," in text and not os.path.lexists(text):
            self._read_list(text)
            return
        path = Path(os.path.expandvars(text)).expanduser()
        self.folders.append(path if path.is_dir() else path.parent)
        self._read_path(path, ())

    def _read_list(self, text: str) -> None:
        self.graph.origin = (text, None)
        at = Source(text)
        for word in text.split(","):
            name, port = split_port(word.strip(), ranges=False) or (word.strip(), None)
            if name and not self.graph.has_host(name):
                self.graph.add_host(name, "ungrouped", port, at)

    def _read_path(self, path: Path, inside: tuple[str, ...]) -> None:
        if not os.path.lexists(path):
            near = did_you_mean(path.name, _names_in(path.parent)) or f"to name a single host, add a comma: {path},"
            self.problems.add("there is no such inventory", Source(str(path)), hint=near)
            return
        if not path.is_dir():
            self._read_file(path)
            return
        real = os.path.realpath(path)
        at = Source(str(path))
        if real in inside:
            self.problems.add("a loop of links: this folder is inside itself", at, hint=f"it leads to {real}")
            return
        try:
            names = sorted((entry.name for entry in path.iterdir()), key=os.fsencode)
        except OSError as error:
            self.problems.add(f"the folder cannot be read: {error.strerror}", at)
            return
        wanted = [name for name in names if not _IGNORED.search(name)]
        if not wanted:
            self.problems.add("the folder holds no inventory", at, hint="put a hosts.yml or a hosts file into it")
        for name in wanted:
            if len(self.problems.found) >= _MOST_PROBLEMS:
                self.problems.add("the rest of the folder was not read", at, hint="does it hold inventories alone?")
                return
            self._read_path(path / name, (*inside, real))

    def _read_file(self, path: Path) -> None:
        try:
            text = read_text(path)
            self._refuse_program(path, text)
            absolute = _absolute(path)
            self.graph.origin = (str(absolute), str(absolute.parent))
            self._read_text(path, text)
        except ConfigError as error:
            self.problems.extend(error)

    def _refuse_program(self, path: Path, text: str) -> None:
        script = text.startswith("#!") or path.suffix in (".py", ".sh")
        if not script and (path.suffix in (*_YAML, ".ini") or not os.access(path, os.X_OK)):
            return
        raise ConfigError(
            Problem(
                "this is a program, and inventory programs are not run: an inventory is static YAML or INI",
                Source(str(path)),
                "write what it prints into a file: ansible-inventory -i FILE --list --export --yaml --output NEW.yml"
                if script
                else "if it is a static inventory, take its permission to execute away: chmod -x",
            )
        )

    def _read_text(self, path: Path, text: str) -> None:
        file = str(path)
        suffix = path.suffix
        if suffix == ".toml":
            self.problems.add("TOML is not read: an inventory is YAML or INI", Source(file))
        elif suffix in _YAML:
            self._read_yaml(load_yaml_text(text, file), file)
        elif suffix or not self._read_as_yaml(text, file):
            read_ini_inventory(text, file, self.graph)

    def _read_as_yaml(self, text: str, file: str) -> bool:
        """Read a file without an extension as YAML, where it is that. Ansible too tries YAML, then INI."""
        try:
            document = load_yaml_text(text, file)
        except ConfigError:
            if _YAML_START.match(_first_line(text)):
                raise
            return False
        if isinstance(document, Map):
            self._read_yaml(document, file)
        return isinstance(document, Map)

    def _read_yaml(self, document: object, file: str) -> None:
        if isinstance(document, Map):
            read_yaml_inventory(document, self.graph)
        elif document is not None:
            self.problems.add(
                "an inventory in YAML must be a mapping of groups",
                getattr(document, "source", None) or Source(file),
                hint="it starts with 'all:'; an INI inventory must not be named .yml, .yaml or .json",
            )


def _absolute(path: Path) -> Path:
    """The path from the root, with its links left as they are, unlike ``Path.resolve``; so Ansible has it."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _names_in(folder: Path) -> list[str]:
    """What a folder has that may be an inventory."""
    try:
        return [entry.name for entry in folder.iterdir() if not _IGNORED.search(entry.name)]
    except OSError:
        return []


def _first_line(text: str) -> str:
    """The first line that says anything."""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line and line[0] not in "#;"), "")
