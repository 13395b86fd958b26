"""Credentials: how a unit is given a secret that nobody but it can read, and what is refused instead.

Owns where credentials rest until systemd loads them, what changes between two sets of them, and the words in which a
secret in a directive is refused: systemd shows every directive to everybody. Pure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from provisioner.model import Change, Check, Effect, Issue, bad
from provisioner.secrets import Paths, learn, marked, texts_in

__all__ = ["FOLDER", "as_secrets", "changes", "checks", "loaded", "path_of", "refused", "validated", "without_own"]

#: Where credentials rest: in memory, in a folder and in files that only root reads. A unit of nsprov's is gone after
#: a boot, and so are they. systemd reads them at each start of the unit, also when nsprov does not run.
FOLDER = "/run/nsprov/credentials"
#: What systemd takes of all of a unit's credentials together.
_MOST = 1024 * 1024
_VISIBLE = "everyone on the host can read it there: `systemctl show`, the unit's file"
#: Directives in which what stands there is encrypted already.
_CLOSED = ("SetCredentialEncrypted",)


def path_of(unit: str, name: str) -> str:
    """The file that a credential rests in."""
    return f"{FOLDER}/{unit}/{name}"


def validated(value: Any) -> Any:
    """Credentials by name, as a spec has them."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise bad("credentials are names and texts", "credentials: {db_password: …}")
    for name, text in value.items():
        if not re.fullmatch(r"[A-Za-z0-9_.@-]{1,128}", str(name)) or str(name).startswith("."):
            raise bad(f"'{name}' cannot be the name of a credential", "letters, digits, _ - and . in between")
        if isinstance(text, (Mapping, list, tuple, bool)) or text is None:
            raise bad(f"the credential '{name}' must be a text", "for a mapping write: {{ … | to_json }}")
    if sum(len(str(text).encode("utf-8", "surrogatepass")) for text in value.values()) > _MOST:
        raise bad(f"the credentials have more than the {_MOST} bytes that systemd takes")
    return {str(name): str(text) for name, text in sorted(value.items())} or None


def as_secrets(fields: dict[str, Any]) -> dict[str, Any]:
    """A unit's fields, whose credentials are secrets however they were written."""
    if "credentials" not in fields:
        return fields
    given = marked(fields["credentials"])
    learn(given)
    return {**fields, "credentials": given}


def loaded(unit: str, names: Iterable[str]) -> tuple[str, ...]:
    """What ``LoadCredential`` must say for credentials that rest where nsprov keeps them."""
    return tuple(f"{name}:{path_of(unit, name)}" for name in names)


def without_own(unit: str, directives: dict[str, Any]) -> dict[str, Any]:
    """A unit's directives without what nsprov put there for its credentials."""
    if "LoadCredential" not in directives:
        return directives
    theirs = tuple(one for one in directives["LoadCredential"] if f":{FOLDER}/{unit}/" not in one)
    rest = {name: value for name, value in directives.items() if name != "LoadCredential"}
    return {**rest, "LoadCredential": theirs} if theirs else rest


def changes(
    wanted: Mapping[str, str] | None, found: Mapping[str, str] | None, last: Mapping[str, str] | None
) -> Iterable[Change]:
    """The credentials that differ. What a unit was given is read at its start alone."""
    if wanted is None and last is None:
        return
    before, after = found or {}, wanted or {}
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            field = f"credentials.{name}"
            yield Change(field, before.get(name), after.get(name), Effect.RESTART, secret=True)


def checks(address: Any, unit: str, names: Iterable[str]) -> Iterable[Check]:
    """That a unit is given its credentials, and that nobody else is."""
    for name in names:
        path = path_of(unit, name)
        listed = f"run(host, None, {shlex.join(['systemctl', 'cat', '--no-pager', '--', unit])!r}).stdout"
        yield Check(
            f"{address} is given the credential {name}", f"assert {f'LoadCredential={name}:{path}'!r} in {listed}"
        )
        read = f"assert (host.file({path!r}).user, host.file({path!r}).mode) == ('root', 0o600)"
        yield Check(f"the credential {name} of {address} is read by root alone", read)


def refused(secrets: Paths, fields: Mapping[str, Any], own: Iterable[str]) -> Iterable[Issue]:
    """What is wrong with secrets in a unit's fields. ``own`` are those that may have one."""
    seen: set[str] = set()
    for field, *_ in sorted(secrets):
        if field in own or field in _CLOSED or field in seen:
            continue
        seen.add(field)
        name = _credential_name(field, fields.get(field))
        instead = f'give it as a credential: credentials: {{{name}: "{{{{ … }}}}"}}'
        if field == "Environment":
            message = f"a secret in the environment does not stay one: {_VISIBLE}; and what it starts inherits it"
            hint = f"{instead}; the service reads the file $CREDENTIALS_DIRECTORY/{name}"
        elif field.startswith("Exec"):
            message = f"a secret on a command line does not stay one: {_VISIBLE}, and `ps`"
            hint = f"{instead}, and let the program read the file ${{CREDENTIALS_DIRECTORY}}/{name}"
        elif field == "SetCredential":
            message = f"a secret in SetCredential does not stay one: {_VISIBLE}"
            hint = f"write instead: credentials: {{{name}: …}}, which only root and the service can read"
        else:
            message = f"a secret here does not stay one: {_VISIBLE}"
            hint = f"{instead}; if it is no secret, write it outside of the file that is encrypted"
        yield Issue(message, field, hint)


def _credential_name(field: str, value: Any) -> str:
    """What the credential may be called: as the variable is, or the one that was set."""
    if isinstance(value, Mapping):
        return next((str(key).lower() for key, item in value.items() if any(True for _ in texts_in(item))), "password")
    for one in value if isinstance(value, (list, tuple)) else [value]:
        if any(True for _ in texts_in(one)):
            found = re.match(r"""["']?([A-Za-z_]\w*)[=:]""", str(one))
            if found and field in ("Environment", "SetCredential"):
                return found[1].lower()
    return "password"
