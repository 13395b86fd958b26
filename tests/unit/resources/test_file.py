"""What a task may say of a file, a template or a directory."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from provisioner.errors import ConfigError, Source
from provisioner.model import Address, Change
from provisioner.resources.directory import Directory
from provisioner.resources.file import MAX_CONTENT, File
from provisioner.resources.template import Template


def refused(**fields: Any) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        File(**fields)
    (error,) = caught.value.errors()
    return error["msg"], error.get("ctx", {}).get("hint", "")


@pytest.mark.parametrize("word", ["path", "dest", "name"])
def test_the_path_is_spelled_as_ansible_does(word: str) -> None:
    assert File(**{word: "/etc//motd"}).address == Address("file", "/etc/motd")


@pytest.mark.parametrize(
    "path", ["motd", "/etc/../motd", "/etc/motd/", "/", "/proc/sys/net/x", "/sys/x", "/" + "a" * 256]
)
def test_a_path_that_is_none_is_refused(path: str) -> None:
    refused(path=path)


@pytest.mark.parametrize(
    ("written", "mode"),
    [
        ("0644", "0644"),
        ("644", "0644"),
        (0o644, "0644"),
        ("0o750", "0750"),
        (0o2755, "2755"),
        (0o1777, "1777"),
        (0, "0000"),
    ],
)
def test_a_mode_is_octal(written: str | int, mode: str) -> None:
    assert File(path="/a", mode=written).mode == mode


@pytest.mark.parametrize(
    "written",
    [644, 755, 600, 640, 700, 750, 770, 777, 444, 400, 440, 500, 550, 555, 660, 664, 666, 711, 775, 1777, 2755, 4755],
)
def test_octal_digits_without_the_zero_are_refused_as_numbers_and_the_hint_has_the_zero(written: int) -> None:
    message, hint = refused(path="/a", mode=written)
    assert str(written) in message
    assert hint == f'write it with a leading zero, quoted: "0{written}"'


@pytest.mark.parametrize("number", [0o444, 0o400, 0o440, 0o500, 0o550, 0o555, 0o600, 0o640, 0o660, 0o664, 0o700, 0o711])
def test_what_yaml_makes_of_an_octal_mode_is_right(number: int) -> None:
    assert File(path="/a", mode=number).mode == f"{number:04o}"


@pytest.mark.parametrize("written", ["u=rw,g=r", "rw-r--r--", "9999", "77777", True, -1])
def test_what_is_no_mode_is_refused(written: Any) -> None:
    refused(path="/a", mode=written)


def test_one_content_only() -> None:
    assert refused(path="/a", content="x", target="/b")[0] == "content and target exclude each other"


def test_content_that_a_plan_cannot_carry_is_refused() -> None:
    assert "more than" in refused(path="/a", content="x" * (MAX_CONTENT + 1))[0]


def test_a_file_needs_its_folder_and_claims_its_path() -> None:
    one = File(path="/etc/shop/app.conf")
    assert list(one.requires()) == [Address("directory", "/etc/shop")]
    assert list(one.claims()) == list(Directory(path="/etc/shop/app.conf").claims())


def test_a_plan_says_how_long_a_new_file_is_and_whose() -> None:
    one = File(path="/a", content="1\n2\n", mode="0644", owner="root", group="root")
    assert one.summary() == [("content", "2 lines, 0644 root:root")]


def test_a_field_that_is_left_out_is_not_compared() -> None:
    found = File(path="/a", content="x", mode="0600", owner="bob", group="bob")
    assert File(path="/a", content="x").changes_from(found, None) == []
    assert File(path="/a", mode="0644").changes_from(found, None) == [Change("mode", "0600", "0644")]


def test_a_link_in_place_of_a_file_is_a_difference_and_its_removal_is_shown() -> None:
    link = File(path="/a", target="/etc/passwd")
    desired = File(path="/a", content="x\n")
    (change,) = desired.changes_from(link, None)
    assert (change.before, change.after) == ("(a symbolic link to /etc/passwd)", "x\n")
    assert desired.merged_over(link, [change]) == desired


def test_an_update_keeps_what_is_not_managed() -> None:
    found = File(path="/a", content="x", mode="0600", owner="bob", group="bob")
    assert File(path="/a", mode="0644").merged_over(found) == found.model_copy(update={"mode": "0644"})


def test_what_is_not_text_is_told_by_its_digest() -> None:
    data = base64.b64encode(bytes(range(256))).decode()
    (change,) = File(path="/a", content_base64=data).changes_from(File(path="/a", content="old\n"), None)
    assert change.before == "old\n"
    assert change.after.startswith("(not text: 256 bytes, SHA-256 ")


class Context:
    """A role with a folder of files, and templates that render to their name and variables."""

    source = Source("tasks/main.yml", 3, 5)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_file(self, name: str, folder: str) -> Path:
        return self.folder / name

    def read_file(self, name: str) -> str:
        return (self.folder / name).read_text()

    def render_file(self, name: str, variables: Any = None) -> str:
        return f"{name} with {variables}\n"


def test_a_files_src_becomes_its_content(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("zwölf\r\n", newline="")
    (tmp_path / "binary").write_bytes(b"\xff\x00\x01")
    made = [File(**File.prepare({"path": "/a", "src": name}, Context(tmp_path))) for name in ("text", "binary")]
    assert made[0].content == "zwölf\r\n"
    assert made[1].content is None
    assert [one.data for one in made] == ["zwölf\r\n".encode(), b"\xff\x00\x01"]


def test_a_templates_src_is_rendered_with_its_own_variables(tmp_path: Path) -> None:
    fields = Template.prepare({"dest": "/a", "src": "a.j2", "vars": {"port": 80}, "mode": "0600"}, Context(tmp_path))
    assert Template(**fields) == Template(path="/a", content="a.j2 with {'port': 80}\n", mode="0600")


@pytest.mark.parametrize(
    "fields", [{"dest": "/a"}, {"dest": "/a", "src": "x", "content": "y"}, {"src": "x", "vars": [1]}]
)
def test_a_template_that_is_none_is_refused_where_it_was_written(fields: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Template.prepare(fields, Context(tmp_path))
    assert caught.value.problems[0].source == Context.source


@pytest.mark.parametrize("kind", [File, Directory, Template])
def test_a_spec_survives_the_manifest(kind: Any) -> None:
    one = kind(path="/a", mode="0640", owner=33)
    assert kind.model_validate(one.declared()) == one


def test_a_link_is_checked_for_where_it_leads() -> None:
    (check,) = File.model_validate({"path": "/etc/it's", "target": "../run/app"}).checks()
    assert check.title == "file//etc/it's links to ../run/app"
    compile(check.code, check.title, "exec")
    assert "readlink -n --" in check.code
    assert "== '../run/app'" in check.code


def test_a_mode_that_is_no_octal_number_is_told_with_one_that_is() -> None:
    with pytest.raises(ValidationError) as caught:
        File.model_validate({"path": "/etc/a", "mode": 999})
    assert caught.value.errors()[0]["ctx"]["hint"] == 'write it in octal and quoted: "0644"'
