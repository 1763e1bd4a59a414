"""What a server runs of a graph, and what it leaves alone."""

import os
from pathlib import Path

import pytest

from mstore.domain.graphs import Constant, Graph, OpUse
from mstore.errors import DamagedFileError
from mstore.formats.graph_walk import read_graphs
from tests.formats.bundle_writer import message, number
from tests.formats.graph_writer import (
    branches,
    calls,
    entry,
    function,
    meta_graph,
    node,
    signature,
    sound_graph,
    string_constant,
    tensor_info,
    text,
    write_saved_model,
    yes,
)

X = node("x", "Placeholder")
SERVING = signature("serving_default", "y:0")


def read(directory: Path, graph: bytes) -> Graph:
    (found,) = read_graphs(write_saved_model(directory, graph) / "saved_model.pb")
    return found


def ops(graph: Graph) -> dict[str, OpUse]:
    return {use.op: use for use in graph.ops}


def test_a_sound_graph_is_read(tmp_path: Path) -> None:
    graph = read(tmp_path, sound_graph())
    assert graph.tags == {"serve"}
    assert graph.tensorflow_version == "2.21.0"
    assert list(graph.signatures) == ["serving_default"]
    found = ops(graph)
    assert set(found) >= {"MatMul", "ReadVariableOp", "VarHandleOp"}
    assert found["MatMul"] == OpUse("MatMul", "serving/y", "serving_default")
    # The saver's own work is no matter, and saving is never done by a server.
    assert not set(found) & {"RestoreV2", "SaveV2"}
    assert found["AssignVariableOp"].reason is None
    assert graph.restores
    assert graph.declared["VarHandleOp"] == "w"


def test_what_no_signature_needs_is_left_alone(tmp_path: Path) -> None:
    nodes = [X, node("y", "Relu", "x"), node("train", "PyFunc", "y")]
    graph = read(tmp_path, meta_graph(nodes, [function("spare", [node("n", "Sin")])], SERVING))
    assert set(ops(graph)) == {"Placeholder", "Relu"}
    assert graph.declared["PyFunc"] == "train"
    assert "Sin" not in graph.declared


def test_control_inputs_attributes_branches_and_function_ops_are_followed(tmp_path: Path) -> None:
    nodes = [
        X,
        node("y", "Case", "x", "^log", branches=branches("one", "two")),
        node("log", "PrintV2", "z:1"),
        node("z", "three"),
    ]
    functions = [
        function("one", [node("n", "Sin")]),
        function("two", [node("n", "Map", f=calls("inner"))]),
        function("three", [node("n", "Cos"), node("again", "three")]),
        function("inner", [node("n", "Tan"), node("m", "Tan")]),
    ]
    found = ops(read(tmp_path, meta_graph(nodes, functions, SERVING)))
    assert set(found) >= {"Sin", "Cos", "Tan", "PrintV2", "Map"}
    assert "three" not in found
    assert (found["Tan"].node, found["Tan"].count) == ("inner/n", 2)


def test_the_init_op_counts_as_loading(tmp_path: Path) -> None:
    nodes = [X, node("y", "Relu", "x"), node("init", "Fill"), node("main", "NoOp", "^init")]
    found = ops(read(tmp_path, meta_graph(nodes, (), SERVING, init="main")))
    assert (found["Fill"].reason, found["Relu"].reason) == (None, "serving_default")
    named = message(
        5,
        text(1, "__saved_model_init_op")
        + message(2, entry(2, "__saved_model_init_op", tensor_info(0, name="init"))),
    )
    assert "Fill" in ops(read(tmp_path, meta_graph(nodes, (), SERVING, named)))


def test_a_signature_of_sparse_tensors_is_taken_to_need_everything(tmp_path: Path) -> None:
    sparse = signature("serving_default", outs=entry(2, "y", tensor_info(1, -1, name="")))
    graph = read(tmp_path, meta_graph([X, node("n", "Sin")], (), sparse))
    assert "Sin" in ops(graph)


def test_what_must_be_compiled_is_named(tmp_path: Path) -> None:
    nodes = [X, node("y", "StatefulPartitionedCall", "x", f=calls("fast"))]
    compiled = function("fast", [node("n", "Sin")], _XlaMustCompile=yes())
    graph = read(tmp_path, meta_graph(nodes, [compiled], SERVING))
    assert graph.must_compile == {"fast": "serving_default"}
    nodes = [X, node("y", "PartitionedCall", "x", f=calls("f"), _XlaMustCompile=yes())]
    graph = read(tmp_path, meta_graph(nodes, [function("f", [])], SERVING))
    assert graph.must_compile == {"y": "serving_default"}
    not_compiled = function("fast", [node("n", "Sin")], _XlaMustCompile=b"")
    nodes = [X, node("y", "StatefulPartitionedCall", "x", f=calls("fast"))]
    assert read(tmp_path, meta_graph(nodes, [not_compiled], SERVING)).must_compile == {}


