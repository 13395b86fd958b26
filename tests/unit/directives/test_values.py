"""Sizes, time spans, percentages and words are read as systemd reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.directives import values
from provisioner.directives.values import BadValue


@pytest.mark.parametrize(
    ("text", "number"),
    [("512M", 2**29), ("1.5G", 3 * 2**29), ("4096", 4096), ("1G 512M", 3 * 2**29), ("0", 0), ("8K", 8192), ("10B", 10)],
)
def test_a_size_is_a_number_of_bytes(text: str, number: int) -> None:
    assert values.size(text) == number


@pytest.mark.parametrize("text", ["12 Q", "", "M", "-5", "1M 1G", "five", "1..5G", "512MB", "512m"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        values.size(text)


def test_a_size_in_another_programs_spelling_is_corrected() -> None:
    with pytest.raises(BadValue) as error:
        values.size("512MiB")
    assert error.value.hint == "did you mean '512M'?"


@given(st.integers(0, 2**63))
def test_a_size_survives_being_written_and_read(number: int) -> None:
    assert values.size(values.bytes_text(number)) == number


@pytest.mark.parametrize(
    ("text", "usec"),
    [
        ("90", 90_000_000),
        ("1min 30s", 90_000_000),
        ("1.5h", 5_400_000_000),
        ("500ms", 500_000),
        ("2 days", 172_800_000_000),
        ("1h30min", 5_400_000_000),
        ("infinity", values.INFINITY),
        ("50us", 50),
    ],
)
def test_a_time_span_is_read_as_systemd_reads_it(text: str, usec: int) -> None:
    assert values.span(text) == usec


@given(st.integers(0, 2**62))
def test_a_time_span_survives_being_written_and_read(usec: int) -> None:
    assert values.span(values.span_text(usec)) == usec


def test_an_unknown_unit_of_time_is_refused() -> None:
    with pytest.raises(BadValue):
        values.span("5 parsecs")


@pytest.mark.parametrize(("text", "share"), [("50%", 5000), ("12.5%", 1250), ("33.33%", 3333), ("5‰", 50), ("7‱", 7)])
def test_a_percentage_has_two_decimals(text: str, share: int) -> None:
    assert values.percent(text) == share


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ("'a b' \"c d\"", ["a b", "c d"]),
        ('x"y z"', ["xy z"]),
        (r"a\x20b \t", ["a b", "\t"]),
        ('""', [""]),
        (r"\$HOME", [r"\$HOME"]),
    ],
)
def test_words_are_split_and_unquoted_as_in_a_unit_file(text: str, found: list[str]) -> None:
    assert values.words(text) == found


def test_a_quote_that_is_not_closed_is_refused() -> None:
    with pytest.raises(BadValue, match="not closed"):
        values.words('say "hello')


@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0")))
def test_a_word_survives_being_quoted_and_read(word: str) -> None:
    assert values.words(values.quoted(word)) == [word]


@pytest.mark.parametrize("text", ["yes", "Y", "true", "on", "1", "T"])
def test_yes_has_many_spellings(text: str) -> None:
    assert values.boolean(text) is True


def test_maybe_is_neither_yes_nor_no() -> None:
    with pytest.raises(BadValue):
        values.boolean("maybe")
