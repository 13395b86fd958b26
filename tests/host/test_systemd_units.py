"""Units and slices on a real systemd: live limits, restarts of one unit alone, failures in systemd's own words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.host.conftest import Box
from tests.host.driving import driven
from tests.host.waiting import wait_for

_LOST = "systemctl list-units --all --plain --no-legend 'no-*' 'web*' 'ten*' 'peer*' 'job*'"


@pytest.fixture(autouse=True)
def _nothing_is_left(box: Box) -> Any:
    yield
    names = [line.split()[0] for line in box.run(_LOST).stdout.splitlines()]
    for name in names:
        box.run(["systemctl", "stop", name], check=False)
        box.run(["systemctl", "reset-failed", name], check=False)
    box.run("rm -rf /etc/systemd/system/web.service /run/systemd/system.control/*; systemctl daemon-reload")


def _update(before: str, after: str) -> str:
    """Code that brings what stands from one spec to another, and answers with the changes and the errors."""
    return f"""
first = {before}
settle(first)
host.forget()
pid = lambda: host.systemd.properties(first.name, ["MainPID"]).get("MainPID")
was = pid()
second = {after}
(current,) = observed(first, second).values()
changes = tuple(second.changes_from(current, first))
step = Step(Action.UPDATE, second.address, current, second.merged_over(current, changes), changes=changes)
errors = [one.error for one in kind_of(second.kind).driver.carry_out(host, [step])]
host.forget()
again = [one.field for one in second.changes_from(next(iter(observed(second).values())), second)]
answer = [[[one.field, str(one.effect)] for one in changes], errors, was == pid(), again]
"""


_SLEEP = "made('unit', name='web', ExecStart='/bin/sleep 1000', {})"


def test_a_limit_changes_and_the_workload_keeps_its_pid(box: Box) -> None:
    changes, errors, same_pid, again = driven(
        box, _update(_SLEEP.format("MemoryMax='64M', TasksMax=9"), _SLEEP.format("MemoryMax='96M', TasksMax='50%'"))
    )
    assert changes == [["MemoryMax", "live"], ["TasksMax", "live"]]
    assert (errors, same_pid, again) == ([None], True, [])
    assert box.run("systemctl show -P MemoryMax web").stdout.strip() == str(96 * 2**20)


def test_a_limit_that_left_the_configuration_is_the_default_again(box: Box) -> None:
    before = _SLEEP.format(
        "MemoryMax='64M', CPUWeight=50, CPUQuota='20%', IPAddressDeny='any', Description='mine', AllowedCPUs='0', "
        "DeviceAllow='/dev/null rw', IOReadBandwidthMax='/dev/null 1M'"
    )
    changes, errors, same_pid, again = driven(box, _update(before, _SLEEP.format("")))
    assert {name for name, _ in changes} == {
        "MemoryMax", "CPUWeight", "CPUQuota", "IPAddressDeny", "Description", "AllowedCPUs", "DeviceAllow",
        "IOReadBandwidthMax",
    }  # fmt: skip
    assert (errors, same_pid, again) == ([None], True, [])
    names = (
        "MemoryMax,CPUWeight,CPUQuotaPerSecUSec,IPAddressDeny,Description,AllowedCPUs,DeviceAllow,IOReadBandwidthMax"
    )
    shown = dict(line.split("=", 1) for line in box.run(f"systemctl show -p {names} web").stdout.splitlines())
    assert shown["MemoryMax"] == shown["CPUQuotaPerSecUSec"] == "infinity"
    assert shown["CPUWeight"] == "[not set]"
    assert shown["Description"] == "web.service"
    assert {shown.get(name, "") for name in ("IPAddressDeny", "AllowedCPUs", "DeviceAllow")} == {""}


def test_a_shorter_list_does_not_keep_what_left_it(box: Box) -> None:
    _, errors, same_pid, again = driven(
        box,
        _update(
            _SLEEP.format("IPAddressAllow='10.0.0.0/8 192.0.2.1', DeviceAllow=['/dev/null rw', '/dev/zero r']"),
            _SLEEP.format("IPAddressAllow='192.0.2.1', DeviceAllow='/dev/zero r'"),
        ),
    )
    assert (errors, same_pid, again) == ([None], True, [])


def test_another_command_restarts_the_unit_and_no_other(box: Box) -> None:
    changes, errors, same_pid, again = driven(
        box,
        "settle(made('unit', name='peer', ExecStart='/bin/sleep 1000'))\n"
        + _update(_SLEEP.format(""), "made('unit', name='web', ExecStart='/bin/sleep 2000', MemoryMax='64M')"),
    )
    assert changes == [["ExecStart", "restart"], ["MemoryMax", "live"]]
    assert (errors, same_pid, again) == ([None], False, [])
    assert box.run("systemctl is-active peer").stdout.strip() == "active"


def test_a_unit_that_others_refer_to_can_restart(box: Box) -> None:
    """systemd keeps such a unit loaded when it has stopped."""
    _, errors, _, again = driven(
        box,
        "settle(made('unit', name='peer', ExecStart='/bin/sleep 1000', Wants='web.service'))\n"
        + _update(_SLEEP.format(""), "made('unit', name='web', ExecStart='/bin/sleep 2000')"),
    )
    assert (errors, again) == ([None], [])


@pytest.mark.parametrize("tie", ["Requires", "BindsTo", "PartOf"])
def test_a_unit_that_stops_along_with_it_runs_again_afterwards(box: Box, tie: str) -> None:
    peer = f"made('unit', name='peer', ExecStart='/bin/sleep 1000', After='web.service', {tie}='web.service')"
    code = _update(_SLEEP.format(""), "made('unit', name='web', ExecStart='/bin/sleep 2000')")
    first, rest = code.split("settle(first)")
    _, errors, _, again = driven(box, f"{first}settle(first)\nsettle({peer}){rest}")
    assert (errors, again) == ([None], [])
    assert box.run("systemctl is-active peer web").stdout.split() == ["active", "active"]
    assert "web.service" in box.run(f"systemctl show -P {tie} peer").stdout.split()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/nope/web", ["203/EXEC", "/nope/web"]),
        ("/bin/sh -c 'echo the port is taken >&2; exit 3'", ["exit status 3", "the port is taken"]),
        ("/bin/sh -c 'kill -SEGV $$$$'", ["killed by signal 11"]),
    ],
)
def test_a_unit_that_fails_at_once_says_why_in_its_own_words(box: Box, command: str, words: list[str]) -> None:
    ((action, error),) = driven(box, f"answer = settle(made('unit', name='web', ExecStart={command!r}))")
    assert action == "create"
    for word in words:
        assert word in error


def test_a_namespace_that_is_not_there_is_a_failure_of_the_unit(box: Box) -> None:
    unit = _SLEEP.format("netns='nowhere'")
    ((_, error),) = driven(box, f"answer = settle({unit})")
    assert "225/NETWORK" in error


def test_a_failed_unit_is_seen_as_failed_and_started_by_the_next_apply(box: Box) -> None:
    box.run("rm -f /tmp/ready")
    answer = driven(
        box,
        """
