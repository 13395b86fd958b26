"""A listing of everything on a host that nsprov could have touched, by tools that are not nsprov's."""

from __future__ import annotations

import json
from typing import Any

#: Numbers that the kernel gives anew each time; they say nothing about what is there.
_FLEETING = {"ifindex", "link_index", "link_netnsid", "stats", "stats64", "id", "no", "designated_port"} | {
    "topology_change",
    "topology_change_detected",
    "valid_life_time",
    "preferred_life_time",
}

_SCRIPT = r"""
set -u
settled() { # link-local addresses come a while after their links
    ! { ip -6 addr; for name in $(ls /run/netns 2>/dev/null); do ip -n $name -6 addr; done; } | grep -q tentative
}
sleep 0.5
for _ in $(seq 40); do settled && break; sleep 0.1; done
show() { echo "== $1"; shift; "$@" 2>&1 || true; }
network() { # $1: the prefix of every command
    show "$1 links" $2 ip -j -d link
    show "$1 addresses" $2 ip -j addr
    show "$1 routes 4" $2 ip -j -4 route show table all
    show "$1 routes 6" $2 ip -j -6 route show table all
    show "$1 rules 4" $2 ip -j -4 rule
    show "$1 rules 6" $2 ip -j -6 rule
    show "$1 nft" $2 nft -s list ruleset
    show "$1 sysctl" $2 sysctl -a -r '^net\.ipv4\.(ip_forward|conf\.(all|default)\.(rp_filter|forwarding))'
}
parts=$(mktemp -d /tmp/nsprov-listing.XXXX)
network host "" > $parts/-host &
for name in $(ls /run/netns 2>/dev/null); do network "netns $name" "ip netns exec $name" > "$parts/$name" & done
wait
cat $parts/*; rm -r $parts
show "namespaces" ls /run/netns
show "units" systemctl list-units --all --no-legend --plain --type=service,slice,socket,timer
show "cgroups" find /sys/fs/cgroup -path /sys/fs/cgroup/nsprov -prune -o -type d -print
show "files" find /etc /srv /run/systemd/transient /run/nsprov /var/lib/nsprov -printf '%p %y %m %u %g %l\n'
show "contents" sh -c 'find /etc /srv -xdev -type f -size -200k -newer /run/started -exec sha256sum {} + | sort'
"""


def listing(box: Any) -> dict[str, list[str]]:
    """Section by section, sorted lines: equal listings are equal hosts."""
    text = box.run(_SCRIPT).stdout
    sections: dict[str, list[str]] = {}
    for part in text.split("== ")[1:]:
        title, _, body = part.partition("\n")
        sections[title] = _lines(body)
    # What systemd and the kernel do by themselves, whoever looks.
    noise = (
        "systemd-tmpfiles",
        "systemd-hostnamed",
        "user@",
        "user-runtime-dir",
        "session-",
        "nsprov-listing",
        "__pycache__",
    )
    for title, lines in sections.items():
        sections[title] = [line for line in lines if not any(word in line for word in noise)]
    return sections


def difference(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """What went (-) and what came (+), with the section that it stands in."""
    lines = []
    for title in sorted(before.keys() | after.keys()):
        old, new = before.get(title, []), after.get(title, [])
        lines += [f"- {title}: {line}" for line in old if line not in new]
        lines += [f"+ {title}: {line}" for line in new if line not in old]
    return lines


def _lines(body: str) -> list[str]:
    text = body.strip()
    if text.startswith("["):
        try:
            return sorted(json.dumps(_steady(one), sort_keys=True) for one in json.loads(text))
        except ValueError:
            pass
    return sorted(" ".join(line.split()) for line in text.splitlines() if line.strip())


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _steady(item) for key, item in value.items() if key not in _FLEETING and not key.endswith("_timer")
        }
    if isinstance(value, list):
        return [_steady(item) for item in value]
    return value
