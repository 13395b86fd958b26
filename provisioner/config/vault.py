"""Ansible Vault: its format, the passwords that open it, and where they come from.

Owns the envelope (``$ANSIBLE_VAULT;1.1;AES256`` and ``;1.2;AES256;label``: AES-256 in counter mode, an HMAC over
it, keys by PBKDF2) and the keyring of a run. A value in YAML (``!vault``) stays closed until it is used, as in
Ansible; a file is opened when it is read.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from provisioner.errors import ConfigError, Problem, Source, UsageError
from provisioner.secrets import learn

__all__ = [
    "HEADER",
    "Keyring",
    "Password",
    "VaultError",
    "current",
    "is_vaulted",
    "open_text",
    "open_vault",
    "passwords",
    "problems_of",
    "use",
]

HEADER = "$ANSIBLE_VAULT"
_ROUNDS = 10_000
_BLOCK = 16
#: The label of a password that was given without one.
DEFAULT = "default"
_HOW = (
    "give the password: --vault-password-file FILE, --vault-id LABEL@FILE, --ask-vault-pass, or the variable "
    "ANSIBLE_VAULT_PASSWORD_FILE, NSPROV_VAULT_PASSWORD_FILE or NSPROV_VAULT_PASSWORD"
)


class VaultError(Exception):
    """A vault that cannot be opened; ``hint`` is what to do about it."""

    def __init__(self, message: str, hint: str | None = None, line: int = 0) -> None:
        super().__init__(message)
        self.hint = hint
        #: Which line of the vault is wrong, from 0.
        self.line = line


# -- the format -----------------------------------------------------------------------------------


class _Envelope(NamedTuple):
    label: str | None
    salt: bytes
    digest: bytes
    ciphertext: bytes


def is_vaulted(text: str | bytes) -> bool:
    """Whether a text is an Ansible vault, by how it begins."""
    return text.startswith(HEADER.encode()) if isinstance(text, bytes) else text.startswith(HEADER)


def _read(text: str) -> _Envelope:
    lines = text.strip().splitlines()
    parts = [part.strip() for part in lines[0].split(";")] if lines else []
    if len(parts) not in (3, 4) or parts[0] != HEADER:
        raise VaultError(
            "this is not a vault: its first line must be $ANSIBLE_VAULT;1.1;AES256",
            "encrypt it anew: ansible-vault encrypt FILE, or ansible-vault encrypt_string",
        )
    if parts[1] not in ("1.1", "1.2") or parts[2] != "AES256":
        raise VaultError(
            f"the vault is of the format {';'.join(parts[1:3])}, which is not known here",
            "formats 1.1 and 1.2 with AES256 are: encrypt it anew with a current ansible-vault",
        )
    damaged = "copy it anew: all of its lines, indented alike, below `!vault |`"
    for number, line in enumerate(lines[1:], 1):
        if set(line.strip()) - set("0123456789abcdefABCDEF"):
            raise VaultError("the vault is damaged: this line is not hexadecimal", damaged, number)
    try:
        inner = binascii.unhexlify("".join(line.strip() for line in lines[1:]))
        salt, digest, ciphertext = (binascii.unhexlify(one) for one in inner.split(b"\n", 2))
    except (ValueError, binascii.Error):
        raise VaultError("the vault is damaged: a part of it is missing", damaged) from None
    if not salt or len(digest) != hashlib.sha256().digest_size or not ciphertext or len(ciphertext) % _BLOCK:
        raise VaultError("the vault is damaged: a part of it is missing", damaged)
    return _Envelope(parts[3] if len(parts) == 4 else None, salt, digest, ciphertext)


@lru_cache(maxsize=256)
def _keys(password: bytes, salt: bytes) -> tuple[bytes, bytes, bytes]:
    """The key of the cipher, that of the HMAC, and the first counter."""
    made = hashlib.pbkdf2_hmac("sha256", password, salt, _ROUNDS, 32 + 32 + _BLOCK)
    return made[:32], made[32:64], made[64:]


def _opened(envelope: _Envelope, password: bytes) -> bytes | None:
    """What is in a vault; None where this is not its password."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key, authentication, counter = _keys(password, envelope.salt)
    if not hmac.compare_digest(hmac.digest(authentication, envelope.ciphertext, "sha256"), envelope.digest):
        return None
    decryptor = Cipher(algorithms.AES(key), modes.CTR(counter)).decryptor()
    padded = decryptor.update(envelope.ciphertext) + decryptor.finalize()
    return padded[: -padded[-1]]


# -- passwords ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Password:
    """A password of vaults, by the label that it was given under; it is read when it is first needed."""

    label: str
    source: str
    read: Callable[[], bytes]

    def __repr__(self) -> str:
        return f"Password({self.label!r}, {self.source!r})"


