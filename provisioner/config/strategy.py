"""How a rollout goes over many hosts: ``nsprov_rollout``, and the words of the command line that win over it.

Pure. Ansible's names mean here what they mean there: ``serial``, ``max_fail_percentage``, ``any_errors_fatal``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from provisioner.config.source import Map, Seq
from provisioner.errors import ConfigError, Problem, Problems, UsageError, did_you_mean

if TYPE_CHECKING:
    from provisioner.config.inventory import Inventory
    from provisioner.errors import Source

__all__ = ["DEFAULT_FORKS", "VARIABLE", "Share", "Strategy", "declared_strategy", "strategy_of_words"]

VARIABLE = "nsprov_rollout"
DEFAULT_FORKS = 10
_MAX_FORKS = 1000
_PERCENTAGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%")


@dataclass(frozen=True, slots=True)
class Share:
    """How many hosts: a number of them, or a percentage of all."""

    number: float
    percent: bool = False

    def of(self, total: int) -> int:
        """The number of hosts among a total: at least one, and a percentage is cut to whole hosts, as in Ansible."""
        return max(1, int(self.number / 100 * total) if self.percent else int(self.number))

    def __str__(self) -> str:
        return f"{self.number:g}%" if self.percent else f"{self.number:g}"


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a rollout goes. What is None was not said."""

    serial: tuple[Share, ...] = ()
    canary: int | str | None = None
    max_fail_percentage: float | None = None
    any_errors_fatal: bool = False
    verify: bool = False
    forks: int = DEFAULT_FORKS

    @property
    def staged(self) -> bool:
        """Whether the hosts are taken in batches, of which one may stop those after it."""
        return bool(self.serial) or self.canary is not None


def strategy_of_words(
    declared: Strategy,
    *,
    serial: Sequence[str] = (),
    canary: str | None = None,
    max_fail_percentage: float | None = None,
    any_errors_fatal: bool | None = None,
    verify: bool | None = None,
    forks: int | None = None,
) -> Strategy:
    """The strategy of the inventory, with what the command line says instead. Raises UsageError."""
    said: dict[str, Any] = {
        "max_fail_percentage": max_fail_percentage,
        "any_errors_fatal": any_errors_fatal,
        "verify": verify,
        "forks": forks,
        "canary": None if canary is None else _as_number(canary),
        "serial": [word.strip() for text in serial for word in text.split(",") if word.strip()] or None,
    }
    made = declared
    for name, value in said.items():
        if value is None:
            continue
        try:
            made = replace(made, **{name: _READERS[name](value)})
        except ValueError as error:
            raise UsageError(f"--{name.replace('_', '-')} {_told(value)}: {error}") from None
    return made


def declared_strategy(
    inventory: Inventory, hosts: Sequence[str], extra_vars: Mapping[str, Any] | None = None
) -> Strategy:
    """What ``nsprov_rollout`` says for these hosts. It is one for a whole rollout.

    Raises ConfigError with every problem, each where it was written; also where hosts say different things.
    """
    if extra_vars and VARIABLE in extra_vars:
        value = extra_vars[VARIABLE]
        if _has_template(value) and hosts:
            value = _evaluated(inventory, hosts[0], extra_vars)
        return _read(value, getattr(extra_vars, "at", lambda _: None)(VARIABLE))
    said: list[tuple[str, Any, Source | None]] = []
    for host in hosts:
        layers = inventory.layers(host, VARIABLE)
        value, source = layers[-1] if layers else (None, None)
        if _has_template(value):
            value = _evaluated(inventory, host, extra_vars)
        if not said or said[0][1] != value:
            said.append((host, value, source))
        if len(said) > 1:
            break
    if not said:
        return Strategy()
    if len(said) > 1:
        (first, _, one), (second, _, other) = said
        raise ConfigError(
            Problem(
                f"{VARIABLE} is not the same for all hosts of the rollout: {first} and {second} differ",
                other or one,
                "write it once, in the variables of all; or choose hosts that agree, with --limit",
            )
        )
    value, source = said[0][1:]
    return Strategy() if value is None else _read(value, source)


