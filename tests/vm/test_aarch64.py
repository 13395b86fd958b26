"""The demo by ssh on a host with an aarch64 processor, a kernel of that kind, and no Python: made, proven, undone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.vm.aarch64 import Aarch64Machine, aarch64_machine
from tests.vm.images import CHECKOUT


@dataclass
class Site:
    """The demo's project here, and its host."""

    folder: Path
    host: Aarch64Machine

    def nsprov(self, command: str, *args: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "provisioner", command, self.folder / "inventories/demo.yml", *args],
            cwd=CHECKOUT,
            env={
                **os.environ,
                "NSPROV_BUNDLES": str(self.folder / "bundles"),
                "XDG_CACHE_HOME": str(self.folder / "cache"),
                "XDG_RUNTIME_DIR": str(self.folder),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == code, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("aarch64")
    with aarch64_machine(folder) as host:
        yield Site(_project(folder, host.config), host)


def _project(folder: Path, ssh_config: Path) -> Path:
    """The demo, on this host: of it what needs a Python there is left out, the web server and who asks it."""
    for name in ("roles", "templates"):
        shutil.copytree(CHECKOUT / name, folder / name)
    demo = yaml.safe_load((CHECKOUT / "inventories/demo.yml").read_text())
    demo["all"]["hosts"] = {"arm": {"ansible_ssh_common_args": f"-F {ssh_config}", "ansible_timeout": 60}}
    *_, workload = demo["all"]["vars"]["nsprov_roles"]
    assert workload["role"] == "workload"
    workload["vars"]["workload_command"] = "/bin/sleep infinity"
    del workload["vars"]["workload_expects"]
    (folder / "inventories").mkdir()
    (folder / "inventories/demo.yml").write_text(yaml.safe_dump(demo, sort_keys=False))
    return folder


def test_a_host_is_applied_proven_and_cleared(site: Site) -> None:
    host = site.host
    assert host.run("uname -m; command -v python3 || echo no python") == "aarch64\nno python\n"

    assert "kind aarch64, which arm has" in site.nsprov("plan", code=1)
    subprocess.run([CHECKOUT / "scripts/bundle", site.folder / "bundles", "aarch64"], check=True)
    site.nsprov("apply", "--yes")
    assert "10.20.0.11/24" in host.run("ip -n blue -br addr")
    assert host.run("systemctl is-active web-blue web-green") == "active\nactive\n"
    assert host.run("cat /sys/fs/cgroup/tenants.slice/tenants-green.slice/memory.max") == f"{256 << 20}\n"
    assert "no changes" in site.nsprov("plan")
    assert "all hold" in site.nsprov("verify")
    host.run("ip -n blue addr del 10.20.0.11/24 dev eth0")
    assert "10.20.0.11/24" in site.nsprov("verify", code=1)

    site.nsprov("destroy", "--yes")
    assert host.run("ip netns list; ls /sys/class/net") == "eth0\nlo\n"
