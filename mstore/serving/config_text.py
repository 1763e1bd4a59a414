"""The structure of a message in protobuf's text format, with the place of everything.

Just enough of the grammar (https://protobuf.dev/reference/protobuf/textformat-spec/) to know where
each field stands, so that one can be replaced and all else stays as it is, comments included. What
the fields mean is for protobuf's own parser.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

from mstore.errors import InputError

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>[A-Za-z0-9_.+\-]+)
    |(?P<mark>[{}<>\[\]:,;/])""",
    re.VERBOSE,
)
_DEEPEST = 64
_CLOSING = {"{": "}", "<": ">"}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value that is no message; ``text`` as it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """A message in braces; its fields, and the offsets behind the opening and of the closing."""

    fields: "tuple[Field, ...]"
    start: int
    end: int

    def find(self, name: str) -> "Iterator[Field]":
        """Yield the fields of that name."""
        return (field for field in self.fields if field.name == name)


Value = Union[Scalar, Body, "tuple[Scalar | Body, ...]"]


@dataclass(frozen=True, slots=True)
class Field:
    """A field: its name, its value, and the offsets of its beginning and behind its end."""

    name: str
    value: Value
    start: int
    end: int

    @property
    def bodies(self) -> tuple[Body, ...]:
        """The messages that it holds: one, or those of a list."""
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        return tuple(value for value in values if isinstance(value, Body))


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def parse(text: str) -> Body:
    """Return the structure of a text.

    Raises:
        InputError: it is not in the text format; with line and column.
    """
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._scan())
        self._at = 0

    def _scan(self) -> Iterator[_Token]:
        position = 0
        while position < len(self._text):
            match = _TOKEN.match(self._text, position)
            if match is None or match.lastgroup is None:
                raise self._error(position, f"{self._text[position]!r} does not belong here")
            position = match.end()
            if match.lastgroup != "space":
                yield _Token(match.lastgroup, match.group(), match.start(), position)
        yield _Token("end", "", position, position)

    def whole(self) -> Body:
        fields = self._fields("", 0)
        return Body(fields, 0, len(self._text))

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at += token.kind != "end"
        return token

    def _fields(self, closing: str, depth: int) -> tuple[Field, ...]:
        if depth > _DEEPEST:
            raise self._error(self._next.start, "messages are nested too deeply")
        found = []
        while self._next.text != closing or self._next.kind == "string":
            if self._next.kind == "end":
                raise self._error(self._next.start, f"{closing!r} is missing")
            found.append(self._field(depth))
        return tuple(found)

    def _field(self, depth: int) -> Field:
        first = self._take()
        name = first.text
        if first.text == "[":  # an extension, or the type of an Any
            while self._next.text != "]" and self._next.kind in {"word", "mark"}:
                name += self._take().text
            name += self._expect("]").text
        elif first.kind != "word":
            raise self._error(first.start, f"{first.text} is no name of a field")
        has_colon = self._next.text == ":"
        if has_colon:
            self._take()
        elif self._next.text not in {"{", "<", "["}:
            raise self._error(self._next.start, f"':' is missing behind {name}")
        value = self._value(depth)
        end = self._tokens[self._at - 1].end
        if self._next.text in {",", ";"} and self._next.kind == "mark":
            end = self._take().end
        return Field(name, value, first.start, end)

    def _value(self, depth: int) -> Value:
        if self._next.text != "[" or self._next.kind != "mark":
            return self._single(depth)
        self._take()
        found: list[Scalar | Body] = []
        while self._next.text != "]":
            if found:
                self._expect(",")
            found.append(self._single(depth))
        self._take()
        return tuple(found)

    def _single(self, depth: int) -> Scalar | Body:
        token = self._take()
        if token.kind == "mark" and token.text in _CLOSING:
            fields = self._fields(_CLOSING[token.text], depth + 1)
            return Body(fields, token.end, self._take().start)
        if token.kind not in {"word", "string"}:
            raise self._error(token.start, "a value is missing")
        text = token.text
        while token.kind == "string" and self._next.kind == "string":
            text += self._take().text
        return Scalar(text)

    def _expect(self, mark: str) -> _Token:
        token = self._take()
        if token.text != mark or token.kind != "mark":
            raise self._error(token.start, f"{mark!r} is missing")
        return token

    def _error(self, offset: int, what: str) -> InputError:
        line = self._text.count("\n", 0, offset) + 1
        column = offset - (self._text.rfind("\n", 0, offset) + 1) + 1
        return InputError(f"line {line}, column {column}: {what}")
