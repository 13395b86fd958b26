"""Projects of a few files, written for a test and built for a host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

from provisioner.config.build import build_desired
from provisioner.config.inventory import load_inventory
from provisioner.errors import ConfigError
from provisioner.model import Desired

FACTS: Mapping[str, Any] = {"kernel": "6.1.0", "controllers": ["cpu", "memory"], "interfaces": {"eth0": {"mtu": 1500}}}


class Project:
    """An inventory and roles in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, **files: str) -> Project:
        """Write files by their paths: ``web__tasks__main`` is ``roles/web/tasks/main.yml``."""
        for name, text in files.items():
            self.file("inventory.yml" if name == "inventory" else "roles/" + name.replace("__", "/") + ".yml", text)
        return self

    def file(self, path: str, text: str) -> Project:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(dedent(text))
        return self

    def tasks(self, text: str, variables: str = "{}") -> Project:
        """A role ``web`` with these tasks, given to the host ``h1`` with these variables."""
        self.file("group_vars/all.yml", variables)
        return self.write(inventory="all: {hosts: {h1: }, vars: {nsprov_roles: [web]}}", web__tasks__main=text)

    def build(self, host: str = "h1", **options: Any) -> Desired:
        inventory = load_inventory([str(self.folder / "inventory.yml")])
        options.setdefault("role_path", [self.folder / "roles"])
        return build_desired(inventory, host, FACTS, **options)

    def names(self, kind: str = "netns", **options: Any) -> list[str]:
        """The names of the resources of a kind, in order."""
        return [one.resource.name for one in self.build(**options).of(kind)]

    def errors(self, **options: Any) -> list[str]:
        """The messages of what is wrong, each with ``file:line:column`` within the project."""
        try:
            self.build(**options)
        except ConfigError as error:
            return [str(one).replace(f"{self.folder}/", "").replace("\n    ", " | ") for one in error.problems]
        raise AssertionError("nothing is wrong with it")
