"""A stand-in for the conversion by TensorFlow: a small SavedModel out of a checkpoint's tensors."""

import hashlib
import struct
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

from mstore.convert.builders import BuilderInfo
from mstore.convert.proof import ProvenVariable
from mstore.convert.request import TraceRequest, TraceResult
from mstore.domain.tensors import TensorReader
from mstore.formats.tensor_bundle import read_table, shard_paths
from mstore.ops import conversion
from tests.formats.bundle_writer import (
    FLOAT32,
    INT64,
    SUFFIX,
    Value,
    message,
    number,
    write_bundle,
)

LARGE = 1 << 16
"""Bytes of a tensor that gets a chunk of its own."""


def make_checkpoint(prefix: Path, step: int, value: float | None = None) -> Path:
    """Write a checkpoint of two large tensors, one of which is the same in all of them."""
    head = struct.pack("<f", step if value is None else value)
    values = {
        b"head" + SUFFIX: Value(FLOAT32, (LARGE // 4,), head * (LARGE // 4)),
        b"step" + SUFFIX: Value(INT64, (), struct.pack("<q", step)),
        b"trunk" + SUFFIX: Value(FLOAT32, (LARGE // 2,), struct.pack("<f", 0.5) * (LARGE // 2)),
    }
    return write_bundle(prefix, values)


def text(field: int, value: str) -> bytes:
    return message(field, value.encode())


def saved_model() -> bytes:
    """Return a ``saved_model.pb`` of one variable handle and one signature."""
    info = text(4, "serve") + text(5, "2.21.0")
    graph = message(1, text(1, "head") + text(2, "VarHandleOp"))
    shape = message(2, number(1, -1)) + message(2, number(1, 4))
    tensor = text(1, "x:0") + number(2, FLOAT32) + message(3, shape)
    sides = [message(side, text(1, "x") + message(2, tensor)) for side in (1, 2)]
    signature = text(1, "serving_default") + message(2, b"".join(sides))
    meta = message(1, info) + message(2, graph) + message(5, signature)
    return number(1, 1) + message(2, meta)


def trace(request: TraceRequest, *, timeout: float | None) -> TraceResult:
    """Write the SavedModel, its variables in another order than in the checkpoint."""
    del timeout
    table = read_table(request.checkpoint)
    shards = [path.read_bytes() for path in shard_paths(request.checkpoint, table.num_shards)]
    values, sources = {}, {}
    for place, name in enumerate((b"trunk", b"head")):
        tensor = table.get(name + SUFFIX)
        assert tensor is not None
        key = b"variables/%d" % place + SUFFIX
        raw = shards[tensor.shard][tensor.offset : tensor.offset + tensor.size]
        values[key], sources[key] = Value(FLOAT32, tensor.shape, raw), tensor.key
    write_bundle(request.output / "variables" / "variables", values)
    (request.output / "saved_model.pb").write_bytes(saved_model())
    (request.output / "assets").mkdir()
    (request.output / "assets" / "words.txt").write_text("one\ntwo\n", encoding="utf-8")
    return TraceResult(sources=sources, environment={"tensorflow": "none"})


def prove(
    trained: TensorReader,
    saved_model: Path,
    sources: Mapping[bytes, bytes | None],
    **_: object,
) -> list[ProvenVariable]:
    """Believe what `trace` said; the store compares the bytes itself when it takes them."""
    del trained
    table = read_table(saved_model / "variables" / "variables")
    sizes = {tensor.key: tensor.size for tensor in table}
    return [ProvenVariable(key, source, "", sizes[key]) for key, source in sources.items()]


def describe(spec: str, search_path: Path, **_: object) -> BuilderInfo:
    return BuilderInfo(spec, search_path / "builder.py", hashlib.sha256().hexdigest(), None, None)


def check(*_: object, **__: object) -> None:
    """Load nothing."""


def learn(*_: object, **__: object) -> None:
    """Learn no program: what the stand-in does cannot be dyed."""


def installed() -> AbstractContextManager[object]:
    """Return a context in which the stand-in takes the place of the conversion."""
    return mock.patch.multiple(
        conversion, trace=trace, prove=prove, describe=describe, check=check, learn=learn
    )


def install() -> None:
    """Put the stand-in into this process, which is a child that ends soon."""
    installed().__enter__()
