"""The directions that imports may take, and what ``nsprov --help`` may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "provisioner"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: What a part of the package must not import at run time.
NEVER = {
    "errors.py": {"provisioner"},
    "model.py": {"provisioner.host", "provisioner.engine", "provisioner.config", "provisioner.fleet"},
    "config": {"provisioner.host", "provisioner.engine", "provisioner.fleet", "provisioner.verify"},
    "directives": {"provisioner.host", "provisioner.engine", "provisioner.config", "provisioner.fleet"},
    "limits": {"provisioner.host", "provisioner.engine", "provisioner.config", "provisioner.fleet"},
    "links.py": {"provisioner.host", "provisioner.engine", "provisioner.fleet", "provisioner.verify"},
    "resources": {"provisioner.host", "provisioner.engine", "provisioner.fleet", "provisioner.verify"},
    "engine": {"provisioner.host", "provisioner.fleet", "provisioner.verify"},
    "report": {"provisioner.host", "provisioner.fleet"},
    "host": {"provisioner.config", "provisioner.engine", "provisioner.fleet", "provisioner.verify"},
}
#: The one module of the core that meets the host.
SHELL_OF_THE_CORE = {"engine/apply.py"}

#: Where a kind's driver stands beside its spec: the driver, which is handed a host, may import late what it needs.
DRIVERS = {"resources", "links.py"}

#: What takes long to import, and no one needs in order to read a help text.
HEAVY = ("pydantic", "jinja2", "pyroute2", "pystemd", "testinfra", "pytest", "yaml", "netaddr", "ansible")


def imports_of(path: Path, *, late: bool = True) -> Iterator[tuple[str, int]]:
    """The modules that a file imports at run time, with the line of each; ``late`` ones are inside functions."""
    yield from _imports_in(ast.parse(path.read_text(encoding="utf-8")), late)


def _imports_in(node: ast.AST, late: bool) -> Iterator[tuple[str, int]]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not late:
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for child in node.orelse:
            yield from _imports_in(child, late)
        return
    if isinstance(node, ast.Import):
        yield from ((name.name, node.lineno) for name in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield (node.module or "", node.lineno)
        yield from ((f"{node.module}.{name.name}", node.lineno) for name in node.names)
    for child in ast.iter_child_nodes(node):
        yield from _imports_in(child, late)


def within(module: str, packages: set[str]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in packages)


@pytest.mark.parametrize("part", sorted(NEVER))
def test_imports_go_one_way(part: str) -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line} imports {module}"
        for path in MODULES
        if path.relative_to(PACKAGE).parts[0] == part and path.relative_to(PACKAGE).as_posix() not in SHELL_OF_THE_CORE
        for module, line in imports_of(path, late=part not in DRIVERS)
        if within(module, NEVER[part])
    ]
    assert not found, "\n".join(found)


def test_nobody_imports_the_command_line() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line} imports {module}"
        for path in MODULES
        if path.relative_to(PACKAGE).parts[0] not in ("cli", "__main__.py")
        for module, line in imports_of(path)
        if within(module, {"provisioner.cli"})
    ]
    assert not found, "\n".join(found)


def test_every_module_says_what_it_owns() -> None:
    silent = [str(path.relative_to(PACKAGE)) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent, f"without a docstring: {', '.join(silent)}"


def test_no_module_is_named_for_nothing_in_particular() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "lib"}
    assert not [str(path) for path in MODULES if vague & {path.stem, *path.relative_to(PACKAGE).parts}]


def test_the_help_text_loads_nothing_that_it_does_not_need() -> None:
    code = f"""
import sys
from provisioner.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & set({HEAVY!r})), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: " in done.stdout
    assert done.stderr.strip() == ""
