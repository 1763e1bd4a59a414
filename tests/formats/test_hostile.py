"""Damaged and hostile files: an error in words or a correct result, in little memory and time."""

import contextlib
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstore.domain.tensors import Tensor
from mstore.errors import DamagedFileError, Error
from mstore.formats.object_graph import parse_object_graph
from mstore.formats.saved_model import parse_saved_model
from mstore.formats.strings import decode_strings
from mstore.formats.tensor_bundle import parse_index
from tests.formats.bundle_writer import (
    FLOAT32,
    BlockBuilder,
    Entry,
    header,
    sealed,
    table_end,
    varint,
    write_table,
)
from tests.formats.hostile import CASES, MUTATIONS

ROOT = Path(__file__).parents[2]
MEMORY_KIB = 200_000


def run(case: str) -> Any:
    result = subprocess.run(
        [sys.executable, "-m", "tests.formats.hostile", case],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    return json.loads(result.stdout)


def test_mutated_indexes_end_in_words_or_are_read() -> None:
    report = run("mutations")
    assert sum(report["outcomes"].values()) == MUTATIONS >= 1000
    assert report["kib"] < MEMORY_KIB
    assert report["seconds"] < 2
    # That many different checks were reached: most mutants do not stop at the checksum.
    assert len(report["outcomes"]) > 15


@pytest.mark.parametrize(
    ("case", "checks"),
    [("V1 mutations", 20), ("meta mutations", 8), ("graph mutations", 10)],
)
def test_mutated_files_of_other_kinds_end_in_words_or_are_read(case: str, checks: int) -> None:
    report = run(case)
    assert sum(report["outcomes"].values()) == MUTATIONS >= 1000
    assert report["kib"] < MEMORY_KIB
    assert report["seconds"] < 2
    assert len(report["outcomes"]) > checks


@pytest.mark.parametrize("case", CASES)
def test_hostile_files_cost_little(case: str) -> None:
    report = run(case)
    assert report["kib"] < MEMORY_KIB
    assert report["seconds"] < 20


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_as_an_index(data: bytes) -> None:
    with pytest.raises(DamagedFileError):
        parse_index(data, path="x")


@given(st.binary(max_size=200), st.integers(0, 3))
def test_any_block_behind_a_sound_checksum_is_refused_or_read(body: bytes, restarts: int) -> None:
    block = body + bytes(4 * restarts) + struct.pack("<I", restarts)
    out = sealed(block)
    index = BlockBuilder(1)
    index.add(b"\xff", varint(0) + varint(len(block)))
    with contextlib.suppress(Error):
        parse_index(out + table_end(len(out), index), path="x")


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_header_and_entry_are_refused_or_read(first: bytes, second: bytes) -> None:
    sound = Entry(FLOAT32, (2,), size=8).encode()
    for items in (
        [(b"", header() + first), (b"k", sound)],
        [(b"", header()), (b"k", sound + second)],
        [(b"", header()), (b"k", second)],
    ):
        with contextlib.suppress(Error):
            parse_index(write_table(items), path="x")


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read_as_messages(data: bytes) -> None:
    with contextlib.suppress(Error):
        parse_object_graph(data, path="x")
    with contextlib.suppress(Error):
        parse_saved_model(data, path="x")


@given(st.binary(max_size=60), st.integers(0, 20))
def test_any_bytes_are_refused_or_read_as_strings(data: bytes, count: int) -> None:
    tensor = Tensor(b"s", "string", (count,), 0, 0, len(data), 0)
    with contextlib.suppress(Error):
        assert len(decode_strings(tensor, data, path="x")) == count
