"""Standard output: one page a command, printed as text, JSON or ids."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from mstore.cli.settings import Mode
from mstore.cli.text import Table, paint, safe


class OutputClosedError(Exception):
    """The reader of standard output went away, as ``mstore list | head -1`` does."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text, in a style where there are colours; data within it is made safe."""

    text: str
    style: str = ""


Block = Table | Line


@dataclass(frozen=True, slots=True)
class Page:
    """What a command has to say.

    Attributes:
        document: the JSON document.
        ids: what ``-q`` prints, one a line.
        blocks: tables and lines, in order.
    """

    document: object
    ids: tuple[str, ...]
    blocks: tuple[Block, ...]


class Output:
    """Prints pages to standard output and talk to standard error."""

    def __init__(
        self, mode: Mode, stdout: TextIO, stderr: TextIO, *, terminal: bool, color: bool
    ) -> None:
        """Print to ``stdout`` in one mode; ``terminal`` says whether people read it."""
        self._mode = mode
        self._stdout = stdout
        self._stderr = stderr
        self._terminal = terminal
        self._color = color

    def show(self, page: Page) -> None:
        """Print a page.

        Raises:
            OutputClosedError: nobody reads any more.
        """
        if self._mode == "json":
            lines = [dump(page.document)]
        elif self._mode == "ids":
            lines = [safe(identifier) for identifier in page.ids]
        else:
            lines = [line for block in page.blocks for line in self._lines(block)]
        try:
            self._stdout.writelines(f"{line}\n" for line in lines)
            self._stdout.flush()
        except BrokenPipeError as error:
            raise OutputClosedError from error

    def talk(self, text: str) -> None:
        """Say something to people on standard error; ``--json`` and ``-q`` keep it silent."""
        if self._mode == "text":
            self._stderr.write(f"{safe(text)}\n")
            self._stderr.flush()

    def _lines(self, block: Block) -> Sequence[str]:
        if isinstance(block, Line):
            return [paint(safe(block.text), block.style, color=self._color)]
        if self._terminal:
            return list(block.aligned(color=self._color)) if block.rows else []
        return list(block.separated())


def dump(document: object) -> str:
    """Return a JSON document; numbers that JSON does not have (NaN, infinities) become null."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
