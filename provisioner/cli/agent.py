"""``agent``: the host's side, which controllers start by themselves; and its bundle, for other processors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    app.command()(agent)


def agent(
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", metavar="DIR", help="Make the bundle for hosts like this machine there; serve nothing."
        ),
    ] = None,
    tree: Annotated[
        Path | None,
        typer.Option(
            "--tree", metavar="DIR", help="Make it of these unpacked packages of Debian, for their processor."
        ),
    ] = None,
) -> None:
    """Serve this machine to a controller, as JSON lines over standard input and output.

    Nobody needs to start it: a controller does, over ssh, from a bundle that it copies to the host once. With
    --bundle it makes that bundle, for controllers with another processor or a newer C library: name the folder in
    their NSPROV_BUNDLES. With --tree it is for another processor, as scripts/bundle makes it of a checkout.
    """
    if bundle is not None:
        _make(bundle, tree)
        return
    if tree is not None:
        from provisioner.errors import UsageError

        raise UsageError("--tree is what a bundle is made of", hint="say where the bundle goes: --bundle DIR")
    from provisioner.fleet.connect import need_root
    from provisioner.fleet.serving import main

    need_root()
    main()


def _make(folder: Path, tree: Path | None) -> None:
    import shutil

    from provisioner.errors import UsageError
    from provisioner.fleet.bundling import made, made_of

    found = made_of(tree) if tree else made()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"agent-{found.arch}-*.tar.gz"):
            old.unlink()
        shutil.copy(found.archive, folder)
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror}") from None
    typer.echo(
        f"{folder / found.archive.name}   {found.archive.stat().st_size / (1 << 20):.1f} MiB, {found.files} files"
    )
