"""Asks ansible-inventory about many inventories in one process, and prints its answers as JSON.

Run as a program: ``python ansible_answers.py FOLDER``, where each folder in FOLDER is an inventory. Its
``sources.txt`` has one ``-i`` a line; without it the source is the one file that is named ``hosts``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

QUESTIONS: dict[str, list[str]] = {
    "list": ["--list"],
    "export": ["--list", "--export"],
    "yaml": ["--list", "--yaml"],
    "yaml export": ["--list", "--yaml", "--export"],
    "graph": ["--graph"],
    "graph vars": ["--graph", "--vars"],
}


def sources_of(case: Path) -> list[str]:
    """The ``-i`` arguments of a case, relative to its folder."""
    listed = case / "sources.txt"
    if listed.exists():
        return listed.read_text().splitlines()
    return [next(path.name for path in sorted(case.iterdir()) if path.is_file() and path.stem == "hosts")]


def _ask(arguments: list[str]) -> str:
    from ansible.cli.inventory import InventoryCLI
    from ansible.parsing.vault import VaultSecretsContext

    VaultSecretsContext._current = None  # likewise made once for a process
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        InventoryCLI(["ansible-inventory", *arguments]).run()
    return printed.getvalue()


def main(folder: Path) -> None:
    from ansible import context
    from ansible.utils.context_objects import CLIArgs

    context.GlobalCLIArgs = CLIArgs  # its own is made once for a process; here every question has arguments
    answers: dict[str, dict[str, Any]] = {}
    for case in sorted(folder.iterdir()):
        if not case.is_dir():
            continue
        os.chdir(case)
        sources = [word for source in sources_of(case) for word in ("-i", source)]
        answer = answers[case.name] = {name: _ask([*sources, *asked]) for name, asked in QUESTIONS.items()}
        hosts = json.loads(answer["list"])["_meta"]["hostvars"]
        for host in [name for name in sorted(hosts) if " " not in name][:3]:
            answer[f"host {host}"] = _ask([*sources, "--host", host])
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
