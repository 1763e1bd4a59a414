"""Tables, text, JSON, progress and values."""

import io
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstore.cli.output import Line, Output, Page, dump
from mstore.cli.progress import SilentProgress, TerminalProgress
from mstore.cli.settings import Mode
from mstore.cli.text import Table, moment, safe, shape, size
from mstore.cli.values import parse_inputs, parse_metrics, parse_pairs
from mstore.domain.signatures import TensorSpec
from mstore.errors import UsageError

SIZE = frozenset({"SIZE"})
PAGE = Page(
    [{"loss": float("nan")}],
    ("id-1", "id-2"),
    (
        Line("two things", "bold"),
        Table(
            ("NAME", "SIZE", "EMPTY"), (("a\tb", 7, ""), ("長い", 1234, "")), frozenset({"SIZE"})
        ),
    ),
)


def printed(mode: Mode, *, terminal: bool = False, color: bool = False) -> str:
    stdout = io.StringIO()
    Output(mode, stdout, io.StringIO(), terminal=terminal, color=color).show(PAGE)
    return stdout.getvalue()


def test_text_for_a_program_is_tab_separated_with_every_column() -> None:
    assert printed("text") == "two things\na\\x09b\t7\t\n長い\t1234\t\n"


def test_text_for_people_is_aligned_without_empty_columns() -> None:
    assert printed("text", terminal=True) == (
        "two things\nNAME    SIZE\na\\x09b     7\n長い    1234\n"
    )


def test_colours_appear_only_where_asked_for() -> None:
    assert "\x1b[1mtwo things\x1b[0m" in printed("text", terminal=True, color=True)
    assert "\x1b" not in printed("text", terminal=True)


def test_json_has_null_for_what_json_cannot_say() -> None:
    assert json.loads(printed("json")) == [{"loss": None}]
    assert json.loads(dump({"a": (1.5, float("inf"))})) == {"a": [1.5, None]}


def test_quiet_prints_ids_alone() -> None:
    assert printed("ids") == "id-1\nid-2\n"


def test_talk_is_silent_for_programs() -> None:
    said: dict[Mode, str] = {}
    modes: tuple[Mode, ...] = ("text", "json", "ids")
    for mode in modes:
        stderr = io.StringIO()
        Output(mode, io.StringIO(), stderr, terminal=False, color=False).talk("hello")
        said[mode] = stderr.getvalue()
    assert said == {"text": "hello\n", "json": "", "ids": ""}


@given(st.text())
def test_safe_text_has_no_control_characters_and_is_stable(text: str) -> None:
    assert all(char.isprintable() or char == "\u3000" for char in safe(text))
    assert safe(safe(text)) == safe(text)


@given(st.integers(0, 10**15))
def test_a_size_is_short(count: int) -> None:
    assert len(size(count)) <= len("1000.0 TB")


def test_times_and_shapes_read_well() -> None:
    assert moment("2026-03-01T10:20:30.5+00:00") == "2026-03-01 10:20:30Z"
    assert [shape((None, 3)), shape(()), shape(None)] == ["[?,3]", "[]", "[...]"]


def test_quick_work_shows_nothing() -> None:
    stream = io.StringIO()
    with TerminalProgress(stream, delay=30) as progress:
        progress.start("reading", 100)
        progress.advance(100)
        progress.finish()
    assert stream.getvalue() == ""


def test_long_work_shows_label_and_bytes() -> None:
    stream = io.StringIO()
    with TerminalProgress(stream, delay=0) as progress:
        progress.start("reading [x]", 2_000_000)
        progress.advance(1_000_000)
        deadline = time.monotonic() + 60
        while not stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
            progress.advance(0)
        progress.start("unknown", None)
    assert "reading [x]" in stream.getvalue()
    assert "2.0 MB" in stream.getvalue()


def test_silent_progress_takes_everything() -> None:
    with SilentProgress() as progress:
        progress.start("x", None)
        progress.advance(1)
        progress.finish()


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="="), min_size=1), st.text(), max_size=5
    )
)
def test_pairs_print_and_parse(pairs: dict[str, str]) -> None:
    assert parse_pairs("--x", [f"{name}={value}" for name, value in pairs.items()]) == pairs


def test_metrics_are_numbers() -> None:
    assert parse_metrics(["a=1e-3", "b=-2"]) == {"a": 0.001, "b": -2.0}


@given(st.none() | st.lists(st.none() | st.integers(0, 10**9), max_size=5).map(tuple))
def test_inputs_print_and_parse(dims: tuple[int | None, ...] | None) -> None:
    spec = TensorSpec("float32", dims)
    assert parse_inputs([f"x=float32{shape(dims)}"]) == {"x": spec}


@pytest.mark.parametrize("text", ["x", "x=float32", "=float32[]", "x=float32[1", "x=float32[-2]"])
def test_other_inputs_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_inputs([text])
