from pathlib import Path

import pytest

from mstore.domain.signatures import TensorSpec
from mstore.errors import DamagedFileError, InputError
from mstore.formats.saved_model import read_saved_model, variables_prefix
from mstore.formats.saved_objects import MAX_ITEMS
from tests.formats.bundle_writer import (
    FLOAT32,
    STRING,
    SUFFIX,
    message,
    number,
    small_values,
    varint,
    write_bundle,
)
from tests.formats.graph_writer import entry, tensor_info, text


def graph_node(name: str, op: str, shared_name: str | None = None) -> bytes:
    out = text(1, name) + text(2, op) + text(3, "input") + entry(5, "dtype", number(6, 1))
    if shared_name is not None:
        out += entry(5, "shared_name", text(2, shared_name))
    return message(1, out)


def function(name: str, *ops: str) -> bytes:
    nodes = b"".join(message(3, text(1, f"n{at}") + text(2, op)) for at, op in enumerate(ops))
    return message(1, message(1, text(1, name)) + nodes)


def meta_graph(*tags: str, inputs: bytes = b"", shared: str = "w") -> bytes:
    info = text(5, "2.21.0") + b"".join(text(4, tag) for tag in tags)
    graph = graph_node("w", "VarHandleOp", shared) + graph_node("again", "VarHandleOp", shared)
    graph += graph_node("lonely", "VarHandleOp", "") + graph_node("call", "wrapped")
    graph += message(2, function("wrapped", "MatMul", "ReadVariableOp", "inner"))
    graph += message(2, function("inner", "Relu"))
    inputs = inputs or entry(1, "x", tensor_info(FLOAT32, -1, 4))
    outputs = entry(2, "y", tensor_info(FLOAT32 + 100, unknown_rank=True))
    signatures = entry(5, "serving_default", inputs + outputs + text(3, "predict"))
    signatures += entry(5, "__saved_model_init_op", entry(2, "__saved_model_init_op", b""))
    assets = message(6, message(1, text(1, "asset:0")) + text(2, "vocab.txt"))
    return message(1, info) + message(2, graph) + signatures + assets


def write(directory: Path, *graphs: bytes, schema: int = 1) -> Path:
    data = number(1, schema) + b"".join(message(2, graph) for graph in graphs)
    (directory / "saved_model.pb").write_bytes(data)
    return directory


def refusal(directory: Path) -> str:
    with pytest.raises(DamagedFileError) as caught:
        read_saved_model(directory)
    assert caught.value.hint
    return caught.value.message


def test_a_saved_model_is_read(tmp_path: Path) -> None:
    write(tmp_path, meta_graph("train"), meta_graph("serve", "gpu", shared="v"))
    info = read_saved_model(tmp_path)
    assert info.tag_sets == [frozenset({"train"}), frozenset({"serve", "gpu"})]
    assert list(info.signatures) == ["serving_default"]
    signature = info.signatures["serving_default"]
    assert signature.inputs == {"x": TensorSpec("float32", (None, 4))}
    assert signature.outputs == {"y": TensorSpec("float32", None)}
    assert info.tensorflow_version == "2.21.0"
    assert info.handles == {"v": 2, "lonely": 1}
    assert info.assets == ("vocab.txt",)
    assert info.ops == {"VarHandleOp", "MatMul", "ReadVariableOp", "Relu"}
    assert info.variables is None
    assert info.variable_names == {}


def test_the_variables_are_read(tmp_path: Path) -> None:
    write(tmp_path, meta_graph("serve"))
    write_bundle(variables_prefix(tmp_path), small_values())
    info = read_saved_model(tmp_path)
    assert info.variables is not None
    assert len(info.variables.values) == 3
    assert info.variable_names[b"w/.ATTRIBUTES/VARIABLE_VALUE"] == "dense/kernel"


def saved_object(*children: tuple[str, int], variable: str = "") -> bytes:
    edges = [message(1, number(1, at) + text(2, name)) for name, at in children]
    return message(1, b"".join(edges) + (message(7, text(6, variable)) if variable else b""))


def test_variables_without_a_name_beside_them_have_the_one_in_the_graph(tmp_path: Path) -> None:
    objects = saved_object(("w", 1), ("a/b.S.c", 2)) + saved_object(variable="unused")
    objects += saved_object(("v", 3), ("gone", 9)) + saved_object(variable="net/w")
    write(tmp_path, meta_graph("serve") + message(7, objects))
    values = small_values()
    one = values[b"w" + SUFFIX]
    for key in (b"a.Sb..S..c/v", b"a.Sb..S..c/gone", b"a.Sb..S..c", b"no/where"):
        values[key + SUFFIX] = one
    write_bundle(variables_prefix(tmp_path), values)
    names = read_saved_model(tmp_path).variable_names
    assert names[b"w" + SUFFIX] == "dense/kernel"
    assert names[b"a.Sb..S..c/v" + SUFFIX] == "net/w"
    assert len(names) == 4


def test_more_objects_than_any_sound_model_has_are_damage(tmp_path: Path) -> None:
    write(tmp_path, meta_graph("serve") + message(7, b"\x0a\x00" * (MAX_ITEMS + 1)))
    assert "more objects" in refusal(tmp_path)


def test_damaged_variables_are_found(tmp_path: Path) -> None:
    write(tmp_path, meta_graph("serve"))
    prefix = write_bundle(variables_prefix(tmp_path), small_values())
    prefix.with_name("variables.data-00000-of-00001").unlink()
    assert "missing" in refusal(tmp_path)


def test_a_scalar_and_a_string_are_read(tmp_path: Path) -> None:
    write(tmp_path, meta_graph("serve", inputs=entry(1, "s", tensor_info(STRING))))
    signature = read_saved_model(tmp_path).signatures["serving_default"]
    assert signature.inputs == {"s": TensorSpec("string", ())}


@pytest.mark.parametrize(
    "info", [tensor_info(77), tensor_info(0), tensor_info(FLOAT32, -2), tensor_info(1, *[1] * 255)]
)
def test_impossible_signatures_are_damage(tmp_path: Path, info: bytes) -> None:
    assert "signature" in refusal(write(tmp_path, meta_graph("serve", inputs=entry(1, "x", info))))


def test_other_files_are_no_saved_models(tmp_path: Path) -> None:
    assert "holds no graph" in refusal(write(tmp_path))
    assert "schema version" in refusal(write(tmp_path, meta_graph("serve"), schema=2))
    for data in (b"\xff" * 30, b"hello", b"\x12\x7f", b"\x10\x01", b"\x0b", varint(7 << 3 | 1)):
        (tmp_path / "saved_model.pb").write_bytes(data)
        refusal(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(message(2, entry(5, "s", b"\xff")))
    assert "signature of it does not parse" in refusal(tmp_path)


def test_every_truncation_is_damage_or_read(tmp_path: Path) -> None:
    data = (write(tmp_path, meta_graph("serve")) / "saved_model.pb").read_bytes()
    for size in range(2, len(data)):
        (tmp_path / "saved_model.pb").write_bytes(data[:size])
        refusal(tmp_path)


def test_what_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no directory"):
        read_saved_model(tmp_path / "missing")
    with pytest.raises(InputError, match=r"no saved_model\.pb"):
        read_saved_model(tmp_path)
    for name, words in (("saved_model.pbtxt", "as text"), ("saved_model.cpb", "in chunks")):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=words):
            read_saved_model(tmp_path)
        (tmp_path / name).unlink()
