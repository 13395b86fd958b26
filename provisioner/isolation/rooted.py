"""What a unit sees of file systems: a root of its own, binds, tmpfs, and nothing but what is named.

Owns the fields ``root``, ``binds``, ``tmpfs`` and ``strict``, and the directives that they come to, which are
the same on every systemd. What no directive does, an overlay, is a unit that this one brings along. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from provisioner import directives
from provisioner.directives import BadValue, Value, values
from provisioner.directives.spec import Directives
from provisioner.directives.syntax import simplified
from provisioner.model import Effect, bad, spec

__all__ = ["Bind", "Root", "Rooted"]

_IMAGE = re.compile(r".*\.(raw|img|iso|squashfs|erofs|ext4)")
#: Where roots are mounted that are not there, each in a folder of its unit's name.
_ROOTS = "/run/nsprov/root"


def _absolute(value: str) -> str:
    if not value.startswith("/") or re.search(r"[:\s,\\\x00-\x1f]", value):
        raise bad(f"'{value}' is not a path from /", "without spaces, commas, colons and backslashes")
    return simplified(value)


class Root(BaseModel):
    """What a unit has for its root: a folder, an image, or an overlay over either or over the host's own root."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str | None = Field(None, description="a tree that is there, which it may write to as its user can")
    image: str | None = Field(None, description="a file system in a file, or a disk image, mounted by systemd")
    overlay: str | None = Field(
        None, description="a folder, an image, or `/`: what is written lands elsewhere, and the tree stays as it is"
    )
    upper: str | None = Field(
        None,
        description="overlay: a folder where what is written stays; without, it is in memory and goes with the unit",
    )

    @field_validator("folder", "image", "overlay", "upper")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        return value if value is None else _absolute(value)

    @model_validator(mode="after")
    def _one(self) -> Root:
        if sum(one is not None for one in (self.folder, self.image, self.overlay)) != 1:
            raise bad("a root is one of folder, image and overlay", "for instance root: {overlay: /}")
        if self.upper is not None and self.overlay is None:
            raise bad("only an overlay has an upper folder", "write root: {overlay: FOLDER, upper: FOLDER}")
        if self.folder == "/":
            raise bad("the host's own root is what it has without", "root: {overlay: /} keeps it as it is")
        return self


