"""Files are replaced whole, and never through a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provisioner.errors import HostError
from provisioner.host import files as adapter
from provisioner.host.files import Attributes, Files

MODE = Attributes(mode=0o640)


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_created_file_has_its_content_and_mode_and_leaves_nothing_else(tmp_path: Path) -> None:
    Files().create(str(tmp_path / "a"), b"\x00x", MODE)
    assert (tmp_path / "a").read_bytes() == b"\x00x"
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o640
    assert entries(tmp_path) == ["a"]


def test_creating_what_is_there_fails_and_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("theirs")
    with pytest.raises(HostError, match="File exists"):
        Files().create(str(tmp_path / "a"), b"ours", MODE)
    assert (tmp_path / "a").read_text() == "theirs"
    assert entries(tmp_path) == ["a"]


def test_replacing_a_link_leaves_what_it_led_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("keep")
    (tmp_path / "a").symlink_to("target")
    Files().replace(str(tmp_path / "a"), b"new", MODE)
    assert (tmp_path / "target").read_text() == "keep"
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").read_text() == "new"


def test_what_a_killed_apply_left_is_taken_over_by_the_next(tmp_path: Path) -> None:
    (tmp_path / adapter._temporary("a")).write_text("half")
    Files().create(str(tmp_path / "a"), b"whole", MODE)
    assert entries(tmp_path) == ["a"]


def test_looking_tells_files_links_and_folders_apart_and_follows_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    seen = {name: Files().look(str(tmp_path / name)) for name in (*entries(tmp_path), "none")}
    assert {name: one and one.type for name, one in seen.items()} == {
        "file": "file", "link": "link", "folder": "directory", "pipe": "other", "none": None,
    }  # fmt: skip
    assert seen["file"] is not None
    assert seen["file"].content == b"x"
    assert seen["link"] is not None
    assert seen["link"].target == "/etc/passwd"
    assert Files().look(str(tmp_path / "file" / "below")) is None


def test_a_file_too_large_to_keep_is_seen_without_its_content(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(adapter.MAX_CONTENT + 1)
    entry = Files().look(str(tmp_path / "a"))
    assert entry
    assert entry.content is None


def test_the_mode_of_a_file_of_several_names_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    os.link(tmp_path / "a", tmp_path / "b")
    with pytest.raises(HostError, match="2 names"):
        Files().change(str(tmp_path / "a"), MODE)


def test_a_directory_is_deleted_only_when_empty_and_what_is_in_it_is_told(tmp_path: Path) -> None:
    files = Files()
    files.make_directory(str(tmp_path / "d"), Attributes(mode=0o750))
    for name in "gfedcba":
        (tmp_path / "d" / name).write_text("")
    with pytest.raises(HostError, match="it has a, b, c, d, e and 2 more"):
        files.remove_directory(str(tmp_path / "d"))
    for name in "gfedcba":
        files.remove(str(tmp_path / "d" / name))
    files.remove_directory(str(tmp_path / "d"))
    files.remove_directory(str(tmp_path / "d"))
    assert entries(tmp_path) == []


def test_a_link_is_made_and_replaced(tmp_path: Path) -> None:
    files = Files()
    files.link(str(tmp_path / "a"), "one", Attributes())
    with pytest.raises(HostError, match="File exists"):
        files.link(str(tmp_path / "a"), "two", Attributes())
    files.link(str(tmp_path / "a"), "three", Attributes(), replace=True)
    assert (tmp_path / "a").readlink() == Path("three")
    assert entries(tmp_path) == ["a"]


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(HostError, match="symbolic links"):
        Files().look(str(tmp_path / "a" / "file"))


def test_owners_are_known_by_name_and_by_number() -> None:
    files = Files()
    assert (files.user_id("root"), files.user_id("0"), files.user_name(0)) == (0, 0, "root")
    assert (files.group_id("root"), files.user_id("nobody-has-this-name"), files.group_id(str(2**32))) == (
        0,
        None,
        None,
    )
    assert files.user_name(4_000_000_000) == "4000000000"
