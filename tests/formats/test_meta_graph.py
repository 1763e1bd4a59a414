import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstore.domain.signatures import TensorSpec
from mstore.errors import DamagedFileError, InputError
from mstore.formats.meta_graph import MetaVariable, parse_meta, read_meta_graph
from tests.formats.bundle_writer import message, number
from tests.formats.tf1_writer import FLOAT32, node, small_meta


def test_everything_in_it_is_found() -> None:
    info = parse_meta(small_meta(), path="x.meta")
    assert info.tensorflow_version == "1.15.5"
    assert info.variables == (
        MetaVariable("emb/part_0", "emb", TensorSpec("float32", (2, 3))),
        MetaVariable("global_step", "", TensorSpec("int64", ())),
        MetaVariable("w", "", TensorSpec("float32", (4, 3))),
    )
    assert info.placeholders == {"x:0": TensorSpec("float32", (None, 4))}
    assert info.ops == {"Placeholder", "VariableV2", "VarHandleOp", "MatMul"}
    signature = info.signatures["serving_default"]
    assert signature.inputs == {"x": TensorSpec("float32", (None, 4))}


def test_a_reference_type_is_its_type() -> None:
    graph = node("v", "VariableV2", dtype=100 + FLOAT32, shape=(2,))
    listed = message(
        4, message(1, b"variables") + message(2, message(2, message(1, b"\x0a\x03v:0")))
    )
    info = parse_meta(message(2, graph) + listed, path="x.meta")
    assert info.variables == (MetaVariable("v", "", TensorSpec("float32", (2,))),)


def test_a_variable_that_is_not_in_the_graph_has_no_type() -> None:
    data = small_meta().replace(b"\x0a\x01w\x12\x0aVariableV2", b"\x0a\x01u\x12\x0aVariableV2")
    found = {item.name: item.spec for item in parse_meta(data, path="x").variables}
    assert found["w"] is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        message(1, message(5, b"1.15")),
        message(2, number(1, 7)),
        message(2, node("v", "VariableV2", dtype=FLOAT32, shape=(-5,))),
        small_meta()[:-1],
    ],
)
def test_what_is_no_graph_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedFileError, match=r"x\.meta is damaged"):
        parse_meta(data, path="x.meta")


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    with contextlib.suppress(DamagedFileError):
        parse_meta(data, path="x.meta")


def test_a_missing_file_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_meta_graph(tmp_path / "x.meta")