from pathlib import Path
unit = made('unit', name='web', ExecStart='/bin/sh -c "test -e /tmp/ready && exec sleep 1000"')
first = settle(unit)
state = [one.state for one in observed(unit).values()]
Path('/tmp/ready').touch()
answer = [bool(first[0][1]), state, settle(unit), settle(unit)]
""",
    )
    assert answer == [True, ["failed"], [["update", None]], []]


def test_a_oneshot_runs_once_and_not_at_each_apply(box: Box) -> None:
    answer = driven(
        box,
        """
unit = made('unit', name='job', Type='oneshot', ExecStart='/bin/sh -c "echo ran >> /tmp/ran"')
answer = [settle(unit), settle(unit), open('/tmp/ran').read()]
""",
    )
    assert answer == [[["create", None]], [], "ran\n"]


def test_a_deleted_unit_leaves_no_file_and_no_name(box: Box) -> None:
    answer = driven(
        box,
        """
unit = made('unit', name='web', ExecStart='/bin/sleep 1000', MemoryMax='64M', timer={'OnCalendar': 'daily'})
first = settle(unit)
answer = [first, settle(unit), settle(unit, delete=True), settle(unit, delete=True)]
""",
    )
    assert answer == [[["create", None]], [], [["delete", None]], []]
    assert box.run(_LOST).stdout == ""
    assert box.run("ls /run/systemd/transient").stdout == ""


def test_a_failed_unit_can_be_deleted(box: Box) -> None:
    driven(box, "answer = settle(made('unit', name='web', ExecStart='/bin/false'))")
    assert driven(box, "answer = settle(made('unit', name='web'), delete=True)") == [["delete", None]]
    assert box.run(_LOST).stdout == ""


def test_a_socket_starts_its_service_when_somebody_connects(box: Box) -> None:
    answer = driven(
        box,
        """
