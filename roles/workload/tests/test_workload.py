"""A workload runs, as nobody in particular, and cannot do what it does not need."""

from __future__ import annotations


def _processes(host, unit):
    group = host.check_output(f"systemctl show --value -p ControlGroup {unit}")
    found = host.check_output(f"cat /sys/fs/cgroup{group}/cgroup.procs").split()
    # A launcher that had to fork waits outside of the pid namespace that it made for the workload.
    return [pid for pid in found if _namespace(host, pid, "pid") == _namespace(host, pid, "pid_for_children")]


def _namespace(host, pid, kind):
    return host.check_output(f"readlink /proc/{pid}/ns/{kind}")


def test_it_runs(host, declared):
    for unit in declared("unit"):
        assert host.service(unit["name"]).is_running


def test_it_is_not_root_and_gains_nothing(host, declared):
    for unit in declared("unit"):
        for pid in _processes(host, unit["name"]):
            status = dict(
                line.split(":\t", 1)
                for line in host.file(f"/proc/{pid}/status").content_string.splitlines()
                if ":\t" in line
            )
            assert "0" not in status["Uid"].split()
            assert int(status["CapEff"], 16) == int(status["CapBnd"], 16)  # no right but those that it was given
            assert status["NoNewPrivs"] == "1"
            assert status["Seccomp"] == "2"  # system calls are filtered


def test_it_lives_in_its_slice(host, declared):
    for unit in declared("unit"):
        group = host.check_output(f"systemctl show --value -p ControlGroup {unit['name']}")
        assert f"/{unit['Slice']}/" in group
