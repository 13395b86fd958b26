"""The kind ``file``: a file's content, owner and mode. Its base and driver serve ``template`` as well."""

from __future__ import annotations

import base64
import binascii
import hashlib
import posixpath
import re
import shlex
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import AliasChoices, ValidationInfo, field_validator, model_validator

from provisioner.errors import ConfigError, HostError, Problem, Source
from provisioner.model import Action, Address, Change, Check, Claim, Driver, Issue, Resource, StepResult, bad, spec
from provisioner.resources import register
from provisioner.secrets import MASK, NO_SECRETS, Paths, learn, marked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from provisioner.host import Host
    from provisioner.host.files import Attributes, Entry
    from provisioner.model import Desired, Scope, Step, TaskContext

__all__ = [
    "MAX_CONTENT",
    "File",
    "FileDriver",
    "OnDisk",
    "attributes_of",
    "each_by_itself",
    "is_name",
    "owner_problems",
    "spelled",
]

#: What a plan, a manifest and a rollback can still carry.
MAX_CONTENT = 8 * 1024 * 1024
#: One less than what means "leave it as it is" to chown.
_MAX_ID = 0xFFFFFFFE


_CLOSE = 'write mode: "0600"'


class OnDisk(Resource):
    """Something at a path, with an owner and a mode."""

    name: str = spec(
        ...,
        doc="the absolute path (`dest` and `name` mean the same)",
        examples=["/etc/motd"],
        validation_alias=AliasChoices("path", "dest", "name"),
    )
    mode: str | None = spec(
        None, doc="permission bits in octal; left out, 0644 for a file and 0755 for a directory", examples=["0644"]
    )
    owner: str | None = spec(None, doc="the user that owns it, by name or number", examples=["root"])
    group: str | None = spec(None, doc="the group that owns it, by name or number", examples=["www-data"])

    @field_validator("name", mode="after")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value.startswith("/"):
            raise bad(f"'{value}' is not an absolute path", "start it with /")
        if "\0" in value or len(value.encode()) > 4095 or any(len(p.encode()) > 255 for p in value.split("/")):
            raise bad("the path is longer than the kernel takes, or has a zero byte in it")
        if ".." in value.split("/"):
            raise bad(f"'{value}' has '..' in it", "write the path that is meant")
        path = "/" + posixpath.normpath(value).lstrip("/")
        if path.startswith(("/proc/", "/sys/")):
            raise bad(f"'{path}' is the kernel's, not a file", "for /proc/sys there is the kind `sysctl`")
        if path == "/":
            raise bad("'/' is not nsprov's to make")
        if f"{path}/".startswith("/var/lib/nsprov/"):
            raise bad(f"'{path}' is where nsprov keeps what it owns")
        if path.startswith("/run/netns/"):
            raise bad(f"'{path}' is a namespace, not a file", "declare a `netns`")
        return path

    @field_validator("mode", mode="before")
    @classmethod
    def _octal(cls, value: Any) -> str | None:
        return None if value is None else _mode(value)

    @field_validator("owner", "group", mode="after")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is None:
            return value
        if not re.fullmatch(r"[^-\s:/\0][^\s:/\0]*", value):
            raise bad(f"'{value}' is neither a name nor a number")
        if value.isdigit() and int(value) > _MAX_ID:
            raise bad(f"{value} is no user's or group's number", f"from 0 to {_MAX_ID}")
        return value

    def requires(self) -> Iterable[Address]:
        parent = posixpath.dirname(self.name)
        return [Address("directory", parent)] if parent != "/" else []

    def claims(self) -> Iterable[Claim]:
        return [Claim(f"the path {self.name}", self.name)]

    def audit(self, desired: Desired) -> Iterable[Issue]:
        for parent in self._parents():
            for kind in ("file", "template"):
                declared = desired.resources.get(Address(kind, parent))
                if declared is not None and getattr(declared.resource, "target", None) is None:
                    written = desired.resources[self.address].fields
                    field = next((word for word in ("path", "dest") if word in written), "name")
                    yield Issue(f"{parent} is no directory, but a {kind}", field, "give one of them another path")

        secret = desired.resources[self.address].secrets if self.address in desired.resources else NO_SECRETS
        if ("content",) in secret and getattr(self, "target", None) is None and _everyones(self.mode):
            yield Issue("its content is secret, and everyone on the host may read it", "mode", _CLOSE, "warning")

    def _parents(self) -> Iterator[str]:
        path = posixpath.dirname(self.name)
        while path != "/":
            yield path
            path = posixpath.dirname(path)

    def _attributes(self) -> str:
        """``0644 root:root``, as much of it as is declared."""
        owners = f"{self.owner or ''}:{self.group or ''}" if self.owner or self.group else ""
        return " ".join(part for part in (self.mode, owners.rstrip(":")) if part)

    def _attribute_changes(self, current: OnDisk) -> list[Change]:
        return [
            Change(name, getattr(current, name), getattr(self, name))
            for name in ("mode", "owner", "group")
            if getattr(self, name) is not None and getattr(self, name) != getattr(current, name)
        ]

    def _attribute_checks(self) -> Iterable[Check]:
        at = f"host.file({self.name!r})"
        if self.mode is not None:
            yield Check(f"{self.address} has mode {self.mode}", f"assert {at}.mode == 0o{self.mode.lstrip('0') or '0'}")
        for role, called in (("user", self.owner), ("group", self.group)):
            if called is not None:
                read = f"str({at}.{role[0]}id)" if called.isdigit() else f"{at}.{role}"
                yield Check(f"{self.address} belongs to {role} {called}", f"assert {read} == {called!r}")