class Bind(BaseModel):
    """A path of the host that a unit sees, there or in another place."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    from_: str = Field(alias="from", description="the path on the host")
    to: str = Field("", description="where the unit sees it; without, in the same place")
    read_only: bool = Field(True, description="whether it cannot be written")

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        """``/srv/web:/var/www:ro``, as container tools write it."""
        if not isinstance(value, str):
            return value
        source, _, rest = value.partition(":")
        target, _, mode = rest.partition(":")
        if target in ("ro", "rw") and not mode:
            target, mode = "", target
        if mode not in ("", "ro", "rw"):
            raise bad(f"'{value}' is not a bind", "FROM, FROM:TO or FROM:TO:rw; without rw it is read-only")
        return {"from": source, "to": target, "read_only": mode != "rw"}

    @model_validator(mode="after")
    def _paths(self) -> Bind:
        object.__setattr__(self, "from_", _absolute(self.from_))
        object.__setattr__(self, "to", _absolute(self.to or self.from_))
        return self

    @property
    def text(self) -> str:
        """As systemd writes it."""
        return f"{self.from_}:{self.to}"

    def __str__(self) -> str:
        place = self.from_ if self.from_ == self.to else self.text
        return place if self.read_only else f"{place} (writable)"


class Rooted(Directives):
    """A unit with what it sees of file systems."""

    root: Root | None = spec(
        None,
        effect=Effect.RESTART,
        doc="its root file system: a folder or an image by its path, or `{overlay: PATH}` over one, or over `/`",
        examples=["/srv/trees/web", {"overlay": "/"}, {"image": "/srv/web.raw"}],
    )
    binds: tuple[Bind, ...] | None = spec(
        None,
        effect=Effect.RESTART,
        doc="paths of the host that it sees: `FROM`, `FROM:TO` or `FROM:TO:rw`, or from, to and read_only",
        examples=[["/usr", "/srv/web:/var/www", "/srv/data:/data:rw"]],
    )
    tmpfs: tuple[str, ...] | None = spec(
        None,
        effect=Effect.RESTART,
        doc="paths at which it has empty file systems in memory, with options after a colon",
        examples=[["/var/cache", "/scratch:size=64M"]],
    )
    strict: bool | None = spec(
        None,
        effect=Effect.RESTART,
        doc="whether it sees nothing but binds, tmpfs, a small /dev, /proc, /sys and an empty /run",
    )

    @field_validator("root", mode="before")
    @classmethod
    def _root_of_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"image": value} if _IMAGE.fullmatch(value) else {"folder": value}
        return value

    @field_validator("binds", "tmpfs", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return [value] if isinstance(value, (str, Mapping)) else value

    @field_validator("tmpfs")
    @classmethod
    def _mount_points(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is None:
            return None
        try:
            return tuple(directives.canonical("service", "TemporaryFileSystem", list(value)))
        except BadValue as error:
            raise bad(error.message, error.hint) from None

    @model_validator(mode="after")
    def _one_view(self) -> Rooted:
        if self.strict and self.root is not None:
            raise bad("strict shows nothing but what is named, and root a whole tree", "write one of them")
        return self

    @property
    def has_own_view(self) -> bool:
        """Whether it says anything of what it sees."""
        return bool(self.root or self.binds or self.tmpfs or self.strict)

    def root_unit(self) -> str | None:
        """The unit that mounts its root, where that is an overlay or made of nothing."""
        mounted = self.strict or (self.root is not None and self.root.overlay)
        return f"{self.name.rpartition('.')[0]}-root.service" if mounted else None

    def brings_root(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What mounts its root: the name of a unit, and its directives."""
        unit = self.root_unit()
        if unit is None:
            return
        make, undo = _strict_root(self.name) if self.root is None else _overlay(self.name, self.root)
        undo.append(f"rmdir {_ROOTS} /run/nsprov 2>/dev/null")
        yield (
            unit,
            {
                "Description": f"The root of {self.name}",
                "Type": "oneshot",
                "ExecStart": "/bin/sh -c " + values.quoted(" && ".join(make)),
                "ExecStopPost": "/bin/sh -c " + values.quoted("; ".join([*undo, "true"])),
            },
        )

    def view(self, needed: Sequence[str] = (), hosts: str | None = None) -> dict[str, Value]:
        """The directives of what it sees; ``needed`` are files of the host that its launcher enters, ``hosts`` the
        bind of its /etc/hosts."""
        made: dict[str, Any] = {}
        binds = list(self.binds or ())
        binds += [Bind.model_validate(hosts)] if hosts else []
        if self.root is not None and self.root.image:
            made["RootImage"] = self.root.image
        elif self.root is not None:
            made["RootDirectory"] = self.root.folder or f"{_ROOTS}/{self.name}/root"
        tmpfs = list(self.tmpfs or ())
        if self.strict:
            made["RootDirectory"] = f"{_ROOTS}/{self.name}"
            made["PrivateDevices"] = "yes"
        if self.root is not None or self.strict:
            made["MountAPIVFS"] = "yes"
            binds += [Bind.model_validate(path) for path in needed]
        if self.root_unit():
            made["Requires"] = made["After"] = self.root_unit()
        for name, read_only in (("BindReadOnlyPaths", True), ("BindPaths", False)):
            listed = [one.text for one in binds if one.read_only is read_only]
            if listed:
                made[name] = listed
        if tmpfs:
            made["TemporaryFileSystem"] = tmpfs
        return {name: self._with_own(name, value) for name, value in made.items()}

    def _with_own(self, name: str, value: Any) -> Value:
        """A value with what the unit says of the same directive itself, where that is a list."""
        own = self.directives.get(name, ())
        both = [*own, *([value] if isinstance(value, str) else value)] if isinstance(own, tuple) and own else value
        return directives.canonical("service", name, both)

    def view_contradictions(self) -> Iterator[tuple[str, str]]:
        """The directives that say otherwise than the fields, each with why."""
        for name, value in self.view().items():
            own = self.directives.get(name)
            if isinstance(own, str) and own != value:
                yield name, f"{name}={own} is not what root, binds, tmpfs and strict come to: {name}={value}"

    def shows(self, path: str) -> bool:
        """Whether a strict view has what is at a path."""
        return any(path == one.to or path.startswith(one.to.rstrip("/") + "/") for one in self.binds or ())

    def view_summary(self) -> list[tuple[str, str]]:
        """What it sees, for plans."""
        rows = []
        if self.root is not None:
            said = self.root.model_dump(exclude_none=True)
            rows.append(("root", ", ".join(f"{name} {value}" for name, value in said.items())))
        if self.binds:
            rows.append(("binds", ", ".join(str(one) for one in self.binds)))
        if self.tmpfs:
            rows.append(("tmpfs", ", ".join(self.tmpfs)))
        if self.strict:
            rows.append(("strict", "yes"))
        return rows


def _strict_root(name: str) -> tuple[list[str], list[str]]:
    """The commands that make a root of nothing, and those that take it away.

    Where a distribution has /bin and /lib as links into /usr, so does this root: they lead to what /usr is bound to.
    """
    folder = f"{_ROOTS}/{name}"
    links = "for l in /bin /sbin /lib /lib32 /lib64; do test ! -L $$l || cp -P $$l .; done"
    make = [f"mkdir -p {folder}", f"mount -t tmpfs -o mode=0755,size=1m tmpfs {folder}", f"cd {folder}", links]
    return make, [f"umount -l {folder}", f"rmdir {folder}"]


def _overlay(name: str, root: Root) -> tuple[list[str], list[str]]:
    """The commands that mount an overlay, and those that take it away."""
    folder, lower = f"{_ROOTS}/{name}", root.overlay or "/"
    upper = root.upper or folder
    make, undo = [f"mkdir -p {folder}"], [f"umount -l {folder}/root"]
    if root.upper is None:
        make.append(f"mount -t tmpfs -o mode=0755 tmpfs {folder}")
    make.append(f"mkdir -p {folder}/root {upper}/upper {upper}/work")
    if _IMAGE.fullmatch(lower):
        make.append(f"mkdir -p {folder}/image && mount -o loop,ro {lower} {folder}/image")
        undo.append(f"umount -l {folder}/image")
        lower = f"{folder}/image"
    options = f"lowerdir={lower},upperdir={upper}/upper,workdir={upper}/work"
    make.append(f"mount -t overlay -o {options} overlay {folder}/root")
    undo.append(f"rmdir {folder}/root {folder}/image 2>/dev/null" if root.upper else f"umount -l {folder}")
    return make, [*undo, f"rmdir {folder}"]