unit = made('unit', name='web', ExecStart='/bin/sleep 1000', socket={'ListenStream': '127.0.0.1:8077'})
answer = [settle(unit), settle(unit)]
""",
    )
    assert answer == [[["create", None]], []]
    assert box.run("systemctl is-active web.socket web.service", check=False).stdout.split() == ["active", "inactive"]
    box.run("python3 -c \"import socket; socket.create_connection(('127.0.0.1', 8077))\"")
    box.run("for _ in $(seq 50); do systemctl is-active -q web.service && exit 0; sleep 0.1; done; exit 1")


def test_another_time_of_a_timer_is_in_force_after_an_apply(box: Box) -> None:
    changes, errors, _, again = driven(
        box, _update(_SLEEP.format("timer={'OnCalendar': 'daily'}"), _SLEEP.format("timer={'OnCalendar': 'weekly'}"))
    )
    assert changes == [["timer.OnCalendar", "restart"]]
    assert (errors, again) == ([None], [])
    assert "weekly" in box.run("systemctl cat web.timer").stdout


def test_a_unit_of_a_file_on_disk_is_found_and_not_remade(box: Box) -> None:
    box.write("/etc/systemd/system/web.service", "[Service]\nExecStart=/bin/sleep 1000\nNice=5\n")
    box.run("systemctl daemon-reload")
    answer = driven(
        box,
        """
unit = made('unit', name='web', ExecStart='/bin/sleep 2000', Nice=5)
found = observed(unit)
answer = [[one.declared() for one in found.values()], settle(unit)]
""",
    )
    (found,), ((action, error),) = answer
    assert found == {"name": "web.service", "state": "stopped", "ExecStart": ["/bin/sleep 1000"], "Nice": "5"}
    assert action == "update"
    assert "defined by /etc/systemd/system/web.service" in error


def test_a_slice_that_systemd_made_by_itself_does_not_count_as_there(box: Box) -> None:
    answer = driven(
        box,
        """
settle(made('slice', name='ten-blue', MemoryMax='64M'))
answer = [str(one) for one in observed(made('slice', name='ten'), made('slice', name='ten-blue'))]
""",
    )
    assert answer == ["slice/ten-blue.slice"]


def test_a_parent_declared_later_is_limited_and_what_runs_below_goes_on(box: Box) -> None:
    answer = driven(
        box,
        """
settle(made('slice', name='ten-blue'))
web = made('unit', name='web', ExecStart='/bin/sleep 1000', Slice='ten-blue.slice')
settle(web)
was = host.systemd.properties('web.service', ['MainPID'])
parent = made('slice', name='ten', MemoryMax='64M')
answer = [settle(parent), settle(parent), settle(parent, delete=True), settle(parent, delete=True),
          was == host.systemd.properties('web.service', ['MainPID'])]
""",
    )
    assert answer == [[["create", None]], [], [["delete", None]], [], True]
    assert box.run("systemctl show -P MemoryMax ten.slice").stdout.strip() == "infinity"
    assert box.run("ls /run/systemd/system.control", check=False).stdout == ""


def test_deleting_the_last_slice_takes_along_the_parents_that_were_there_for_it(box: Box) -> None:
    answer = driven(
        box,
        """