class File(OnDisk):
    """A file with this content, owner and mode; or, with `target`, a symbolic link."""

    kind: ClassVar[str] = "file"

    content: str | None = spec(
        None, doc="the text of the file; left out, what it contains is not managed", examples=["welcome\n"]
    )
    content_base64: str | None = spec(None, doc="the content in base64, for what is not text")
    src: str | None = spec(None, doc="a file of the role's `files/` to take the content from", examples=["app.conf"])
    target: str | None = spec(None, doc="makes it a symbolic link to this path", examples=["/run/app/current"])

    @field_validator("name", mode="before")
    @classmethod
    def _not_a_folder(cls, value: Any) -> Any:
        if isinstance(value, str) and value.endswith("/") and value.strip("/"):
            raise bad(f"'{value}' names a directory", "leave out the last '/', or declare a `directory`")
        return value

    @field_validator("content", mode="after")
    @classmethod
    def _text(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise bad("the content is not text that UTF-8 can hold", "use content_base64, or src") from None
        return _bounded(value, size)

    @field_validator("content_base64", mode="after")
    @classmethod
    def _base64(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        try:
            data = base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            raise bad("this is not base64") from None
        _bounded(value, len(data))
        return base64.b64encode(data).decode()

    @model_validator(mode="after")
    def _one_content(self) -> File:
        given = [name for name in ("content", "content_base64", "src", "target") if getattr(self, name) is not None]
        if len(given) > 1:
            raise bad(f"{' and '.join(given)} exclude each other", "keep one of them")
        if self.target is not None and self.mode is not None:
            raise bad("a symbolic link has no mode of its own", "leave out `mode`")
        if self.target is not None and (not self.target or "\0" in self.target):
            raise bad("a symbolic link leads somewhere: target is empty")
        return self

    @classmethod
    def prepare(cls, fields: dict[str, Any], context: TaskContext) -> dict[str, Any]:
        if fields.get("src") is None or not is_name(fields["src"]):
            return fields  # what is no name is refused with all other fields
        rest = {key: value for key, value in fields.items() if key != "src"}
        return {**rest, **_read_source(str(fields["src"]), context)}

    @property
    def data(self) -> bytes | None:
        """The content; None where it is not managed."""
        if self.content_base64 is not None:
            return base64.b64decode(self.content_base64)
        return None if self.content is None else self.content.encode()

    def changes_from(self, current: Resource, last: Resource | None) -> list[Change]:
        assert isinstance(current, File)
        changes = []
        wanted, found = self._body(), current._body()
        if wanted is None and current.target is not None:
            changes.append(Change("target", current.target, None))
        elif wanted is not None and wanted != found and (self.data is None or self.data != current.data):
            changes.append(Change(wanted[0], current._shown(), self._shown()))
        return changes + self._attribute_changes(current)

    def merged_over(self, current: Resource, changes: Iterable[Change] = ()) -> Resource:
        """With the host's owner and mode where they are not managed; and its content, where that is not."""
        assert isinstance(current, File)
        kept = {name: getattr(current, name) for name in ("mode", "owner", "group") if getattr(self, name) is None}
        if self._body() is None and current.target is None:
            kept |= {"content": current.content, "content_base64": current.content_base64}
        if self.target is not None:
            kept.pop("mode", None)
        return self.model_copy(update=kept)

    def summary(self) -> list[tuple[str, str]]:
        attributes = self._attributes()
        if self.target is not None:
            return [("target", ", ".join(part for part in (self.target, attributes) if part))]
        return [("content", ", ".join(part for part in (self._size(), attributes) if part))]

    def checks(self) -> Iterable[Check]:
        at = f"host.file({self.name!r})"
        if self.target is not None:
            read = f"host.run({f'readlink -n -- {shlex.quote(self.name)}'!r}).stdout"
            yield Check(f"{self.address} links to {self.target}", f"assert {read} == {self.target!r}")
            return
        yield Check(f"{self.address} is a file", f"assert file_type(host, {self.name!r}) == 'regular file'")
        data = self.data
        if data is not None:
            digest = hashlib.sha256(data).hexdigest()
            yield Check(f"{self.address} has the declared content", f"assert {at}.sha256sum == {digest!r}")
        yield from self._attribute_checks()

    def secret_fields(self, secrets: Paths) -> Paths:
        """What is text in the one version may be none in the other."""
        bodies = frozenset({("content",), ("content_base64",)})
        return secrets | bodies if secrets & bodies else secrets

    def secret_files(self, secrets: Paths) -> Iterable[tuple[str, str, bytes]]:
        if self.data is not None and ("content",) in secrets:
            yield f"{self.address} has the declared content", self.name, self.data

    def _masked(self, name: str, secrets: Paths) -> str:
        attributes = self._attributes()
        return f"{MASK}, {attributes}" if attributes and name == "content" else MASK

    def _body(self) -> tuple[str, str] | None:
        """What is managed of the content: the field, and its value."""
        for name in ("content", "content_base64", "target"):
            value = getattr(self, name)
            if value is not None:
                return name, value
        return None

    def _shown(self) -> str | None:
        """The content as a diff has it: text, or a line about what is not text."""
        if self.target is not None:
            return f"(a symbolic link to {self.target})" if self.content is None else self.target
        if self.content_base64 is None:
            return self.content
        data = base64.b64decode(self.content_base64)
        return f"(not text: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()[:16]})"

    def _size(self) -> str:
        if self.content_base64 is not None:
            return f"{len(base64.b64decode(self.content_base64))} bytes"
        if not self.content:
            return "empty"
        count = len(self.content.splitlines())
        return f"{count} line{'s' if count != 1 else ''}"


def _mode(value: Any) -> str:
    """Permission bits as four octal digits. YAML reads ``0644`` as the number 420, which is right."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise bad(f"'{value}' is not a mode", 'write it in octal and quoted: "0644"')
    if isinstance(value, int):
        if not _plausible(value):
            raise bad(
                f"the mode {value} is the decimal number {value}, in octal {value:04o}"
                if value >= 0
                else f"the mode {value} is negative",
                f'write it with a leading zero, quoted: "0{value}"'
                if re.fullmatch("[0-7]{3,4}", str(value))
                else 'write it in octal and quoted: "0644"',
            )
        return f"{value:04o}"
    text = value.strip().removeprefix("0o")
    if not re.fullmatch(r"[0-7]{3,5}", text) or int(text, 8) > 0o7777:
        hint = 'write the octal digits: "0644"'
        raise bad(f"'{value}' is not a mode", hint)
    return f"{int(text, 8):04o}"


def _everyones(mode: str | None) -> bool:
    """Whether everybody may read a file of this mode."""
    return mode is None or bool(int(mode, 8) & 0o004)


def _plausible(number: int) -> bool:
    """Whether a number is what YAML makes of an octal mode, and not octal digits without the leading zero.

    Those read as modes in which the group may do what the owner may not, or the like.
    """
    owner, group, other = number >> 6 & 7, number >> 3 & 7, number & 7
    nested = group & ~owner == 0 and other & ~group == 0
    return 0 <= number <= 0o7777 and number not in (400, 500) and nested and (owner & 4 != 0 or number == 0)


def _bounded(value: str, size: int) -> str:
    if size > MAX_CONTENT:
        raise bad(f"the content has {size} bytes, more than the {MAX_CONTENT} that a plan can carry")
    return value


def is_name(value: Any) -> bool:
    """Whether a value can be the name of a file: a text, or a number that YAML has made of one."""
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _read_source(name: str, context: TaskContext) -> dict[str, Any]:
    """The content of a role's file; that of one which ansible-vault encrypted is opened, and is a secret."""
    from provisioner.config import vault  # an agent has no vaults

    path = context.find_file(name, "files")
    try:
        size = path.stat().st_size
        if size <= MAX_CONTENT:
            data = path.read_bytes()
            if not vault.is_vaulted(data):
                return _content_fields(data)
            opened = _content_fields(vault.open_vault(data.decode("utf-8", "replace"), Source(str(path))))
            secret: dict[str, Any] = marked(opened)
            learn(secret)
            return secret
        reason = f"has {size} bytes, more than the {MAX_CONTENT} that a plan can carry"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    raise ConfigError(Problem(f"the file {path} {reason}", context.source))


def _content_fields(data: bytes) -> dict[str, str]:
    """Content as text where it is text, and in base64 where it is not."""
    if b"\0" not in data:
        try:
            return {"content": data.decode()}
        except UnicodeDecodeError:
            pass
    return {"content_base64": base64.b64encode(data).decode()}


# -- the driver -----------------------------------------------------------------------------------

D = TypeVar("D", bound=OnDisk)
F = TypeVar("F", bound=File)


class FileDriver(Driver[F]):
    """Reads files whole, and replaces them whole: no reader sees half of one."""

    def __init__(self, resource: type[F]) -> None:
        self._resource = resource

    def observe(self, host: Host, scope: Scope) -> Iterable[F]:
        problems: list[Problem] = []
        found: list[F] = []
        for address, specs in scope.of(self._resource.kind).items():
            known = [one for one in specs if isinstance(one, self._resource)]
            entry = host.files.look(address.name)
            if address not in scope.undeclared:
                problems += owner_problems(host, known[:1]) + _obstacles(address, entry, known[:1])
            if entry is not None and entry.type in ("file", "link"):
                found.append(self._observed(host, address.name, entry, known))
        if problems:
            raise ConfigError(problems)
        return found

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        return each_by_itself(host, steps, self._carry_out)

    def _observed(self, host: Host, path: str, entry: Entry, known: Sequence[F]) -> F:
        fields: dict[str, Any] = {"name": path, **spelled(host, entry, known)}
        if entry.type == "link":
            fields["target"] = entry.target
        else:
            fields["mode"] = f"{entry.mode:04o}"
            if entry.content is not None:
                fields |= _content_fields(entry.content)
        return self._resource(**fields)

    def _carry_out(self, host: Host, step: Step) -> None:
        files, one = host.files, step.after
        if step.action is Action.DELETE:
            files.remove(step.address.name)
            return
        assert isinstance(one, File)
        fresh = step.action is Action.CREATE
        attributes = attributes_of(host, one, 0o644)
        if one.target is not None:
            files.link(one.name, one.target, attributes, replace=not fresh)
        elif fresh:
            files.create(one.name, one.data or b"", attributes)
        elif one.data is None or {change.field for change in step.changes} <= {"mode", "owner", "group"}:
            files.change(one.name, attributes)
        else:
            files.replace(one.name, one.data, attributes)


def _obstacles(address: Address, entry: Entry | None, wanted: Sequence[File]) -> list[Problem]:
    """What stands where the file would be, and is not nsprov's to remove."""
    if entry is None or not wanted:
        return []
    if entry.type in ("directory", "other"):
        what = "a directory" if entry.type == "directory" else "neither a file nor a directory"
        return [Problem(f"{address}: {address.name} is {what}", hint="remove it, or choose another path")]
    if entry.type == "file" and entry.content is None and wanted[0]._body() is not None:
        message = f"{address}: {address.name} has {entry.size} bytes, too many to be put back if the apply failed"
        return [Problem(message, hint="move it away, or choose another path")]
    return []


def owner_problems(host: Host, wanted: Sequence[OnDisk]) -> list[Problem]:
    """Users and groups that are declared, and that this host does not have."""
    problems = []
    for one in wanted:
        if one.owner is not None and host.files.user_id(one.owner) is None:
            problems.append(Problem(f"{one.address}: this host has no user '{one.owner}'"))
        if one.group is not None and host.files.group_id(one.group) is None:
            problems.append(Problem(f"{one.address}: this host has no group '{one.group}'"))
    return problems


def spelled(host: Host, entry: Entry, known: Sequence[OnDisk]) -> dict[str, str]:
    """The owners of an entry, spelled as a spec does where it means the same (``33`` and ``www-data``)."""
    files = host.files
    users = [one.owner for one in known if one.owner is not None and files.user_id(one.owner) == entry.uid]
    groups = [one.group for one in known if one.group is not None and files.group_id(one.group) == entry.gid]
    return {
        "owner": users[0] if users else files.user_name(entry.uid),
        "group": groups[0] if groups else files.group_name(entry.gid),
    }


def each_by_itself(host: Host, steps: Sequence[Step], carry_out: Callable[[Host, Step], None]) -> Iterator[StepResult]:
    """Carry out steps one after the other; one that fails keeps none of the others from being tried."""
    for step in steps:
        try:
            carry_out(host, step)
        except HostError as error:
            yield StepResult(step.address, str(error), error.code)
        else:
            yield StepResult(step.address)


def attributes_of(host: Host, one: OnDisk, default_mode: int | None) -> Attributes:
    """The spec's owner and mode in numbers. Raises HostError for a user or group that is not there."""
    return host.files.attributes(default_mode if one.mode is None else int(one.mode, 8), one.owner, one.group)


register(File, FileDriver(File))
