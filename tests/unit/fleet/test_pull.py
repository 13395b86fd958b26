"""What a pull decides without a host: which addresses, refs, hosts and files it takes, and what its units say."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from provisioner.cli.pull import host_of
from provisioner.errors import HostError, NsprovError, UsageError
from provisioner.fleet.pull.repository import Repository, check_ref, check_url, name_of
from provisioner.fleet.pull.signatures import Signers, signature_of
from provisioner.fleet.pull.state import State, read_state, refuse_going_back, status_line, write_state
from provisioner.fleet.pull.timer import Schedule, is_ours, quoted, schedule, units
from provisioner.fleet.pull.tree import Entry, TreeError, parsed, refuse
from tests.unit.cli.test_broken_inputs import run

# -- the repository -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.com/fleet.git",
        "ssh://git@git.example.com:2222/fleet",
        "git@git.example.com:ops/fleet.git",
        "file:///srv/fleet",
        "/srv/fleet",
        "http://git.example.com/fleet",
    ],
)
def test_addresses_of_repositories_that_are_taken(url: str) -> None:
    check_url(url, signed=True)


@pytest.mark.parametrize(
    "url",
    ["ext::sh -c id", "--upload-pack=id", "fd::7", "ftp://x/y", "transport::https://x/y", "https://x/y z", "-oX=y:z"],
)
def test_addresses_that_would_run_something_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not the address of a repository"):
        check_url(url, signed=True)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as raised:
        check_url("https://ops:hunter2@git.example.com/fleet", signed=True)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://git.example.com/fleet", "git://git.example.com/fleet"])
def test_without_signatures_the_way_to_the_server_must_prove_who_it_is(url: str) -> None:
    with pytest.raises(UsageError, match="anybody on the way"):
        check_url(url, signed=False)


@pytest.mark.parametrize(
    ("given", "ref"),
    [
        ("main", "refs/heads/main"),
        ("a/b-c", "refs/heads/a/b-c"),
        ("refs/tags/v1", "refs/tags/v1"),
        ("a" * 40, "a" * 40),
    ],
)
def test_branches_tags_and_commits(given: str, ref: str) -> None:
    assert check_ref(given) == ref


@pytest.mark.parametrize("given", ["", "-x", "a..b", "main:refs/heads/x", "+main", "a b", "x.lock", "a//b", "*"])
def test_what_cannot_be_a_branch_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a branch"):
        check_ref(given)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://git.example.com/ops/fleet.git", "fleet"),
        ("git@git.example.com:fleet", "fleet"),
        ("file:///srv/my.fleet/", "my-fleet"),
        ("file:///", "pull"),
    ],
)
def test_a_pull_is_called_as_its_repository(url: str, name: str) -> None:
    assert name_of(url) == name


def made_repository(folder: Path, size: int) -> str:
    """The address of a repository with one commit that has so many bytes that do not compress."""
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    folder.mkdir()
    (folder / "big").write_bytes(os.urandom(size))
    who = ("-c", "user.name=ops", "-c", "user.email=ops@example.com")
    for words in (("init", "-q", "-b", "main"), ("add", "big"), (*who, "commit", "-q", "-m", "big")):
        subprocess.run(["git", *words], cwd=folder, env=environment, check=True)
    return f"file://{folder}"


def test_a_server_cannot_fill_the_disk(tmp_path: Path) -> None:
    url = made_repository(tmp_path / "there", 2 << 20)
    Repository(tmp_path / "large.git").prepare()
    assert len(Repository(tmp_path / "large.git").fetch(url, "refs/heads/main")) == 40
    small = Repository(tmp_path / "small.git", largest_pack=1 << 20)
    small.prepare()
    with pytest.raises(HostError, match="cannot fetch main"):
        small.fetch(url, "refs/heads/main")


def test_a_server_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repo.git")
    repository.prepare()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/fleet"
        with pytest.raises(HostError, match="git fetch did not end within 1 s"):
            repository.fetch(url, "refs/heads/main", timeout=1)
        # Neither git nor what it started is left: the other end of the connection is closed.
        connection, _ = server.accept()
        connection.settimeout(5)
        while connection.recv(4096):
            pass
        connection.close()


# -- which host this is -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "own", "host"),
    [
        (["web1", "web2"], ["web1.example.com", "web1"], "web1"),
        (["web1.example.com"], ["web1", "web1.example.com"], "web1.example.com"),
        (["web1", "web1.example.com"], ["web1.example.com", "web1"], "web1.example.com"),
    ],
)
def test_a_host_finds_itself_by_its_long_or_short_name(known: list[str], own: list[str], host: str) -> None:
    assert host_of(known, None, own) == host


def test_a_host_that_was_named_is_never_another() -> None:
    with pytest.raises(UsageError, match="did you mean 'web1'"):
        host_of(["web1"], "web2", ["web1"])


# -- signatures ---------------------------------------------------------------------------------------

SIGNED = b"""tree 1
author a
gpgsig -----BEGIN SSH SIGNATURE-----
 abc
 -----END SSH SIGNATURE-----
