"""``nsprov_rollout`` in an inventory, and the words of the command line that win over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.config.inventory import Inventory, load_inventory
from provisioner.config.strategy import Share, Strategy, declared_strategy, strategy_of_words
from provisioner.errors import ConfigError, UsageError


def inventory(tmp_path: Path, rollout: str, more: str = "") -> Inventory:
    path = tmp_path / "inventory.yml"
    path.write_text(f"all:\n  vars:\n    nsprov_rollout: {rollout}\n  hosts:\n    h1:\n    h2: {more}\n")
    return load_inventory([path])


def declared(tmp_path: Path, rollout: str, more: str = "") -> Strategy:
    return declared_strategy(inventory(tmp_path, rollout, more), ["h1", "h2"])


def test_an_inventory_says_how_its_hosts_are_rolled_out(tmp_path: Path) -> None:
    rollout = (
        '{serial: [1, "10%"], canary: 1, max_fail_percentage: 20, any_errors_fatal: true, verify: true, forks: 20}'
    )
    assert declared(tmp_path, rollout) == Strategy(
        serial=(Share(1), Share(10, percent=True)),
        canary=1,
        max_fail_percentage=20,
        any_errors_fatal=True,
        verify=True,
        forks=20,
    )


def test_without_a_word_all_hosts_are_one_batch_ten_at_once(tmp_path: Path) -> None:
    assert declared(tmp_path, "") == Strategy()
    assert Strategy().forks == 10
    assert not Strategy().staged


def test_a_single_number_or_percentage_is_a_serial_too(tmp_path: Path) -> None:
    assert declared(tmp_path, "{serial: 5}").serial == (Share(5),)
    assert declared(tmp_path, "{serial: 25%}").serial == (Share(25, percent=True),)
    assert declared(tmp_path, '{serial: "5"}').serial == (Share(5),)


def test_a_canary_may_be_a_pattern(tmp_path: Path) -> None:
    assert declared(tmp_path, '{canary: "web:!web3"}').canary == "web:!web3"


@pytest.mark.parametrize(
    ("rollout", "at", "message"),
    [
        ("{serial: [1, many]}", "many", "serial: 'many' is neither a number of hosts, as 5, nor a percentage"),
        ("{serial: 0}", "0", "serial: 0 is neither a number"),
        ("{serial: 200%}", "200%", "serial: 200% of the hosts cannot be taken"),
        ("{serial: []}", "[]", "serial: the list is empty"),
        ("{serial: true}", "true", "serial: true is neither"),
        ("{canary: 0}", "0", "canary: a canary is at least one host"),
        ("{canary: [a]}", "[a]", "canary: a is neither a number of hosts nor a pattern"),
        ("{max_fail_percentage: 101}", "101", "max_fail_percentage: 101 is not a percentage from 0 to 100"),
        ("{any_errors_fatal: perhaps}", "perhaps", "any_errors_fatal: 'perhaps' is neither true nor false"),
        ("{forks: 0}", "0", "forks: 0 is not a number of hosts from 1 to 1000"),
        ("{seriall: 5}", "seriall", "nsprov_rollout has no field 'seriall'"),
        ("[1, 2]", "[1", "nsprov_rollout takes a mapping"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_column(tmp_path: Path, rollout: str, at: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        declared(tmp_path, rollout)
    (problem,) = raised.value.problems
    assert message in problem.message
    line = f"    nsprov_rollout: {rollout}"
    assert problem.source is not None
    assert (problem.source.line, problem.source.column) == (3, line.index(at) + 1)


def test_all_mistakes_are_told_at_once_and_a_misspelt_word_is_answered(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        declared(tmp_path, "{serail: 5, forks: many, canary: -1}")
    assert len(raised.value.problems) == 3
    assert "did you mean 'serial'?" in str(raised.value)


def test_hosts_of_one_rollout_say_the_same(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"inventory.yml:6:\d+: .*h1 and h2 differ"):
        declared(tmp_path, "{serial: 1}", "{nsprov_rollout: {serial: 2}}")
    assert declared_strategy(inventory(tmp_path, "{serial: 1}", "{nsprov_rollout: {serial: 2}}"), ["h2"]).serial == (
        Share(2),
    )


def test_extra_variables_win_over_the_inventory(tmp_path: Path) -> None:
    given = {"nsprov_rollout": {"serial": 3}}
    assert declared_strategy(inventory(tmp_path, "{serial: 1, canary: 1}"), ["h1"], given) == Strategy((Share(3),))


def test_the_command_line_wins_word_by_word() -> None:
    said = Strategy(serial=(Share(1),), canary=2, max_fail_percentage=20, any_errors_fatal=True, verify=True, forks=20)
    assert strategy_of_words(said) == said
    made = strategy_of_words(said, serial=["1,10%", "50%"], canary="edge*", any_errors_fatal=False, forks=3)
    assert made.serial == (Share(1), Share(10, percent=True), Share(50, percent=True))
    assert (made.canary, made.any_errors_fatal, made.forks) == ("edge*", False, 3)
    assert (made.max_fail_percentage, made.verify) == (20, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [({"serial": ["ten"]}, "--serial ten: 'ten' is neither"), ({"canary": "0"}, "--canary 0: a canary is at least")],
)
def test_a_mistake_on_the_command_line_names_the_option(words: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        strategy_of_words(Strategy(), **words)
    assert message in str(raised.value)


def test_templates_are_evaluated_and_hosts_must_agree_on_what_they_say(tmp_path: Path) -> None:
    given = {"batch": 3}
    rollout = "{serial: ['{{ batch | default(1) }}', '{{ 20 + 5 }}%'], verify: '{{ batch is defined }}'}"
    made = inventory(tmp_path, rollout)
    assert declared_strategy(made, ["h1", "h2"]) == Strategy((Share(1), Share(25, True)))
    assert declared_strategy(made, ["h1", "h2"], given) == Strategy((Share(3), Share(25, True)), verify=True)
    each = inventory(tmp_path, "{serial: '{{ inventory_hostname[1:] }}'}")
    with pytest.raises(ConfigError, match="h1 and h2 differ"):
        declared_strategy(each, ["h1", "h2"])
    with pytest.raises(ConfigError, match="no_such_thing"):
        declared_strategy(inventory(tmp_path, "{serial: '{{ no_such_thing }}'}"), ["h1"])
