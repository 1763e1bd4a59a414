"""The tensors of a stored checkpoint: what there is, and their bytes straight out of the packs."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from types import TracebackType

from mstore.domain.tensors import OBJECT_GRAPH_KEY, Tensor, TensorTable
from mstore.errors import DamagedStoreError
from mstore.formats.object_graph import parse_object_graph
from mstore.formats.tensor_bundle import check_crc, decode_strings, parse_index, with_full_names
from mstore.formats.tf1_bundle import name_slices
from mstore.objects.manifest import Manifest
from mstore.objects.reader import ObjectReader
from mstore.ops.context import Context

_INDEXES = (("", ".index"), ("/variables/variables", "/variables/variables.index"))
"""Prefix and index of the bundles that checkpoints are or have: itself, a SavedModel's."""

_GRAPH = "the stored object graph"


class StoredTensors:
    """A `TensorReader` of a stored checkpoint; a context manager that keeps packs open."""

    def __init__(self, context: Context, manifest: Manifest) -> None:
        """Read what `manifest` says; nothing is read yet."""
        self.manifest = manifest
        self._reader: ObjectReader = context.reader()

    def __enter__(self) -> "StoredTensors":
        """Return the reader itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the packs."""
        self._reader.close()

    @cached_property
    def table(self) -> TensorTable:
        """The tensor table, with the names that the program gave to the variables.

        Raises:
            DamagedStoreError: an object is missing or damaged.
            DamagedFileError: the stored index is no index.
        """
        if self.manifest.tensors is not None:
            return self.manifest.tensors
        paths = {file.path for file in self.manifest.files}
        for prefix, index in _INDEXES:
            if index in paths:
                return self._indexed(prefix, index)
        return TensorTable(())

    def pieces(self, tensor: Tensor) -> Iterator[memoryview]:
        """Yield the bytes of a tensor, each chunk checked against its id.

        Raises:
            DamagedStoreError: a chunk is missing or damaged.
        """
        return self._reader.stream(self.manifest.slices(self.table, tensor))

    def _indexed(self, prefix: str, index: str) -> TensorTable:
        data = b"".join(self._reader.stream(self.manifest.file(index).pieces))
        table = parse_index(data, path="the stored index")
        table = replace(table, files=tuple(prefix + name for name in table.files))
        entry = table.get(OBJECT_GRAPH_KEY)
        if entry is None:
            return name_slices(table)
        raw = b"".join(self._reader.stream(self.manifest.slices(table, entry)))
        if not check_crc(entry, raw):
            raise DamagedStoreError("the object graph of a stored checkpoint is damaged")
        graph = decode_strings(entry, raw, path=_GRAPH)[0]
        return with_full_names(table, parse_object_graph(graph, path=_GRAPH))


def tensor_table(context: Context, manifest: Manifest) -> TensorTable:
    """Return the tensor table of a stored checkpoint.

    Raises:
        DamagedStoreError: an object is missing or damaged.
    """
    with StoredTensors(context, manifest) as stored:
        return stored.table