encoding UTF-8

gpgsig in the message
"""


def test_a_signature_is_of_the_commit_without_itself() -> None:
    found = signature_of(SIGNED)
    assert found is not None
    assert found.form == "ssh"
    assert found.armor == b"-----BEGIN SSH SIGNATURE-----\nabc\n-----END SSH SIGNATURE-----\n"
    assert found.payload == b"tree 1\nauthor a\nencoding UTF-8\n\ngpgsig in the message\n"


def test_a_signature_in_the_message_is_none() -> None:
    assert signature_of(b"tree 1\n\ngpgsig -----BEGIN SSH SIGNATURE-----\n") is None


def test_signers_in_a_folder_that_others_write_are_refused(tmp_path: Path) -> None:
    signers = tmp_path / "open" / "signers"
    signers.parent.mkdir()
    signers.write_text("")
    Signers(allowed=signers).check()
    signers.parent.chmod(0o777)
    with pytest.raises(UsageError, match="can be changed by others than root"):
        Signers(allowed=signers).check()


def test_a_keyring_is_a_folder_and_signers_are_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this is a folder"):
        Signers(allowed=tmp_path).check()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="this is no folder"):
        Signers(keyring=tmp_path / "file").check()


# -- what of a commit is taken ------------------------------------------------------------------------


def entry(path: str = "a", mode: str = "100644", size: int = 1) -> Entry:
    return Entry(mode, "0" * 40, size, path)


def test_a_listing_of_git_is_read_with_any_name() -> None:
    listing = b"100644 blob 00 12\ta b\n\xff\x00" + b"160000 commit 11 -\tmodule\x00"
    assert parsed(listing) == [
        Entry("100644", "00", 12, "a b\n" + os.fsdecode(b"\xff")),
        Entry("160000", "11", 0, "module"),
    ]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (entry("../x"), "this name leads elsewhere"),
        (entry("/etc/passwd"), "this name leads elsewhere"),
        (entry("a/.GIT/config"), "this name leads elsewhere"),
        (entry("a//b"), "this name leads elsewhere"),
        (entry(mode="160000"), "a submodule"),
        (entry(mode="100600"), "neither a file nor a link"),
        (entry(mode="120000", size=5000), "a link to a name that is too long"),
        (entry(size=1 << 40), "at most 50000 files of 512 MiB"),
    ],
)
def test_what_no_configuration_needs_is_refused(wrong: Entry, told: str) -> None:
    refuse([entry("fine")])
    with pytest.raises(TreeError, match=told):
        refuse([entry("fine"), wrong])


# -- what is remembered -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "descends", "allowed"),
    [(None, False, False), ("new", False, False), ("old", True, False), ("x", False, True)],
)
def test_commits_that_build_upon_the_last_are_taken(last: str | None, descends: bool, allowed: bool) -> None:
    refuse_going_back(last, "new", descends=descends, allowed=allowed)


def test_a_commit_that_does_not_build_upon_the_last_is_refused() -> None:
    with pytest.raises(NsprovError, match="does not build upon old"):
        refuse_going_back("old", "new", descends=False, allowed=False)


def test_a_failure_keeps_what_was_applied_and_is_told_until_it_is_mended() -> None:
    good = State(host="web1").done("a" * 40, "10:00", "ops")
    bad = good.failed("b" * 40, "10:05", "no\nmore")
    assert (bad.applied, bad.error) == ("a" * 40, "no")
    assert "the last pull of bbbbbbbbbbbb failed at 10:05: no" in status_line("fleet", bad)
    mended = bad.done("b" * 40, "10:10", "ops")
    assert mended.error is None
    assert status_line("fleet", mended) == "fleet   web1: commit bbbbbbbbbbbb applied 10:10, signed by ops"


def test_the_same_commit_again_keeps_the_time_when_it_came() -> None:
    again = State().done("a" * 40, "10:00", "ops").done("a" * 40, "11:00", "ops")
    assert (again.applied_at, again.tried_at) == ("10:00", "11:00")


def test_what_is_remembered_is_read_back_and_damage_is_not_taken_for_a_beginning(tmp_path: Path) -> None:
    assert read_state(tmp_path) == State()
    state = State(host="web1").done("a" * 40, "10:00", "ops")
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    (tmp_path / "state.json").write_text('{"version": 9}')
    with pytest.raises(HostError, match="is damaged"):
        read_state(tmp_path)


# -- the timer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "splay", "found"),
    [
        ("5min", None, Schedule("*-*-* *:00/5:00", 300)),
        ("30s", None, Schedule("*-*-* *:*:00/30", 30)),
        ("1h", 60, Schedule("*-*-* 00/1:00:00", 60)),
        ("6 hours", None, Schedule("*-*-* 00/6:00:00", 3600)),
        ("1d", 0, Schedule("*-*-* 00:00:00", 0)),
        ("Mon *-*-* 04:00:00", None, Schedule("Mon *-*-* 04:00:00", 300)),
    ],
)
def test_a_span_or_a_calendar_and_a_splay(every: str, splay: int | None, found: Schedule) -> None:
    assert schedule(every, splay) == found


@pytest.mark.parametrize("every", ["7min", "90s", "0s", "5h", "2d"])
def test_a_span_that_does_not_divide_the_day_is_refused(every: str) -> None:
    with pytest.raises(UsageError, match="at the same distance"):
        schedule(every, None)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("main", "main"),
        ("100%", "100%%"),
        ("a b", '"a b"'),
        ("$HOME", '"$$HOME"'),
        ('say "x"\\', '"say \\"x\\"\\\\"'),
        (";", '";"'),
        ("", '""'),
    ],
)
def test_nothing_in_a_word_means_more_to_systemd(word: str, text: str) -> None:
    assert quoted(word) == text


def test_a_line_break_cannot_get_into_a_unit() -> None:
    with pytest.raises(UsageError, match="cannot stand in a unit's file"):
        quoted("x\nExecStartPre=/bin/sh")


def test_units_know_when_they_were_edited() -> None:
    made = units("fleet", "file:///srv/fleet", ["nsprov", "pull"], Schedule("hourly", 60))
    for text in made.files.values():
        assert is_ours(text)
        assert not is_ours(text.replace("Description=", "Description=my "))
    assert "ExecStart=nsprov pull\n" in made.service


# -- words that do not go together --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "which repository?"),
        (("--repo", "file:///x"), "whose commits shall be root here?"),
        (("--repo", "file:///x", "--verify-commits"), "--verify-commits needs the signers"),
        (("--repo", "file:///x", "--verify-commits", "--signers", "none"), "--signers"),
        (("--repo", "file:///x", "--verify-commits", "--allow-unsigned"), "either --verify-commits or"),
        (("--repo", "ext::id", "--allow-unsigned"), "is not the address of a repository"),
        (("--repo", "file:///x", "--allow-unsigned", "--ref", "-x"), "cannot be the name of a branch"),
        (("--repo", "file:///x", "--allow-unsigned", "-i", "../x"), "is a file or folder of the repository"),
        (("--repo", "file:///x", "--name", "a/b"), "cannot be the name of a pull"),
        (("--status", "--remove-timer"), "at a time"),
        (("--format", "json"), "--format json is for --status"),
    ],
)
def test_words_of_a_pull_that_cannot_be(
    words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "pull", *words) == 64
    assert told in capsys.readouterr().err
