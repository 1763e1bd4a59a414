"""The index of a TensorBundle: which tensors there are and where their bytes lie.

The values of the table are ``BundleEntryProto`` messages, the one under the empty key is the
``BundleHeaderProto`` (tensorflow/core/protobuf/tensor_bundle.proto). What is checked here is what
``BundleReader`` in tensorflow/core/util/tensor_bundle/tensor_bundle.cc relies on.
"""

from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from mstore.domain.tensors import DTYPES, Tensor, TensorTable
from mstore.formats import protos
from mstore.formats.files import damaged, label
from mstore.formats.slices import FULL, slice_key, slice_shape
from mstore.formats.sstable import read_entries

MAX_INDEX = 1 << 25
"""Largest ``.index`` file in bytes that is read; 6,000 tensors take about 600 KB."""

MAX_ENTRIES = 1 << 18
"""Most tensors that one checkpoint may have."""

MAX_SHARDS = 1 << 16
"""Most data files that one checkpoint may have."""

MAX_EXTENTS = 1 << 18
"""Most extents (slices times dimensions) of all partitioned variables together."""

_MAX_ENTRY = 1 << 20
_MAX_RANK = 254  # TensorShape::MaxDimensions
_MAX_INT64 = 2**63 - 1
_BUNDLE_VERSION = 1  # kTensorBundleVersion
_BIG_ENDIAN = 1
_NEWER = "read it with a newer mstore, or save it again with an older TensorFlow"


class _Head(NamedTuple):
    """The slices that the entry of a partitioned variable lists."""

    tensor: Tensor
    slices: list[tuple[tuple[int, int], ...]]


def parse_index(data: bytes | memoryview, *, path: str) -> TensorTable:
    """Return the tensors that the bytes of an ``.index`` file describe.

    Args:
        data: the whole file.
        path: what to call it in errors.

    Raises:
        DamagedFileError: the bytes are not a sound index, or not of a kind that is read: written
            on a big-endian machine, compressed, by a TensorFlow too new.
    """
    if len(data) > MAX_INDEX:
        raise damaged(path, f"{len(data)} bytes are more than any sound index has")
    entries = read_entries(bytes(data), path=path)
    key, value = next(entries, (b"-", b""))
    if key:
        raise damaged(path, "it does not begin with a checkpoint's header")
    num_shards = _header(value, path)
    tensors: list[Tensor] = []
    heads: list[_Head] = []
    extents_left = MAX_EXTENTS
    message = protos.BundleEntry()
    for key, value in entries:
        if len(tensors) >= MAX_ENTRIES or len(value) > _MAX_ENTRY:
            raise damaged(path, "it has more entries, or longer ones, than any sound checkpoint")
        tensor = _entry(key, value, message, num_shards, path)
        tensors.append(tensor)
        if tensor.sliced:
            extents_left -= sum(1 + len(item.extent) for item in message.slices)
            if extents_left < 0:
                raise damaged(path, "it has more slices than any sound checkpoint")
            heads.append(_Head(tensor, [_extents(item) for item in message.slices]))
    files = tuple(shard_name("", shard, num_shards) for shard in range(num_shards))
    table = TensorTable(tuple(tensors), num_shards, files)
    for head in heads:
        _check_slices(head, table, path)
    _check_overlaps(table, path)
    return table


def shard_name(prefix_name: str, shard: int, num_shards: int) -> str:
    """Return the file name of one data file.

    >>> shard_name("ckpt-1", 0, 1)
    'ckpt-1.data-00000-of-00001'
    """
    return f"{prefix_name}.data-{shard:05d}-of-{num_shards:05d}"


def _header(value: bytes, path: str) -> int:
    """Check the ``BundleHeaderProto`` and return how many data files there are."""
    message = protos.BundleHeader()
    _parse(message, value, path, "its header")
    if message.endianness == _BIG_ENDIAN:
        raise damaged(
            path,
            "it was written on a big-endian machine, which mstore does not read",
            hint="load and save the checkpoint with TensorFlow on a little-endian machine",
        )
    if message.endianness:
        raise damaged(path, f"its header has the unknown byte order {message.endianness}")
    version = message.version
    if version.min_consumer > _BUNDLE_VERSION or _BUNDLE_VERSION in version.bad_consumers:
        raise damaged(path, "it is of a newer version of the checkpoint format", hint=_NEWER)
    if not 0 < message.num_shards <= MAX_SHARDS:
        raise damaged(path, f"its header speaks of {message.num_shards} data files")
    return int(message.num_shards)


