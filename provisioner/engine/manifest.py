"""Reads and writes the manifest's JSON, and finds what was last applied of a resource. Pure.

The file itself is kept on the host, one per project, by the connection.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from provisioner.errors import NsprovError
from provisioner.model import Address, Manifest, Owned, Resource
from provisioner.resources import kinds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from provisioner.model import Declared

__all__ = ["dump", "last_applied", "load", "own"]

_VERSION = 1


def dump(manifest: Manifest) -> str:
    """The manifest as the JSON text that is kept on the host."""
    resources = [
        {"address": list(address), "spec": dict(owned.spec), "source": owned.source, **_secrets(owned)}
        for address, owned in sorted(manifest.owned.items(), key=lambda item: str(item[0]))
    ]
    return json.dumps({"version": _VERSION, "project": manifest.project, "resources": resources}) + "\n"


def _secrets(owned: Owned) -> dict[str, Any]:
    return {"secrets": sorted(list(path) for path in owned.secrets)} if owned.secrets else {}


def load(project: str, texts: Mapping[str, str]) -> Manifest:
    """The manifest of one project, given the JSON texts of all projects on the host by name.

    Raises NsprovError when a text is damaged or of a newer nsprov: guessing at ownership is not an option.
    """
    owned: dict[Address, Owned] = {}
    others: dict[Address, str] = {}
    for name, text in texts.items():
        for address, one in _entries(name, text):
            if name == project:
                _refuse_unknown_kind(project, address)
                owned[address] = one
            else:
                others[address] = name
    return Manifest(project, owned, others)


def _entries(name: str, text: str) -> Iterable[tuple[Address, Owned]]:
    try:
        data = json.loads(text)
        if data["version"] > _VERSION:
            raise NsprovError(
                f"the manifest of project '{name}' was written by a newer nsprov (format {data['version']})",
                hint="upgrade nsprov on the machine that you run it on",
            )
        return [_entry(**entry) for entry in data["resources"]]
    except (ValueError, KeyError, TypeError):
        raise NsprovError(
            f"the manifest of project '{name}' on the host is damaged",
            hint="restore /var/lib/nsprov/manifests from a backup; or remove it, and run apply with --adopt",
        ) from None


def _entry(
    address: list[str], spec: dict[str, Any], source: str = "", secrets: Sequence[Sequence[str]] = ()
) -> tuple[Address, Owned]:
    """One resource of a manifest. Raises TypeError or ValueError when it is not written as it should be."""
    kind, name, netns = address
    texts = all(isinstance(one, str) for one in (kind, name, source, netns or ""))
    if not texts or not isinstance(spec, dict):
        raise TypeError
    return Address(kind, name, netns), Owned(spec, source, frozenset(tuple(path) for path in secrets))


def _refuse_unknown_kind(project: str, address: Address) -> None:
    if address.kind not in kinds():
        raise NsprovError(
            f"the project '{project}' owns {address} on the host, and this nsprov has no kind '{address.kind}'",
            hint="it was made with a newer nsprov: upgrade this one",
        )


def own(declared: Declared) -> Owned:
    """The manifest's entry for a resource that was applied."""
    return Owned.of(declared.resource, declared.source, declared.secrets)


def last_applied(address: Address, owned: Owned | None, desired: Resource | None) -> Resource | None:
    """What was last applied: the desired one itself when nothing has changed in it.

    None when nothing was, or when the kind or its fields are not known any more.
    """
    if owned is None:
        return None
    if desired is not None and desired.shown(owned.secrets) == owned.spec:
        return desired
    kind = kinds().get(address.kind)
    if kind is None:
        return None
    spec = dict(owned.spec)
    for known in (spec, {name: value for name, value in spec.items() if (name,) not in owned.secrets}):
        try:
            resource: Resource = kind.resource.model_validate(known)
        except ValidationError:
            continue  # a mask is no value of every field
        return resource
    return None
