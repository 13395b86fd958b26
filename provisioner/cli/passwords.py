"""The options of a command that say where passwords come from: of vaults, of ssh, of sudo."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

__all__ = ["connection_passwords", "opening_vaults", "plan_key", "use_passwords"]

_PASSWORD_FILE = Annotated[
    list[str] | None,
    typer.Option("--vault-password-file", "--vault-pass-file", metavar="FILE", help="Opens vaults: a file or program."),
]
_ID = Annotated[
    list[str] | None,
    typer.Option("--vault-id", metavar="LABEL@SOURCE", help="The same, of one vault id. SOURCE may be 'prompt'."),
]
_ASK = Annotated[bool, typer.Option("--ask-vault-pass", "-J", help="Ask for the password of vaults.")]
_FOR_SSH = Annotated[bool, typer.Option("--ask-pass", "-k", help="Ask for the password of ssh.")]
_FOR_SUDO = Annotated[bool, typer.Option("--ask-become-pass", "-K", help="Ask for the password of sudo.")]
_SSH_FILE = Annotated[
    str | None,
    typer.Option("--connection-password-file", "--conn-pass-file", metavar="FILE", help="The password of ssh."),
]
_SUDO_FILE = Annotated[
    str | None,
    typer.Option("--become-password-file", "--become-pass-file", metavar="FILE", help="The password of sudo."),
]
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "vault_password_file": (_PASSWORD_FILE, None),
    "vault_id": (_ID, None),
    "ask_vault_pass": (_ASK, False),
    "ask_pass": (_FOR_SSH, False),
    "ask_become_pass": (_FOR_SUDO, False),
    "connection_password_file": (_SSH_FILE, None),
    "become_password_file": (_SUDO_FILE, None),
}

#: What the command line gave, by the variables that it stands for.
_CONNECTION: dict[str, str] = {}


def opening_vaults(command: Callable[..., None]) -> Callable[..., None]:
    """A command that also takes the passwords of vaults and of connections, as Ansible's commands do."""

    @wraps(command)
    def run(**given: Any) -> None:
        own = {name: given.pop(name) for name in _OPTIONS}
        use_passwords(own["vault_password_file"] or [], own["vault_id"] or [], own["ask_vault_pass"])
        _CONNECTION.clear()
        for kind, variable, what, ask in (
            ("connection", "ansible_password", "Password of ssh", own["ask_pass"]),
            ("become", "ansible_become_password", "Password of sudo", own["ask_become_pass"]),
        ):
            file = own[f"{kind}_password_file"]
            if file is not None:
                _CONNECTION[variable] = _in_file(file)
            elif ask:
                _CONNECTION[variable] = _ask(what, f"name a file: --{kind}-password-file FILE")
        command(**given)

    own = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    more = [inspect.Parameter(name, keyword, default=value, annotation=of) for name, (of, value) in _OPTIONS.items()]
    first = [one.replace(kind=keyword) for one in own.parameters.values()]
    run.__signature__ = own.replace(parameters=[*first, *more])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (*first, *more)}
    return run


def use_passwords(files: list[str], ids: list[str], ask: bool) -> None:
    """Open vaults with these from now on, and with what the environment names."""
    import os
    from dataclasses import replace

    from provisioner.config.vault import Keyring, passwords, use

    # What the command line names is read at once, as in Ansible; what the environment names, when it is needed.
    named = passwords(files=files, ids=ids, ask=ask, prompt=_ask, environ={})
    use(Keyring([*(replace(one, read=_value(one.read())) for one in named), *passwords()]))
    # What this starts does not inherit the password.
    os.environ.pop("NSPROV_VAULT_PASSWORD", None)


def connection_passwords() -> dict[str, str]:
    """The passwords of connections that the command line gave, by variables."""
    return dict(_CONNECTION)


def _in_file(name: str) -> str:
    """The first line of a file, or of what it prints where it is a program, as in Ansible."""
    import os
    import subprocess
    from pathlib import Path

    from provisioner.errors import UsageError

    path = Path(name).expanduser()
    try:
        if path.is_file() and os.access(path, os.X_OK):
            text = subprocess.run([str(path.resolve())], stdout=subprocess.PIPE, text=True, check=True).stdout
        else:
            text = path.read_text()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"the password file {name} cannot be read: {reason}") from None
    except subprocess.CalledProcessError as error:
        raise UsageError(f"the password program {name} ended with {error.returncode}") from None
    return text.partition("\n")[0].rstrip("\r")


def _value(password: bytes) -> Callable[[], bytes]:
    return lambda: password


def plan_key() -> bytes:
    """What seals the secrets of a saved plan: by the vault's password, or by a key of this user's own."""
    import os
    import secrets
    from pathlib import Path

    from provisioner.config.vault import current
    from provisioner.errors import NsprovError

    key = current().key()
    if key is not None:
        return key
    path = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", "nsprov", "plan.key")
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
        return path.read_bytes()
    except OSError as error:
        raise NsprovError(
            f"the plan has secrets, and the key that seals them cannot be kept at {path}: {error.strerror}",
            hint="set XDG_STATE_HOME, or give a vault password, which seals them as well",
        ) from None


def _ask(what: str, hint: str = "name a file: --vault-password-file FILE") -> str:
    import sys

    from provisioner.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError(f"there is nobody to ask for the {what[:1].lower()}{what[1:]}", hint=hint)
    answer: str = typer.prompt(what, hide_input=True, err=True)
    return answer
