"""Reads the broken inputs of this folder, and compares what was found with what each one expects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from provisioner.errors import Problem

FOLDER = Path(__file__).parent
_LINE = re.compile(r"(?:(?P<file>[^:]+):)?(?P<line>\d+):(?P<column>\d+): (?P<text>.+)")


class Expected(NamedTuple):
    """A line of ``expected.txt``."""

    file: str | None
    line: int
    column: int
    text: str

    def is_met_by(self, problem: Problem) -> bool:
        at = problem.source
        return (
            at is not None
            and (at.line, at.column) == (self.line, self.column)
            and (self.file is None or at.file == self.file or at.file.endswith(f"/{self.file}"))
            and self.text in problem.message
        )


def cases(kind: str) -> list[Path]:
    """The folders of one kind of broken input, by name."""
    return sorted(path.parent for path in FOLDER.joinpath(kind).glob("*/expected.txt"))


def expected_of(case: Path) -> list[Expected]:
    """What ``expected.txt`` lists."""
    found = []
    for text in case.joinpath("expected.txt").read_text().splitlines():
        if text and not text.startswith("#"):
            match = _LINE.fullmatch(text)
            assert match, f"{case.name}/expected.txt: '{text}' is not [file:]line:column: message"
            found.append(Expected(match["file"], int(match["line"]), int(match["column"]), match["text"]))
    return found


def sources_of(case: Path) -> list[str]:
    """The inventories of a case, relative to it: the lines of ``sources.txt``, or the one named ``hosts``."""
    listed = case / "sources.txt"
    if listed.exists():
        return listed.read_text().splitlines()
    return [next(path.name for path in sorted(case.iterdir()) if path.stem == "hosts")]


def check(case: Path, problems: Sequence[Problem]) -> None:
    """Fail unless these are the problems that a case expects: all of them, and no others."""
    expected = expected_of(case)
    missing = [want for want in expected if not any(want.is_met_by(problem) for problem in problems)]
    surplus = [str(problem) for problem in problems if not any(want.is_met_by(problem) for want in expected)]
    assert not missing, f"not found: {missing}\nfound instead: {surplus}"
    assert not surplus, f"not expected: {surplus}"
