"""Plain text for people: sizes, times, safe cells, aligned and tab-separated tables."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_UNITS = ("B", "kB", "MB", "GB", "TB")
_STYLES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "dim": "2"}


def size(count: int) -> str:
    """Return bytes in decimal units.

    >>> size(999), size(12_600_000)
    ('999 B', '12.6 MB')
    """
    value = float(count)
    unit = 0
    while value >= 999.95 and unit < len(_UNITS) - 1:  # noqa: PLR2004 - would print as 1000.0
        value /= 1000
        unit += 1
    return f"{count} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def moment(iso: str) -> str:
    """Return an ISO 8601 time in UTC to the second.

    >>> moment("2026-03-01T10:20:30.123456+00:00"), moment("2026-03-01T10:20:30Z")
    ('2026-03-01 10:20:30Z', '2026-03-01 10:20:30Z')
    """
    return f"{iso[:10]} {iso[11:19]}Z" if iso[10:11] == "T" else iso


def short(identifier: str) -> str:
    """Return the first 12 digits of an id."""
    return identifier[:12]


def shape(dims: Sequence[int | None] | None) -> str:
    """Return a shape as the command line writes it.

    >>> shape((None, 10)), shape(()), shape(None)
    ('[?,10]', '[]', '[...]')
    """
    if dims is None:
        return "[...]"
    return "[" + ",".join("?" if dim is None else str(dim) for dim in dims) + "]"


def safe(value: object) -> str:
    r"""Return text that cannot steer a terminal: control characters are written ``\xNN``.

    >>> safe("a\x1b[31m\n")
    'a\\x1b[31m\\x0a'
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\u3000" else _escape(char) for char in text
    )


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - Latin-1 ends


def paint(text: str, style: str, *, color: bool) -> str:
    """Return ``text`` in a style of the terminal, or as it is where there are no colours."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if color and style else text


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings.

    Attributes:
        headings: one for each column.
        rows: cells; all rows have as many as there are headings.
        right: columns that are aligned to the right.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    right: frozenset[str] = frozenset()

    def aligned(self, *, color: bool) -> Iterator[str]:
        """Yield lines for a terminal: headings, then rows, without the columns that are empty."""
        cells = [tuple(safe(cell) for cell in row) for row in self.rows]
        used = [i for i in range(len(self.headings)) if any(row[i] for row in cells)]
        widths = {i: max(_width(row[i]) for row in (self.headings, *cells)) for i in used}
        for number, row in enumerate((self.headings, *cells)):
            line = "  ".join(self._pad(row[i], i, widths[i]) for i in used).rstrip()
            yield paint(line, "bold" if number == 0 else "", color=color)

    def separated(self) -> Iterator[str]:
        """Yield rows for a program: tab-separated, no headings, every column."""
        for row in self.rows:
            yield "\t".join(safe(cell) for cell in row)

    def _pad(self, cell: str, column: int, width: int) -> str:
        fill = " " * (width - _width(cell))
        return fill + cell if self.headings[column] in self.right else cell + fill


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)
