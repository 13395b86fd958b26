"""How each benchmark ends: what it claims, whether that holds, and the numbers for who wants them."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["add_options", "conclude"]


def add_options(parser: ArgumentParser) -> None:
    """The options ``--json`` and ``--check``."""
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 unless what is claimed below holds")


def conclude(claims: Iterable[tuple[bool, str]], found: Any, options: Namespace) -> int:
    """Print the claims, write the numbers where they are wanted; the exit code."""
    told = list(claims)
    print()
    for holds, words in told:
        print(f"{'yes' if holds else 'NO '}  {words}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if options.check and not all(holds for holds, _ in told) else 0
