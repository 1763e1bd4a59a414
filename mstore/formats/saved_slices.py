"""One file of the V1 format: a table of ``SavedTensorSlices`` messages.

The message under the empty key lists every tensor with its type, shape and slices, each other one
holds one slice under its ordered code, see `mstore.formats.slices`
(tensorflow/core/util/saved_tensor_slice.proto, tensor_slice_writer.cc, tensor_slice_reader.cc).
"""

from dataclasses import dataclass, field
from typing import Any, BinaryIO

from google.protobuf.message import DecodeError

from mstore.domain.tensors import DTYPES
from mstore.formats import protos, wire
from mstore.formats.bundle_index import MAX_ENTRIES, MAX_EXTENTS
from mstore.formats.file_view import FileView
from mstore.formats.files import damaged
from mstore.formats.proto_values import Values, find_values
from mstore.formats.slices import FULL, slice_key, slice_shape
from mstore.formats.sstable import read_entries

Extents = tuple[tuple[int, int], ...]

_MAX_META = 1 << 25
_MAX_TENSOR_META = 1 << 20
_MAX_RANK = 254
_MAX_INT64 = 2**63 - 1
_CHECKPOINT_VERSION = 1  # TF_CHECKPOINT_VERSION
_META, _DATA, _TENSOR_META, _VERSIONS, _VALUES = 1, 2, 1, 2, 3
_NEWER = "save it again as V2 with the TensorFlow that wrote it"


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable that a file of the V1 format holds, or some slices of it.

    Attributes:
        name: its name, as stored.
        dtype: TensorFlow's name of the element type.
        shape: of the whole variable.
        slices: start and length in each dimension, for each slice in this file, with its values.
    """

    name: bytes
    dtype: str
    shape: tuple[int, ...]
    slices: dict[Extents, Values]


@dataclass
class _Listed:
    """What the message under the empty key says, and what of it is yet to come."""

    path: str
    variables: dict[bytes, Variable] = field(default_factory=dict)
    awaited: dict[bytes, tuple[Variable, Extents]] = field(default_factory=dict)
    extents_left: int = MAX_EXTENTS


def is_saved_slices(file: BinaryIO, *, path: str) -> bool:
    """Return whether an open table is of the V1 format, and not the index of a TensorBundle.

    Raises:
        DamagedFileError: it is no sound table.
        SystemIOError: the operating system refused.
    """
    key, value = next(iter(read_entries(FileView(file, path), path=path)), (b"-", None))
    # The header of a bundle begins with a number, the list of slices with a message.
    return value is not None and key == b"" and len(value) > 0 and value[0] == _META << 3 | 2


def read_saved_slices(file: BinaryIO, *, path: str) -> list[Variable]:
    """Return the variables in an open file of the V1 format, in the file's order.

    The checksum of every block is checked, so that the whole file is read; the values are views
    of it.

    Raises:
        DamagedFileError: the file is damaged, or of a kind that is not read.
        SystemIOError: the operating system refused.
    """
    entries = read_entries(FileView(file, path), path=path)
    key, value = next(entries, (b"-", None))
    if key or value is None:
        raise damaged(path, "it does not begin with a list of tensors")
    listed = _Listed(path)
    _read_meta(value, listed)
    for key, value in entries:
        found = listed.awaited.pop(key, None)
        if found is None:
            raise damaged(path, "it has values of a tensor that it does not list")
        variable, extents = found
        shape = slice_shape(variable.shape, extents)
        if shape is None:
            raise damaged(path, "a slice of a tensor in it lies outside the tensor")
        message = _only(_only(value, _DATA, path), _VALUES, path)
        variable.slices[extents] = find_values(message, variable.dtype, shape, path=path)
    if listed.awaited:
        raise damaged(path, f"it lacks the values of {len(listed.awaited)} tensors that it lists")
    return list(listed.variables.values())


def _read_meta(value: FileView, listed: _Listed) -> None:
    path = listed.path
    if len(value) > _MAX_META:
        raise damaged(path, "its list of tensors is longer than any sound one")
    meta = memoryview(bytes(_only(value, _META, path)))
    budget = wire.Budget(2 * MAX_ENTRIES)
    for number, part in wire.messages(meta, {_TENSOR_META, _VERSIONS}, budget, path=path):
        if number == _TENSOR_META:
            _read_variable(_parsed(protos.SavedSliceMeta(), part, path), listed)
            continue
        version = _parsed(protos.Version(), part, path)
        if version.min_consumer > _CHECKPOINT_VERSION or (
            _CHECKPOINT_VERSION in version.bad_consumers
        ):
            raise damaged(path, "it is of a newer version of the V1 format", hint=_NEWER)


def _read_variable(message: Any, listed: _Listed) -> None:
    path = listed.path
    dtype = DTYPES.get(message.type, ("", 0))[0]
    shape = tuple(dimension.size for dimension in message.shape.dim)
    if not dtype:
        raise damaged(path, f"it has a tensor of the unknown type {message.type}", hint=_NEWER)
    if message.shape.unknown_rank or not _is_possible(shape):
        raise damaged(path, "it has a tensor of no possible shape")
    variable = Variable(message.name, dtype, shape, {})
    if message.name in listed.variables or len(listed.variables) >= MAX_ENTRIES:
        raise damaged(path, "it lists a tensor twice, or more of them than any sound checkpoint")
    listed.variables[message.name] = variable
    if not message.slice:
        raise damaged(path, "it lists a tensor without values")
    for item in message.slice:
        extents = tuple(
            (extent.start, extent.length if extent.HasField("length") else FULL)
            for extent in item.extent
        )
        listed.extents_left -= 1 + len(extents)
        if listed.extents_left < 0:
            raise damaged(path, "it has more slices than any sound checkpoint")
        key = slice_key(message.name, extents)
        if key in listed.awaited:
            raise damaged(path, "it lists a slice of a tensor twice")
        listed.awaited[key] = (variable, extents)


def _is_possible(shape: tuple[int, ...]) -> bool:
    count = 1
    for dimension in shape:
        count *= dimension
        if not 0 <= dimension <= _MAX_INT64 or count > _MAX_INT64:
            return False
    return len(shape) <= _MAX_RANK


def _only(message: FileView, number: int, path: str) -> FileView:
    """Return the one sub-message of that number."""
    parts = [part for _, part in wire.messages(message, {number}, wire.Budget(16), path=path)]
    if len(parts) != 1:
        raise damaged(path, "a message in it does not have the parts that it must have")
    return parts[0]


def _parsed(message: Any, data: memoryview, path: str) -> Any:
    if len(data) > _MAX_TENSOR_META:
        raise damaged(path, "an entry of its list of tensors is longer than any sound one")
    try:
        message.ParseFromString(bytes(data))
    except DecodeError as error:
        raise damaged(path, "an entry of its list of tensors does not parse") from error
    return message
