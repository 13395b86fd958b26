"""Probes ask the host with its own tools, one by one or many at once, and get the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import testinfra

from provisioner.verify import probes


@pytest.fixture
def host() -> Any:
    found = testinfra.get_host("local://")
    probes.forget(found)
    return found


class Counted:
    """A host that counts what it is asked."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.asked: list[str] = []

    def run(self, command: str, *args: str) -> Any:
        self.asked.append(command)
        return self.host.run(command, *args)


def test_a_kernel_parameter_is_read_as_sysctl_writes_it(host: Any) -> None:
    assert probes.sysctl(host, None, "kernel.ostype") == "Linux"
    assert probes.sysctl(host, None, "kernel/ostype") == "Linux"


def test_values_in_columns_are_joined_by_single_spaces(host: Any) -> None:
    assert len(probes.sysctl(host, None, "net.ipv4.ip_local_port_range").split(" ")) == 2


def test_a_parameter_that_is_not_there_fails_with_the_reason(host: Any) -> None:
    with pytest.raises(AssertionError, match=r"sysctl kernel\.nothing on the host: .*No such file"):
        probes.sysctl(host, None, "kernel.nothing")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.5/rp_filter", "net/ipv4/conf/eth0.5/rp_filter"),
        ("net.ipv4.conf.eth0/5.rp_filter", "net/ipv4/conf/eth0.5/rp_filter"),
    ],
)
def test_an_interface_with_a_dot_in_its_name_has_parameters_too(key: str, path: str) -> None:
    assert probes._sysctl_command(None, key) == f"cat /proc/sys/{path}"


def test_the_loopback_has_its_address(host: Any) -> None:
    found = probes.link(host, None, "lo")
    assert found is not None
    assert found["link_type"] == "loopback"
    assert "127.0.0.1/8" in probes.addresses(host, None, "lo")


def test_an_interface_that_is_not_there_is_none_and_its_addresses_say_what_is(host: Any) -> None:
    assert probes.link(host, None, "nothing0") is None
    with pytest.raises(AssertionError, match=r"there is no interface nothing0 on the host; there is: .*lo"):
        probes.addresses(host, None, "nothing0")


def test_what_is_asked_of_an_interface_that_is_not_there_says_so(host: Any) -> None:
    assert probes.link_state(host, None, "lo") in ("up", "down")
    assert probes.interface(host, None, "lo") == probes.link(host, None, "lo")
    for probe in (probes.interface, probes.link_state):
        with pytest.raises(AssertionError, match="there is no interface nothing0 on the host"):
            probe(host, None, "nothing0")


def test_what_is_at_a_path_is_said_in_words(host: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_text("x")
    (tmp_path / "a folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    found = {name: probes.file_type(host, str(tmp_path / name)) for name in ("empty", "full", "a folder", "link", "no")}
    assert found == {
        "empty": "regular file",
        "full": "regular file",
        "a folder": "directory",
        "link": "symbolic link",
        "no": "nothing",
    }


def test_routes_of_a_table_have_their_family(host: Any) -> None:
    local = probes.routes(host, None, "local")
    assert [one["family"] for one in local if one["dst"] == "127.0.0.0/8"] == ["inet"]
    assert probes.routes(host, None, 255) == local


def test_a_table_without_routes_has_none(host: Any) -> None:
    assert probes.routes(host, None, 4711) == []


def test_rules_of_both_families_are_read(host: Any) -> None:
    assert ("inet", 32766) in {(one["family"], one["priority"]) for one in probes.rules(host, None)}


def test_what_the_tool_says_is_the_reason(host: Any) -> None:
    with pytest.raises(AssertionError, match=r"ip -n nothing link: .*nothing"):
        probes.ip_json(host, "nothing", "link")


def test_many_questions_are_asked_in_one_go_and_answered_alike(host: Any) -> None:
    keys = [f"net.ipv4.conf.{name}.{key}" for name in ("all", "default", "lo") for key in ("forwarding", "rp_filter")]
    one_by_one = [probes.sysctl(host, None, key) for key in keys]
    counted = Counted(host)
    probes.read_ahead(counted, [("sysctl", (None, key)) for key in keys] + [("addresses", (None, "lo"))])
    assert len(counted.asked) == 1
    assert [probes.sysctl(counted, None, key) for key in keys] == one_by_one
    assert probes.addresses(counted, None, "lo") == probes.addresses(host, None, "lo")
    assert len(counted.asked) == 1


def test_more_questions_than_a_command_line_holds_take_several_goes(host: Any) -> None:
    counted = Counted(host)
    probes.read_ahead(counted, [("sysctl", (None, f"kernel.{'x' * 200}{number}")) for number in range(700)])
    assert len(counted.asked) > 1
    assert all(len(command) < 128 * 1024 for command in counted.asked)
    with pytest.raises(AssertionError, match="No such file"):
        probes.sysctl(counted, None, f"kernel.{'x' * 200}699")


def test_an_answer_is_kept_until_it_is_to_be_forgotten(host: Any, tmp_path: Path) -> None:
    counted = Counted(host)
    for _ in range(3):
        probes.sysctl(counted, None, "kernel.ostype")
    assert len(counted.asked) == 1
    probes.forget(counted)
    probes.sysctl(counted, None, "kernel.ostype")
    assert len(counted.asked) == 2


def test_a_command_of_a_test_s_own_is_never_kept(host: Any, tmp_path: Path) -> None:
    path = tmp_path / "count"
    for _ in range(2):
        assert probes.run(host, None, f"echo once more >> {path}").succeeded
    assert len(path.read_text().splitlines()) == 2


def test_properties_of_systemctl_show_may_run_over_lines_and_come_twice() -> None:
    text = (
        "Id=web.service\nEnvironment=A=1\nExecStart={ path=/bin/a }\nExecStart={ path=/bin/b }\nStatusText=on\n  it\n"
    )
    assert probes._properties(text) == {
        "Id": "web.service",
        "Environment": "A=1",
        "ExecStart": "{ path=/bin/a }\n{ path=/bin/b }",
        "StatusText": "on\n  it",
    }


def test_routes_and_rules_are_told_as_ip_words_them() -> None:
    routes = [
        {"dst": "default", "gateway": "10.0.0.1", "dev": "eth0", "flags": [], "metric": 5},
        {"type": "unreachable", "dst": "10.8.0.0/16"},
    ]
    assert probes.route_words(routes) == "there is: default via 10.0.0.1 dev eth0 metric 5, unreachable 10.8.0.0/16"
    assert probes.route_words([]) == "there is: none"
    rules = [
        {"priority": 0, "src": "all", "table": "local"},
        {"priority": 100, "src": "10.9.0.0", "srclen": 16, "iif": "eth0", "table": "100"},
        {"priority": 101, "src": "all", "dst": "10.1.0.1", "action": "blackhole"},
    ]
    assert probes.rule_words(rules) == (
        "there is: 100: from 10.9.0.0/16 iif eth0 lookup 100, 101: from all to 10.1.0.1 blackhole"
    )
    assert probes.rule_words(rules[:1]) == "there is: none"
