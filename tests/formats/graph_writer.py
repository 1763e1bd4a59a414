"""Writes small SavedModels by hand, message by message, without TensorFlow."""

from collections.abc import Sequence
from pathlib import Path

from tests.formats.bundle_writer import FLOAT32, message, number

Messages = Sequence[bytes]


def text(field: int, value: str) -> bytes:
    return message(field, value.encode())


def entry(field: int, key: str, value: bytes) -> bytes:
    """Encode one entry of a map whose values are messages."""
    return message(field, text(1, key) + message(2, value))


def tensor_info(dtype: int, *sizes: int, unknown_rank: bool = False, name: str = "t:0") -> bytes:
    dims = b"".join(message(2, number(1, size)) for size in sizes)
    return text(1, name) + number(2, dtype) + message(3, dims + number(3, unknown_rank))


def yes() -> bytes:
    """An attribute that is true."""
    return number(5, 1)


def calls(function: str) -> bytes:
    """An attribute that names a function."""
    return message(10, text(1, function))


def branches(*functions: str) -> bytes:
    """An attribute that names several functions."""
    return message(1, b"".join(message(9, text(1, function)) for function in functions))


def node(name: str, op: str, *inputs: str, **attributes: bytes) -> bytes:
    out = text(1, name) + text(2, op) + b"".join(text(3, tensor) for tensor in inputs)
    return out + b"".join(entry(5, key, value) for key, value in attributes.items())


def string_constant(name: str, value: str) -> bytes:
    return node(name, "Const", value=message(8, number(1, 7) + text(8, value)))


def function(
    name: str, nodes: Messages, arguments: Sequence[str] = (), **attributes: bytes
) -> bytes:
    signature = text(1, name) + b"".join(message(2, text(1, arg)) for arg in arguments)
    out = message(1, signature) + b"".join(message(3, body) for body in nodes)
    return out + b"".join(entry(5, key, value) for key, value in attributes.items())


def graph_def(nodes: Messages, functions: Messages = ()) -> bytes:
    library = b"".join(message(1, body) for body in functions)
    return b"".join(message(1, body) for body in nodes) + message(2, library)


def signature(
    name: str, *outputs: str, inputs: bytes | None = None, outs: bytes | None = None
) -> bytes:
    """Encode an entry of ``signature_def``; by default x[?,4] in and y0[?,2], y1... out."""
    given = entry(1, "x", tensor_info(FLOAT32, -1, 4, name="x:0")) if inputs is None else inputs
    made = b"".join(
        entry(2, f"y{at}", tensor_info(FLOAT32, -1, 2, name=tensor))
        for at, tensor in enumerate(outputs)
    )
    return message(5, text(1, name) + message(2, given + (made if outs is None else outs)))


def meta_graph(
    nodes: Messages,
    functions: Messages = (),
    *signatures: bytes,
    tags: Sequence[str] = ("serve",),
    restore: str = "",
    assets: Sequence[str] = (),
    init: str = "",
) -> bytes:
    info = text(5, "2.21.0") + b"".join(text(4, tag) for tag in tags)
    out = message(1, info) + message(2, graph_def(nodes, functions)) + b"".join(signatures)
    if restore:
        out += message(3, text(1, "file:0") + text(3, restore))
    for tensor in assets:
        out += message(6, message(1, text(1, tensor)) + text(2, "vocab.txt"))
    if init:
        out += entry(4, "saved_model_main_op", message(1, text(1, init)))
    return out


def write_saved_model(directory: Path, *graphs: bytes) -> Path:
    """Write ``saved_model.pb`` and return its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    data = number(1, 1) + b"".join(message(2, graph) for graph in graphs)
    (directory / "saved_model.pb").write_bytes(data)
    return directory


def sound_graph() -> bytes:
    """Return a graph with a variable, a function and a saver, in which there is nothing to find."""
    body = [
        node("read", "ReadVariableOp", "w"),
        node("y", "MatMul", "x", "read:value:0"),
    ]
    restoring = [node("restore", "RestoreV2", "file"), node("put", "AssignVariableOp", "w")]
    saving = [node("save", "SaveV2", "file", "w")]
    nodes = [
        node("w", "VarHandleOp"),
        node("x", "Placeholder"),
        node("call", "StatefulPartitionedCall", "x", "w", f=calls("serving")),
        node("file", "Placeholder"),
        node("saver", "StatefulPartitionedCall", "file", "w", f=calls("saving")),
        node("restorer", "StatefulPartitionedCall", "file", "w", f=calls("restoring")),
    ]
    functions = [
        function("serving", body, ["x", "w"]),
        function("restoring", restoring, ["file", "w"]),
        function("saving", saving, ["file", "w"]),
    ]
    return meta_graph(nodes, functions, signature("serving_default", "call:0"), restore="restorer")
