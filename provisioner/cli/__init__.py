"""The typer app: one file per group of commands. Parses and prints; decides nothing.

Nobody imports this package. Each command imports what it needs when it runs, so that ``nsprov --help``
stays quick.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import io
import os
import sys
import tempfile
import traceback
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provisioner import __version__
from provisioner.secrets import RedactedStream, redact

if TYPE_CHECKING:
    from provisioner.errors import NsprovError

__all__ = ["app", "main"]

app = typer.Typer(
    name="nsprov",
    help="Isolated workloads on Linux hosts, from an inventory and a set of roles.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: ClickException, of whichever Click this typer carries.
_ClickError: Any = typer.BadParameter.__mro__[2]

#: A disk, a quota or a file's size that is at its end.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: Control characters of a configuration as a terminal shows them, and does not obey.
_VISIBLE = {number: f"\\x{number:02x}" for number in (*range(32), 127) if number != ord("\n")}

#: The modules that add commands, in the order that --help shows them.
_COMMANDS = (
    *("apply", "verify", "rehearse", "inventory", "picture", "sandbox", "exec", "explain", "doctor"),
    *("pull", "agent"),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nsprov {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Isolated workloads on Linux hosts, from an inventory and a set of roles."""


for _name in _COMMANDS:
    if importlib.util.find_spec(f"provisioner.cli.{_name}") is not None:
        importlib.import_module(f"provisioner.cli.{_name}").add_to(app)


def main() -> None:
    """Run the command line. Every error ends in one clear message and the exit code of its kind."""
    from provisioner.errors import NsprovError, UsageError

    _open_standard_streams()
    _let_no_secret_out()
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Abort:
        typer.echo("\nnothing was touched", err=True)
        sys.exit(1)
    except NsprovError as error:
        _print_error(error)
        sys.exit(error.exit_code)
    except _ClickError as error:
        if hasattr(error, "message"):
            # What typer's own validation puts before its words.
            error.message = error.message.replace("Value error, ", "")
        error.show()
        # Click's own code for a usage error is 2, which here says that changes are pending.
        sys.exit(UsageError.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            typer.echo(f"nsprov: cannot write: {error.strerror}", err=True)
            # What is still unwritten would be tried again at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(74)
        descriptor, path = tempfile.mkstemp(prefix="nsprov-crash-", suffix=".txt")
        with os.fdopen(descriptor, "w") as report:
            told = f"nsprov {__version__}, Python {sys.version}\n{sys.argv}\n\n{traceback.format_exc()}"
            report.write(redact(told))
        reason = traceback.format_exc().strip().splitlines()[-1]
        typer.echo(f"nsprov: a defect in nsprov itself: {reason}\n    the full report: {path}", err=True)
        sys.exit(70)


def _open_standard_streams() -> None:
    """Give what was started without its standard streams empty ones, so that no socket takes their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest number that is free is taken: its own.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _let_no_secret_out() -> None:
    """Put the net of secrets before all that is printed, whoever prints it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if getattr(stream, "buffer", None) is None:
            continue  # somebody's own, that takes text alone
        stream.flush()
        net: Any = RedactedStream(stream)
        made = io.TextIOWrapper(
            net,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=True,
        )
        setattr(sys, name, made)


def _print_error(error: NsprovError) -> None:
    from provisioner.errors import ConfigError

    if isinstance(error, ConfigError):
        for problem in error.problems:
            typer.echo(str(problem).translate(_VISIBLE), err=True)
        count = len(error.problems)
        typer.echo(f"nsprov: {count} problem{'s' if count != 1 else ''}; nothing was touched", err=True)
    else:
        typer.echo(f"nsprov: {error}", err=True)
