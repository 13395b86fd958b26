"""Broken inventories: each problem is found at its line and column, all of them at once (``tests/broken/``)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provisioner.cli import main
from provisioner.config.inventory import load_inventory
from provisioner.errors import ConfigError
from tests.broken.cases import cases, check, expected_of, sources_of

CASES = [pytest.param(case, id=case.name) for case in cases("inventory")]


def test_there_are_at_least_twenty_five_broken_inventories() -> None:
    assert len(CASES) >= 25


@pytest.mark.parametrize("case", CASES)
def test_every_problem_is_located_and_all_are_reported(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    with pytest.raises(ConfigError) as caught:
        load_inventory(sources_of(case))
    check(case, caught.value.problems)


@pytest.mark.parametrize("case", CASES)
def test_the_command_exits_with_65_and_no_traceback(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(case)
    options = [word for source in sources_of(case) for word in ("-i", source)]
    monkeypatch.setattr("sys.argv", ["nsprov", "inventory", *options, "--list"])
    with pytest.raises(SystemExit) as exited:
        main()
    printed = capsys.readouterr()
    assert exited.value.code == 65
    assert printed.out == ""
    assert "Traceback" not in printed.err
    for expected in expected_of(case):
        assert f":{expected.line}:{expected.column}: " in printed.err


def test_a_hundred_megabytes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yml"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    with pytest.raises(ConfigError, match="104857600 bytes"):
        load_inventory([path])


def test_a_long_text_that_is_no_inventory_says_so_once(tmp_path: Path) -> None:
    path = tmp_path / "hosts.log"
    path.write_text("it is not an inventory\n" * 10_000)
    with pytest.raises(ConfigError, match="the rest of the file was not read") as caught:
        load_inventory([path])
    assert len(caught.value.problems) == 51


def test_a_misspelt_path_is_answered_with_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "production.yml").write_text("all:\n")
    with pytest.raises(ConfigError, match=r"did you mean 'production\.yml'"):
        load_inventory([tmp_path / "prodution.yml"])


def test_a_device_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe"):
        with pytest.raises(ConfigError, match="not a regular file"):
            load_inventory([path])
