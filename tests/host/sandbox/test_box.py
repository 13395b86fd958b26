"""What a sandbox is good for: everything that a provisioned host must do."""

from __future__ import annotations

from tests.host.conftest import Box


def test_a_sandbox_is_a_whole_machine_with_a_running_systemd(box: Box) -> None:
    assert box.run("systemctl is-system-running").stdout.strip() == "running"
    assert box.run("hostname").stdout.strip() == box.sandbox.name
    assert box.run("cat /proc/1/comm").stdout.strip() == "systemd"


def test_nsprov_itself_runs_in_a_sandbox(box: Box) -> None:
    assert box.nsprov("--version").stdout.startswith("nsprov ")
    assert box.python("import provisioner; print(provisioner.__file__)").strip().endswith("provisioner/__init__.py")


def test_files_written_in_a_sandbox_are_there_and_only_there(box: Box) -> None:
    box.write("/srv/deep/er/note", "hello\n")
    assert box.run(["cat", "/srv/deep/er/note"]).stdout == "hello\n"
    import os

    assert not os.path.exists("/srv/deep")
