"""How a function becomes a command: the options all share, its help and its examples."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from mstore.cli.session import Session, open_session
from mstore.cli.settings import Settings
from mstore.errors import UsageError

P = ParamSpec("P")
Command = Callable[Concatenate[Session, P], None]

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        "-C",
        metavar="PATH",
        help="Directory that holds .mstore. Default: $MSTORE_STORE, else looked for upwards.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print ids only.")]

app = typer.Typer(
    name="mstore",
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def group(name: str, summary: str) -> typer.Typer:
    """Return a command that has commands of its own, registered under ``name``."""
    made = typer.Typer(
        name=name, help=summary, no_args_is_help=False, rich_markup_mode=None, callback=_named
    )
    app.add_typer(made, invoke_without_command=True)
    return made


def _named(ctx: typer.Context) -> None:
    """Ask for one of the commands."""
    if ctx.invoked_subcommand is None:
        raise UsageError(
            f"{ctx.info_name} needs a command", hint=f"mstore {ctx.info_name} --help lists them"
        )


def command(
    name: str,
    *,
    aliases: Sequence[str] = (),
    examples: Sequence[str],
    within: typer.Typer = app,
) -> Callable[[Command[P]], Command[P]]:
    """Return a decorator that registers a function under ``name``, of a `group` if one is given.

    The function takes the session and then its own parameters, annotated for Typer. Its docstring
    is the help text; ``--store``, ``--json`` and ``--quiet`` are added.
    """

    def register(function: Command[P]) -> Command[P]:
        runner = _runner(function)
        text = _help(inspect.cleandoc(function.__doc__ or ""), examples)
        within.command(name, help=text)(runner)
        for alias in aliases:
            within.command(alias, help=text, hidden=True)(runner)
        return function

    return register


def _runner(function: Callable[..., None]) -> Callable[..., None]:
    """Return what Typer calls: by keyword, with the signature that it shall read."""

    def run(**values: Any) -> None:
        ctx: typer.Context = values.pop("ctx")
        given = Settings(values.pop("store_path"), values.pop("as_json"), values.pop("quiet"))
        before = ctx.obj if isinstance(ctx.obj, Settings) else Settings()
        session = open_session(before.merged(given))
        with session.progress:
            function(session, **values)

    named = inspect.Parameter.KEYWORD_ONLY
    own = list(inspect.signature(function).parameters.values())[1:]
    parameters = [
        inspect.Parameter("ctx", named, annotation=typer.Context),
        *(parameter.replace(kind=named) for parameter in own),
        inspect.Parameter("store_path", named, default=None, annotation=StoreOption),
        inspect.Parameter("as_json", named, default=False, annotation=JsonOption),
        inspect.Parameter("quiet", named, default=False, annotation=QuietOption),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in parameters}
    return run


def _help(text: str, examples: Sequence[str]) -> str:
    # \b keeps the lines of a paragraph as they are.
    listing = "\n".join(f"  {example}" for example in examples)
    return f"{text}\n\n\b\nExamples:\n{listing}"
