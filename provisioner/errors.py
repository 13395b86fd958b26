"""Every error that a user can cause, and the exit code each one ends in.

    NsprovError                  1   the work failed
    ├── UsageError              64   the command line asks for something that cannot be
    ├── ConfigError             65   the inventory, a role or a template is wrong (all problems at once)
    ├── StalePlanError          73   the host has changed since the plan was made
    ├── LockedError             75   another apply holds the host
    ├── NotPermittedError        77   root is missing
    └── HostError                1   the kernel, systemd or a file system said no
        └── UnreachableError     1   there is no way to the host, or it was lost

This module imports nothing of the project, and may be imported by all of it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "HostError",
    "LockedError",
    "NotPermittedError",
    "NsprovError",
    "Problem",
    "Problems",
    "Source",
    "StalePlanError",
    "UnreachableError",
    "UsageError",
    "did_you_mean",
]


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """Where a value was written: a file, and a line and column that count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in the configuration: where, what, and what would be right."""

    message: str
    source: Source | None = None
    hint: str | None = None

    def __str__(self) -> str:
        text = f"{self.source}: {self.message}" if self.source else self.message
        return f"{text}\n    {self.hint}" if self.hint else text


class NsprovError(Exception):
    """The root of the tree. ``str()`` of it is what the user reads."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n    {self.hint}" if self.hint else self.message


class UsageError(NsprovError):
    exit_code = 64


class ConfigError(NsprovError):
    """The configuration is wrong. Holds every problem that was found, in the order of the files."""

    exit_code = 65

    def __init__(self, problems: Iterable[Problem] | Problem | str, *, hint: str | None = None) -> None:
        if isinstance(problems, str):
            problems = [Problem(problems, hint=hint)]
        elif isinstance(problems, Problem):
            problems = [problems]
        self.problems: tuple[Problem, ...] = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(str(p) for p in self.problems))


class StalePlanError(NsprovError):
    exit_code = 73


class LockedError(NsprovError):
    exit_code = 75


class NotPermittedError(NsprovError):
    exit_code = 77


class HostError(NsprovError):
    """The kernel, systemd or a file system refused. ``detail`` has its own words.

    ``code`` is the errno where there is one, or 0.
    """

    def __init__(self, message: str, *, detail: str = "", code: int = 0, hint: str | None = None) -> None:
        super().__init__(f"{message}: {detail}" if detail else message, hint=hint)
        self.detail = detail or message
        self.code = code

    @classmethod
    def from_os(cls, message: str, error: OSError) -> HostError:
        return cls(message, detail=error.strerror or str(error), code=error.errno or 0)


class UnreachableError(HostError):
    """A host that cannot be connected to, or whose connection broke. What it did of what it was asked is not known."""


class Problems:
    """Gathers problems, so that all of a run are reported together."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, message: str, source: Source | None = None, *, hint: str | None = None) -> None:
        self.found.append(Problem(message, source, hint))

    def extend(self, other: Problems | ConfigError | Iterable[Problem]) -> None:
        if isinstance(other, Problems):
            other = other.found
        elif isinstance(other, ConfigError):
            other = other.problems
        self.found.extend(other)

    def raise_if_any(self) -> None:
        if self.found:
            raise ConfigError(self.found)


def did_you_mean(word: Any, known: Iterable[str]) -> str | None:
    """A hint that names the known word nearest to this one, or all of them when they are few."""
    words = sorted(known)
    near = difflib.get_close_matches(str(word), words, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    if words and len(words) <= 12:
        return f"known here: {', '.join(words)}"
    return None
