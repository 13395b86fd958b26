"""Launchers: what comes before a workload's program, and that its own command line is never lost in it."""

from __future__ import annotations

import subprocess
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import directives
from provisioner.directives import BadValue
from provisioner.directives.execution import Commands, line
from provisioner.isolation.hardening import Right
from provisioner.isolation.launch import Become, Launch, workload_of

UTS = {"uts": "/run/nsprov/ns/uts/web.service"}
USER = {"user": "/run/nsprov/ns/user/web.service"}
COMMANDS = Commands()

#: Launchers of every sort.
LAUNCHES = [
    Launch(pid=True),
    Launch(pid=True, cgroup=True, init=True, proc_options=("subset=pid",)),
    Launch(cgroup=True),
    Launch(enter={**UTS, **USER, "time": "/run/nsprov/ns/time/web.service"}),
    Launch(pid_of="db.service", enter=UTS),
    Launch(pid=True, become=Become("www-data", bounding="CAP_KILL", ambient="CAP_KILL"), keeps_root=True),
    Launch(enter=USER, hands_over_folders=True, hands_over_credentials=True, proc_read_only=True, pid=True),
    Launch(numbered=True),
    Launch(init=True),
]


def argv(command: str) -> list[str]:
    return COMMANDS.parsed(command)[2]


def script(command: str) -> str:
    """The shell's script of a launcher, as the shell sees it."""
    words = argv(command)
    return words[words.index("nsprov-launch") - 1].replace("$$", "$")


def test_nothing_is_done_that_is_not_asked_for() -> None:
    assert not Launch().needed
    assert Launch(init=True).needed
    assert not Launch(init=True).isolates
    assert Launch(enter=UTS).isolates


def test_a_pid_namespace_has_a_fresh_proc_and_ends_with_its_launcher() -> None:
    words = argv(Launch(pid=True, proc_options=("subset=pid",)).around("/usr/bin/web --port 80"))
    assert words[:6] == ["/usr/bin/unshare", "--mount", "--pid", "--fork", "--kill-child", "--"]
    assert words[-4:] == ["nsprov-launch", "/usr/bin/web", "--port", "80"]
    assert "mount -t proc -o nosuid,nodev,noexec,subset=pid proc /proc" in words[8]


def test_pinned_namespaces_are_entered_as_their_root() -> None:
    assert script(Launch(enter=UTS).around("/bin/web")) == 'exec nsenter --uts=/run/nsprov/ns/uts/web.service -- "$@"'
    entered = script(Launch(enter={**UTS, **USER}).around("/bin/web"))
    assert f"nsenter --user={USER['user']} --uts={UTS['uts']} -S 0 -G 0 --" in entered


def test_a_users_namespace_that_is_joined_is_entered_before_anything_is_mounted() -> None:
    words = argv(Launch(pid_of="db.service").around("/bin/web"))
    assert words[:2] == ["/bin/sh", "-c"]
    assert 'systemctl show -P MainPID "$$0"' in words[2]
    assert words[3:6] == ["db.service", "/usr/bin/unshare", "--mount"]
    assert "--pid" not in words


@pytest.mark.parametrize("launch", LAUNCHES, ids=range(len(LAUNCHES)))
@pytest.mark.parametrize("prefix", ["", "-", ":", "-:"])
@pytest.mark.parametrize("own", ["/bin/web", '/bin/web "a b" $HOME \\" ;x "" nsprov-launch', "web 'it is' %n"])
def test_the_workloads_own_words_stay_as_they_are(launch: Launch, prefix: str, own: str) -> None:
    (wished,) = directives.canonical("service", "ExecStart", prefix + own)
    made = launch.around(wished)
    assert workload_of(made)[1] == wished
    assert directives.canonical("service", "ExecStart", made) == (made,)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8), max_size=5),
    st.sampled_from(LAUNCHES),
    st.sampled_from(["", "-", ":", "-:"]),
)
def test_whatever_the_arguments_are_they_come_back(arguments: list[str], launch: Launch, prefix: str) -> None:
    wished = prefix + line(["/bin/web", *arguments])
    made = launch.around(wished)
    assert workload_of(made)[1] == wished
    assert argv(made)[-len(arguments) - 1 :] == ["/bin/web", *arguments]


@pytest.mark.parametrize("own", ["/usr/bin/watch nsprov plan", "/bin/sh -c 'nsprov apply' nsprov --yes"])
def test_a_command_without_a_launcher_has_none_whatever_it_is_called(own: str) -> None:
    (wished,) = directives.canonical("service", "ExecStart", own)
    assert workload_of(wished) == ("", wished)


@pytest.mark.parametrize("prefix", ["+", "!", "!!"])
def test_a_command_cannot_go_past_its_isolation(prefix: str) -> None:
    with pytest.raises(BadValue, match="goes past the isolation") as error:
        Launch(pid=True).around(f"{prefix}/bin/web")
    assert error.value.hint == "leave the prefix out"


def test_a_command_with_another_name_is_refused() -> None:
    with pytest.raises(BadValue, match="another name"):
        Launch(pid=True).around("@/bin/web web --port 80")


def test_systemd_leaves_the_launchers_variables_to_the_shell() -> None:
    """It takes ``$`` for its own, two for one; but not in a command that it expands nothing in (``:``)."""
    assert argv(Launch(enter=UTS).around("/bin/web $A"))[2].endswith('"$$@"')
    assert argv(Launch(enter=UTS).around(":/bin/web $A"))[2].endswith(' "$@"')
    assert argv(Launch(enter=UTS).around("/bin/web $A"))[-1] == "$A"
    assert "$$0" not in argv(Launch(pid_of="db.service").around(":/bin/web"))[2]


@pytest.mark.parametrize(("launch", "prefix"), list(product(LAUNCHES, ["", ":"])))
def test_every_script_is_one_that_a_shell_reads(launch: Launch, prefix: str) -> None:
    text = script(launch.around(f"{prefix}/bin/web"))
    done = subprocess.run(["/bin/sh", "-n", "-c", text], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# -- who it becomes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("become", "words"),
    [
        (Become(), ""),
        (Become("33"), "--reuid=33 --regid=33 --clear-groups --inh-caps=-all --ambient-caps=-all"),
        (
            Become("www-data"),
            "--reuid=www-data --regid=$(id -g www-data) --init-groups --inh-caps=-all --ambient-caps=-all",
        ),
        (Become("33", "adm", ("a", "b")), "--reuid=33 --regid=adm --groups=a,b --inh-caps=-all --ambient-caps=-all"),
        (Become(group="adm"), "--reuid=0 --regid=adm --clear-groups --inh-caps=-all --ambient-caps=-all"),
        (Become(groups=("adm",)), "--reuid=0 --regid=0 --groups=adm --inh-caps=-all --ambient-caps=-all"),
        (Become(bounding=""), "--bounding-set=-all --inh-caps=-all --ambient-caps=-all"),
        (
            Become(bounding="CAP_KILL", ambient="CAP_KILL"),
            "--bounding-set=-all,+kill --inh-caps=-all,+kill --ambient-caps=-all,+kill",
        ),
        (Become(bounding="~CAP_SYS_ADMIN"), "--bounding-set=-sys_admin --inh-caps=-all --ambient-caps=-all"),
        (Become(bounding="~"), ""),
        (
            Become(ambient="~CAP_KILL"),
            "--inh-caps=+all,-kill --ambient-caps=+all,-kill",
        ),
    ],
)
def test_it_becomes_who_the_unit_says(become: Become, words: str) -> None:
    assert " ".join(become.words) == (f"/usr/bin/setpriv {words} --" if words else "")


def test_a_launcher_that_needs_root_keeps_systemd_from_changing_the_user() -> None:
    made = Launch(pid=True, become=Become("www-data"), keeps_root=True).around("-/bin/web")
    assert made.startswith("-!/usr/bin/unshare")
    assert workload_of(made)[1] == "-/bin/web"


def test_only_what_it_does_is_left_to_it() -> None:
    assert Launch(enter=UTS).rights == {Right.UTS_NAMESPACE}
    assert Launch(pid=True).rights == {Right.PID_NAMESPACE, Right.MOUNT_NAMESPACE, Right.MOUNT}
    assert Launch(enter=USER, hands_over_folders=True).rights == {Right.USER_NAMESPACE, Right.SETUID, Right.CHOWN}
    assert Right.DROP in Launch(cgroup=True, become=Become(bounding="")).rights
    assert Launch(init=True).rights == set()


# -- the scripts, run -----------------------------------------------------------------------------


def _init(command: str, **kw: str) -> subprocess.CompletedProcess[str]:
    """A command under the init, as a plain child of the tests."""
    text = script(Launch(init=True).around("/bin/true"))
    return subprocess.run(
        ["/bin/sh", "-c", text, "nsprov-launch", "/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        input="from here\n",
        env={"PATH": "/usr/bin:/bin", **kw},
    )


def test_an_init_ends_as_its_workload_and_has_its_input() -> None:
    assert _init("exit 7").returncode == 7
    assert _init("kill -TERM $$").returncode == 143
    assert _init("cat").stdout == "from here\n"


def test_an_init_passes_a_signal_on_and_lets_the_workload_end() -> None:
    done = _init('trap "echo heard; exit 0" TERM; kill -TERM $PPID; while :; do sleep 0.05; done')
    assert (done.stdout, done.returncode) == ("heard\n", 0)


def test_what_runs_under_an_init_hears_an_interrupt() -> None:
    assert _init("kill -INT $$; echo deaf").stdout == ""


def test_a_workload_is_told_its_own_number() -> None:
    assert _init('test "$LISTEN_PID" = $$ && echo mine', LISTEN_PID="1").stdout == "mine\n"
    assert _init('echo "${LISTEN_PID-none}"').stdout == "none\n"
    text = script(Launch(numbered=True).around("/bin/true"))
    told = ["/bin/sh", "-c", 'test "$LISTEN_PID $WATCHDOG_PID" = "$$ $$" && echo mine']
    done = subprocess.run(
        ["/bin/sh", "-c", text, "nsprov-launch", *told],
        capture_output=True,
        text=True,
        check=True,
        env={"LISTEN_PID": "1", "WATCHDOG_PID": "1"},
    )
    assert done.stdout == "mine\n"


def test_sockets_that_are_handed_over_stay_open_under_an_init() -> None:
    text = script(Launch(init=True).around("/bin/true"))
    look = "exec 3</etc/hostname; exec /bin/sh -c \"$0\" nsprov-launch /bin/sh -c 'readlink /proc/self/fd/3'"
    done = subprocess.run(["/bin/sh", "-c", look, text], capture_output=True, text=True, check=True)
    assert done.stdout == "/etc/hostname\n"
