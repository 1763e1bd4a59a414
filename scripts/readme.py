"""Write the tables of README.md that repeat what is said elsewhere: commands, errors, models.

`python scripts/readme.py` brings the file up to date; tests/test_gates.py fails when it is not.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from mstore import errors
from mstore.cli.app import app

README = Path(__file__).parents[1] / "README.md"
MODELS = Path(__file__).parents[1] / "docs" / "models.json"
MATRIX = Path(__file__).parents[1] / "docs" / "matrix.json"
FORMS = (
    "TF checkpoint",
    ".keras",
    ".keras directory",
    ".weights.h5",
    ".weights.json",
    "legacy .h5",
    "SavedModel",
    "TF1 V2 + .meta",
    "TF1 V1 + .meta",
    "TF1 V2, builder",
    "TF1 V1, builder",
)
"""The columns of the table of models, in order."""


def command_table() -> str:
    """Return one row for each command that help lists: usage and the first line of its help."""
    group = typer.main.get_command(app)
    rows = ["| command | what it does |", "|---|---|"]
    rows += [f"| `{usage}` | {summary} |" for usage, summary in _commands(group, "mstore")]
    return "\n".join(rows)


def _commands(group: Any, path: str) -> Iterator[tuple[str, str]]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        elif not command.hidden:
            summary = command.help.split("\n\n")[0].replace("\n", " ")
            yield _usage(f"{path} {name}", command.params), summary


def _usage(name: str, parameters: list[typer.CallbackParam]) -> str:
    words = [name]
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            metavar = (parameter.metavar or parameter.name or "").upper()
            plain = parameter.required or metavar.startswith("[")
            words.append(metavar if plain else f"[{metavar}]")
        elif parameter.required:
            words += [parameter.opts[0], parameter.opts[0].lstrip("-").upper()]
    return " ".join(words)


def error_table() -> str:
    """Return one row for each error class: exit status, code and what it means."""
    rows = ["| exit | code | what it means |", "|---|---|---|"]
    for kind in sorted(_leaves(errors.Error), key=lambda kind: (kind.exit_status, kind.code)):
        meaning = (
            (kind.__doc__ or "").split("\n\n")[0].replace("\n", " ").rstrip(".").replace("``", "`")
        )
        rows.append(f"| {kind.exit_status} | `{kind.code}` | {' '.join(meaning.split())} |")
    return "\n".join(rows)


def _leaves(kind: type[errors.Error]) -> list[type[errors.Error]]:
    below = [item for item in kind.__subclasses__() if item.__module__ == errors.__name__]
    own = [] if kind is errors.ResolveError else [kind]
    return own + [leaf for item in below for leaf in _leaves(item)]


def model_table() -> str:
    """Return one row for each kind of model, what came of it in each format, and why not."""
    cells = json.loads(MODELS.read_text(encoding="utf-8"))
    forms = [form for form in FORMS if any(form in row for row in cells.values())]
    rows = ["| kind | " + " | ".join(forms) + " |", "|---|" + "---|" * len(forms)]
    reasons: dict[str, int] = {}
    for kind, row in sorted(cells.items()):
        shown = " | ".join(_cell(row.get(form, ""), reasons) for form in forms)
        rows.append(f"| {kind.replace('_', ' ')} | {shown} |")
    notes = [f"{number}. {_one_line(reason)}" for reason, number in reasons.items()]
    return "\n".join([*rows, "", *notes])


def _one_line(message: str) -> str:
    head, *details = [line.strip() for line in message.splitlines()]
    return " ".join([head, "; ".join(details)]).strip()


def _cell(cell: str, reasons: dict[str, int]) -> str:
    """Return what stands in the table; the message of a refusal becomes a numbered note."""
    verdict, _, reason = cell.partition(", ")
    if not verdict.startswith("refused"):
        return cell
    return f"refused [{reasons.setdefault(reason, len(reasons) + 1)}]"


def version_table() -> str:
    """Return one row for each Python and TensorFlow that scripts/matrix has tried."""
    rows = [
        "| Python | TensorFlow | Keras | NumPy | requirements | tests |",
        "|---|---|---|---|---|---|",
    ]
    found = json.loads(MATRIX.read_text(encoding="utf-8"))
    for _, row in sorted(found.items(), key=lambda item: _numbers(item[0])):
        names = ("python", "tensorflow", "keras", "numpy", "requirements", "outcome")
        rows.append("| " + " | ".join(row.get(name, "") for name in names) + " |")
    return "\n".join(rows)


def _numbers(pair: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", pair)]


def updated(text: str) -> str:
    """Return the README's text with its tables made again."""
    tables = {
        "commands": command_table(),
        "errors": error_table(),
        "models": model_table(),
        "versions": version_table(),
    }
    for name, table in tables.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = pattern.subn(
            lambda found, table=table: found[1] + table + "\n" + found[2], text
        )
        if count != 1:
            raise SystemExit(f"README.md has no place for the table of {name}")
    return text


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
