"""How pytest runs a written suite: each fact is a test that is named by its title.

Copied into every suite as its ``conftest.py``; needs pytest and pytest-testinfra, not nsprov. The facts of a host
stand in ``test_HOST.py`` and the tests that its roles brought in ``HOST/ROLE/``. Both run on the host of that name
alone: the one that is among ``--hosts``, or where nothing is given the one that ``declared.json`` names. Those of
other hosts are left out, and it is said which.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
import testinfra
from testinfra.backend import get_backends

from provisioner.verify import packets, probes
from provisioner.verify.fixtures import netns, slice_, unit

# The fixtures are for the tests of roles, also where no plugin brings them.
__all__ = ["netns", "slice_", "unit"]

SUITE = Path(__file__).parent
#: The hosts whose tests were collected.
_COLLECTED = pytest.StashKey[frozenset[str]]()
#: Those that cannot be reached, with why; and those of them of which a test has told it.
_UNREACHED = pytest.StashKey[dict[str, str]]()
_TOLD = pytest.StashKey[set[str]]()
#: How many hosts are asked at once: each in a thread, which waits for it.
_AT_ONCE = 32
#: How many of what is there instead are named, where there are many.
_NAMED = 5


class UnreachedError(Exception):
    """A host cannot be reached, and why."""


class Fact(pytest.Item):
    """One fact of a host; its name is the fact's title."""

    def __init__(self, *, check: Callable[[Any], None], declared: str | None, **kw: Any) -> None:
        super().__init__(**kw)
        self.check = check
        self.declared = declared
        if declared:
            self.user_properties.append(("declared", declared))

    def setup(self) -> None:
        # JUnit takes a test's name from its node id, and would cut it at the colons of an IPv6 address.
        with suppress(ImportError):
            from _pytest.junitxml import xml_key

            xml = self.config.stash.get(xml_key, None)
            if xml is not None:
                reporter = xml.node_reporter(getattr(self, "id", self.nodeid))
                reporter.add_attribute("name", self.name)
                reporter.add_attribute("classname", self.path.stem)

    def runtest(self) -> None:
        self.check(host_of(self.config, host_name(self.path)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        excinfo.traceback = excinfo.traceback.cut(path=self.path)
        shown = excinfo.getrepr(style="short")
        if self.declared:
            shown.addsection("declared in", self.declared)
        return shown

    def reportinfo(self) -> tuple[Path, int, str]:
        # Not the bare title: of a text that its node id ends in, pytest prints the dots as colons.
        return self.path, self.check.__code__.co_firstlineno - 1, f"{host_name(self.path)}: {self.name}"


def pytest_pycollect_makeitem(collector: pytest.Module, name: str, obj: object) -> Fact | None:
    found = getattr(obj, "fact", None)
    if not (name.startswith("test") and callable(obj) and isinstance(found, tuple)):
        return None
    title, declared = found
    return Fact.from_parent(collector, name=title, check=obj, declared=declared)


@pytest.hookimpl(trylast=True)  # of the tests that -k has chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests of hosts that are not among ``--hosts``."""
    # Other tests may run along: they find their hosts themselves.
    ours = [item for item in items if item.path.is_relative_to(SUITE)]
    names = config.stash[_COLLECTED] = frozenset(host_name(item.path) for item in ours)
    found = chosen_hosts(config, names)
    if found is None:
        return
    left_out = [item for item in ours if host_name(item.path) not in found]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    # Where xdist's workers have collected, and not this process, it may be any of the suite's.
    names = config.stash.get(_COLLECTED, frozenset(_declared()))
    try:
        found = chosen_hosts(config, names)
    except pytest.UsageError:
        return  # it has been said
    missing = sorted(names - set(found)) if found is not None else []
    if missing:
        names_of = ", ".join(map(_called, missing))
        terminalreporter.write_line(f"NOT CHECKED, as not among --hosts: {names_of}", yellow=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Connects to each host, asks it for most of what the chosen facts need, and sends the packets."""
    if session.config.getoption("collectonly"):
        return
    # pytest comes here after an error as well: what is not to be run is not connected to.
    ours = [item for item in session.items if item.path.is_relative_to(SUITE)]
    chosen_hosts(session.config, frozenset(host_name(item.path) for item in ours))
    chosen: dict[str, list[tuple[str, Sequence[Any]]]] = {}
    for item in ours:
        calls = chosen.setdefault(host_name(item.path), [])
        if isinstance(item, Fact):
            calls += calls_of(item.path).get(item.check.__name__, ())
    specs = {name: hostspec(session.config, name) for name in chosen}

    def look(name: str) -> str:
        """Why a host cannot be reached, or nothing."""
        try:
            host = _connect(specs[name], session.config)
        except UnreachedError as error:
            return str(error)
        if chosen[name]:
            # In threads of its own: what is asked meanwhile does not wait for a packet that nobody answers.
            attempts = [packets.Attempt(*args) for probe, args in chosen[name] if probe == "expect_packet"]
            packets.start(host, attempts)
            # What is not answered now is asked again by the first fact that wants it, which then fails.
            with suppress(RuntimeError, OSError):  # a connection that broke
                probes.read_ahead(host, chosen[name])
        return ""

    if chosen:
        with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(chosen))) as pool:
            found = dict(zip(chosen, pool.map(look, chosen), strict=True))
        session.config.stash[_UNREACHED] = {name: why for name, why in found.items() if why}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Of a host that cannot be reached, the first test says so, and the others are left: they say nothing of it."""
    if not item.path.is_relative_to(SUITE):
        return
    unreached = item.config.stash.get(_UNREACHED, {})
    name = host_name(item.path)
    why = unreached.get(name)
    if why and name in item.config.stash.setdefault(_TOLD, set()):
        pytest.skip("its host cannot be reached")
    if why:
        item.config.stash[_TOLD].add(name)
        item.user_properties.append(("unreached", why))
        pytest.fail(why, pytrace=False)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Says what was expected and what is there: facts are written ``found == wanted`` or ``wanted in found``."""
    if op == "==" and isinstance(left, (str, int, type(None))) and isinstance(right, (str, int, type(None))):
        expected, found = _text(right), _text(left)
    elif op == "in" and isinstance(right, (set, frozenset, list)) and isinstance(left, str):
        others = sorted(map(_text, right))
        many = f"{len(others)} others ({', '.join(others[:_NAMED])}, …)" if len(others) > 2 * _NAMED else ""
        expected, found = _text(left), many or ", ".join(others) or "none"
    elif op == "in" and isinstance(right, str) and isinstance(left, str):
        expected, found = left, f"{len(right.splitlines())} lines without it" if "\n" in right else _text(right)
    elif op == "in" and isinstance(right, tuple):
        expected, found = " or ".join(map(_text, right)), _text(left)
    else:
        return None
    shown = repr(right) if len(repr(right)) <= 80 else f"{repr(right)[:79]}…"
    return [f"{left!r} {op} {shown}", f"expected: {expected}", f"found:    {found}"]


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Any:
    """The host that this file's tests are about, as testinfra shows it."""
    return host_of(request.config, host_name(request.path))


@pytest.fixture(scope="module")
def declared(request: pytest.FixtureRequest) -> Callable[..., list[dict[str, Any]]]:
    """What the role of this test has declared on the host: ``declared("netns")`` is a list of fields by name."""
    parts = request.path.relative_to(SUITE).parts
    role = parts[1] if len(parts) > 2 else None
    resources = _declared()[host_name(request.path)]["resources"]

    def of(kind: str | None = None) -> list[dict[str, Any]]:
        return [
            one["fields"] for one in resources if kind in (None, one["kind"]) and (role is None or one["role"] == role)
        ]

    return of


# -- which host -----------------------------------------------------------------------------------


def host_name(path: Path) -> str:
    """The host that a file of this suite is about, as its files and ``declared.json`` have it."""
    parts = path.relative_to(SUITE).parts
    return parts[0] if len(parts) > 1 else path.stem.removeprefix("test_")


def host_of(config: pytest.Config, name: str) -> Any:
    """The connection to a host, opened once."""
    return _connect(hostspec(config, name), config)


def hostspec(config: pytest.Config, name: str) -> str:
    """The testinfra URI of a host: the one that ``--hosts`` gives, or the one it was written with."""
    # Of all that were collected: pytest finishes a collection whose hosts were refused, and then it is refused again.
    found = chosen_hosts(config, config.stash.get(_COLLECTED, frozenset([name])))
    target = found.get(name) if found is not None else _declared().get(name, {}).get("target")
    if not target:
        raise pytest.UsageError(f"say how to reach {_called(name)}: --hosts=local://, or --hosts=ssh://{_called(name)}")
    return str(target)


@cache
def chosen_hosts(config: pytest.Config, names: frozenset[str]) -> dict[str, str] | None:
    """Of these hosts of the suite those that are among ``--hosts``, with their URIs; None where it is not given.

    A host is known by its name, or by the address that it had when the suite was written. One URI that is neither
    (``local://``, an address) is the host of the tests, where these are of one host alone.
    """
    text = config.getoption("hosts")
    if not text:
        return None
    given = [one for part in text.split(",") if part for one in _given(config, part)]
    hosts = _declared()
    places = {name: _places_of(declared) for name, declared in hosts.items()}
    having = Counter(place for some in places.values() for place in some)
    by_place: dict[str, list[str]] = {}
    for name, declared in hosts.items():
        for place in {declared["name"], *places[name]}:
            by_place.setdefault(place, []).append(name)
    known = {
        name: one.uri
        for one in given
        for place in one.places
        for name in by_place.get(place, ())
        if _is_meant(one, hosts[name]["name"], places[name], having)
    }
    found = {name: uri for name, uri in known.items() if name in names}
    if not known and len(names) == len(given) == 1 and not given[0].by_name:
        found = dict.fromkeys(names, given[0].uri)
    if names and not found:
        several = f"; {given[0].uri} can be only one of them: name its files" if len(given) == 1 and not known else ""
        raise pytest.UsageError(f"not among --hosts={text}: {', '.join(sorted(map(_called, names)))}{several}")
    return found


class _Given(NamedTuple):
    """One host of ``--hosts``: what it is called there, and whether that is its name for certain."""

    uri: str
    places: set[str]
    by_name: bool = False


def _given(config: pytest.Config, part: str) -> Iterator[_Given]:
    found = urlsplit(part if "://" in part else f"//{part}")
    if found.scheme != "ansible":
        yield _Given(part, _places(found.netloc))
        return
    if which("ansible-inventory") is None:
        raise pytest.UsageError(f"{part} needs ansible-inventory, which is not there: pip install ansible-core")
    try:
        backends = get_backends([part], ansible_inventory=config.option.ansible_inventory)
    except Exception as error:  # what ansible-inventory says of the inventory
        raise pytest.UsageError(f"{part}: {error}") from None
    for backend in backends:
        yield _Given(found._replace(netloc=backend.hostname).geturl(), {backend.hostname}, by_name=True)


def _is_meant(one: _Given, name: str, places: set[str], having: Mapping[str, int]) -> bool:
    """Whether it is the host of this name and of these places, by its name or by its address.

    An address is not enough where several hosts have it, at ports of their own: then it takes the port as well.
    """
    shared = one.places & places
    if name in one.places or len(shared) == 2:
        return True
    ports_differ = len(one.places) == len(places) == 2
    return any(having[place] == 1 for place in shared) and not ports_differ


def _places(netloc: str) -> set[str]:
    """A host as a URI has it, without its user and with and without its port."""
    place = netloc.rpartition("@")[2]
    if place.startswith("["):  # an address of IPv6, which is the host's name without them
        host, _, port = place[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = place.partition(":")
    return {one for one in (host, f"{host}:{port}" if port else "") if one}


def _places_of(declared: dict[str, Any]) -> set[str]:
    return _places(urlsplit(declared.get("target") or "").netloc)


def _called(name: str) -> str:
    """The name that a host has in the inventory."""
    return str(_declared().get(name, {}).get("name", name))


@cache
def _connect(spec: str, config: pytest.Config) -> Any:
    option = config.option
    # testinfra takes it, but reads it neither from a URI nor from the command line.
    extra = parse_qs(urlsplit(spec).query).get("ssh_extra_args", [option.ssh_extra_args])[0]
    try:
        found = testinfra.get_host(
            spec,
            ssh_config=option.ssh_config,
            ssh_identity_file=option.ssh_identity_file,
            ssh_extra_args=extra,
            sudo=option.sudo,
            sudo_user=option.sudo_user,
            ansible_inventory=option.ansible_inventory,
            force_ansible=option.force_ansible,
        )
        answer = found.run("true")
    except Exception as error:
        # Where ssh fails, testinfra's error is all that it knows of the command; what ssh said is enough.
        said = getattr(error.args[0] if error.args else None, "stderr", "").strip()
        raise UnreachedError(f"{spec} cannot be reached: {said or error}") from None
    if answer.rc:
        raise UnreachedError(f"{spec} cannot be reached: {answer.stderr.strip() or f'status {answer.rc}'}")
    return found


@cache
def _declared() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SUITE / "declared.json").read_text())
    return loaded


# -- what the facts will ask ----------------------------------------------------------------------


@cache
def calls_of(path: Path) -> dict[str, list[tuple[str, Sequence[Any]]]]:
    """For each function of a file, the probes it calls with plain values: name and arguments but for ``host``."""
    known = {*probes.__all__, *packets.__all__}
    tree = ast.parse(path.read_text())
    return {
        one.name: [call for call in _plain_calls(one) if call[0] in known]
        for one in tree.body
        if isinstance(one, ast.FunctionDef)
    }


def _plain_calls(function: ast.FunctionDef) -> Iterator[tuple[str, Sequence[Any]]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords and node.args:
            values = [one.value for one in node.args[1:] if isinstance(one, ast.Constant)]
            if len(values) == len(node.args) - 1:
                yield node.func.id, values


def _text(value: object) -> str:
    return "nothing" if value in (None, "") else str(value)