def test_a_function_that_the_runtime_replaces_needs_no_graphics_card(tmp_path: Path) -> None:
    nodes = [X, node("y", "PartitionedCall", "x", f=calls("gpu_lstm"))]
    body = [node("n", "CudnnRNNV3")]
    alone = read(tmp_path, meta_graph(nodes, [function("gpu_lstm", body)], SERVING))
    assert "CudnnRNNV3" in ops(alone)
    one_of_two = function("gpu_lstm", body, api_implements=text(2, "lstm_1"))
    assert "CudnnRNNV3" not in ops(read(tmp_path, meta_graph(nodes, [one_of_two], SERVING)))


def test_constants_are_measured_wherever_they_are(tmp_path: Path) -> None:
    def constant(name: str, size: int) -> bytes:
        return node(name, "Const", value=message(8, message(4, bytes(size))))

    nodes = [X, node("y", "Relu", "x"), constant("small", 100), constant("large", 5000)]
    spare = function("spare", [constant("c", 9000), node("n", "Sin", big=bytes(3000))])
    graph = read(tmp_path, meta_graph(nodes, [spare], SERVING))
    assert [item.node for item in graph.constants] == ["spare/c", "large"]
    assert isinstance(graph.constants[0], Constant)
    assert 14_000 < graph.constant_bytes < 14_100


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ([string_constant("name", "/data/x")], ("constant", "/data/x")),
        ([node("name", "Placeholder")], ("request", "")),
        ([node("name", "Identity", "path"), node("path", "Placeholder")], ("asset", "")),
        (
            [
                node("name", "ReadVariableOp", "kept"),
                node("kept", "VarHandleOp"),
                node("path", "Placeholder"),
                node("put", "AssignVariableOp", "kept", "path"),
            ],
            ("asset", ""),
        ),
        ([node("name", "ReadVariableOp", "kept"), node("kept", "VarHandleOp")], ("unknown", "")),
        ([node("name", "StringJoin", "x")], ("unknown", "")),
        ([node("name", "Identity", "name")], ("unknown", "")),
        ([], ("unknown", "")),
    ],
    ids=["constant", "request", "asset", "kept asset", "variable", "computed", "loop", "nothing"],
)
def test_the_name_of_a_file_is_followed_to_where_it_comes_from(
    source: list[bytes], expected: tuple[str, str], tmp_path: Path
) -> None:
    inner = function("inner", [node("read", "ReadFile", "file")], ["other", "file"])
    call = node("n", "StatefulPartitionedCall", "b", "^b", "a", f=calls("inner"))
    outer = function("outer", [call], ["a", "b"])
    nodes = [X, *source, node("y", "PartitionedCall", "name:0", "x", f=calls("outer"))]
    graph = read(tmp_path, meta_graph(nodes, [outer, inner], SERVING, assets=["path:0"]))
    use = ops(graph)["ReadFile"]
    assert (use.origin, use.file) == expected


def test_a_constant_beside_the_op_is_found_in_its_function(tmp_path: Path) -> None:
    body = [string_constant("file", "/data/y"), node("read", "ReadFile", "file:output:0")]
    nodes = [X, node("y", "PartitionedCall", "x", f=calls("f"))]
    use = ops(read(tmp_path, meta_graph(nodes, [function("f", body)], SERVING)))["ReadFile"]
    assert (use.origin, use.file, use.node) == ("constant", "/data/y", "f/read")


def test_a_restore_within_a_signature_is_a_read_of_files(tmp_path: Path) -> None:
    nodes = [X, string_constant("f", "/ckpt"), node("y", "RestoreV2", "f")]
    assert ops(read(tmp_path, meta_graph(nodes, (), SERVING)))["RestoreV2"].file == "/ckpt"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x12\x00" * 65,
        number(1, 7) + message(2, b""),
        number(2, 1),
        message(2, number(2, 3)),
        message(2, message(2, message(1, text(1, "n" * 5000)))),
        message(2, message(2, message(1, number(5, 1)))),
        message(2, message(5, b"\xff")),
        message(2, message(5, bytes(2 << 20))),
        message(2, signature("s", outs=entry(2, "y", tensor_info(77)))),
        message(2, meta_graph([X, node("y", "Sin", *["x"] * 70_000)], (), SERVING)),
    ],
)
def test_what_is_not_sound_is_refused_in_words(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(data)
    with pytest.raises(DamagedFileError) as caught:
        read_graphs(tmp_path / "saved_model.pb")
    assert caught.value.hint


def test_every_truncation_is_refused_or_read(tmp_path: Path) -> None:
    data = (write_saved_model(tmp_path, sound_graph()) / "saved_model.pb").read_bytes()
    for size in range(2, len(data)):
        os.truncate(tmp_path / "saved_model.pb", 0)
        (tmp_path / "saved_model.pb").write_bytes(data[:size])
        with pytest.raises(DamagedFileError):
            read_graphs(tmp_path / "saved_model.pb")
