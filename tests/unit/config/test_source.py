"""Every value of a YAML file knows the file, line and column it was written at."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path

import pytest

from provisioner.config.source import Key, Str, Timestamp, Unsafe, load_yaml, load_yaml_text, source_of
from provisioner.errors import ConfigError, Source

TEXT = """\
base: &base {a: one, b: [x, y]}
copy: *base
merged:
  <<: *base
  a: own
80: port
yes: answer
day: 2024-01-15
raw: !unsafe "{{ x }}"
"""


def at(line: int, column: int) -> Source:
    return Source("f.yml", line, column)


def test_values_and_keys_are_located() -> None:
    document = load_yaml_text(TEXT, "f.yml")
    assert document.key_at("base") == at(1, 1)
    assert document["base"].at("a") == at(1, 17)
    assert source_of(document["base"]["b"][1]) == at(1, 29)
    assert document.at("80") == at(6, 5)


def test_an_alias_and_a_merge_lead_to_where_the_value_was_written() -> None:
    document = load_yaml_text(TEXT, "f.yml")
    assert document["copy"] == {"a": "one", "b": ["x", "y"]}
    assert document["copy"].at("b") == at(1, 25)
    assert document["merged"] == {"a": "own", "b": ["x", "y"]}
    assert document["merged"].at("a") == at(5, 6)
    assert document["merged"].at("b") == at(1, 25)


def test_keys_are_text_and_dates_stay_as_written() -> None:
    document = load_yaml_text(TEXT, "f.yml")
    assert list(document) == ["base", "copy", "merged", "80", "yes", "day", "raw"]
    assert [key.native for key in document if isinstance(key, Key)] == [80, True]
    assert document["day"] == "2024-01-15"
    assert isinstance(document["day"], Timestamp)
    assert isinstance(document["raw"], Unsafe)


def test_an_offset_counts_from_the_file_around_the_text() -> None:
    assert load_yaml_text("a: b", "f.yml", line_offset=10).at("a") == at(11, 4)
    with pytest.raises(ConfigError, match=r"f\.yml:12:"):
        load_yaml_text("a: b\n}", "f.yml", line_offset=10)


def test_located_values_can_be_pickled() -> None:
    document = load_yaml_text(TEXT, "f.yml")
    again = pickle.loads(pickle.dumps(document))
    assert again == document
    assert [type(value) for value in again.values()] == [type(value) for value in document.values()]
    assert isinstance(again["base"]["a"], Str)
    assert again["base"]["a"].source == at(1, 17)
    assert again.at("day") == document.at("day")


def test_an_empty_file_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.yml"
    path.write_text("# only a comment\n")
    assert load_yaml(path) is None


def test_loading_leaves_the_garbage_collector_as_it_was() -> None:
    load_yaml_text("a: 1", "f.yml")
    assert gc.isenabled()
    with pytest.raises(ConfigError):
        load_yaml_text("a: [", "f.yml")
    assert gc.isenabled()
