"""Role authors test their roles with molecule as the page says: on sandboxes, and nothing is left of these."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.host.sandbox import Sandbox, list_sandboxes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing-roles.md").read_text(encoding="utf-8")
HOSTS = ("web1", "web2")
GREETER = "roles/greeter/tasks/main.yml"


def files_of_the_page() -> dict[str, str]:
    """The files that the page shows, by the path in their first line."""
    shown = re.findall(r"^```(?:yaml|python)\n# (\S+\.\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return dict(shown)


class RoleProject:
    """A role's repository as the page has it, but for the names of its hosts, which are the machine's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        mark = uuid.uuid4().hex[:6]
        self.names = {name: f"{name}-{mark}" for name in HOSTS}
        for path, text in files_of_the_page().items():
            for name, ours in self.names.items():
                text = re.sub(rf"\b{name}\b", ours, text)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        # nsprov, molecule and pytest are found as in an activated environment; molecule's own files go with the folder.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "HOME": str(folder / "home")}

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text()
        assert old in text
        (self.folder / path).write_text(text.replace(old, new))

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["molecule", *words, "--no-command-borders"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def molecule(self, *words: str) -> tuple[int, str]:
        """A command of molecule: its exit code, and what it said, with the names of the page."""
        running = self.start(*words)
        output, _ = running.communicate(timeout=300)
        return running.returncode, self.as_on_the_page(output)

    def as_on_the_page(self, output: str) -> str:
        for name, ours in self.names.items():
            output = output.replace(ours, name)
        return re.sub(r"\x1b\[[0-9;]*m", "", output)

    def running(self) -> list[str]:
        """Those of its hosts that run."""
        return [one.name for one in list_sandboxes() if one.name in self.names.values()]


@pytest.fixture
def project() -> Iterator[RoleProject]:
    folder = Path(tempfile.mkdtemp(prefix="nsprov-molecule-", dir="/var/tmp"))
    made = RoleProject(folder)
    yield made
    made.molecule("destroy")
    shutil.rmtree(folder)
    left = made.running()
    for name in left:
        Sandbox.attach(name).stop()
    assert left == []


def lines_shown(command: str) -> list[str]:
    """What the page shows of a command's output, line by line, but for what it leaves out."""
    block = re.search(rf"^    \$ {re.escape(command)}\n((?:    .*\n|\n(?=    ))+)", PAGE, re.MULTILINE)
    assert block, command
    lines = [line.strip() for line in block[1].splitlines()]
    return [line for line in lines if line and line != "..."]


def missing(shown: list[str], output: str) -> list[str]:
    """Which of these lines are not in the output. Hosts take turns, and how long a thing took may differ."""

    def timeless(line: str) -> str:
        return re.sub(r"\d+\.\d+ ?s|[*=]{3,}|\s+", " ", line).strip()

    said = {timeless(line) for line in output.splitlines()}
    return [line for line in shown if timeless(line) not in said]


def test_the_project_of_the_page_passes_with_the_output_of_the_page_and_leaves_nothing(project: RoleProject) -> None:
    code, output = project.molecule("test")
    assert code == 0, output
    assert missing(lines_shown("molecule test"), output) == []
    assert project.running() == []


def test_a_role_that_is_never_done_fails_with_what_there_was_to_do_and_leaves_nothing(project: RoleProject) -> None:
    writes = "ExecStart: /bin/sh -c 'echo 0 visitors > /var/lib/greeter/index.html; exec \"$@\"' sh /usr/bin/python3"
    project.edit(GREETER, "ExecStart: /usr/bin/python3", writes)
    code, output = project.molecule("test")
    assert code == 1, output
    assert missing(lines_shown("molecule test # never done"), output) == []
    assert "[web1 -> localhost] => Apply the roles" in output
    assert project.running() == []


def test_a_role_that_does_not_do_what_its_user_sees_fails(project: RoleProject) -> None:
    project.edit("roles/greeter/defaults/main.yml", "Good morning", "Go away")
    code, output = project.molecule("test")
    assert code == 1, output
    assert "test_a_visitor_is_greeted" in output
    assert "Executed: Failed (Verifier tests failed)" in output
    assert project.running() == []


def test_what_an_interrupted_run_leaves_is_ended_by_destroy(project: RoleProject) -> None:
    running = project.start("converge")
    assert running.stdout
    for line in running.stdout:
        if "TASK [Apply the roles]" in line:
            break
    os.killpg(running.pid, signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode != 0
    assert sorted(project.running()) == sorted(project.names.values())

    code, output = project.molecule("destroy")
    assert code == 0, output
    assert project.running() == []
