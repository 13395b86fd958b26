"""The kind ``sysctl``: the kernel's settings, of the host and of each namespace."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, ValidationInfo, field_validator, model_validator

from provisioner.model import Action, Address, Check, Claim, Driver, Effect, Issue, Resource, StepResult, bad, spec
from provisioner.network import NetnsName, interface_address
from provisioner.resources import register

if TYPE_CHECKING:
    from provisioner.host import Host
    from provisioner.model import Desired, Scope, Step

__all__ = ["Sysctl"]

#: Keys below which an interface's name stands.
_OF_INTERFACES = re.compile(r"net\.(?:ipv4|ipv6|mpls)\.(?:conf|neigh)\.([^.]+)\.")


def canonical_key(text: str) -> str:
    """A key with dots between its parts, as ``sysctl`` prints it: a dot within a part is a slash."""
    text = text.strip().removeprefix("/proc/sys/")
    first = re.search(r"[./]", text)
    return text.translate(str.maketrans("./", "/.")) if first and first.group() == "/" else text


def _key(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    key = canonical_key(value)
    parts = key.split(".")
    if len(parts) < 2 or any(not part or part.strip("/") == "" or re.search(r"\s", part) for part in parts):
        raise bad(f"'{value}' is not a kernel setting", "as in net.ipv4.ip_forward")
    return key


def _value(value: Any) -> Any:
    """A setting's text, its white space folded as the kernel's tabs are; yes and no are 1 and 0."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (list, tuple)):
        if any(part is None or isinstance(part, (Mapping, list, tuple)) for part in value):
            raise bad("its parts must be texts or numbers", "for example [4096, 87380, 6291456]")
        value = " ".join(str(part) for part in value)
    return " ".join(value.split()) if isinstance(value, str) else value


class Sysctl(Resource):
    """A setting of the kernel; when it is deleted, the value that it had before is put back."""

    kind: ClassVar[str] = "sysctl"

    name: str = spec("", doc="its key, under this name or as 'key'", effect=Effect.REPLACE)
    key: Annotated[str, BeforeValidator(_key)] = spec(
        ..., doc="the setting, with dots or slashes", examples=["net.ipv4.ip_forward"], effect=Effect.REPLACE
    )
    netns: NetnsName | None = spec(doc="the namespace, for keys below net; the host's own where left out")
    value: Annotated[str, BeforeValidator(_value)] = spec(..., doc="the value", examples=["1"])

    @model_validator(mode="before")
    @classmethod
    def _named_by_key(cls, data: Any) -> Any:
        """A sysctl is called by its key; a task may write either word for it."""
        if not isinstance(data, Mapping):
            return data
        key = data.get("key", data.get("name"))
        if not isinstance(key, str):
            return data
        return {**data, "key": key, "name": canonical_key(key)}

    @field_validator("netns")
    @classmethod
    def _only_net_has_namespaces(cls, value: str | None, info: ValidationInfo) -> str | None:
        key = info.data.get("key")
        if value is not None and key is not None and not key.startswith("net."):
            raise bad(f"{key} is one for the whole machine, not one for each namespace", "leave 'netns' out")
        return value

    @field_validator("value")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if len(value) > 4096:
            raise bad("the value is longer than the kernel takes (4096 bytes)")
        return value

    # -- relations --------------------------------------------------------------------------------

    def _interface(self) -> Address | None:
        """The interface that the key names: the setting comes and goes with it."""
        found = _OF_INTERFACES.match(self.key)
        name = found.group(1).replace("/", ".") if found else "all"
        return interface_address(self.netns, name) if name not in ("all", "default", "lo") else None

    def follows(self) -> Iterable[Address]:
        interface = self._interface()
        return [interface] if interface else []

    def lives_in(self) -> Iterable[Address]:
        return [*super().lives_in(), *self.follows()]

    def claims(self) -> Iterable[Claim]:
        where = f" of {self.netns}" if self.netns else ""
        yield Claim(f"the setting {self.key}{where}", ("sysctl", self.netns, self.key))

    def audit(self, desired: Desired) -> Iterable[Issue]:
        from provisioner.errors import did_you_mean
        from provisioner.network import interfaces_of

        interface = self._interface()
        if interface is None or Address("netns", self.netns or "") not in desired.resources:
            return
        names = [placed.interface.name for placed in interfaces_of(desired).by_netns.get(self.netns, ())]
        if interface.name not in names:
            hint = did_you_mean(interface.name, names) or "declare it with a 'veth:' or 'bridge:' task"
            yield Issue(f"{self.netns} has no interface '{interface.name}'", "key", hint)

    def summary(self) -> list[tuple[str, str]]:
        return [("value", self.value)]

    def checks(self) -> Iterable[Check]:
        yield Check(
            f"{self.address} is {self.value}",
            f"assert ' '.join(sysctl(host, {self.netns!r}, {self.key!r}).split()) == {self.value!r}",
        )


class SysctlDriver(Driver[Sysctl]):
    """Sets, reads and puts back settings. One exists for nsprov where nsprov has set it."""

    def observe(self, host: Host, scope: Scope) -> Iterable[Sysctl]:
        from provisioner.host.kernel_settings import Settings

        wanted = scope.of("sysctl")
        if not wanted:
            return
        host.network.prepare(address.netns for address in wanted)
        values = Settings(host.network).read((address.netns, address.name) for address in wanted)
        for (netns, key), value in values.items():
            yield Sysctl.model_construct(name=key, key=key, netns=netns, value=value)

    def carry_out(self, host: Host, steps: Sequence[Step]) -> Iterator[StepResult]:
        from provisioner.host.kernel_settings import Settings

        host.network.prepare(step.address.netns for step in steps)
        settings = Settings(host.network)
        if steps and steps[0].action is Action.DELETE:
            failed = settings.put_back([(step.address.netns, step.address.name) for step in steps])
        else:
            failed = settings.write(
                {
                    (step.after.netns, step.after.key): step.after.value
                    for step in steps
                    if isinstance(step.after, Sysctl)
                }
            )
        for step in steps:
            error = failed.get((step.address.netns, step.address.name))
            yield StepResult(step.address, str(error) if error else None, error.code if error else 0)


register(Sysctl, SysctlDriver())
