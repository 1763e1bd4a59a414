"""Writes small TensorBundles without TensorFlow, sound ones and all kinds of others.

It encodes messages and checksums by itself, so that a misunderstanding in the reader shows instead
of cancelling out. The tables are written by `mstore.formats.sstable_writer`, whose bytes are held
against TensorFlow's in tests/tf/test_formats_real.py.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from mstore.formats.sstable_writer import (
    BLOCK_SIZE,
    RESTART_INTERVAL,
    BlockBuilder,
    sealed,
    table_end,
    write_table,
)

__all__ = [
    "BLOCK_SIZE",
    "BOOL",
    "FLOAT32",
    "GRAPH_KEY",
    "INT32",
    "INT64",
    "RESTART_INTERVAL",
    "STRING",
    "SUFFIX",
    "VARIANT",
    "BlockBuilder",
    "Entry",
    "Value",
    "encode_strings",
    "encode_variants",
    "header",
    "mask",
    "masked",
    "message",
    "node",
    "number",
    "object_graph",
    "sealed",
    "small_values",
    "table_end",
    "varint",
    "write_bundle",
    "write_index",
    "write_table",
]

FLOAT32, INT32, STRING, INT64, BOOL, VARIANT = 1, 3, 7, 9, 10, 21


def varint(value: int) -> bytes:
    out = bytearray()
    value &= 0xFFFFFFFFFFFFFFFF
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    """Encode a varint field of a message; zero is left out, as proto3 does."""
    return varint(field << 3) + varint(value) if value else b""


def message(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def masked(data: bytes) -> int:
    return mask(google_crc32c.value(data))


def mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def header(num_shards: int = 1, endianness: int = 0, *, version: bytes | None = None) -> bytes:
    version = number(1, 1) if version is None else version
    return number(1, num_shards) + number(2, endianness) + message(3, version)


def shape_proto(shape: Sequence[int]) -> bytes:
    return b"".join(message(2, number(1, size)) for size in shape)


@dataclass(frozen=True)
class Entry:
    """A ``BundleEntryProto``."""

    dtype: int
    shape: Sequence[int] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    slices: Sequence[Sequence[tuple[int, int | None]]] = ()

    def encode(self) -> bytes:
        out = number(1, self.dtype) + message(2, shape_proto(self.shape))
        out += number(3, self.shard) + number(4, self.offset) + number(5, self.size)
        if self.crc:
            out += varint(6 << 3 | 5) + struct.pack("<I", self.crc)
        for extents in self.slices:
            out += message(7, b"".join(message(1, extent(*item)) for item in extents))
        return out


def extent(start: int, length: int | None) -> bytes:
    # The length is in a oneof, so a zero is written.
    return number(1, start) + (b"" if length is None else b"\x10" + varint(length))


def encode_strings(strings: Sequence[bytes]) -> tuple[bytes, int]:
    """Return the stored bytes of a string tensor and its masked checksum."""
    fixed = b"".join(struct.pack("<I", len(item)) for item in strings)
    inner = struct.pack("<I", masked(fixed))
    stored = b"".join(varint(len(item)) for item in strings) + inner + b"".join(strings)
    return stored, masked(fixed + inner + b"".join(strings))


def encode_variants(variants: Sequence[bytes]) -> tuple[bytes, int]:
    """Return the stored bytes of a variant tensor and its masked checksum."""
    stored = covered = b""
    for item in variants:
        covered += struct.pack("<Q", len(item)) + item
        inner = struct.pack("<I", masked(covered))
        covered += inner
        stored += varint(len(item)) + item + inner
    return stored, masked(covered)


@dataclass(frozen=True)
class Value:
    """A tensor to write: raw bytes for most types, elements for strings and variants."""

    dtype: int
    shape: Sequence[int]
    raw: bytes | Sequence[bytes]
    shard: int = 0

    def encode(self) -> tuple[bytes, int]:
        if isinstance(self.raw, bytes):
            return self.raw, masked(self.raw)
        return encode_variants(self.raw) if self.dtype == VARIANT else encode_strings(self.raw)


def write_index(
    entries: Mapping[bytes, Entry], *, num_shards: int = 1, block_size: int = BLOCK_SIZE
) -> bytes:
    items = [(b"", header(num_shards))]
    items += [(key, entries[key].encode()) for key in sorted(entries)]
    return write_table(items, block_size=block_size)


def write_bundle(
    prefix: Path,
    values: Mapping[bytes, Value],
    *,
    num_shards: int = 1,
    heads: Mapping[bytes, Entry] | None = None,
    block_size: int = BLOCK_SIZE,
) -> Path:
    """Write index and data files; ``heads`` are entries of partitioned variables."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    data = [bytearray() for _ in range(num_shards)]
    entries = dict(heads or {})
    for key in sorted(values):
        value = values[key]
        raw, crc = value.encode()
        offset = len(data[value.shard])
        entries[key] = Entry(value.dtype, value.shape, value.shard, offset, len(raw), crc)
        data[value.shard] += raw
    for shard, content in enumerate(data):
        name = f"{prefix.name}.data-{shard:05d}-of-{num_shards:05d}"
        prefix.with_name(name).write_bytes(content)
    index = write_index(entries, num_shards=num_shards, block_size=block_size)
    prefix.with_name(f"{prefix.name}.index").write_bytes(index)
    return prefix


def object_graph(*nodes: bytes) -> bytes:
    return b"".join(message(1, node) for node in nodes)


def node(
    children: Mapping[str, int] | None = None,
    attributes: Sequence[tuple[str, str, bytes]] = (),
    slots: Sequence[tuple[int, str, int]] = (),
) -> bytes:
    """Encode one ``TrackableObject``."""
    out = b""
    for name, target in (children or {}).items():
        out += message(1, number(1, target) + message(2, name.encode()))
    for name, full_name, key in attributes:
        fields = message(1, name.encode()) + message(2, full_name.encode()) + message(3, key)
        out += message(2, fields)
    for variable, name, slot in slots:
        out += message(3, number(1, variable) + message(2, name.encode()) + number(3, slot))
    return out


SUFFIX = b"/.ATTRIBUTES/VARIABLE_VALUE"
GRAPH_KEY = b"_CHECKPOINTABLE_OBJECT_GRAPH"


def small_values(step: int = 7) -> dict[bytes, Value]:
    """Return a checkpoint with an object graph, as tf.train.Checkpoint would write it."""
    weight, counter, words = b"w" + SUFFIX, b"step" + SUFFIX, b"words" + SUFFIX
    graph = object_graph(
        node({"w": 1, "step": 2, "words": 3}),
        node(attributes=[("VARIABLE_VALUE", "dense/kernel", weight)]),
        node(attributes=[("VARIABLE_VALUE", "counter", counter)]),
        node(attributes=[("VARIABLE_VALUE", "vocabulary", words)]),
    )
    return {
        GRAPH_KEY: Value(STRING, (), [graph]),
        weight: Value(FLOAT32, (2, 3), struct.pack("<6f", *range(6))),
        counter: Value(INT64, (), struct.pack("<q", step)),
        words: Value(STRING, (3,), [b"one", b"", b"three" * 40]),
    }
