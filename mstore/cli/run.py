"""Runs a command and turns what went wrong into a message and an exit status."""

import json
import sys
import traceback
from collections.abc import Sequence

import typer

from mstore.cli.app import app
from mstore.cli.output import OutputClosedError
from mstore.cli.session import has_color
from mstore.cli.text import paint, safe
from mstore.errors import Error, ResolveError, SystemIOError, UsageError

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 and the number of SIGINT."""

CLOSED = 141
"""Exit status when the reader of standard output went away: 128 and the number of SIGPIPE."""

# Newer Typer ships its own copy of click and older ones import click; this class is the usage error
# of whichever it is.
_PARSER_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


class CancelledError(Error):
    """The user pressed Ctrl-C."""

    code = "interrupted"
    exit_status = INTERRUPTED


class InternalError(Error):
    """Something went wrong that mstore did not foresee: a bug."""

    code = "internal"


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status; errors go to standard error."""
    try:
        # Names on disk need not be UTF-8, and a terminal need not be able to show every character.
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        return _invoke(arguments)
    except OutputClosedError:
        return CLOSED
    except Error as error:
        _report(error, as_json="--json" in arguments)
        return error.exit_status


def _invoke(arguments: Sequence[str]) -> int:
    """Run the command; raise an mstore error for everything that is not success."""
    try:
        status = typer.main.get_command(app).main(
            args=list(arguments), prog_name="mstore", standalone_mode=False
        )
    except (Error, OutputClosedError):
        raise
    except _PARSER_ERROR as error:
        raise _usage(error) from error
    except (KeyboardInterrupt, typer.Abort) as error:
        raise CancelledError("interrupted") from error
    except OSError as error:
        raise SystemIOError(f"{error.filename or 'standard output'}: {error.strerror}") from error
    except Exception as error:
        traceback.print_exc()
        raise InternalError(
            f"{type(error).__name__}: {error}", hint="this is a bug in mstore; please report it"
        ) from error
    if status == INTERRUPTED:  # newer Typer turns Ctrl-C into a status
        raise CancelledError("interrupted")
    return int(status or 0)


def _usage(error: Exception) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "mstore"
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    return UsageError(text, hint=f"{path} --help")


def _report(error: Error, *, as_json: bool) -> None:
    sys.stderr.write(json.dumps(error.to_json()) + "\n" if as_json else _message(error))
    sys.stderr.flush()


def _message(error: Error) -> str:
    color = has_color(sys.stderr)
    lines = [f"{paint('error:', 'red', color=color)} {_lines(error.message)}"]
    if isinstance(error, ResolveError):
        said = error.message + error.hint
        lines += [f"  {safe(item)}" for item in error.candidates if item not in said]
    if error.hint:
        lines.append(f"{paint('hint:', 'bold', color=color)} {_lines(error.hint)}")
    return "\n".join(lines) + "\n"


def _lines(text: str) -> str:
    """Return text with its line ends kept and every other control character made visible."""
    return "\n".join(safe(line) for line in text.split("\n"))
