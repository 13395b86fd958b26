"""The agent's bundle: made of the interpreter that runs nsprov, and named after its content."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.errors import NsprovError
from provisioner.fleet.bundle import SUMS, Bundle, bootstrap, find, sources
from tests.unit.fleet.agents_imports import START, agents_imports


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    patch.delenv("NSPROV_BUNDLES", raising=False)
    try:
        return find(platform.machine())
    finally:
        patch.undo()


@pytest.fixture(scope="module")
def unpacked(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agent")
    subprocess.run(["tar", "-xzf", bundle.archive, "-C", folder], check=True)
    return folder


def test_it_is_named_after_its_content(bundle: Bundle, unpacked: Path) -> None:
    sums = (unpacked / SUMS).read_bytes()
    assert bundle.id == hashlib.sha256(sums).hexdigest()
    listed = dict(line.split("  ", 1)[::-1] for line in sums.decode().splitlines())
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()} - {SUMS}
    assert listed.keys() == files
    assert bundle.files == len(files)
    for name in ("agent", "python"):
        assert listed[name] == hashlib.sha256((unpacked / name).read_bytes()).hexdigest()


def test_it_is_small(bundle: Bundle) -> None:
    assert bundle.archive.stat().st_size < 40 << 20


def test_the_same_sources_make_the_same_bundle(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    again = find(platform.machine())
    assert again.archive != bundle.archive
    assert again.id == bundle.id
    assert again.archive.read_bytes() == bundle.archive.read_bytes()


def test_it_greets_and_answers_with_nothing_but_its_own_files(unpacked: Path) -> None:
    requests = [{"do": "hello"}, {"do": "facts"}, {"do": "no-such-thing"}]
    done = subprocess.run(
        [str(unpacked / "agent")],
        cwd=unpacked,
        # What would lead another Python astray: of the environment it takes the path of programs alone.
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "/nowhere", "PYTHONSTARTUP": "/nowhere"},
        input="".join(json.dumps(one) + "\n" for one in requests),
        capture_output=True,
        text=True,
        check=True,
    )
    hello, facts, defect = (json.loads(line) for line in done.stdout.splitlines())
    assert hello == {"id": None, "answer": {"protocol": 2}}
    assert facts["answer"]["arch"] == platform.machine()
    assert "defect" in defect


def test_everything_that_an_agent_may_import_is_in_it(unpacked: Path) -> None:
    """Also what is imported late: a host would notice it only then."""
    start = (unpacked / "agent").read_text().replace(START, agents_imports())
    done = subprocess.run(["sh", "-c", start], cwd=unpacked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_processor_needs_a_bundle_that_was_made_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NSPROV_BUNDLES", raising=False)
    with pytest.raises(NsprovError, match="there is no agent for processors of the kind riscv64"):
        find("riscv64")
    with pytest.raises(
        NsprovError, match=r"there is no agent for .* aarch64, which web1 has\n.*'scripts/bundle FOLDER aarch64'"
    ):
        find("aarch64", "web1")
    name = f"agent-riscv64-{sources()}-3-{'0' * 64}.tar.gz"
    (tmp_path / name).touch()
    monkeypatch.setenv("NSPROV_BUNDLES", str(tmp_path))
    assert find("riscv64") == Bundle("0" * 64, "riscv64", tmp_path / name, 3, sources())


@pytest.mark.parametrize("known", ["0123456789ab-", ""])
def test_a_bundle_of_another_version_is_refused_with_the_command_that_makes_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    (tmp_path / f"agent-aarch64-{known}3-{'0' * 64}.tar.gz").touch()
    monkeypatch.setenv("NSPROV_BUNDLES", str(tmp_path))
    with pytest.raises(NsprovError, match=r"is of another version of nsprov\n.*'scripts/bundle FOLDER aarch64'"):
        find("aarch64", "web1")


def test_what_a_host_is_given_to_run_is_plain_shell(bundle: Bundle) -> None:
    script = bootstrap(bundle.id, bundle.files)
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0


def test_a_bundle_is_put_into_a_folder_for_a_controller_elsewhere(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(bundle.archive.parents[2]))
    folder = tmp_path / "bundles"
    folder.mkdir()
    (folder / f"agent-{platform.machine()}-0123456789ab-3-{'0' * 64}.tar.gz").touch()  # an older one, which goes
    command = [sys.executable, "-m", "provisioner", "agent", "--bundle"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=True)
    monkeypatch.setenv("NSPROV_BUNDLES", str(folder))
    found = find(platform.machine())
    assert done.stdout.startswith(f"{found.archive} ")
    assert (found.id, found.files) == (bundle.id, bundle.files)
    nowhere = subprocess.run([*command, "/proc/nowhere"], capture_output=True, text=True, check=False)
    assert nowhere.returncode == 64
    assert "cannot write into /proc/nowhere: " in nowhere.stderr
    homeless = subprocess.run([*command[:-1], "--tree", "/"], capture_output=True, text=True, check=False)
    assert homeless.returncode == 64
    assert "say where the bundle goes: --bundle DIR" in homeless.stderr


def test_the_cache_keeps_the_last_few_bundles(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "nsprov" / "bundles"
    cache.mkdir(parents=True)
    for number in range(9):
        name = f"agent-x-0-1-{number}.tar.gz"
        (cache / name).touch()
        os.utime(cache / name, (number, number))
        (cache / f"{number}.name").write_text(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NSPROV_BUNDLES", raising=False)
    kept = find(platform.machine()).archive.name
    assert {path.name for path in cache.glob("*.gz")} == {
        kept,
        *(f"agent-x-0-1-{number}.tar.gz" for number in range(2, 9)),
    }
    assert {path.read_text() for path in cache.glob("*.name")} == {path.name for path in cache.glob("*.gz")}


def test_nothing_but_answers_is_on_the_agents_output(unpacked: Path) -> None:
    """Whatever prints there: Python, a library in C, a program that it starts."""
    code = """
import ctypes, io, json, os
from provisioner.fleet import agent, serving

def noisy(requests, answers, first=""):
    print("print", flush=True)
    os.write(1, b"write")
    ctypes.CDLL(None).puts(b"puts")
    ctypes.CDLL(None).fflush(None)
    os.system("echo echo; cat")

agent.serve = noisy
serving.main()
"""
    start = (unpacked / "agent").read_text().replace(START, code)
    done = subprocess.run(
        ["sh", "-c", start],
        cwd=unpacked,
        input='{"id": 7, "do": "hello"}\nmine\n',
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == '{"id": 7, "answer": {"protocol": 2}}\n'
    assert done.stderr.split() == ["print", "writeputs", "echo"]
