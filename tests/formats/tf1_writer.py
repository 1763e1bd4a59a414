"""Writes small checkpoints of TensorFlow 1 without TensorFlow: V1 files and ``.meta`` files.

It shares no code with the reader. That TensorFlow writes the same is shown in tests/tf.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.formats.bundle_writer import extent, message, number, shape_proto, varint, write_table

FLOAT32, INT32, UINT8, INT8, STRING, INT64, BOOL, UINT16, FLOAT16 = 1, 3, 4, 6, 7, 9, 10, 17, 19
_PACKED = {INT32: 7, UINT8: 7, INT8: 7, UINT16: 7, INT64: 10, BOOL: 11, FLOAT16: 13}

Extents = Sequence[tuple[int, int | None]]


@dataclass(frozen=True)
class Saved:
    """A tensor to write: numbers or strings in row-major order, and which slice they are."""

    dtype: int
    shape: Sequence[int]
    items: Sequence[float | bytes]
    slices: Sequence[Extents] = ()


def ordered_code(name: bytes, extents: Extents) -> bytes:
    """Encode the key of a slice whose numbers are below 64."""
    out = b"\x00" + name + b"\x00\x01"
    out += bytes([1, len(extents)]) if extents else b"\x00"
    for start, length in extents:
        out += bytes([0x80 + start, 0x7F if length is None else 0x80 + length])
    return out


def tensor_proto(dtype: int, items: Sequence[float | bytes]) -> bytes:
    if not items:
        return b""
    if dtype == STRING:
        return b"".join(message(8, item) for item in items if isinstance(item, bytes))
    numbers = [item for item in items if not isinstance(item, bytes)]
    if dtype == FLOAT32:
        return message(5, struct.pack(f"<{len(numbers)}f", *numbers))
    return message(_PACKED[dtype], b"".join(varint(int(item)) for item in numbers))


def slice_proto(extents: Extents) -> bytes:
    return b"".join(message(1, extent(*item)) for item in extents)


def v1_entries(tensors: Mapping[bytes, Saved]) -> list[tuple[bytes, bytes]]:
    meta, entries = b"", {}
    for name in sorted(tensors):
        saved = tensors[name]
        slices = saved.slices or [[(0, None)] * len(saved.shape)]
        fields = message(1, name) + message(2, shape_proto(saved.shape)) + number(3, saved.dtype)
        fields += b"".join(message(4, slice_proto(item)) for item in slices)
        meta += message(1, fields)
        each = len(saved.items) // len(slices)
        for at, item in enumerate(slices):
            proto = tensor_proto(saved.dtype, saved.items[at * each : (at + 1) * each])
            body = message(1, name) + message(2, slice_proto(item)) + message(3, proto)
            entries[ordered_code(name, item)] = message(2, body)
    head = message(1, meta + message(2, number(1, 1)))
    return [(b"", head), *((key, entries[key]) for key in sorted(entries))]


def write_v1(path: Path, tensors: Mapping[bytes, Saved], *, block_size: int = 4096) -> Path:
    """Write one file of the V1 format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(write_table(v1_entries(tensors), block_size=block_size))
    return path


def small_v1() -> dict[bytes, Saved]:
    """Return tensors that between them use every part of the format."""
    halves = [[(0, 2), (0, None)], [(2, 2), (0, None)]]
    return {
        b"w": Saved(FLOAT32, (2, 3), [0.5, 1, 2, 3, 4, 5]),
        b"emb": Saved(FLOAT32, (4, 2), list(range(8)), halves),
        b"global_step": Saved(INT64, (), [1200]),
        b"ids": Saved(INT64, (3,), [1, -1, 2**40]),
        b"small": Saved(INT8, (3,), [-128, 127, -3]),
        b"flags": Saved(BOOL, (3,), [1, 0, 1]),
        b"half": Saved(FLOAT16, (2,), [15360, 49152]),
        b"words": Saved(STRING, (3,), [b"one", b"", b"three" * 40]),
        b"empty": Saved(INT32, (0, 3), []),
    }


def map_entry(field: int, key: bytes, value: bytes) -> bytes:
    return message(field, message(1, key) + message(2, value))


def attribute(key: bytes, value: bytes) -> bytes:
    return map_entry(5, key, value)


def node(
    name: str, op: str, *, dtype: int = 0, shape: Sequence[int] | None = None, text: str = ""
) -> bytes:
    """Encode one node of a graph as a field of ``GraphDef``."""
    out = message(1, name.encode()) + message(2, op.encode())
    if dtype:
        out += attribute(b"dtype", number(6, dtype))
    if shape is not None:
        out += attribute(b"shape", message(7, shape_proto(shape)))
    if text:
        out += attribute(b"shared_name", message(2, text.encode()))
    return message(1, out)


def variable_def(name: str, whole: str = "") -> bytes:
    out = message(1, f"{name}:0".encode())
    return out + (message(4, message(1, whole.encode())) if whole else b"")


def small_meta() -> bytes:
    """Return a ``.meta`` with a placeholder, three variables and a signature."""
    graph = node("x", "Placeholder", dtype=FLOAT32, shape=(-1, 4))
    graph += node("w", "VariableV2", dtype=FLOAT32, shape=(4, 3))
    graph += node("emb/part_0", "VarHandleOp", dtype=FLOAT32, shape=(2, 3), text="emb/part_0")
    graph += node("global_step", "VariableV2", dtype=INT64, shape=())
    graph += node("y", "MatMul")
    items = [variable_def("w"), variable_def("emb/part_0", "emb"), variable_def("global_step")]
    listed = message(2, b"".join(message(1, item) for item in items))
    info = message(1, b"x:0") + number(2, FLOAT32) + message(3, shape_proto((-1, 4)))
    signature = map_entry(1, b"x", info) + message(3, b"tensorflow/serving/predict")
    return (
        message(1, message(5, b"1.15.5"))
        + message(2, graph)
        + map_entry(4, b"variables", listed)
        + map_entry(4, b"losses", message(1, message(1, b"loss:0")))
        + map_entry(5, b"serving_default", signature)
    )
