"""What is wrong with the words of a command is a usage error that says what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.test_broken_inputs import run


@pytest.fixture(autouse=True)
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("inventory.yml").write_text("all: {hosts: {web1: , db1: }}\n")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('x="open', "no closing quotation"),
        ("=x", "'' cannot be the name of a variable"),
        ("a-b=x", "'a-b' cannot be the name of a variable"),
        ('{"a b": 1}', "'a b' cannot be the name of a variable"),
        ("x=1 y", "expected name=value, JSON, or @file"),
        ("[1]", "expected name=value, JSON, or @file"),
        ("x=\udcff", "this is not text in UTF-8"),
        ("", "expected name=value, JSON, or @file"),
    ],
)
def test_extra_variables_that_cannot_be_read(
    given: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "validate", "-e", given) == 64
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("pattern", ["~[", "web1[x", "web1]"])
def test_a_bracket_that_is_not_closed_never_means_other_hosts(
    pattern: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "validate", "--limit", pattern) == 64
    assert "a bracket is not closed" in capsys.readouterr().err


def test_a_format_that_does_not_exist_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "plan", "--format", "xml") == 64
    assert "Invalid value for '--format': 'xml' is not one of 'text', 'json'" in capsys.readouterr().err


def test_an_unknown_kind_is_answered_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "explain", "container") == 64
    told = capsys.readouterr().err
    assert "there is no kind 'container'" in told
    assert "netns" in told


@pytest.fixture
def tagged(tmp_path: Path) -> None:
    (tmp_path / "roles/web/tasks").mkdir(parents=True)
    (tmp_path / "roles/web/tasks/main.yml").write_text(
        "- {netns: {name: blue}, tags: [network, blue]}\n- {netns: {name: red}, tags: never}\n"
    )
    Path("inventory.yml").write_text("all: {hosts: {web1: }, vars: {nsprov_roles: [web]}}\n")


@pytest.mark.usefixtures("tagged")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--tags", "nope"],
            "--tags nope: no task that applies here has this tag\n    the tags there are: blue, network",
        ),
        (
            ["--tags", "netwrok,blue"],
            "--tags netwrok: no task that applies here has this tag\n    did you mean 'network'?",
        ),
        (["--skip-tags", "nope"], "--skip-tags nope: no task that applies here has this tag"),
    ],
)
def test_a_tag_that_no_task_has_is_told_and_not_passed_over(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "validate", *words) == 0
    assert told in capsys.readouterr().err


@pytest.mark.usefixtures("tagged")
@pytest.mark.parametrize("words", [[], ["--tags", "network"], ["--tags", "all,never,tagged,untagged,always"]])
def test_tags_that_mean_something_need_no_word(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "validate", *words) == 0
    assert capsys.readouterr().err == ""


def test_validate_counts_one_as_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("roles/web/tasks").mkdir(parents=True)
    Path("roles/web/tasks/main.yml").write_text("- netns: {name: blue}\n- expect: {from: blue, to: 127.0.0.1}\n")
    Path("inventory.yml").write_text("all: {hosts: {web1: }, vars: {nsprov_roles: [web]}}\n")
    assert run(monkeypatch, "validate") == 0
    assert "web1   1 resource, 1 expectation\n" in capsys.readouterr().out


def test_an_option_of_exec_after_the_name_is_not_taken_for_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "exec", "web", "-i", "inventory.yml", "--", "ps") == 64
    assert "options come first: nsprov exec -i inventory.yml web -- …" in capsys.readouterr().err
