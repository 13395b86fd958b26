"""``nsprov explain``: what each kind is and takes, in the words of its spec."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]


class Format(StrEnum):
    TEXT = "text"
    JSON_SCHEMA = "json-schema"


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("explain")(explain)


def explain(
    topic: Annotated[
        str | None, typer.Argument(metavar="[KIND[.FIELD]]", help="A kind, or a field of it. All kinds when left out.")
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", help="Text, or the JSON Schema of a role's task files.")
    ] = Format.TEXT,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="DIR", help="Write the reference pages into this folder.")
    ] = None,
) -> None:
    """Describe the kinds of resources, and their fields."""
    import json

    from provisioner.errors import UsageError
    from provisioner.report import reference
    from provisioner.report.schema import task_schema
    from provisioner.resources import kinds

    if write is not None:
        _write_pages(write, reference.pages(kinds()))
    elif format is Format.JSON_SCHEMA:
        if topic is not None:
            raise UsageError("the JSON Schema is that of whole task files", hint="leave the kind out")
        typer.echo(json.dumps(task_schema(kinds()), indent=2, ensure_ascii=False))
    elif topic is None:
        typer.echo(reference.index_text([reference.entry_of(kind) for kind in kinds().values()]))
        typer.echo(f"\nA task may also say who reaches whom:\n\n  expect     {reference.expect_entry().summary}")
        typer.echo("\nnsprov explain KIND shows the fields of one.")
    else:
        typer.echo(_topic_text(topic))


def _topic_text(topic: str) -> str:
    from provisioner.errors import UsageError, did_you_mean
    from provisioner.report import reference
    from provisioner.resources import kinds

    name, _, path = topic.partition(".")
    known = [*kinds(), "expect"]
    if name not in known:
        raise UsageError(
            f"there is no kind '{name}'", hint=did_you_mean(name, known) or f"known here: {', '.join(known)}"
        )
    entry = reference.expect_entry() if name == "expect" else reference.entry_of(kinds()[name])
    if not path:
        return reference.kind_text(entry)
    try:
        return reference.field_text(name, path, entry.field(path))
    except KeyError as error:
        unknown = error.args[0]
        parent = path[: path.rindex(unknown)].rstrip(".")
        within = entry.field(parent) if parent else entry
        there = within.fields + within.directives
        hint = did_you_mean(unknown, [one.name for one in there])
        raise UsageError(f"{name}{'.' if parent else ''}{parent} has no field '{unknown}'", hint=hint) from None


def _write_pages(folder: Path, pages: dict[str, str]) -> None:
    """Write the pages, and remove those of kinds that are no more."""
    from provisioner.errors import UsageError
    from provisioner.report.reference import GENERATED

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.md"):
            if old.name not in pages and old.read_text(encoding="utf-8").startswith(GENERATED):
                old.unlink()
        for name, text in pages.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the pages cannot be written: {error.strerror}: {error.filename}") from None
    typer.echo(f"{len(pages)} pages in {folder}")
