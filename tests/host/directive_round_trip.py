"""Sets every directive on a unit of its own, and reads it back: run inside a sandbox, prints what differs as JSON.

    python directive_round_trip.py service socket …

For each directive: fresh, and after a daemon-reload.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from provisioner import directives
from provisioner.directives import syntax
from provisioner.directives.control import Limit
from provisioner.host import Host
from provisioner.host.systemd import Job, SystemdError
from provisioner.host.units import Units

_GIVEN: dict[str, list[Any]] = json.loads((Path(__file__).parent / "directive_values.json").read_text())
_BY_SYNTAX: dict[str, list[Any]] = {
    "Boolean": ["yes", "no"],
    "Span": ["1min 30.25s", "infinity"],
    "Limit": ["512M", "1.5G", "infinity", "50%", "33.3%"],
    "Mode": ["0750"],
    "Size": ["8K"],
    "Text": ["some text"],
    "Signal": ["SIGUSR1", "RTMIN+3"],
    "Commands": [
        "/bin/true",
        '-/bin/echo a "b c" $HOME 100% ; /bin/true',
        "+/bin/true \\\"x\\\" 'y z' ';'",
        ":/bin/echo $HOME",
        "@/bin/sh zsh -c true",
        "!!/bin/true",
        ["/bin/true", "-/bin/false"],
    ],
    "Cpus": ["0-1", "0 3 5-7"],
    "DeviceRates": ["/dev/vda 10M", ["/dev/vda 10M", "/dev/vdb 1500K"]],
    "Absolute": ["/tmp//x/"],
    "Condition": ["|!/nope x"],
    "ResourceLimit": ["infinity", "5:10", "7"],
    "ExitStatuses": ["1 TEMPFAIL SIGKILL"],
    "Directories": ["foo bar/baz"],
    "Addresses": ["10.1.2.3/8 localhost", "any"],
    "Ports": ["ipv4:tcp:1000-2000", "any", "53"],
    "Nanoseconds": ["50us"],
}
_SHARED = ("unit", "exec", "kill", "resource-control")
_NEEDED: dict[str, dict[str, Any]] = {
    "service": {"ExecStart": ("/bin/sleep 1000",), "TimeoutStartSec": "3s", "TimeoutStopSec": "2s"},
    "socket": {},
    "timer": {"OnActiveSec": ("1h",)},
    "slice": {},
    "path": {"PathExists": ("/nope",)},
    "mount": {"What": "tmpfs", "Type": "tmpfs"},
}


def samples(name: str, known: directives.Directive) -> list[Any]:
    if name in _GIVEN:
        return _GIVEN[name]
    if isinstance(known.syntax, syntax.Upgraded):
        return ["yes", "no"]
    if isinstance(known.syntax, syntax.Choice):
        return list(known.syntax.choices)
    if isinstance(known.syntax, Limit) and not known.syntax.shares:
        return ["512M", "infinity"]
    if isinstance(known.syntax, syntax.Number):
        return [*list(known.syntax.names)[:1], str(min(max(known.syntax.low, 3), known.syntax.high))]
    return _BY_SYNTAX[type(known.syntax).__name__]


def settings_with(unit_type: str, unit: str, name: str, value: Any) -> dict[str, Any]:
    """What a unit needs beside the directive, so that systemd keeps it."""
    made = {**_NEEDED[unit_type], name: value}
    if unit_type == "socket":
        made.setdefault("ListenStream", (f"/tmp/{unit}",))
    if unit_type == "mount":
        made["Where"] = "/" + unit.removesuffix(".mount").replace("-", "/")
    if unit_type == "service" and name == "ExecStart":
        made |= {"Type": "oneshot", "RemainAfterExit": "yes"}
    # conditions that are not met would let systemd forget the unit
    if name.startswith("Condition"):
        made.setdefault("ConditionPathExists", ("|/",))
    if name.startswith("Assert"):
        made.setdefault("AssertPathExists", ("|/",))
    return made


def round_trip(host: Host, unit_type: str) -> tuple[int, list[list[Any]]]:
    units, systemd = Units(host.systemd), host.systemd
    wanted: list[tuple[str, str, Any]] = []
    problems: list[list[Any]] = []
    for name, known in directives.known(unit_type).items():
        if known.since > systemd.version or directives.short_for(unit_type, name) != (name,):
            continue
        if unit_type not in ("service", "slice") and known.group in _SHARED:  # the same for all: tried on services
            continue
        for value in samples(name, known):
            unit = f"{'mnt-' if unit_type == 'mount' else ''}{unit_type}{len(wanted)}.{unit_type}"
            try:
                made = directives.canonical(unit_type, name, value)
            except directives.BadValue as error:
                if not error.message.startswith("the prefix"):  # a socket's commands have fewer
                    problems.append(["refused as bad", name, value, error.message])
                continue
            wanted.append((unit, name, settings_with(unit_type, unit, name, made)[name]))
    jobs: list[Job] = []
    for unit, name, value in wanted:
        own = units.encoded(unit_type, settings_with(unit_type, unit, name, value))
        more = []
        if unit_type in ("socket", "timer", "path"):
            stem = unit.rpartition(".")[0]
            more = [(f"{stem}.service", units.encoded("service", _NEEDED["service"]))]
        try:
            jobs.append(systemd.start_transient(unit, own, more))
        except SystemdError as error:
            problems.append(["refused by systemd", name, value, error.detail])
    systemd.wait(jobs)
    for when in ("fresh", "after a reload"):
        host.forget()
        for unit, name, value in wanted:
            found = units.directives(unit, [{name: value}]).get(name)
            unset = directives.directive(unit_type, name).syntax.unset
            if units.state(unit) is not None and found != value and not (found is None and value == unset):
                problems.append([when, name, value, found])
        systemd.reload()
    gone = [(name, value) for unit, name, value in wanted if units.state(unit) is None]
    problems += [["was not kept", name, value, None] for name, value in gone]
    units.stop([unit for unit, _, _ in wanted])
    return len(wanted), problems


def main() -> None:
    with Host() as host:
        print(json.dumps({unit_type: round_trip(host, unit_type) for unit_type in sys.argv[1:]}))


if __name__ == "__main__":
    main()
