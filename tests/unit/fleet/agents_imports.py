"""All that an agent may import, at once or late, read from its sources."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import provisioner

__all__ = ["START", "agents_imports"]

#: What a bundle's start script has the interpreter do.
START = "from provisioner.fleet.serving import main; main()"

#: What is imported where a controller works alone: to render a task, to write a suite.
_CONTROLLERS_OWN = ("provisioner.config", "provisioner.verify", "provisioner.report", "provisioner.fleet.connect")


def agents_imports() -> str:
    """Code that imports all of it; to be put into a start script in place of ``START``."""
    names = set[str]().union(*map(_imported, ("host", "resources", "directives", "isolation", "limits", "network")))
    return f"import importlib; [importlib.import_module(one) for one in {json.dumps(sorted(names))}]"


def _imported(package: str) -> set[str]:
    """All that the modules of a package import, late or at once, but for types alone."""
    found: set[str] = set()
    for path in (Path(provisioner.__file__).parent / package).rglob("*.py"):
        if "sandbox" in path.parts or path.stem == "doctor":
            continue
        waiting: list[ast.AST] = [ast.parse(path.read_text())]
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            if isinstance(node, ast.Import):
                found.update(one.name for one in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
            waiting += ast.iter_child_nodes(node)
    return {name for name in found if not name.startswith(_CONTROLLERS_OWN)}
