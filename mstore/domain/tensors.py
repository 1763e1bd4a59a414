"""The tensor table: what a checkpoint or a SavedModel holds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from types import MappingProxyType
from typing import Protocol

OBJECT_GRAPH_KEY = b"_CHECKPOINTABLE_OBJECT_GRAPH"
"""Key under which TensorFlow stores the ``TrackableObjectGraph`` of an object checkpoint."""

DECODED = "/.mstore-decoded"
"""Suffix of the file of decoded tensors: those that no file of a checkpoint holds as plain bytes.

The store keeps it beside the checkpoint's files, and checkout leaves it out.
"""

# Numbers of tensorflow.DataType (tensorflow/core/framework/types.proto) -> name and bytes for each
# element; 0 means that the size varies (strings, variants, packed 4-bit integers).
DTYPES: Mapping[int, tuple[str, int]] = MappingProxyType(
    {
        1: ("float32", 4),
        2: ("float64", 8),
        3: ("int32", 4),
        4: ("uint8", 1),
        5: ("int16", 2),
        6: ("int8", 1),
        7: ("string", 0),
        8: ("complex64", 8),
        9: ("int64", 8),
        10: ("bool", 1),
        11: ("qint8", 1),
        12: ("quint8", 1),
        13: ("qint32", 4),
        14: ("bfloat16", 2),
        15: ("qint16", 2),
        16: ("quint16", 2),
        17: ("uint16", 2),
        18: ("complex128", 16),
        19: ("float16", 2),
        20: ("resource", 0),
        21: ("variant", 0),
        22: ("uint32", 4),
        23: ("uint64", 8),
        24: ("float8_e5m2", 1),
        25: ("float8_e4m3fn", 1),
        26: ("float8_e4m3fnuz", 1),
        27: ("float8_e4m3b11fnuz", 1),
        28: ("float8_e5m2fnuz", 1),
        29: ("int4", 0),
        30: ("uint4", 0),
    }
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a table.

    Attributes:
        key: key in the index, as stored; not always UTF-8.
        dtype: TensorFlow's name of the element type, such as ``float32``.
        shape: length of each dimension.
        shard: number of the data file that holds the bytes, see `TensorTable.files`.
        offset: where they start in it, in bytes.
        size: how many they are.
        crc32c: masked CRC32C as TensorFlow records it.
        full_name: name of the variable in the training program, from the object graph; else None.
        sliced: whether this entry only describes a partitioned variable whose bytes stand under
            the keys of its slices (then ``size`` is 0 and ``crc32c`` means nothing).
    """

    key: bytes
    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc32c: int
    full_name: str | None = None
    sliced: bool = False

    @property
    def name(self) -> str:
        r"""The key as text; bytes that are not UTF-8 are written as ``\xNN``."""
        return self.key.decode("utf-8", "backslashreplace")

    @property
    def content(self) -> tuple[str, tuple[int, ...], int]:
        """Dtype, shape and CRC32C: equal for equal tensors wherever they are stored."""
        return (self.dtype, self.shape, self.crc32c)

    @property
    def fingerprint(self) -> int:
        """``content`` as a signed 64-bit integer, for the catalog's index."""
        text = f"{self.dtype}:{','.join(map(str, self.shape))}:{self.crc32c:08x}"
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


@dataclass(frozen=True)
class TensorTable:
    """The tensors of one checkpoint or SavedModel, in key order.

    Attributes:
        tensors: all entries, the object graph's string tensor among them, sorted by key.
        num_shards: how many data files there are.
        files: suffix of each data file by its number: what follows the checkpoint's prefix.
    """

    tensors: tuple[Tensor, ...]
    num_shards: int = 1
    files: tuple[str, ...] = ()
    _by_key: dict[bytes, Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the entries by key."""
        object.__setattr__(self, "_by_key", {tensor.key: tensor for tensor in self.tensors})

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over all entries in key order."""
        return iter(self.tensors)

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self.tensors)

    def get(self, key: bytes) -> Tensor | None:
        """Return the entry under ``key``, or None."""
        return self._by_key.get(key)

    @cached_property
    def values(self) -> tuple[Tensor, ...]:
        """The entries that hold values: all but the object graph and the heads of partitions."""
        return tuple(
            tensor
            for tensor in self.tensors
            if tensor.key != OBJECT_GRAPH_KEY and not tensor.sliced
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return sum(tensor.size for tensor in self.values)


class TensorReader(Protocol):
    """Gives the tensors of a checkpoint, wherever they are kept."""

    @property
    def table(self) -> TensorTable:
        """What there is."""

    def pieces(self, tensor: Tensor) -> Iterator[bytes | memoryview]:
        """Yield the bytes of a tensor in order, in pieces of any length.

        A damaged source may yield fewer than ``tensor.size`` bytes.
        """
