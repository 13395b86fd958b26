"""Writes what hosts shall be as a plain pytest-testinfra suite, one named test for each fact.

The suite runs without nsprov: ``pytest --hosts=local:// DIR``. It holds a file of facts for each host, the tests
that its roles bring, and copies of the modules of this folder that both use: ``probes.py``, ``packets.py``, …
"""

from __future__ import annotations

import ast
import json
import keyword
import re
import shutil
import textwrap
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from provisioner.errors import UsageError
from provisioner.model import Check
from provisioner.report.text import show_path
from provisioner.secrets import redact
from provisioner.verify import packets, probes
from provisioner.verify.expect import expect_check

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from provisioner.errors import Source
    from provisioner.model import Declared, Desired

__all__ = ["file_stems", "write_suite"]

_INI = """\
[pytest]
addopts = --import-mode=importlib
pythonpath = .
"""

_README = """\
# What these hosts shall be

The facts of project `{project}`, written by nsprov from its configuration. They are plain pytest-testinfra tests,
and need `pip install pytest pytest-testinfra`, not nsprov; the hosts need no Python.

{commands}

- `test_HOST.py`: the facts of a host. Each names the file and line that declares it.
- `HOST/ROLE/`: the tests that a role brought.
- `probes.py`, `packets.py`: what the facts call. They start `ip`, `systemctl`, `nft` and `ping` through testinfra.
- `fixtures.py`, `views.py`: the fixtures `netns`, `unit` and `slice` for the roles' tests.
- `declared.json`: what the fixture `declared` tells the roles' tests.

A host's files run on that host alone: on the one of its name, or of its address, among `--hosts`. Root is needed on the
hosts (`--sudo` asks for it). Some facts only: `pytest -k "blue and eth0" …`. For a CI:
`--junitxml=FILE`.
"""

_HEAD = '''\
"""What {host} shall be: {count} of project {project}.

    pytest --hosts={target} {file}
"""
'''


def write_suite(
    folder: Path,
    hosts: Mapping[str, Desired],
    *,
    project: str,
    targets: Mapping[str, str] | None = None,
    key: bytes | None = None,
) -> list[Path]:
    """Writes the suite into ``folder``, and returns the files of facts, in the order of the hosts.

    ``targets`` are the testinfra URIs that the hosts are reached by where ``--hosts`` does not say. Files of an
    earlier suite are written over; a folder that holds anything else is refused.

    With a key, which whoever runs it must have in its environment, the suite checks secrets as well: by digests that
    say nothing without the key. It holds none otherwise.
    """
    targets = targets or {}
    stems = file_stems(hosts)
    files = {name: f"test_{stem}.py" for name, stem in stems.items()}
    texts = {
        files[name]: _facts_file(name, desired, project, targets.get(name) or "URI", files[name], key)
        for name, desired in hosts.items()
    }
    texts |= {name: _standing_alone(name) for name in ("probes.py", "packets.py", "views.py", "fixtures.py")}
    texts["conftest.py"] = _standing_alone("suite_conftest.py")
    texts |= {"pytest.ini": _INI, "README.md": _readme(hosts, project, targets)}
    _make_empty(folder)
    _write_private(folder / "declared.json", _declared(hosts, targets))
    for name, text in texts.items():
        (folder / name).write_text(redact(text))
    for name, desired in hosts.items():
        _copy_tests(folder / stems[name], desired.tests)
    return [folder / files[name] for name in hosts]


def file_stems(hosts: Iterable[str]) -> dict[str, str]:
    """Each host's name as its files have it: different for each, and without dots, as Python has modules by them."""
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for host in hosts:
        plain = re.sub(r"[^A-Za-z0-9_-]", "_", host)
        tries = chain([plain], (f"{plain}-{number}" for number in count(2)))
        stems[host] = next(one for one in tries if one not in taken)
        taken.add(stems[host])
    return stems


# -- the facts ------------------------------------------------------------------------------------


class _Fact(NamedTuple):
    check: Check
    about: str
    source: Source | None


def _facts(desired: Desired, key: bytes | None) -> Iterator[_Fact]:
    """Every fact of a host once, reachability last: its packets are under way while the others are checked."""
    seen: set[Check] = set()
    titles: set[str] = set()
    found = [
        _Fact(check, str(address), declared.source)
        for address, declared in desired.resources.items()
        # What would tell a secret, or let it be guessed by its digest, is left out.
        for check in (*declared.resource.without(declared.secrets).checks(), *_sealed(declared, key))
    ]
    found += [_Fact(expect_check(expect), "who reaches whom", source) for expect, source in desired.expects]
    for one in found:
        if one.check in seen:
            continue
        seen.add(one.check)
        title = " ".join(one.check.title.split())
        if title in titles:
            title = f"{title} ({one.about})"
        number = 2
        while title in titles:
            title = f"{title.removesuffix(f', {number - 1}')}, {number}"
            number += 1
        titles.add(title)
        yield one._replace(check=Check(title, one.check.code))