class Keyring:
    """The passwords of one run."""

    def __init__(self, passwords: Sequence[Password] = ()) -> None:
        self._passwords = tuple(passwords)
        self._read: dict[int, bytes] = {}

    def open(self, text: str) -> bytes:
        """What is in a vault. Raises VaultError: it is damaged, no password is given, or none of them opens it."""
        envelope = _read(text)
        if not self._passwords:
            label = f" (its vault id is '{envelope.label}')" if envelope.label else ""
            raise VaultError(f"this is encrypted by ansible-vault, and no password is given{label}", _HOW)
        # The password of the vault's own label first; the others too, as in Ansible.
        order = sorted(range(len(self._passwords)), key=lambda at: self._passwords[at].label != envelope.label)
        for index in order:
            try:
                password = self._password(index)
            except UsageError as error:
                raise VaultError(error.message, error.hint) from None
            found = _opened(envelope, password)
            if found is not None:
                return found
        tried = ", ".join(dict.fromkeys(f"{one.label} ({one.source})" for one in self._passwords))
        label = f"its vault id is '{envelope.label}'; " if envelope.label else ""
        raise VaultError(
            "none of the passwords given opens this vault, or it was damaged",
            f"{label}tried: {tried}. Is it the right password? `ansible-vault view` takes the same",
        )

    def key(self) -> bytes | None:
        """What seals a saved plan: as strong as the vaults are. None without a password."""
        if not self._passwords:
            return None
        return hashlib.sha256(b"nsprov plan\0" + self._password(0)).digest()

    def _password(self, index: int) -> bytes:
        if index not in self._read:
            secret = self._passwords[index].read()
            learn(secret.decode("utf-8", "replace"))
            self._read[index] = secret
        return self._read[index]


def passwords(
    *,
    files: Sequence[str] = (),
    ids: Sequence[str] = (),
    ask: bool = False,
    prompt: Callable[[str], str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> list[Password]:
    """The passwords that a command line and an environment give, in the order in which they are tried.

    ``ids`` are ``label@source``, ``files`` sources without a label; a source is a file, a program that prints the
    password, or ``prompt``.
    """
    made = []
    for one in ids:
        label, at, source = one.rpartition("@")
        made.append(_from(source, label if at and label else DEFAULT, prompt, "--vault-id"))
    made += [_from(one, DEFAULT, prompt, "--vault-password-file") for one in files]
    if ask:
        made.append(_from("prompt", DEFAULT, prompt, "--ask-vault-pass"))
    for name in ("NSPROV_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_PASSWORD_FILE"):
        if environ.get(name):
            made.append(_from(environ[name], DEFAULT, prompt, name))
    given = environ.get("NSPROV_VAULT_PASSWORD")
    if given:
        made.append(Password(DEFAULT, "NSPROV_VAULT_PASSWORD", given.strip().encode))
    return made


def _from(source: str, label: str, prompt: Callable[[str], str] | None, option: str) -> Password:
    if source in ("prompt", "prompt_ask_vault_pass"):
        if prompt is None:
            raise UsageError(f"{option}: there is nobody to ask for the password", hint="name a file instead")
        asked = prompt
        what = "Vault password" if label == DEFAULT else f"Vault password ({label})"
        return Password(label, "asked for", lambda: asked(what).strip().encode())
    path = Path(os.path.expandvars(source)).expanduser()
    return Password(label, str(path), lambda: _read_password(path, label, option))


def _read_password(path: Path, label: str, option: str) -> bytes:
    """The password in a file, or that which a program prints."""
    try:
        if path.is_dir():
            raise UsageError(f"{option}: {path} is a folder", hint="name a file that holds the password")
        found = _printed(path, label, option) if os.access(path, os.X_OK) else path.read_bytes()
    except OSError as error:
        raise UsageError(f"{option}: {path} cannot be read: {error.strerror}") from None
    password = found.strip(b"\r\n \t")
    if is_vaulted(password):
        password = current().open(password.decode("utf-8", "replace")).strip(b"\r\n \t")
    if not password:
        raise UsageError(f"{option}: {path} gives an empty password")
    return password


def _printed(path: Path, label: str, option: str) -> bytes:
    """What a program prints. One whose name ends in -client is told the label, as Ansible does it."""
    command = [str(path.absolute())]
    if path.stem.endswith("-client"):
        command += ["--vault-id", label]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        hint = "a file that is executable is run: take its permission away (chmod -x) if it is the password itself"
        raise UsageError(f"{option}: {path} ended with exit code {done.returncode}", hint=hint)
    return done.stdout


# -- the run's keyring ----------------------------------------------------------------------------

_rings: list[Keyring] = []


def use(keyring: Keyring) -> None:
    """Open vaults with these passwords from now on."""
    _rings[:] = [keyring]


def current() -> Keyring:
    """The passwords of this run: those that a command was given, or those that the environment names."""
    if not _rings:
        _rings.append(Keyring(passwords()))
    return _rings[0]


def problems_of(text: str, source: Source | None, *, below: int = 0) -> list[Problem]:
    """What is wrong with a vault's form, without opening it. It begins some lines ``below`` its place."""
    try:
        _read(text)
    except VaultError as error:
        return [_problem(error, source, below)]
    return []


def open_vault(text: str, source: Source | None, *, below: int = 0) -> bytes:
    """What is in a vault. Raises ConfigError at its place."""
    try:
        return current().open(text)
    except VaultError as error:
        raise ConfigError(_problem(error, source, below)) from None


def _problem(error: VaultError, source: Source | None, below: int) -> Problem:
    if source is not None and error.line:
        source = Source(source.file, source.line + below + error.line)
    return Problem(str(error), source, error.hint)


def open_text(text: str, source: Source | None) -> str:
    """The text in a ``!vault`` value. Raises ConfigError at its place."""
    data = open_vault(text, source, below=1)
    try:
        return data.decode()
    except UnicodeDecodeError:
        message = "what is encrypted here is not UTF-8 text"
        raise ConfigError(Problem(message, source, "encrypt it in base64, and use it with | b64decode")) from None
