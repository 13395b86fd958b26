"""The agent's bundle on hosts without any Python: put there, checked before each start, refused where it was touched.

``NSPROV_TEST_ROOTS`` names root trees of other releases of Debian, on which the agent is tried as well.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shlex
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from provisioner.fleet import bundle, protocol
from provisioner.host.sandbox import Sandbox
from provisioner.model import Action, Scope, Step
from provisioner.resources import kind_of
from tests.host.conftest import Box

ROOTS = [None, *(Path(one) for one in os.environ.get("NSPROV_TEST_ROOTS", "").split(":") if one)]
#: Python, and the libraries that no Debian is sure to have.
REMOVED = " ".join(
    ["/usr/bin/python3*", "/usr/lib/python3*"]
    + [f"/usr/lib/*/lib{name}.so*" for name in ("nftables", "nftnl", "jansson", "gmp", "ffi")]
)
FOLDER = bundle.FOLDER

#: An agent that says how it was started, and then lasts as long as its input.
TALKATIVE = "#!/bin/sh\necho umask $(umask) in $(pwd)\nexec cat\n"


class Put:
    """A bundle, in a file on a host, and the way to start it there."""

    def __init__(self, box: Box, archive: bytes, bundle_id: str, files: int) -> None:
        self.box = box
        self.folder = f"{FOLDER}/{bundle_id}"
        self.archive = f"/root/{bundle_id}.tar.gz"
        self.size = len(archive)
        self.script = bundle.bootstrap(bundle_id, files)
        box.run(f"base64 -d >{self.archive}", input=base64.b64encode(archive).decode())

    def start(self, *requests: Any, send: bool | None = None, size: int | None = None) -> CompletedProcess[str]:
        """What the host says to a controller that copies the bundle where it is missing, and asks all of this."""
        send = not self.is_there() if send is None else send
        sent = f"echo {size or self.size}; cat {self.archive}; " if send else ""
        asked = "".join(f"{json.dumps(one)}\n" for one in requests)
        return self.box.run(
            f"{{ {sent}printf '%s' {shlex.quote(asked)}; }} | sh -c {shlex.quote(self.script)}", check=False
        )

    def is_there(self) -> bool:
        return self.box.run(["test", "-d", self.folder], check=False).returncode == 0


def small(box: Box, agent: str = TALKATIVE) -> Put:
    """A bundle of a shell script: what a host makes of a bundle is the same for any."""
    files = {"agent": agent, "lib/one": "1\n", "lib/two": "2\n"}
    sums = "".join(f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in files.items())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        folder = tarfile.TarInfo("lib")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name, text in {**files, bundle.SUMS: sums}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o755
            tar.addfile(entry, io.BytesIO(text.encode()))
    return Put(box, packed.getvalue(), hashlib.sha256(sums.encode()).hexdigest(), len(files))


@pytest.fixture(scope="module", params=ROOTS, ids=lambda root: root.name if root else "this-machine")
def bare(request: pytest.FixtureRequest) -> Iterator[Box]:
    """A host without any Python."""
    with Sandbox.start(f"test-bare-{os.getpid()}", root=request.param) as sandbox:
        box = Box(sandbox)
        box.run(f"rm -rf {REMOVED}")
        assert box.run("python3 -c 1", check=False).returncode == 127
        yield box


@pytest.fixture
def clean(box: Box) -> Box:
    """A host that has no agent yet."""
    box.run("umount /var/lib/nsprov 2>/dev/null; rm -rf /var/lib/nsprov /var/lib/elsewhere")
    return box


@pytest.fixture(scope="module")
def agent(bare: Box) -> Put:
    made = bundle.find(os.uname().machine)
    return Put(bare, made.archive.read_bytes(), made.id, made.files)


def answers(done: CompletedProcess[str]) -> list[Any]:
    told: list[Any] = []
    found = []
    for line in (json.loads(one) for one in done.stdout.splitlines() if one.startswith("{")):
        if "some" in line:
            told += line["some"]
        else:
            found.append(told + line["answer"] if told else line["answer"])
            told = []
    return found


def said(done: CompletedProcess[str]) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith("nsprov-agent")]


def test_a_host_without_python_is_given_the_agent_once(agent: Put) -> None:
    hello = {"do": "hello"}
    first = agent.start(hello)
    assert said(first) == [f"nsprov-agent missing {os.uname().machine}", "nsprov-agent ready"], first.stderr
    assert answers(first) == [{"protocol": 2}]
    again = agent.start(hello, send=False)
    assert said(again) == ["nsprov-agent ready"]
    assert answers(again) == [{"protocol": 2}]


WANTED = [
    kind_of("netns").resource(name="blue"),
    kind_of("veth").resource(name="v-blue", peer={"netns": "blue", "name": "eth0", "addresses": ["10.9.0.1/24"]}),
    kind_of("nftables").resource(table="inet filter", netns="blue", ruleset="chain in { }"),
    kind_of("slice").resource(name="bare.slice", TasksMax=50),
    kind_of("unit").resource(name="bare.service", Slice="bare.slice", ExecStart="/bin/sleep 600"),
    kind_of("file").resource(path="/etc/bare", content="x"),
]


def test_the_agent_makes_and_sees_a_workload_there_with_its_own_libraries(agent: Put) -> None:
    scope = protocol.encode_scope(Scope({one.address: (one,) for one in WANTED}))
    steps = [protocol.encode_steps([Step(Action.CREATE, one.address, None, one)]) for one in WANTED]
    made = agent.start(*({"do": "carry_out", "with": one} for one in steps), {"do": "observe", "with": scope})
    assert '"defect"' not in made.stdout
    assert '"error"' not in made.stdout
    *results, snapshot = answers(made)
    assert [one.error for given in results for one in protocol.decode_results(given)] == [None] * len(WANTED)
    assert protocol.decode_snapshot(snapshot).resources.keys() == {one.address for one in WANTED}
    assert "10.9.0.1/24" in agent.box.run("ip -n blue -br addr").stdout
    assert agent.box.run("systemctl is-active bare.service").stdout == "active\n"
    assert agent.box.run("stat -c %a /etc/bare").stdout == "644\n"


def test_the_agent_writes_nothing_into_its_folder(agent: Put) -> None:
    agent.start({"do": "facts"})
    assert agent.box.run(f"find {agent.folder} -newer {agent.archive} -type f -mmin -1").stdout == ""
    assert agent.box.run(f"find {FOLDER} -mindepth 1 -maxdepth 1").stdout.split() == [agent.folder]


def test_an_agent_starts_in_its_folder_with_the_usual_modes_for_what_it_makes(clean: Box) -> None:
    bundle = small(clean)
    done = bundle.start("anything")
    assert done.stdout.splitlines()[1:] == [
        "nsprov-agent ready",
        f"umask 0022 in {bundle.folder}",
        '"anything"',
    ]


def test_others_may_look_at_the_folder_and_root_alone_may_write(clean: Box) -> None:
    small(clean).start()
    modes = clean.run("find /var/lib/nsprov -type d -printf '%m %U\\n' | sort -u").stdout
    assert modes == "755 0\n"


@pytest.mark.parametrize(
    ("tampering", "reason"),
    [
        ("echo evil >>{folder}/agent", "a file in {folder} is another than was copied"),
        ("rm {folder}/lib/one", "a file in {folder} is another than was copied"),
        ("touch {folder}/lib/three", "{folder} has files that were not copied"),
        ("ln -s /tmp {folder}/lib/three", "{folder} has files that were not copied"),
        ("rm {folder}/lib/one && ln -s /tmp/one {folder}/lib/one", "files in {folder} are not root's alone"),
        ("sed -i 1d {folder}/SHA256SUMS", "{folder}/SHA256SUMS is another than was copied"),
        ("rm {folder}/SHA256SUMS", "{folder}/SHA256SUMS is another than was copied"),
        ("chmod 666 {folder}/lib/one", "files in {folder} are not root's alone"),
        ("chown nobody {folder}/lib/one", "files in {folder} are not root's alone"),
        ("chmod 777 {folder}/lib", "files in {folder} are not root's alone"),
        ("chmod 777 {folder}", "{folder} is not a folder that only root can write"),
        ("chown nobody {folder}", "{folder} is not a folder that only root can write"),
        ("rm -r {folder} && touch {folder}", "{folder} is not a folder that only root can write"),
        ("rm -r {folder} && ln -s /nowhere {folder}", "{folder} is not a folder that only root can write"),
        (
            "mv {folder} /var/lib/elsewhere && ln -s /var/lib/elsewhere {folder}",
            "{folder} is not a folder that only root can write",
        ),
        ("chown nobody /var/lib/nsprov/agent", "/var/lib/nsprov/agent is not a folder that only root can write"),
        ("chmod g+w /var/lib/nsprov", "/var/lib/nsprov is not a folder that only root can write"),
        (
            "mv /var/lib/nsprov /var/lib/elsewhere && ln -s /var/lib/elsewhere /var/lib/nsprov",
            "/var/lib/nsprov is not a folder that only root can write",
        ),
    ],
)
def test_what_was_tampered_with_is_refused_and_left_as_it_is(clean: Box, tampering: str, reason: str) -> None:
    bundle = small(clean)
    clean.run("echo 1 >/tmp/one")
    bundle.start()
    clean.run(tampering.format(folder=bundle.folder))
    before = clean.run("ls -lR /var/lib/nsprov/ /var/lib/nsprov/agent/").stdout
    done = bundle.start("anything")
    assert done.stdout == f"nsprov-agent tampered {reason.format(folder=bundle.folder)}\n"
    assert done.returncode == 3
    assert clean.run("ls -lR /var/lib/nsprov/ /var/lib/nsprov/agent/").stdout == before


@pytest.mark.parametrize("free", ["size=4k", "nr_inodes=5"])
def test_a_full_disk_is_told_and_nothing_half_made_stays(clean: Box, free: str) -> None:
    bundle = small(clean, TALKATIVE + "#" * 20000)
    clean.run(f"mkdir /var/lib/nsprov; mount -t tmpfs -o {free},mode=755 none /var/lib/nsprov")
    done = bundle.start()
    assert done.returncode == 4
    assert done.stdout.splitlines()[1].startswith("nsprov-agent full ")
    assert "No space left on device" in done.stdout
    assert clean.run("ls -A /var/lib/nsprov/agent").stdout == ""
    clean.run("umount /var/lib/nsprov")


def test_a_copy_that_breaks_off_leaves_nothing_and_the_next_one_works(clean: Box) -> None:
    bundle = small(clean)
    broken = bundle.start(size=100)
    assert broken.returncode != 0
    assert "nsprov-agent ready" not in broken.stdout
    assert clean.run(f"ls -A {FOLDER}").stdout == ""
    assert said(bundle.start())[-1] == "nsprov-agent ready"


def test_another_archive_than_was_announced_is_not_put_in_place(clean: Box) -> None:
    wanted, other = small(clean), small(clean, "#!/bin/sh\necho evil\n")
    clean.run(f"cp {other.archive} {wanted.archive}")
    wanted.size = other.size
    done = wanted.start()
    assert done.returncode == 3
    assert "evil" not in done.stdout
    assert clean.run(f"ls -A {FOLDER}").stdout == ""


def test_controllers_that_put_it_there_at_the_same_time_all_get_their_agent(clean: Box) -> None:
    bundle = small(clean)
    clean.write("/root/agent.sh", bundle.script)
    one = f"{{ echo {bundle.size}; sleep 0.$((n / 2)); cat {bundle.archive}; }} | sh /root/agent.sh >/tmp/said.$n"
    clean.run(f"rm -f /tmp/said.*; for n in $(seq 8); do {one} & done; wait")
    assert clean.run("cat /tmp/said.* | grep -c ready").stdout == "8\n"
    assert clean.run(f"ls {FOLDER} | wc -l").stdout == "1\n"


@pytest.fixture
def versions(clean: Box) -> Callable[[int], Put]:
    return lambda number: small(clean, TALKATIVE + f"# version {number}\n")


def test_old_agents_go_when_a_new_one_comes_but_for_one_that_is_at_work(
    clean: Box, versions: Callable[[int], Put]
) -> None:
    idle, at_work, young, new = map(versions, range(4))
    for old in (idle, at_work, young):
        old.start()
    clean.write("/root/agent.sh", at_work.script)
    clean.run("systemd-run --quiet --unit=at-work sh -c 'sleep 600 | sh /root/agent.sh'")
    clean.run("for i in $(seq 100); do pgrep -x cat >/dev/null && exit 0; sleep 0.05; done; exit 1")
    clean.run(f"touch -d '2 hours ago' {idle.folder} {at_work.folder}")
    new.start()
    assert [one.is_there() for one in (idle, at_work, young, new)] == [False, True, True, True]
    clean.run(f"systemctl stop at-work; touch -d '2 hours ago' {young.folder}")
    versions(4).start()
    assert [one.is_there() for one in (at_work, young, new)] == [False, False, True]


def test_it_is_for_root_alone(clean: Box) -> None:
    bundle = small(clean)
    done = clean.run(["setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", bundle.script], check=False)
    assert done.returncode == 77
    assert done.stderr == "nsprov-agent needs root\n"
