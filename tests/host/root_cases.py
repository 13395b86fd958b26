"""What a workload sees of file systems, and how somebody gets in to look: for any host that a ``Lab`` stands on."""

from __future__ import annotations

from tests.host.isolation_cases import SLEEP, hears, workload
from tests.host.lab import INVENTORY, Lab

#: A command that says what it sees, and stays.
_LOOK = "/bin/sh -c '{}; sleep 1000'"


def looks(lab: Lab, fields: str, script: str) -> str:
    """Apply a unit that runs a script; prove it."""
    made = lab.apply(f"- unit: {{name: web, {fields}, KillSignal: SIGKILL, ExecStart: {_LOOK.format(script)!r}}}")
    lab.verify()
    return made


def gone(lab: Lab) -> None:
    """Take it all away; nothing is mounted for it any more."""
    lab.box.nsprov("destroy", INVENTORY, "--yes")
    assert lab.box.run("grep /run/nsprov /proc/mounts; ls -d /run/nsprov* 2>/dev/null; true").stdout == ""


def test_a_strict_view_has_what_is_named_and_nothing_else(lab: Lab) -> None:
    lab.box.run("mkdir -p /srv/given /srv/open && echo hello > /srv/given/note && echo secret > /srv/hidden")
    looks(
        lab,
        'isolate: [mount], strict: true, binds: [/usr, "/srv/given:/given", "/srv/open:/open:rw"],'
        ' tmpfs: ["/scratch:size=1M"]',
        "cat /given/note; echo mine > /open/made; echo x > /given/x; echo x > /scratch/x && echo scratched; ls / /srv",
    )
    hears(lab, "web.service", "scratched")
    seen = lab.box.nsprov("exec", "web", "--", "ls", "/").stdout.split()
    assert {"usr", "bin", "given", "open", "scratch", "proc", "dev"} <= set(seen)
    assert sorted({"boot", "opt", "media", "srv"} & set(seen)) == []
    assert lab.box.run("cat /srv/open/made").stdout == "mine\n"
    assert lab.box.run("ls /srv/given").stdout.split() == ["note"]  # it is read-only
    hears(lab, "web.service", "Read-only file system")
    gone(lab)


def test_a_strict_view_is_given_to_a_fully_isolated_workload(lab: Lab) -> None:
    looks(lab, "isolate: all, harden: strict, strict: true, binds: [/usr]", "ls /etc; hostname; echo ready")
    hears(lab, "web.service", "ready")
    hears(lab, "web.service", "hosts")


def test_a_folder_is_its_root(lab: Lab) -> None:
    lab.box.run("mkdir -p /srv/tree/etc && echo tree > /srv/tree/etc/marker")
    looks(
        lab,
        "isolate: [mount, pid], root: /srv/tree, binds: [/usr, /bin, /lib, /lib64, /sbin]",
        "cat /etc/marker; echo here > /etc/made",
    )
    hears(lab, "web.service", "tree")
    assert lab.box.run("cat /srv/tree/etc/made").stdout == "here\n"
    assert lab.box.nsprov("exec", "web", "--", "cat", "/etc/marker").stdout == "tree\n"


def test_what_is_written_over_an_overlay_does_not_reach_the_tree(lab: Lab) -> None:
    lab.box.run("mkdir -p /srv/tree/etc /run/kept && echo tree > /srv/tree/etc/marker && rm -f /srv/tree/etc/made")
    fields = "isolate: [mount], root: {overlay: /srv/tree, upper: /run/kept}, binds: [/usr, /bin, /lib, /lib64]"
    looks(lab, fields, "cat /etc/marker; echo over > /etc/marker; echo done")
    hears(lab, "web.service", "done")
    assert lab.box.run("cat /srv/tree/etc/marker").stdout == "tree\n"
    assert lab.box.run("cat /run/kept/upper/etc/marker").stdout == "over\n"
    gone(lab)
    assert lab.box.run("cat /run/kept/upper/etc/marker").stdout == "over\n"  # the folder is the user's


def test_who_gets_in_is_in_all_its_namespaces_and_its_cgroup(lab: Lab) -> None:
    lab.apply(f"- unit: {{name: web, isolate: all, hostname: box, {SLEEP}}}")
    pid = workload(lab, "web.service")
    shown = lab.box.nsprov("show", INVENTORY).stdout
    assert f"PID {pid}, 1 inside" in shown
    told = lab.box.nsprov(
        "exec", "web", "--", "sh", "-c", "hostname; id -u; cat /proc/self/cgroup | tail -n 1; ls /proc"
    )
    hostname, user, group, *rest = told.stdout.split("\n")
    assert (hostname, user, group) == ("box", "0", "0::/")
    assert "1" in rest
    assert str(pid) not in rest
    assert lab.box.nsprov("exec", "web", "--", "sh", "-c", "exit 7", check=False).returncode == 7
    assert lab.box.nsprov("exec", "namespace/uts/web.service", "hostname").stdout == "box\n"
    assert lab.box.nsprov("exec", "netns/web.service", "--", "ip", "-br", "link").stdout.startswith("lo ")
    refused = lab.box.nsprov("exec", "nobody", "--", "true", check=False)
    assert (refused.returncode, "nobody.service does not run" in refused.stderr) == (1, True)
