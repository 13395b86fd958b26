"""The host's own copy of a repository: fetched with git, which obeys nothing of what it fetches.

No hook, filter, submodule, alternate or setting of the repository is ever used, and nobody is asked for a
password. Only the objects of one ref are taken; which of them may be used is decided by its callers.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from provisioner.errors import HostError, NsprovError, UsageError

__all__ = ["ENVIRONMENT", "Repository", "check_ref", "check_url", "name_of", "scheme_of"]

#: What git and its children see of the environment: no settings of a user, and nobody to ask.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "GIT_PROTOCOL_FROM_USER": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oConnectTimeout=20 -oServerAliveInterval=15",
}
#: What else it may have of the caller's: the way out of a network, and who is trusted on it.
_PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSH_AUTH_SOCK")
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "transfer.fsckObjects": "true",
    "transfer.bundleURI": "false",
    "gc.autoDetach": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    "protocol.allow": "never",
    "protocol.ext.allow": "never",
}
#: The ways to a server, and whether they prove who the server is.
_SCHEMES = {"https": True, "ssh": True, "file": True, "http": False, "git": False}
_FETCHED = "refs/nsprov/fetched"
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--force")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_TIMEOUT = 600.0


def scheme_of(url: str) -> str:
    """How a repository is reached: ``https``, ``ssh``, ``file``, ``http`` or ``git``."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    if found:
        return found[1].lower()
    if url.startswith("/"):
        return "file"
    if re.match(r"(?:[\w.-]+@)?[A-Za-z0-9][\w.-]*:(?!:)[^:]", url):
        return "ssh"
    return ""


def check_url(url: str, *, signed: bool) -> None:
    """Raise UsageError for a repository's address that git shall not be given."""
    scheme = scheme_of(url)
    if scheme not in _SCHEMES or not url.isprintable() or " " in url:
        raise UsageError(
            f"'{url}' is not the address of a repository that nsprov takes",
            hint="https://SERVER/PATH, ssh://USER@SERVER/PATH, USER@SERVER:PATH, or file:///PATH",
        )
    if "://" in url and urlsplit(url).password is not None:
        raise UsageError(
            "the repository's address has a password in it, which everybody on this host could read",
            hint="use a deploy key over ssh, or a server that lets these hosts read without a password",
        )
    if not signed and not _SCHEMES[scheme]:
        raise UsageError(
            f"over {scheme}:// anybody on the way can change what is fetched",
            hint="add --verify-commits --signers FILE, or use https:// or ssh://",
        )


def check_ref(ref: str) -> str:
    """The ref as git spells it: a commit, ``refs/…``, or a branch. Raises UsageError for what cannot be one."""
    if _COMMIT.fullmatch(ref):
        return ref
    wrong = not _REF.fullmatch(ref) or ".." in ref or "//" in ref or ref.endswith(("/", ".", ".lock")) or "/." in ref
    if wrong:
        raise UsageError(f"'{ref}' cannot be the name of a branch", hint="for example: main, refs/tags/v1, or a commit")
    return ref if ref.startswith("refs/") else f"refs/heads/{ref}"


def name_of(url: str) -> str:
    """What a pull of this repository is called: the last part of its address."""
    last = re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")
    return re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-")[:48] or "pull"


@dataclass(frozen=True, slots=True)
class Repository:
    """A bare repository in a folder of ours, which git alone writes."""

    path: Path
    #: No file that git writes gets larger than this: a server cannot fill the disk with one pack.
    largest_pack: int = 1 << 30

    def prepare(self) -> None:
        """Make it where it is missing, and take away what a git that was killed has left locked.

        Only whoever holds the folder's lock may call this.
        """
        if not (self.path / "HEAD").exists():
            fresh = self.path.with_name(f"{self.path.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(self.path, ignore_errors=True)
            self.git("init", "--quiet", "--bare", "--template=", str(fresh), inside=False)
            fresh.rename(self.path)
        for left in (*self.path.glob("*.lock"), *self.path.glob("refs/**/*.lock")):
            left.unlink(missing_ok=True)

    def fetch(self, url: str, ref: str, *, timeout: float = _TIMEOUT) -> str:
        """Take the objects of one ref, and say which commit it is. Raises HostError in git's own words."""
        scheme = scheme_of(url)
        done = self._run(
            [*_FETCH, "--", url, f"+{ref}:{_FETCHED}"],
            settings={f"protocol.{scheme}.allow": "always"},
            timeout=timeout,
        )
        if done.returncode != 0:
            raise HostError(f"cannot fetch {ref.removeprefix('refs/heads/')} of {url}", detail=_last_words(done.stderr))
        return self.git("rev-parse", "--verify", "--quiet", f"{_FETCHED}^{{commit}}").decode().strip()

    def descends(self, commit: str, ancestor: str) -> bool:
        """Whether a commit has the other in its history, or is it. One that is not here any more is not."""
        return self._run(["merge-base", "--is-ancestor", ancestor, commit]).returncode == 0

    def git(self, *words: str, inside: bool = True) -> bytes:
        """What a command of git prints. Raises HostError where it fails."""
        done = self._run(list(words), inside=inside)
        if done.returncode != 0:
            raise HostError(f"git {words[0]} failed in {self.path}", detail=_last_words(done.stderr))
        return done.stdout

    def verify_commit(
        self, commit: str, settings: Mapping[str, str], environment: Mapping[str, str]
    ) -> tuple[bool, str]:
        """Whether git says that a commit's signature is good, and its words."""
        done = self._run(["verify-commit", "--raw", commit], settings=settings, environment=environment)
        return done.returncode == 0, done.stderr.decode(errors="replace")

    def command(
        self, words: Sequence[str], settings: Mapping[str, str] | None = None, *, inside: bool = True
    ) -> list[str]:
        """The whole command line of git, with the settings that the repository cannot override."""
        options = [
            part for name, value in {**_SETTINGS, **(settings or {})}.items() for part in ("-c", f"{name}={value}")
        ]
        where = [f"--git-dir={self.path}"] if inside else []
        return [_git(), *options, *where, *words]

    def _run(
        self,
        words: Sequence[str],
        *,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float = _TIMEOUT,
        inside: bool = True,
    ) -> subprocess.CompletedProcess[bytes]:
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        line = self.command(words, settings, inside=inside)
        with subprocess.Popen(
            line,
            env={**passed, **ENVIRONMENT, **(environment or {})},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            preexec_fn=self._limit_files,
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException as error:
                # What git started, ssh for one, has to end with it.
                os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise HostError(
                        f"git {words[0]} did not end within {timeout:.0f} s",
                        hint="is the server there, and is it quick?",
                    ) from None
                raise
        return subprocess.CompletedProcess(line, process.returncode, out, err)

    def _limit_files(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        limit = self.largest_pack if hard == resource.RLIM_INFINITY else min(hard, self.largest_pack)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def _git() -> str:
    found = shutil.which("git", path=ENVIRONMENT["PATH"])
    if found is None:
        raise NsprovError("git is not on this host", hint="apt-get install git")
    return found


def _last_words(stderr: bytes) -> str:
    """What tells most in the words of git: its own error, or that of the ssh that it started."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if line.startswith(("fatal:", "error:")):
            by_ssh = number > 0 and "Could not read from remote repository" in line
            return lines[number - 1] if by_ssh else line.partition(": ")[2]
    return lines[0] if lines else "it says nothing"
