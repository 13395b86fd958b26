"""How secrets are marked and masked, and what the net that all output passes cuts out."""

from __future__ import annotations

import base64
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import secrets
from provisioner.secrets import MASK, RedactedStream, Secret, hidden, hide, is_hidden, is_secret, marked, paths_in


def redacted(text: str, *known: str) -> str:
    for one in known:
        secrets.learn(one)
    return secrets.redact(text)


# -- marks ----------------------------------------------------------------------------------------


def test_a_secret_is_a_text_that_does_not_show_itself() -> None:
    one = Secret("hunter2")
    assert one == "hunter2"
    assert json.dumps(one) == '"hunter2"'
    assert repr([one, {"a": one}]) == "['(secret)', {'a': '(secret)'}]"
    assert is_secret(one + "x")
    assert is_secret("x" + one)
    assert is_secret(one[1:3])
    assert is_secret(pickle.loads(pickle.dumps(one)))


def test_all_that_says_something_in_a_value_is_marked() -> None:
    made = marked({"a": ["x", 1, 1.5, True, None]})
    assert made == {"a": ["x", 1, 1.5, True, None]}
    assert [is_secret(one) for one in made["a"]] == [True, True, True, False, False]


# -- fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "paths", "shown"),
    [
        ({"a": "x", "b": Secret("s")}, {("b",)}, {"a": "x", "b": MASK}),
        ({"peer": {"a": Secret(""), "b": "x"}}, {("peer", "a")}, {"peer": {"a": MASK, "b": "x"}}),
        ({"list": ["x", Secret("s")]}, {("list",)}, {"list": MASK}),
        ({"list": [{"deep": [Secret("s")]}]}, {("list",)}, {"list": MASK}),
        ({"a": "x"}, set(), {"a": "x"}),
    ],
)
def test_the_fields_that_hold_secrets_are_masked_whatever_they_say(fields: Any, paths: Any, shown: Any) -> None:
    assert paths_in(fields) == paths
    assert hidden(fields, paths_in(fields)) == shown


@pytest.mark.parametrize(
    ("field", "hides"),
    [("peer.a", True), ("peer", True), ("peer.a.0", True), ("peer.b", False), ("pee", False), ("peer.ab", False)],
)
def test_a_change_of_a_part_or_of_the_whole_of_a_secret_field_is_hidden(field: str, hides: bool) -> None:
    assert is_hidden(field, frozenset({("peer", "a")})) is hides


# -- the net --------------------------------------------------------------------------------------


@given(st.text(min_size=8).filter(lambda text: len(text.strip()) >= 8 and text.lower() not in secrets._COMMON))
def test_no_spelling_of_a_long_secret_passes(text: str) -> None:
    net = secrets._Net()
    net.used = True
    net.learn(text, whole=True)
    for spelled in (text, json.dumps(text), json.dumps(text, ensure_ascii=False), repr(text)):
        assert text not in net.redact(f"a {spelled} b")
    data = text.encode("utf-8", "replace")
    if data.decode() == text:
        for spelled in (base64.b64encode(data).decode(), quote(text, safe="")):
            assert spelled not in net.redact(f"a {spelled} b")


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
def test_a_secret_amid_other_text_in_base64_is_cut_out(before: str) -> None:
    encoded = base64.b64encode(f"{before}correct-horse-battery and more".encode()).decode()
    found = redacted(encoded, "correct-horse-battery")
    assert MASK in found
    left = len(found.replace(MASK, "")) * 6 // 8
    assert left <= len(before) + len(" and more") + 4  # the bytes at its edges, which share a letter with others


def test_each_line_of_a_secret_of_several_lines_is_cut_out() -> None:
    key = "-----BEGIN-----\nMIIEowIBAAKC\nshort\n-----END-----\n"
    assert redacted("a MIIEowIBAAKC b short c", key) == "a (secret) b short c"


def test_a_short_secret_is_cut_out_where_it_stands_alone() -> None:
    assert (
        redacted("pin 4711, not 47110 or x4711y or PID=4711", "4711")
        == "pin (secret), not 47110 or x4711y or PID=(secret)"
    )


@pytest.mark.parametrize("word", ["", "no", "1", "abc", "true", "root", "localhost", "None"])
def test_what_is_no_secret_to_speak_of_garbles_nothing(word: str) -> None:
    text = "no abc, 1 of 3 is true: root on localhost, None"
    assert redacted(text, word) == text


def test_a_large_secret_is_cut_out_though_it_is_not_looked_for_as_a_whole() -> None:
    text = "".join(f"line {number} of a secret that is long\n" for number in range(1000))
    found = redacted(f"a {text} b", text)
    assert "of a secret" not in found
    assert found.startswith("a (secret)")


def test_an_error_about_a_secret_hides_it_however_short_and_pieces_of_it() -> None:
    assert hide("'7' is not a mode", Secret("7")) == "'(secret)' is not a mode"
    assert hide("'KEY' is not an assignment", [Secret("PRIVATE KEY")]) == "'(secret)' is not an assignment"
    assert hide("a mode is not a", Secret("e")) == "a mode is not a"
    assert hide("'x' is not a mode", "x") == "'x' is not a mode"


def test_a_program_that_is_started_inherits_no_secret() -> None:
    secrets.learn("hunter2-long")
    given = {"A": "hunter2-long", "URL": "http://u:hunter2-long@h", "B": "1", "NSPROV_VAULT_PASSWORD": "x"}
    assert secrets.without_secrets(given) == {"B": "1"}


def test_the_streams_of_the_command_pass_through_the_net() -> None:
    secrets.learn("hunter2-üñí")
    under = io.BytesIO()
    stream = io.TextIOWrapper(RedactedStream(io.TextIOWrapper(under, "utf-8")), "utf-8", write_through=True)  # type: ignore[type-var]
    stream.write("it is hunter2-üñí\n")
    stream.flush()
    assert under.getvalue().decode() == "it is (secret)\n"


def test_the_command_prints_none_even_where_nobody_thought_of_it() -> None:
    code = """
import sys
from provisioner import cli, secrets
def command(**_):
    secrets.learn("hunter2-long")
    print("out: hunter2-long")
    sys.stderr.write("err: hunter2-long\\n")
    raise RuntimeError("hunter2-long")
cli.app = command
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert done.stdout == "out: (secret)\n"
    assert "RuntimeError: (secret)" in done.stderr
    report = done.stderr.rpartition("the full report: ")[2].strip()
    path = Path(report)
    try:
        assert "hunter2" not in path.read_text().replace(code, "")
        assert path.stat().st_mode & 0o077 == 0
    finally:
        path.unlink()
