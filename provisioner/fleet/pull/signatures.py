"""Whose a commit is: its signature against the signers that this host trusts, and nothing else.

git and ssh-keygen (or gpg) decide; the repository's own settings and the keys of root's account have no say. A
new commit must be signed by a key that is valid now as well: git alone asks about the time that the commit claims.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.errors import NsprovError, UsageError
from provisioner.fleet.pull.repository import ENVIRONMENT

if TYPE_CHECKING:
    from provisioner.fleet.pull.repository import Repository

__all__ = ["Signature", "SignatureError", "Signers", "signature_of"]

_HEADERS = (b"gpgsig", b"gpgsig-sha256")


class SignatureError(NsprovError):
    """A commit that nobody whom this host trusts has signed."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A commit's signature, and the bytes that it is of."""

    armor: bytes
    payload: bytes

    @property
    def form(self) -> str:
        """``ssh``, ``gpg``, or ``other``."""
        if self.armor.startswith(b"-----BEGIN SSH SIGNATURE-----"):
            return "ssh"
        return "gpg" if self.armor.startswith(b"-----BEGIN PGP ") else "other"


def signature_of(commit: bytes) -> Signature | None:
    """The signature of a commit's object, None where it has none."""
    header, gap, message = commit.partition(b"\n\n")
    kept: list[bytes] = []
    found: dict[bytes, list[bytes]] = {}
    inside: list[bytes] | None = None
    for line in header.split(b"\n"):
        name, _, value = line.partition(b" ")
        if line.startswith(b" ") and inside is not None:
            inside.append(line[1:])
        elif name in _HEADERS:
            inside = found.setdefault(name, [])
            inside.append(value)
        else:
            inside = None
            kept.append(line)
    lines = found.get(b"gpgsig")
    if lines is None:
        return None
    return Signature(b"\n".join(lines) + b"\n", b"\n".join(kept) + gap + message)


@dataclass(frozen=True, slots=True)
class Signers:
    """Whose commits a host takes: a file of ssh's allowed signers, or a folder that is a keyring of gpg."""

    allowed: Path | None = None
    keyring: Path | None = None

    def check(self) -> None:
        """Raise UsageError unless only root (or who runs this) can change who is trusted."""
        for path, what in ((self.allowed, "--signers"), (self.keyring, "--keyring")):
            if path is None:
                continue
            for one in (path, *path.absolute().parents):
                _refuse_others(one, what, allow_sticky=one != path)
            if path.is_dir() == (path is self.allowed):
                raise UsageError(f"{what} {path}: this is {'a folder' if path.is_dir() else 'no folder'}")

    def verify(self, repository: Repository, commit: str, *, new: bool) -> str:
        """Who signed a commit. Raises SignatureError where that is nobody of these.

        A ``new`` commit's key must be valid now; for one that was applied already it is enough that it was valid
        when the commit was made.
        """
        raw = repository.git("cat-file", "commit", commit)
        signature = signature_of(raw)
        short = commit[:12]
        if signature is None:
            raise SignatureError(
                f"the commit {short} is not signed", hint="nothing of it was read; sign it with: git commit -S"
            )
        wanted = "ssh" if self.allowed is not None else "gpg"
        if signature.form != wanted:
            raise SignatureError(
                f"the commit {short} is signed with {signature.form}, and this host takes signatures of {wanted} alone",
                hint=f"sign with 'git config gpg.format {'ssh' if wanted == 'ssh' else 'openpgp'}'",
            )
        if self.allowed is not None:
            return self._by_ssh(self.allowed, repository, commit, signature, new=new)
        return self._by_gpg(repository, commit)

    def _by_ssh(self, allowed: Path, repository: Repository, commit: str, signature: Signature, *, new: bool) -> str:
        settings = {
            "gpg.ssh.allowedSignersFile": str(allowed.absolute()),
            "gpg.ssh.program": _tool("ssh-keygen", "openssh-client"),
            "gpg.minTrustLevel": "fully",
            "gpg.program": "/bin/false",
            "gpg.x509.program": "/bin/false",
        }
        good, words = repository.verify_commit(commit, settings, {})
        principal = re.search(r'^Good "git" signature for (\S+) with', words, re.MULTILINE)
        if not good or principal is None:
            key = re.search(r"SHA256:\S+", words)
            raise SignatureError(
                f"the commit {commit[:12]} is signed by a key that {allowed} does not allow"
                + (f": {key[0]}" if key else ""),
                hint="nothing of it was read; was the key missing, for another purpose, or not valid at that time?",
            )
        if new and not _valid_now(allowed, principal[1], signature):
            raise SignatureError(
                f"the commit {commit[:12]} is signed by a key of {principal[1]} that is no longer valid",
                hint="nothing of it was read; sign a new commit with a key that is valid now",
            )
        return principal[1]

    def _by_gpg(self, repository: Repository, commit: str) -> str:
        settings = {
            "gpg.program": _tool("gpg", "gpg"),
            "gpg.ssh.program": "/bin/false",
            "gpg.x509.program": "/bin/false",
        }
        good, words = repository.verify_commit(commit, settings, {"GNUPGHOME": str(self.keyring)})
        signer = re.search(r"^\[GNUPG:\] GOODSIG \S+ (.+)$", words, re.MULTILINE)
        if good and signer is not None:
            return signer[1]
        reasons = {"EXPKEYSIG": "has expired", "REVKEYSIG": "was revoked", "EXPSIG": "has a signature that expired"}
        reason = next((text for word, text in reasons.items() if f"[GNUPG:] {word}" in words), None)
        raise SignatureError(
            f"the commit {commit[:12]} is signed by a key that "
            + (reason or f"the keyring {self.keyring} does not have"),
            hint="nothing of it was read",
        )


def _valid_now(allowed: Path, principal: str, signature: Signature) -> bool:
    """Whether ssh-keygen takes the signature at this moment, whatever time the commit claims."""
    with tempfile.NamedTemporaryFile(prefix="nsprov-signature-") as file:
        file.write(signature.armor)
        file.flush()
        words = ["-Y", "verify", "-f", str(allowed), "-I", principal, "-n", "git", "-s", file.name]
        done = subprocess.run(
            [_tool("ssh-keygen", "openssh-client"), *words],
            env=ENVIRONMENT,
            input=signature.payload,
            capture_output=True,
            check=False,
            timeout=60,
        )
    return done.returncode == 0


def _tool(name: str, package: str) -> str:
    found = shutil.which(name, path=ENVIRONMENT["PATH"])
    if found is None:
        raise NsprovError(
            f"{name} is not on this host, and signatures cannot be checked without it",
            hint=f"apt-get install {package}",
        )
    return found


def _refuse_others(path: Path, what: str, *, allow_sticky: bool) -> None:
    try:
        found = path.stat()
    except OSError as error:
        raise UsageError(f"{what} {path}: {error.strerror}") from None
    others = found.st_mode & 0o022 and not (allow_sticky and found.st_mode & stat.S_ISVTX)
    if others or found.st_uid not in (0, os.geteuid()):
        raise UsageError(
            f"{what}: {path} can be changed by others than root, who could then say whom this host trusts",
            hint=f"chown root {path} && chmod go-w {path}",
        )
