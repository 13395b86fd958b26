"""The command's standard streams: closed, full, and read by a terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.test_broken_inputs import run

NSPROV = f"{sys.executable} -m provisioner"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_as_empty_ones(closed: str) -> None:
    done = shell(f"{NSPROV} explain netns {closed}")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_output_that_is_full_is_told_and_no_defect() -> None:
    done = shell(f"{NSPROV} explain netns > /dev/full")
    assert (done.returncode, done.stderr) == (74, "nsprov: cannot write: No space left on device\n")


def test_control_characters_of_the_configuration_reach_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hosts.yml").write_text('all: {hosts: {web1: {nsprov_roles: ["a\\e[2Jb"]}}}\n')
    assert run(monkeypatch, "validate", "hosts.yml") == 65
    told = capsys.readouterr().err
    assert r"a\x1b[2Jb" in told
    assert "\x1b" not in told