def _has_template(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_template, value.values()))
    if isinstance(value, list):
        return any(map(_has_template, value))
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def _evaluated(inventory: Inventory, host: str, extra_vars: Mapping[str, Any] | None) -> Any:
    """What it says for a host, with its templates evaluated."""
    from provisioner.config.build import host_value

    return host_value(inventory, host, VARIABLE, extra_vars=extra_vars)


def _read(value: Any, source: Source | None) -> Strategy:
    problems = Problems()
    if not isinstance(value, Mapping):
        raise ConfigError(
            Problem(f"{VARIABLE} takes a mapping, not {_told(value)}", source, "as in: {serial: [1, 10%], canary: 1}")
        )
    made = Strategy()
    for name, given in value.items():
        where = value.at(name) if isinstance(value, Map) else source
        if name not in _READERS:
            at = value.key_at(name) if isinstance(value, Map) else source
            problems.add(f"{VARIABLE} has no field '{name}'", at, hint=did_you_mean(name, _READERS))
            continue
        try:
            made = replace(made, **{name: _READERS[name](given)})
        except _ItemError as error:
            at = given.at(error.index) if isinstance(given, Seq) else where
            problems.add(f"{VARIABLE}.{name}: {error}", at or where)
        except ValueError as error:
            problems.add(f"{VARIABLE}.{name}: {error}", where)
    problems.raise_if_any()
    return made


class _ItemError(ValueError):
    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def _serial(value: Any) -> tuple[Share, ...]:
    given = value if isinstance(value, list) else [value]
    if not given:
        raise ValueError("the list is empty; leave it out for one batch of all hosts")
    shares = []
    for index, one in enumerate(given):
        try:
            shares.append(_share(one))
        except ValueError as error:
            raise _ItemError(index, str(error)) from None
    return tuple(shares)


def _share(value: Any) -> Share:
    text = str(value).strip()
    match = _PERCENTAGE.fullmatch(text)
    if match:
        percent = float(match[1])
        if not 0 < percent <= 100:
            raise ValueError(f"{text} of the hosts cannot be taken: a percentage is more than 0 and at most 100")
        return Share(percent, True)
    number = _as_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{_told(value)} is neither a number of hosts, as 5, nor a percentage of them, as 10%")
    return Share(number)


def _canary(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or not str(value).strip():
        raise ValueError(f"{_told(value)} is neither a number of hosts nor a pattern of hosts")
    made = _as_number(value)
    if isinstance(made, int):
        if made < 1:
            raise ValueError("a canary is at least one host")
        return made
    return str(value)


def _max_fail_percentage(value: Any) -> float:
    text = str(value).strip().removesuffix("%")
    try:
        number = float(text) if not isinstance(value, bool) else -1
    except ValueError:
        number = -1
    if not 0 <= number <= 100:
        raise ValueError(f"{_told(value)} is not a percentage from 0 to 100")
    return number


def _forks(value: Any) -> int:
    number = _as_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= _MAX_FORKS:
        raise ValueError(f"{_told(value)} is not a number of hosts from 1 to {_MAX_FORKS}")
    return number


def _boolean(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() in words:
        return words[str(value).lower()]
    raise ValueError(f"{_told(value)} is neither true nor false")


def _as_number(value: Any) -> Any:
    """A whole number where the text is one; anything else as it is."""
    text = str(value).strip()
    return int(text) if not isinstance(value, bool) and text.isascii() and text.isdecimal() else value


def _told(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    return (
        ",".join(map(str, value)) if isinstance(value, list) else f"'{value}'" if isinstance(value, str) else str(value)
    )


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "serial": _serial,
    "canary": _canary,
    "max_fail_percentage": _max_fail_percentage,
    "any_errors_fatal": _boolean,
    "verify": _boolean,
    "forks": _forks,
}
