"""Facts and doctor where systemd runs."""

from __future__ import annotations

import json
from typing import Any

from tests.host.driving import driven


def test_the_facts_of_a_sandbox_are_its_own(box: Any) -> None:
    facts = driven(box, "answer = host.facts.as_variables()")
    assert facts["systemd"] == int(box.run("systemctl --version | awk 'NR==1 {print $2}'").stdout)
    assert facts["name"] == box.run("hostname").stdout.strip()
    assert facts["cgroup"] == {"version": "unified", "mount": "/sys/fs/cgroup"}
    assert facts["controllers"] == box.run("cat /sys/fs/cgroup/cgroup.controllers").stdout.split()
    links = {link["ifname"]: link for link in json.loads(box.run("ip -j address").stdout)}
    assert facts["interfaces"].keys() == links.keys()
    assert "127.0.0.1/8" in facts["interfaces"]["lo"]["addresses"]
    assert all(facts["interfaces"][name]["mtu"] == link["mtu"] for name, link in links.items())


def test_doctor_finds_a_host_where_an_apply_works_and_changes_nothing(box: Any) -> None:
    look = "ip -d link; ip netns; nft list ruleset; findmnt -n; ls /run /tmp"
    before = box.run(look).stdout
    answer = box.nsprov("doctor", "--format", "json")
    assert box.run(look).stdout == before
    data = json.loads(answer.stdout)
    assert data["ready"]
    found = {one["name"]: one["status"] for one in data["findings"]}
    assert {found[name] for name in ("root", "systemd", "cgroup v2", "veth", "bridge", "nf_tables")} == {"ok"}


def test_doctor_names_the_command_for_what_is_missing_and_ends_in_1(box: Any) -> None:
    box.run("mount --bind /dev/null /usr/lib/*/libnftables.so.1")
    try:
        answer = box.nsprov("doctor", check=False)
    finally:
        box.run("umount /usr/lib/*/libnftables.so.1")
    assert answer.returncode == 1
    assert "apt-get install nftables" in answer.stdout
    assert answer.stdout.rstrip().splitlines()[-1].startswith("An apply would not work here: ")
