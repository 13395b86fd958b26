"""A file that is given as a saved plan, and is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provisioner.cli.apply import read_plan
from provisioner.errors import UsageError


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        bytes(range(256)),
        b"[]",
        b"{}",
        b"null",
        b'{"version": 1}',
        b'{"version": 1, "hosts": []}',
        b'{"version": 1, "hosts": {"a": 5}}',
        b'{"version": 1, "hosts": {"a": {}}}',
        b'{"version": 1, "hosts": {"a": {"steps": [1]}}}',
        b'{"version": 1, "hosts": {"a": {"steps": [{"address": []}]}}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_plan_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not a plan of nsprov"):
        read_plan(str(path))


def test_a_plan_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"version": 99, "hosts": {}}')
    with pytest.raises(UsageError, match=r"another version of nsprov \(format 99\)"):
        read_plan(str(path))


def test_a_device_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", str(tmp_path / "pipe")):
        with pytest.raises(UsageError, match="is not a plan of nsprov"):
            read_plan(path)


def test_a_missing_plan_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_plan(str(tmp_path / "plan.json"))
