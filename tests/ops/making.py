"""Makes checkpoints, SavedModels and stores without TensorFlow."""

import hashlib
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mstore.domain.records import Checkpoint
from mstore.store import Store
from tests.formats.bundle_writer import (
    FLOAT32,
    INT64,
    STRING,
    SUFFIX,
    Value,
    message,
    node,
    number,
    object_graph,
    write_bundle,
)

GRAPH_KEY = b"_CHECKPOINTABLE_OBJECT_GRAPH"
DATA = "variables/variables.data-00000-of-00001"
INDEX = "variables/variables.index"


def floats(*values: float) -> Value:
    return Value(FLOAT32, (len(values),), struct.pack(f"<{len(values)}f", *values))


def blob(seed: int, size: int) -> Value:
    """Return a tensor of bytes that no other seed gives and that does not compress."""
    raw = hashlib.shake_256(str(seed).encode()).digest(size * 4)
    return Value(FLOAT32, (size,), raw)


def integer(value: int) -> Value:
    return Value(INT64, (), struct.pack("<q", value))


def key(name: str) -> bytes:
    return name.encode() + SUFFIX


def with_graph(values: Mapping[str, Value]) -> dict[bytes, Value]:
    """Return the tensors under the keys and with the object graph that TensorFlow writes."""
    names = sorted(values)
    leaves = [node(attributes=[("VARIABLE_VALUE", f"program/{n}", key(n))]) for n in names]
    graph = object_graph(node({n: at + 1 for at, n in enumerate(names)}), *leaves)
    return {GRAPH_KEY: Value(STRING, (), [graph]), **{key(n): values[n] for n in names}}


def weights(seed: float = 1.0) -> dict[str, Value]:
    return {"kernel": floats(seed, 2.0, 3.0), "bias": floats(seed / 2, -1.0)}


def checkpoint(
    prefix: Path, values: Mapping[str, Value] | None = None, step: int | None = None
) -> Path:
    tensors = dict(weights() if values is None else values)
    if step is not None:
        tensors["step"] = integer(step)
    return write_bundle(prefix, with_graph(tensors))


def added(store: Store, path: str | os.PathLike[str], **options: Any) -> Checkpoint:
    options.setdefault("model", "m")
    result = store.add(path, **options)
    assert isinstance(result, Checkpoint)
    return result


def saved_model(directory: Path, values: Mapping[str, Value]) -> Path:
    """Write a SavedModel whose graph has one handle for each variable."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "saved_model.pb").write_bytes(saved_model_pb(sorted(values)))
    write_bundle(directory / "variables" / "variables", with_graph(values))
    return directory


def saved_model_pb(names: Sequence[str], op: str | None = None) -> bytes:
    """Return a graph with one handle for each name, whose output comes from ``op``."""

    def text(field: int, value: str) -> bytes:
        return message(field, value.encode())

    def entry(field: int, name: str, value: bytes) -> bytes:
        return message(field, text(1, name) + message(2, value))

    def handle(name: str) -> bytes:
        attribute = entry(5, "shared_name", text(2, name))
        return message(1, text(1, name) + text(2, "VarHandleOp") + attribute)

    dims = message(2, number(1, -1)) + message(2, number(1, 4))
    info = text(1, "t:0") + number(2, FLOAT32) + message(3, dims)
    signature = entry(1, "x", info) + entry(2, "y", info) + text(3, "predict")
    graph = message(1, text(5, "2.21.0") + text(4, "serve"))
    output = message(1, text(1, "t") + text(2, op)) if op else b""
    graph += message(2, b"".join(map(handle, names)) + output)
    return number(1, 1) + message(2, graph + entry(5, "serving_default", signature))


def flip(path: Path, position: int, mask: int = 0xFF) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    mode = path.stat().st_mode
    path.chmod(mode | 0o200)
    path.write_bytes(data)
    path.chmod(mode)


def place_of(prefix: Path, raw: bytes) -> int:
    """Return where in the first data file the bytes of a tensor begin."""
    data = prefix.with_name(f"{prefix.name}.data-00000-of-00001").read_bytes()
    assert data.count(raw) == 1
    return data.index(raw)


def tree(root: Path) -> dict[str, tuple[int, int, str]]:
    """Return mode, time and digest of everything under a directory."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, digest)
    return found


def packs(store: Store) -> list[Path]:
    return sorted((store.path / "packs").glob("*/*.pack"))


def pack_bytes(store: Store) -> int:
    return sum(path.stat().st_size for path in packs(store))


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target
