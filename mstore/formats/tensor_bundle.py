"""Reads TensorFlow checkpoints and the variables of SavedModels: the TensorBundle format.

``<prefix>.index`` is a table (see `mstore.formats.sstable`) from key to ``BundleEntryProto``, with
a ``BundleHeaderProto`` under the empty key; ``<prefix>.data-00000-of-00001`` and so on hold the
tensors' bytes (tensorflow/core/util/tensor_bundle/tensor_bundle.cc and
core/protobuf/tensor_bundle.proto).
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mstore.disk import os_errors
from mstore.domain.tensors import OBJECT_GRAPH_KEY, Tensor, TensorTable
from mstore.errors import InputError
from mstore.formats import object_graph
from mstore.formats.bundle_index import MAX_INDEX, parse_index, shard_name
from mstore.formats.crc import Buffer, RunningCrc, check_crc, tensor_check
from mstore.formats.files import damaged, label, open_regular, read_limited, read_up_to
from mstore.formats.object_graph import ObjectGraph, parse_object_graph
from mstore.formats.strings import decode_strings

__all__ = [
    "Buffer",
    "BundleFiles",
    "RunningCrc",
    "check_crc",
    "decode_strings",
    "index_path",
    "parse_index",
    "read_graph",
    "read_index",
    "read_table",
    "read_tensor",
    "shard_name",
    "shard_paths",
    "tensor_check",
    "with_full_names",
]


def index_path(prefix: Path) -> Path:
    """Return the path of the index of the checkpoint at ``prefix``."""
    return prefix.parent / f"{prefix.name}.index"


def shard_paths(prefix: Path, num_shards: int) -> list[Path]:
    """Return the paths of all data files of the checkpoint at ``prefix``."""
    return [
        prefix.parent / shard_name(prefix.name, shard, num_shards) for shard in range(num_shards)
    ]


def read_table(prefix: Path) -> TensorTable:
    """Return the tensors of the checkpoint at ``prefix``, with the names of their variables.

    Only the index and the object graph are read; of the data files the sizes are checked.

    Raises:
        InputError: there is no index.
        DamagedFileError: the index or the object graph is damaged, a data file is missing or
            shorter than the index says.
        SystemIOError: the operating system refused.
    """
    table = read_index(prefix)
    _check_extents(prefix, table)
    graph = read_graph(prefix, table)
    return table if graph is None else with_full_names(table, graph)


def read_index(prefix: Path) -> TensorTable:
    """Return what the index alone says; the data files need not be there.

    Raises:
        InputError: there is no index.
        DamagedFileError: it is damaged.
        SystemIOError: the operating system refused.
    """
    path = index_path(prefix)
    return parse_index(read_limited(path, MAX_INDEX), path=str(path))


def _check_extents(prefix: Path, table: TensorTable) -> None:
    """Check that each data file is there and reaches as far as its tensors."""
    needed: dict[int, Tensor] = {}
    for tensor in table:
        last = needed.get(tensor.shard)
        if last is None or tensor.offset + tensor.size > last.offset + last.size:
            needed[tensor.shard] = tensor
    for shard in range(table.num_shards):
        path = prefix.parent / shard_name(prefix.name, shard, table.num_shards)
        with os_errors(f"cannot read {path}"):
            try:
                status = path.stat()
            except FileNotFoundError:
                raise _missing_shard(path) from None
        if not stat.S_ISREG(status.st_mode):
            raise damaged(str(path), "it is not a regular file")
        size = status.st_size
        last = needed.get(shard)
        if last is not None and last.offset + last.size > size:
            end = last.offset + last.size
            raise damaged(
                str(path), f"it has {size} bytes, but {label(last)} ends at byte {end}: cut short"
            )


def _missing_shard(path: Path) -> Exception:
    return damaged(
        str(path), "it is missing", hint="copy all data files of the checkpoint beside its .index"
    )


def read_graph(prefix: Path, table: TensorTable) -> ObjectGraph | None:
    """Return the object graph of a checkpoint, None where it is name-based and has none.

    Raises:
        DamagedFileError: the graph is damaged.
        SystemIOError: the operating system refused.
    """
    tensor = table.get(OBJECT_GRAPH_KEY)
    if tensor is None:
        return None
    path = str(prefix.parent / shard_name(prefix.name, tensor.shard, table.num_shards))
    if (tensor.dtype, tensor.shape) != ("string", ()) or tensor.size > object_graph.MAX_BYTES:
        raise damaged(str(index_path(prefix)), "its object graph is not a text of sound size")
    raw = read_tensor(prefix, table, tensor)
    return parse_object_graph(decode_strings(tensor, raw, path=path)[0], path=path)


def with_full_names(table: TensorTable, graph: ObjectGraph) -> TensorTable:
    """Return the table with the variable names that the object graph records."""
    names = graph.full_names()
    named = tuple(replace(item, full_name=names.get(item.key)) for item in table)
    return replace(table, tensors=named)


def read_tensor(prefix: Path, table: TensorTable, tensor: Tensor) -> bytes:
    """Return the bytes of one tensor as stored, after checking them.

    Raises:
        DamagedFileError: the data file is missing or cut short, or the bytes do not have the
            checksum that the index records.
        SystemIOError: the operating system refused.
    """
    path = prefix.parent / shard_name(prefix.name, tensor.shard, table.num_shards)
    if tensor.sliced:
        return b""
    try:
        file = open_regular(path)
    except InputError as error:
        raise _missing_shard(path) from error
    with file, os_errors(f"cannot read {path}"):
        if os.fstat(file.fileno()).st_size < tensor.offset + tensor.size:
            raise damaged(str(path), f"it ends within {label(tensor)}: cut short")
        file.seek(tensor.offset)
        raw = read_up_to(file, tensor.size)
    if not check_crc(tensor, raw):
        raise damaged(str(path), f"the bytes of {label(tensor)} do not have their checksum")
    return raw


_PIECE = 1 << 20


@dataclass(frozen=True)
class BundleFiles:
    """A `TensorReader` of the bundle at ``prefix``.

    Attributes:
        prefix: path before ``.index``.
    """

    prefix: Path

    @cached_property
    def table(self) -> TensorTable:
        """The tensors of the bundle, see `read_table`; empty where there is no index."""
        return read_table(self.prefix) if index_path(self.prefix).exists() else TensorTable(())

    def pieces(self, tensor: Tensor) -> Iterator[bytes]:
        """Yield the tensor's bytes; fewer than its size if the file is cut short.

        Raises:
            SystemIOError: the operating system refused.
        """
        path = self.prefix.parent / f"{self.prefix.name}{self.table.files[tensor.shard]}"
        with os_errors(f"cannot read {path}"), path.open("rb") as file:
            file.seek(tensor.offset)
            left = tensor.size
            while left and (piece := file.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece
