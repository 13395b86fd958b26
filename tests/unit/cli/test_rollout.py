"""What a rollout tells while it goes and at its end, and the file of the hosts that it left undone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from provisioner.cli.rollout import Board, plan_fleet, roll_out_fleet
from provisioner.cli.session import Fleet, Session, open_session, retry_file
from provisioner.config.strategy import Share, Strategy
from provisioner.errors import UnreachableError
from provisioner.model import Action, Step
from provisioner.resources.netns import Netns
from tests.unit.fleet.memory_host import MemoryHost, shall_have


@contextmanager
def undisturbed(_: Callable[[], str]) -> Iterator[Callable[[], bool]]:
    yield lambda: False


def session_of(folder: Path, hosts: str, *, limit: str | None = None) -> Session:
    path = folder / "inventory.yml"
    path.write_text(f"all: {{hosts: {{{hosts}}}}}\n")
    return open_session([str(path)], limit=limit)


def run(
    session: Session,
    hosts: Sequence[MemoryHost],
    strategy: Strategy | None = None,
    *,
    format: str = "text",
    lost: Sequence[str] = (),
    verify: Callable[[Sequence[str]], Mapping[str, str]] | None = None,
) -> int:
    strategy = strategy or Strategy(forks=2)
    fleet = Fleet({host.name: host for host in hosts}, {name: UnreachableError("no route to it") for name in lost})
    desired = {host.name: shall_have("blue", "green") for host in hosts}
    planned = plan_fleet(session, fleet, desired, forks=2, hold=True)
    return roll_out_fleet(
        session,
        planned,
        strategy,
        print_plans=lambda: None,
        ask=lambda _: None,
        yes=True,
        keep_partial=False,
        format=format,
        stopping=undisturbed,
        verify=verify,
        keeps_retry_file=True,
    )


def fleet_of(count: int, **bad: MemoryHost) -> list[MemoryHost]:
    return [bad.get(f"web{number}", MemoryHost(f"web{number}")) for number in range(1, count + 1)]


Printed = pytest.CaptureFixture[str]


def test_three_hundred_hosts_are_told_in_a_few_lines(tmp_path: Path, capsys: Printed) -> None:
    session = session_of(tmp_path, '"web[1:300]": ')
    hosts = fleet_of(300, web48=MemoryHost("web48", refuses=["green"]), web7=MemoryHost("web7", gone=True))
    assert run(session, hosts, Strategy(serial=(Share(50, percent=True),), forks=4)) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "batch 1/3: 149 hosts: web[1:6], web[8:150]",
        "web48   failed: creating netns/green: No space left on device; it was put back",
        "batch 1/3 done: 148 applied, 1 failed   (149/299 hosts)",
        "batch 2/3: 149 hosts: web[151:299]",
        "batch 2/3 done: 149 applied   (298/299 hosts)",
        "batch 3/3: 1 host: web300",
        "batch 3/3 done: 1 applied   (299/299 hosts)",
        "applied 298, failed 1, unreachable 1",
        "  web48   failed: creating netns/green: No space left on device; it was put back",
        "  web7   unreachable: the connection to web7 broke: No route to host",
    ]
    assert err == f"to go on with these hosts: nsprov apply {session.sources[0]} --limit @retry\n"
    assert (tmp_path / "inventory.retry").read_text() == "web7\nweb48\n"


def test_a_retry_that_succeeds_removes_the_file(tmp_path: Path) -> None:
    hosts = fleet_of(3, web2=MemoryHost("web2", refuses=["green"]))
    assert run(session_of(tmp_path, '"web[1:3]": '), hosts) == 1
    hosts[1].refuses = ()
    again = session_of(tmp_path, '"web[1:3]": ', limit="@retry")
    assert again.hosts == ["web2"]
    assert run(again, [hosts[1]]) == 0
    assert not (tmp_path / "inventory.retry").exists()


def test_a_success_elsewhere_leaves_the_retry_file_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "inventory.retry").write_text("web3\n")
    assert run(session_of(tmp_path, '"web[1:3]": ', limit="web1"), fleet_of(1)) == 0
    assert (tmp_path / "inventory.retry").read_text() == "web3\n"


def test_the_result_for_programs_says_what_became_of_each_host(tmp_path: Path, capsys: Printed) -> None:
    session = session_of(tmp_path, '"web[1:5]": ')
    hosts = fleet_of(4, web3=MemoryHost("web3", refuses=["blue"]))
    assert (
        run(
            session,
            hosts,
            Strategy(serial=(Share(1), Share(2)), max_fail_percentage=0, forks=1),
            format="json",
            lost=["web5"],
        )
        == 1
    )
    data = json.loads(capsys.readouterr().out)
    assert data["applied"] == ["web1"]
    assert list(data["failed"]) == ["web3"]
    assert list(data["put_back"]) == ["web2"]
    assert list(data["not_touched"]) == ["web4"]
    assert data["unreachable"] == {"web5": "no route to it"}
    assert data["batches"] == [
        {"hosts": ["web1"], "canary": False, "stopped": None},
        {
            "hosts": ["web2", "web3"],
            "canary": False,
            "stopped": "50 % of the batch failed, and max_fail_percentage is 0",
        },
        {"hosts": ["web4"], "canary": False, "stopped": None},
    ]
    assert data["results"]["web3"]["failed"] == {"address": "netns/blue", "error": "No space left on device"}


def test_hosts_that_need_no_change_are_in_no_batch_and_are_verified_at_the_end(tmp_path: Path) -> None:
    session = session_of(tmp_path, '"web[1:3]": ')
    hosts = fleet_of(3)
    assert run(session_of(tmp_path, '"web[1:3]": ', limit="web2"), [hosts[1]]) == 0
    asked: list[list[str]] = []

    def verify(names: Sequence[str]) -> Mapping[str, str]:
        asked.append(list(names))
        return {"web2": "1 fact of 2 does not hold"} if "web2" in names else {}

    assert run(session, hosts, Strategy(serial=(Share(1),), verify=True, forks=1), verify=verify) == 1
    assert asked == [["web1"], ["web3"], ["web2"]]


def test_a_canary_by_a_pattern_is_the_first_batch(tmp_path: Path, capsys: Printed) -> None:
    assert run(session_of(tmp_path, '"web[1:4]": '), fleet_of(4), Strategy(canary="web3", forks=2)) == 0
    assert capsys.readouterr().out.splitlines()[0] == "canary: 1 host: web3"


def test_in_a_log_there_is_a_line_at_most_every_ten_seconds(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    board = Board(2, 100)
    board.number = 1
    for host in ("web1", "web2"):
        board.host_begins(host)
    for _ in range(26):
        clock[0] += 1
        board.tick()
    assert capsys.readouterr().err.splitlines() == ["batch 1/2   0/100 done, 2 running: web1, web2"] * 2
    assert board.waited_for() == "web[1:2]"


def step(name: str) -> Step:
    made = Netns(name=name)
    return Step(Action.CREATE, made.address, after=made)


def test_a_log_says_how_far_each_host_is(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    board = Board(1, 100)
    for host in ("web1", "web2"):
        board.host_begins(host)
    watcher = board.watcher("web1", 40)
    assert watcher is not None
    watcher.step(step("blue"), 3)
    clock[0] += 10
    board.tick()
    assert capsys.readouterr().err.splitlines() == ["0/100 done, 2 running: web1 3/40, web2"]


def test_of_the_only_host_a_log_says_how_far_it_is_at_most_every_ten_seconds(
    capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    board = Board(1, 1)
    board.host_begins("web1")
    watcher = board.watcher("web1", 40)
    assert watcher is not None
    for done in range(1, 26):
        clock[0] += 1
        watcher.step(step(f"t{done}"), done)
    watcher.rolling_back(25)
    assert capsys.readouterr().err.splitlines() == [
        "web1   10/40   create netns/t10",
        "web1   20/40   create netns/t20",
        "web1   is put back   in 25 steps",
    ]


@pytest.mark.parametrize(
    ("source", "retry"),
    [("inventory.yml", "inventory.retry"), ("production", "production.retry"), ("web1,web2,", None)],
)
def test_the_retry_file_is_beside_the_inventory_and_not_in_it(tmp_path: Path, source: str, retry: str | None) -> None:
    (tmp_path / "inventory.yml").touch()
    (tmp_path / "production").mkdir()
    given = source if "," in source else str(tmp_path / source)
    assert retry_file([given]) == (tmp_path / retry if retry else None)


def test_templates_know_the_hosts_of_the_run_by_ansibles_names(tmp_path: Path) -> None:
    tasks = tmp_path / "roles/web/tasks/main.yml"
    tasks.parent.mkdir(parents=True)
    tasks.write_text(
        "- file: {path: /x, content: \"{{ ansible_play_hosts | join(' ') }} / {{ ansible_play_hosts_all | join(' ') }}"
        " / {{ ansible_limit | default('all') }} / {{ hostvars[groups['all'][3]].number }}\"}\n"
    )
    path = tmp_path / "inventory.yml"
    path.write_text("all: {vars: {nsprov_roles: [web]}, hosts: {web1: , web2: , web3: , web4: {number: 7}}}\n")
    session = open_session([str(path)], limit="web1,web2,web3")
    built = session.build(lambda _: {}, ["web1", "web3"])
    assert list(built) == ["web1", "web3"]
    content = [vars(one.resource)["content"] for one in built["web3"].of("file")]
    assert content == ["web1 web3 / web1 web2 web3 / web1,web2,web3 / 7"]