slices = [made('slice', name=name) for name in ('ten-blue-a', 'ten-blue-b')]
first = settle(*slices)
answer = [first, settle(*slices[:1], delete=True), sorted(n for n in host.systemd.units() if n.startswith('ten')),
          settle(*slices[1:], delete=True)]
""",
    )
    assert answer[2] == ["ten-blue-b.slice", "ten-blue.slice", "ten.slice"]
    assert box.run(_LOST).stdout == ""


_LISTENER = """
import sys, time
from pystemd.dbuslib import DBusAddress
bus = DBusAddress(b"unix:path=/run/systemd/private", peer_to_peer=True)
bus.open()
def heard(message, error=None, userdata=None):
    print(message.get_member().decode(), message.get_path().decode(), flush=True)
bus.match_signal(None, None, None, None, heard)
print("listening", flush=True)
while True:
    bus.process()
    bus.wait(1000000)
"""


def test_a_second_apply_makes_no_change_that_systemd_tells_of(box: Box) -> None:
    """Seen by another connection to PID 1, which hears of every unit, job and property that changes."""
    before, second, after = driven(
        box,
        f"""
import subprocess, time
unit = made('unit', name='web', ExecStart='/bin/sleep 1000', MemoryMax='50%', TasksMax='10%', CPUQuota='12.5%')
group = made('slice', name='ten', MemoryMax='33.3%')
settle(group, unit)
host.systemd.reload()
listener = subprocess.Popen([sys.executable, '-c', {_LISTENER!r}], stdout=subprocess.PIPE, text=True)
listener.stdout.readline()
time.sleep(1)
second = settle(group, unit)
time.sleep(0.5)
settle(made('unit', name='peer', ExecStart='/bin/sleep 1000'))  # what it hears when something does change
time.sleep(0.5)
listener.terminate()
lines = listener.communicate()[0].splitlines()
first = next((at for at, line in enumerate(lines) if 'peer' in line or line.startswith('JobNew')), len(lines))
answer = [[line for line in lines[:first] if 'web_2e' in line or 'ten_2e' in line], second, first < len(lines)]
""",
    )
    assert (before, second, after) == ([], [], True)


def test_systemd_may_execute_itself_anew_between_two_looks(box: Box) -> None:
    answer = driven(
        box,
        """
import subprocess
unit = made('unit', name='web', ExecStart='/bin/sleep 1000', MemoryMax='50%', CPUQuota='12.5%', TimeoutStopSec='1.5s')
first = settle(unit)
subprocess.run(['systemctl', 'daemon-reexec'], check=True)
host.forget()
answer = [first, settle(unit)]
""",
    )
    assert answer == [[["create", None]], []]


def test_without_systemd_it_says_what_to_do_instead() -> None:
    from pathlib import Path

    from provisioner.errors import HostError
    from provisioner.host.systemd import Systemd

    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs on this machine")
    with pytest.raises(HostError, match="nsprov rehearse"):
        Systemd().units()


def test_a_command_with_dollars_and_prefixes_starts_the_same_again_after_a_reload(box: Box) -> None:
    """systemd reads some of what it writes into a transient unit's file otherwise than it wrote it."""
    answer = driven(
        box,
        r"""
command = "/bin/sh -c 'x=1; echo \"said $$x $${NONE}\"; kill -9 $$$$'"
unit = made('unit', name='web', ExecStart=command, ExecStartPre='!/bin/echo before', Restart='always',
            RestartSec='1h', SuccessExitStatus='SIGKILL')
settle(unit)
host.forget()
answer = [one.field for one in unit.changes_from(observed(unit)[unit.address], None)]
""",
    )
    assert answer == []
    assert box.run("systemctl show -P NeedDaemonReload web").stdout.strip() == "no"
    box.run("systemctl daemon-reload; systemctl restart web", check=False)
    wait_for(lambda: box.run("journalctl -o cat -u web").stdout.count("said 1") == 2)
    assert box.run("journalctl -o cat -u web").stdout.split("\n").count("before") == 2