def _entry(key: bytes, value: bytes, message: Any, num_shards: int, path: str) -> Tensor:
    """Parse one entry into ``message`` and return it as a checked tensor."""
    _parse(message, value, path, "the entry of a tensor")
    dtype, itemsize = DTYPES.get(message.dtype, ("", 0))
    shape = tuple([dimension.size for dimension in message.shape.dim])
    offset, size, shard = message.offset, message.size, message.shard_id
    sliced = bool(message.slices)
    tensor = Tensor(key, dtype, shape, shard, offset, size, message.crc32c, None, sliced)
    if not dtype or dtype == "resource":
        raise damaged(path, f"{label(tensor)} is of the unknown type {message.dtype}", hint=_NEWER)
    if message.shape.unknown_rank or len(shape) > _MAX_RANK or (shape and min(shape) < 0):
        raise damaged(path, f"{label(tensor)} has no possible shape")
    if not 0 <= shard < num_shards:
        raise damaged(path, f"{label(tensor)} is in data file {shard} of {num_shards}")
    if offset < 0 or size < 0 or offset + size > _MAX_INT64:
        raise damaged(path, f"{label(tensor)} lies outside any file")
    count = _count(shape)
    if count is None or not (size == 0 if sliced else _size_fits(dtype, itemsize, count, size)):
        raise damaged(path, f"{label(tensor)} of shape {list(shape)} cannot take {size} bytes")
    return tensor


def _count(shape: tuple[int, ...]) -> int | None:
    """Return the number of elements, None where it does not fit 63 bits."""
    count = 1
    for dimension in shape:
        count *= dimension
        if count > _MAX_INT64:
            return None
    return count


def _size_fits(dtype: str, itemsize: int, count: int, size: int) -> bool:
    if itemsize:
        return size == count * itemsize
    if dtype == "string":
        return size >= count + 4  # a byte of length for each, and the checksum of the lengths
    if dtype == "variant":
        return size >= count * 5  # length and checksum for each
    return size in {count, (count + 1) // 2}  # 4-bit integers, unpacked or packed


def _extents(message: Any) -> tuple[tuple[int, int], ...]:
    return tuple(
        (extent.start, extent.length if extent.HasField("length") else FULL)
        for extent in message.extent
    )


def _check_slices(head: _Head, table: TensorTable, path: str) -> None:
    """Check that each slice of a partitioned variable is there with its dtype and shape."""
    whole = head.tensor
    for extents in head.slices:
        shape = slice_shape(whole.shape, extents)
        if shape is None:
            raise damaged(path, f"{label(whole)} has a slice outside its shape")
        # A single slice that covers the variable is stored under the variable's own name, so
        # that here each slice has an entry of its own.
        part = table.get(slice_key(whole.key, extents))
        if part is None:
            raise damaged(path, f"a slice of {label(whole)} is missing")
        if (part.dtype, part.shape, part.sliced) != (whole.dtype, shape, False):
            raise damaged(path, f"a slice of {label(whole)} has another type or shape")


def _check_overlaps(table: TensorTable, path: str) -> None:
    """Check that no two tensors share bytes."""
    shard, end = -1, 0
    before: Tensor | None = None
    for tensor in sorted(table, key=lambda item: (item.shard, item.offset)):
        if tensor.size == 0:
            continue
        if before is not None and tensor.shard == shard and tensor.offset < end:
            raise damaged(path, f"{label(before)} and {label(tensor)} overlap")
        shard, end, before = tensor.shard, tensor.offset + tensor.size, tensor


def _parse(message: Any, value: bytes, path: str, what: str) -> None:
    try:
        message.ParseFromString(value)
    except DecodeError as error:
        raise damaged(path, f"{what} does not parse") from error