def _sealed(declared: Declared, key: bytes | None) -> Iterator[Check]:
    """That secrets are what they shall be, without telling them."""
    if key is None or not declared.secrets:
        return
    for title, path, content in declared.resource.secret_files(declared.secrets):
        digest = probes.sealed_digest(key, content)
        yield Check(title, f"assert sealed_file(host, {path!r}) == {digest!r}")


def _facts_file(host: str, desired: Desired, project: str, target: str, file: str, key: bytes | None) -> str:
    facts = list(_facts(desired, key))
    count = f"{len(facts)} fact{'' if len(facts) == 1 else 's'}"
    blocks: list[str] = []
    names: set[str] = set()
    used: set[str] = set()
    about = ""
    for one in facts:
        body = textwrap.dedent(one.check.code).strip("\n")
        used |= _names_in(body, one.check.title)
        heading = f"# -- {one.about} {'-' * max(0, 96 - len(one.about))}\n\n\n" if one.about != about else ""
        about = one.about
        mark = (
            f"@fact({_quoted(one.check.title)}{f', declared={_quoted(show_path(one.source))}' if one.source else ''})"
        )
        if len(mark) > 120 and one.source:
            mark = f"@fact(\n    {_quoted(one.check.title)},\n    declared={_quoted(show_path(one.source))},\n)"
        function = _function_name(one.check.title, names)
        blocks.append(f"{heading}{mark}\ndef {function}(host):\n{textwrap.indent(body, '    ')}\n")
    head = _HEAD.format(host=host, count=count, project=project, target=target, file=file)
    return "\n\n".join([head + "\n" + _imports(used) if facts else head, *blocks])


def _names_in(code: str, title: str) -> set[str]:
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise ValueError(f"the check '{title}' is not valid Python: {error.msg}: {code!r}") from None
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _imports(used: set[str]) -> str:
    lines = []
    for module, names in (("packets", packets.__all__), ("probes", probes.__all__)):
        chosen = sorted(name for name in names if name in used or name == "fact")
        if chosen:
            lines.append(f"from {module} import {', '.join(chosen)}")
    return "\n".join(lines) + "\n"


def _function_name(title: str, taken: set[str]) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "_", title).strip("_").lower() or "fact"
    base = name = f"test_{words[:80]}"
    number = 2
    while name in taken or keyword.iskeyword(name):
        name = f"{base}_{number}"
        number += 1
    taken.add(name)
    return name


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# -- what stands beside them ----------------------------------------------------------------------


def _make_empty(folder: Path) -> None:
    """Makes the folder, or clears it of an earlier suite. What is no suite is never cleared."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = list(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from None
    if there and not {"conftest.py", "declared.json", "probes.py"} <= {path.name for path in there}:
        raise UsageError(f"{folder} holds other files", hint="name a new folder, or one that an earlier --write made")
    hosts = json.loads((folder / "declared.json").read_text()) if there else {}
    for stem in hosts:
        (folder / f"test_{stem}.py").unlink(missing_ok=True)
        shutil.rmtree(folder / stem, ignore_errors=True)


def _standing_alone(name: str) -> str:
    """A module of this folder as a suite has it, where its neighbours are modules of their own."""
    text = (Path(__file__).parent / name).read_text()
    text = text.replace("from provisioner.verify import packets, probes", "import packets\nimport probes")
    return text.replace("from provisioner.verify.", "from ")


def _copy_tests(folder: Path, roles: Iterable[str]) -> None:
    """Copies the ``tests/`` of roles that hold pytest files, each into a folder of the role's name."""
    for tests in dict.fromkeys(roles):
        source = Path(tests)
        if any(source.rglob("test_*.py")) or any(source.rglob("*_test.py")):
            role = source.resolve().parent.name if source.name == "tests" else source.name
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
            shutil.copytree(source, folder / role, dirs_exist_ok=True, ignore=ignored, ignore_dangling_symlinks=True)


def _readme(hosts: Mapping[str, Desired], project: str, targets: Mapping[str, str]) -> str:
    lines = ["    pytest .                # every host, each by its own connection"] if targets else []
    for name, stem in list(file_stems(hosts).items())[:3]:
        files = f"test_{stem}.py" + (f" {stem}/" if hosts[name].tests else "")
        lines.append(f"    pytest --hosts={targets.get(name, f'ssh://root@{name}')} {files}")
    if len(hosts) > 1:
        lines.append("    pytest --hosts=ansible://all --ansible-inventory=FILE .")
    return _README.format(project=project, commands="\n".join(lines))


def _declared(hosts: Mapping[str, Desired], targets: Mapping[str, str]) -> str:
    found = {}
    stems = file_stems(hosts)
    for name, desired in hosts.items():
        resources = [
            {
                "address": str(address),
                "kind": address.kind,
                "role": declared.role,
                "fields": declared.resource.shown(declared.secrets),
            }
            for address, declared in desired.resources.items()
        ]
        found[stems[name]] = {"name": name, "target": targets.get(name), "resources": resources}
    return redact(json.dumps(found, indent=1)) + "\n"


def _write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner reads: declared fields may say what is nobody else's business."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
