"""What templates may call: ``lookup`` and ``query``, of variables, the environment, files and templates.

Files are those of the role and of the project, on the machine where nsprov runs; nothing of the host is read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import pass_context

from provisioner.config.source import read_text
from provisioner.config.values import FilterError, Missing
from provisioner.config.variables import MISSING, Frame, Place
from provisioner.errors import ConfigError, Problem, Source, did_you_mean
from provisioner.secrets import Secret, is_secret, learn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jinja2.runtime import Context

    from provisioner.config.templating import Templates

__all__ = ["find_file", "functions"]

#: The most bytes that Linux takes for a file's name.
_NAME_MAX = 255


def find_file(name: str, folder: str, place: Place | None, source: Source | None) -> Path:
    """The path of a role's file. Raises ConfigError with the folders that were searched."""
    known = place.found if place else {}
    found = known.get((name, folder))
    if found is not None:
        return found
    if "\0" in name or any(len(part.encode()) > _NAME_MAX for part in name.split("/")):
        raise ConfigError(Problem(f"'{name[:40]}…' cannot be the name of a file", source))
    wanted = Path(name)
    if wanted.is_absolute():
        if wanted.is_file():
            return wanted
        raise ConfigError(Problem(f"the file '{name}' does not exist", source))
    folders = place.search(folder) if place else ()
    for base in folders:
        if (base / wanted).is_file():
            known[name, folder] = base / wanted
            return base / wanted
    first = [base for base in folders if base.name == folder]
    there = sorted(
        {str(one.relative_to(base)) for base in first if base.is_dir() for one in base.rglob("*") if one.is_file()}
    )
    what = "template" if folder == "templates" else "file"
    searched = ", ".join(str(base) for base in first) or "no folder: this is outside of a role"
    hint = did_you_mean(name, there)
    near = hint if hint and hint.startswith("did you mean") else None
    raise ConfigError(Problem(f"there is no {what} '{name}' (searched: {searched})", source, near))


def functions(templates: Callable[[], Templates]) -> Mapping[str, Any]:
    """The functions of templates, for the engine that ``templates`` gives."""

    def look_up(context: Context, name: str, terms: tuple[Any, ...], options: dict[str, Any]) -> list[Any]:
        short = str(name).removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")
        lookups: dict[str, Callable[..., list[Any]]] = {
            "env": _environment,
            "file": _files,
            "template": _templates,
            "vars": _variables,
        }
        if short not in lookups:
            raise FilterError(f"there is no lookup '{name}'", "known here: " + ", ".join(sorted(lookups)))
        frame = getattr(context, "frame", None)
        if frame is None:
            raise FilterError(f"lookup('{name}') needs the variables", "import the template 'with context'")
        for term in terms:
            if isinstance(term, Missing):
                term.fail()
        flat = [one for term in terms for one in (term if isinstance(term, list) else [term])]
        return lookups[short](templates(), frame, flat, options)

    @pass_context
    def lookup(context: Context, name: str, *terms: Any, **options: Any) -> Any:
        wantlist = options.pop("wantlist", False)
        found = look_up(context, name, terms, options)
        if wantlist:
            return found
        if len(found) == 1:
            return found[0]
        if not all(isinstance(one, str) for one in found):
            return found
        joined = ",".join(found)
        return Secret(joined) if any(map(is_secret, found)) else joined

    @pass_context
    def query(context: Context, name: str, *terms: Any, **options: Any) -> Any:
        options.pop("wantlist", None)
        return look_up(context, name, terms, options)

    def undef(hint: str | None = None) -> Missing:
        return Missing(hint=hint or "this must be defined")

    return {"lookup": lookup, "query": query, "q": query, "undef": undef}


def _known_options(name: str, options: dict[str, Any], *known: str) -> None:
    for option in options:
        if option not in known:
            raise FilterError(f"the lookup '{name}' has no option '{option}'", did_you_mean(option, known))


def _environment(_: Templates, __: Frame, terms: list[Any], options: dict[str, Any]) -> list[Any]:
    _known_options("env", options, "default")
    made = []
    for name in terms:
        value = os.environ.get(str(name), options.get("default", ""))
        if isinstance(value, Missing):
            raise FilterError(f"the environment has no '{name}'")
        made.append(value)
    return made


def _files(_: Templates, frame: Frame, terms: list[Any], options: dict[str, Any]) -> list[Any]:
    _known_options("file", options, "lstrip", "rstrip")
    made = []
    for name in terms:
        text = read_text(_found(str(name), "files", frame))
        found = text.rstrip() if options.get("rstrip", True) else text
        found = found.lstrip() if options.get("lstrip", False) else found
        if is_secret(text):
            found = Secret(found)
            learn(found)
        made.append(found)
    return made


def _templates(templates: Templates, frame: Frame, terms: list[Any], options: dict[str, Any]) -> list[Any]:
    _known_options("template", options, "template_vars", "convert_data")
    given = options.get("template_vars")
    within = Frame(dict(given), frame) if given else frame
    search = frame.place.search("templates") if frame.place else ()
    return [templates.render_file(_found(str(name), "templates", frame), within, search) for name in terms]


def _found(name: str, folder: str, frame: Frame) -> Path:
    try:
        return find_file(name, folder, frame.place, None)
    except ConfigError as error:
        raise FilterError(error.problems[0].message, error.problems[0].hint) from None


def _variables(templates: Templates, frame: Frame, terms: list[Any], options: dict[str, Any]) -> list[Any]:
    _known_options("vars", options, "default")
    made = []
    for name in terms:
        if not isinstance(name, str):
            raise FilterError(f"the lookup 'vars' takes names of variables, not '{name}'")
        value = templates.evaluator.lookup(frame, str(name))
        if value is MISSING:
            if "default" not in options:
                Missing(name=str(name)).fail()
            value = options["default"]
        elif isinstance(value, Missing):
            value.fail()
        made.append(value)
    return made
