"""What the roles make together, as a user of it sees it. What each of them declares is in the suite beside this."""

from __future__ import annotations

import pytest

TENANTS = {"blue": "10.20.0.11", "green": "10.20.0.12"}


@pytest.mark.parametrize("name", TENANTS)
def test_the_host_gets_each_tenants_own_page(host, name):
    get = f"from urllib.request import urlopen; print(urlopen('http://{TENANTS[name]}:8080').read().decode())"
    assert host.check_output("timeout 5 python3 -c %s", get).strip() == f"This is {name}."


@pytest.mark.parametrize(("name", "other"), [("blue", "green"), ("green", "blue")])
def test_no_tenant_gets_anothers(host, name, other):
    connect = f"import socket; socket.create_connection(('{TENANTS[other]}', 8080), 2)"
    assert "TimeoutError" in host.run("ip netns exec %s python3 -c %s", name, connect).stderr


@pytest.mark.parametrize("name", TENANTS)
def test_a_tenants_workload_is_in_its_slice_and_has_no_rights(host, name):
    pid = host.check_output("systemctl show --property MainPID --value web-%s", name)
    assert f"/tenants.slice/tenants-{name}.slice/web-{name}.service" in host.file(f"/proc/{pid}/cgroup").content_string
    assert "CapEff:\t0000000000000000" in host.file(f"/proc/{pid}/status").content_string
