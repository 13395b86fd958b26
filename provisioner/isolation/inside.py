"""Commands inside what is isolated: in all namespaces of a workload and in its cgroup, or in a named namespace.

Owns the command that takes another one there, of util-linux's ``nsenter`` and a shell, so that it is the same
over every connection. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.model import Address
from provisioner.resources.namespace import pinned_path

__all__ = ["address_of", "inside"]

#: The cgroup first: its files are the host's. Of a unit's processes the one that is meant is the first in the pid
#: namespace of its main process's children: where a launcher had to fork, the main one waits outside. Only namespaces
#: that are others are entered: a host that is a container itself may not enter all that it is in.
_UNIT = """
unit=$1; shift
main=$(systemctl show -P MainPID -- "$unit") || exit 1
group=$(systemctl show -P ControlGroup -- "$unit")
if [ "${main:-0}" = 0 ]; then
    echo "nsprov: $unit does not run: it is $(systemctl is-active -- "$unit")" >&2
    exit 1
fi
tree=/sys/fs/cgroup
[ -e "$tree/cgroup.controllers" ] || tree=$tree/unified
inner=$(readlink "/proc/$main/ns/pid_for_children")
pid=$main
for one in $(cat "$tree$group/cgroup.procs"); do
    if [ "$(readlink "/proc/$one/ns/pid")" = "$inner" ]; then pid=$one; break; fi
done
enter="--root --wd=/"
for one in user mnt uts ipc net pid cgroup time; do
    if [ "$(readlink "/proc/$pid/ns/$one")" != "$(readlink "/proc/self/ns/$one")" ]; then
        case $one in
            user) enter="$enter --user -S 0 -G 0" ;;
            mnt) enter="$enter --mount" ;;
            *) enter="$enter --$one" ;;
        esac
    fi
done
echo $$ > "$tree$group/cgroup.procs"
exec nsenter --target "$pid" $enter -- "$@"
"""


def address_of(text: str) -> Address:
    """What a person means by a name: an address, or the name of a unit. Raises ValueError."""
    if "/" in text:
        return Address.parse(text)
    return Address("unit", text if "." in text else f"{text}.service")


def inside(address: Address, command: Sequence[str]) -> list[str]:
    """The command that runs another one inside. Raises ValueError for what nothing can run in."""
    if address.kind == "unit":
        return ["/bin/sh", "-c", _UNIT, "nsprov", address.name, *command]
    if address.kind == "netns":
        return ["nsenter", f"--net=/run/netns/{address.name}", "--", *command]
    type_, slash, name = address.name.partition("/")
    if address.kind == "namespace" and slash:
        root = ["-S", "0", "-G", "0"] if type_ == "user" else []
        return ["nsenter", f"--{type_}={pinned_path(type_, name)}", *root, "--", *command]
    raise ValueError(f"nothing runs in {address}")
