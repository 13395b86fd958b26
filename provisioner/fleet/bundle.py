"""The agent's bundle: what the host side needs, interpreter and all, as one folder that is copied once.

A bundle is named after its content: its id is the SHA-256 of a file with the SHA-256 of all its other files. So a
host that has the folder of that name, whose files are those, has the right agent, and no other is ever started.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shlex
from dataclasses import dataclass
from pathlib import Path

import provisioner
from provisioner.errors import NsprovError

__all__ = ["CONTROLLER", "FOLDER", "SUMS", "Bundle", "bootstrap", "find", "sources"]

#: Where bundles lie on a host, each in a folder that is its id.
FOLDER = "/var/lib/nsprov/agent"
#: The file that names all others, as sha256sum writes it.
SUMS = "SHA256SUMS"
#: Of nsprov's own packages, what only a controller needs, and no bundle has.
CONTROLLER = ("cli", "config", "report", "shipped", "verify")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle in an archive: a gzip'd tar of its folder's content."""

    id: str
    #: As ``uname -m`` has it.
    arch: str
    archive: Path
    #: How many files it has, without the list of them.
    files: int
    #: Which modules of nsprov it has, as ``sources`` tells it.
    sources: str = ""

    @classmethod
    def of(cls, archive: Path) -> Bundle:
        """The bundle of an archive, whose name says all of it: ``agent-ARCH-SOURCES-FILES-ID.tar.gz``."""
        _, arch, *known, files, id_ = archive.name.removesuffix(".tar.gz").split("-")
        return cls(id_, arch, archive, int(files), "".join(known))


@functools.cache
def sources() -> str:
    """What the agent has of this nsprov, as twelve digits that are the same for the same text alone."""
    root = Path(provisioner.__file__).parent
    told = hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.json")]):
        name = path.relative_to(root)
        if name.parts[0] not in CONTROLLER:
            told.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return told.hexdigest()[:12]


def find(arch: str, host: str = "") -> Bundle:
    """The bundle for hosts with this processor; the one for this machine's is made where there is none yet.

    ``NSPROV_BUNDLES`` is a folder of bundles that were made for others, and is looked into first.
    Raises NsprovError, which names the host that wants it, where there is none for this processor, or one of another
    version of nsprov.
    """
    here = "'scripts/bundle FOLDER aarch64' in a checkout, or " if arch == "aarch64" else ""
    how = f"make it with {here}'nsprov agent --bundle FOLDER' on such a machine; name its folder in NSPROV_BUNDLES"
    made_before = os.environ.get("NSPROV_BUNDLES")
    if made_before:
        found = sorted(Path(made_before).glob(f"agent-{arch}-*.tar.gz"))
        if len(found) == 1:
            bundle = Bundle.of(found[0])
            if bundle.sources != sources():
                raise NsprovError(f"the agent for {arch} in {made_before} is of another version of nsprov", hint=how)
            return bundle
        if found:
            raise NsprovError(f"{made_before} has {len(found)} bundles for {arch}", hint="leave one of them there")
    if arch == platform.machine():
        from provisioner.fleet.bundling import made

        return made()
    raise NsprovError(
        f"there is no agent for processors of the kind {arch}{f', which {host} has' if host else ''}",
        hint=how,
    )


def bootstrap(bundle_id: str, files: int) -> str:
    """What a host's shell does, as root, to start the agent of this bundle.

    It prints ``nsprov-agent ready`` and becomes the agent; or ``nsprov-agent missing ARCH``, and reads the number of
    bytes and the archive; or ``nsprov-agent tampered REASON`` (exit code 3), or ``nsprov-agent full REASON`` (4).
    """
    return _SCRIPT.format(folder=shlex.quote(FOLDER), id=shlex.quote(bundle_id), files=files, sums=SUMS)


_SCRIPT = """\
umask 077
say() {{ printf 'nsprov-agent %s\\n' "$*"; }}
refuse() {{ say tampered "$1"; exit 3; }}
full() {{ say full "$1"; exit 4; }}
[ "$(id -u)" = 0 ] || {{ echo 'nsprov-agent needs root' >&2; exit 77; }}
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C
folder={folder} id={id}
own() {{
    [ -n "$(find "$1" -prune -type d -user 0 -not -perm /022)" ] || refuse "$1 is not a folder that only root can write"
}}
whole() {{
    cd "$1" || refuse "$1 cannot be entered"
    echo "$id  {sums}" | sha256sum --check --status || refuse "$1/{sums} is another than was copied"
    sha256sum --check --status --strict {sums} || refuse "a file in $1 is another than was copied"
    [ "$(find . -mindepth 1 -not -type d | wc -l)" = $(({files} + 1)) ] || refuse "$1 has files that were not copied"
    [ -z "$(find . -perm /022 -o -not -user 0)" ] || refuse "files in $1 are not root's alone"
}}
for one in "${{folder%/*}}" "$folder"; do
    [ -e "$one" ] || [ -h "$one" ] || mkdir -m 755 "$one" || [ -d "$one" ] || full "cannot make $one"
    own "$one"
done
if [ ! -e "$folder/$id" ] && [ ! -h "$folder/$id" ]; then
    say missing "$(uname -m)"
    read -r bytes || exit 1
    fresh=$(mktemp -d "$folder/new.XXXXXX") || full "cannot make a folder in $folder"
    trap 'rm -rf "$fresh"' EXIT
    trap 'exit 1' HUP INT TERM
    if ! said=$(head -c "$bytes" | tar -xzf - -C "$fresh" --no-same-owner 2>&1); then
        full "$(echo "$said" | grep -m 1 -e space -e quota || echo "$said" | head -n 1)"
    fi
    chmod 755 "$fresh"
    (whole "$fresh") || exit
    mv -T "$fresh" "$folder/$id" 2>/dev/null || [ -d "$folder/$id" ] || full "cannot name $folder/$id"
    trap - EXIT
    rm -rf "$fresh"
    for old in "$folder"/*; do
        # What is an hour young may be on its way there; where a process works is in use.
        [ "$old" = "$folder/$id" ] || [ -n "$(find "$old" -prune -mmin -60)" ] && continue
        find /proc/[0-9]*/cwd -prune -lname "$old" 2>/dev/null | grep -q . || rm -rf "$old"
    done
fi
own "$folder/$id"
whole "$folder/$id"
say ready
# What the agent makes has the modes that it has of an apply on the host itself.
umask 022
exec ./agent
"""
