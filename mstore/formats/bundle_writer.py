"""Writes TensorBundles without TensorFlow, byte for byte as TensorFlow writes them.

A bundle is data files with the tensors' bytes back to back, and an index; see
`mstore.formats.tensor_bundle`. Rules: ``BundleWriter`` in
tensorflow/core/util/tensor_bundle/tensor_bundle.cc. What TensorFlow puts into the index depends on
each tensor's type, shape, place and checksum alone, so that an index can be written for tensors
whose bytes stand elsewhere.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mstore import disk
from mstore.domain.tensors import DTYPES, Tensor, TensorTable
from mstore.formats import protos
from mstore.formats.crc import Buffer, extend, mask
from mstore.formats.sstable_writer import varint, write_table
from mstore.formats.tensor_bundle import index_path, shard_paths

_NUMBERS = {name: number for number, (name, _) in DTYPES.items()}
_BUNDLE_VERSION = 1  # kTensorBundleVersion
_UINT32 = 0xFFFFFFFF


def encode_index(table: TensorTable) -> bytes:
    """Return the bytes of the ``.index`` file that describes the tensors.

    Raises:
        ValueError: a tensor is a partitioned variable, whose slices the table does not list.
    """
    header = protos.BundleHeader(num_shards=table.num_shards)
    header.version.producer = _BUNDLE_VERSION
    items = [(b"", _bytes(header))]
    for tensor in sorted(table, key=lambda item: item.key):
        if tensor.sliced:
            raise ValueError(f"{tensor.name} is partitioned")
        items.append((tensor.key, _entry(tensor)))
    return write_table(items)


def _entry(tensor: Tensor) -> bytes:
    message = protos.BundleEntry(
        dtype=_NUMBERS[tensor.dtype],
        shard_id=tensor.shard,
        offset=tensor.offset,
        size=tensor.size,
        crc32c=tensor.crc32c,
    )
    message.shape.SetInParent()  # the shape of a scalar is written, and empty
    for length in tensor.shape:
        message.shape.dim.add(size=length)
    return _bytes(message)


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def encode_strings(strings: Sequence[bytes]) -> tuple[bytes, int]:
    """Return the stored bytes of a string tensor and their masked checksum.

    Args:
        strings: the elements in row-major order; see `mstore.formats.strings.decode_strings`.
    """
    # Lengths beyond 32 bits enter the checksum as uint64, the others as uint32.
    fixed = b"".join(
        len(text).to_bytes(4 if len(text) <= _UINT32 else 8, "little") for text in strings
    )
    lengths_crc = extend(0, fixed)
    inner = mask(lengths_crc).to_bytes(4, "little")
    body = b"".join(strings)
    stored = b"".join(varint(len(text)) for text in strings) + inner + body
    return stored, mask(extend(extend(lengths_crc, inner), body))


class BundleWriter:
    """Writes a bundle from front to back in bounded memory.

    The index is written last: a bundle without one is not there for any reader. Nothing is made
    durable; that is for whoever gives the files their final names.

    >>> import tempfile
    >>> prefix = Path(tempfile.mkdtemp(), "ckpt")
    >>> with BundleWriter(prefix) as writer:
    ...     _ = writer.add(b"w", "float32", (2,), [bytes(4), bytes(4)])
    ...     table = writer.finish()
    >>> [(tensor.name, tensor.size) for tensor in table]
    [('w', 8)]
    """

    def __init__(self, prefix: Path, num_shards: int = 1) -> None:
        """Create the data files.

        Raises:
            FileExistsError: one is there already.
        """
        self._prefix = prefix
        self._files: list[disk.NewFile] = []
        self._tensors: list[Tensor] = []
        try:
            for path in shard_paths(prefix, num_shards):
                self._files.append(disk.NewFile(path))
        except OSError:
            self.close()
            raise

    def __enter__(self) -> "BundleWriter":
        """Return the writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the data files; more than once does no harm."""
        for file in self._files:
            file.close()

    def add(
        self,
        key: bytes,
        dtype: str,
        shape: tuple[int, ...],
        pieces: Iterable[Buffer],
        *,
        shard: int = 0,
        crc32c: int | None = None,
    ) -> Tensor:
        """Append a tensor to a data file.

        Args:
            key: its key in the index.
            dtype: TensorFlow's name of the element type.
            shape: length of each dimension.
            pieces: its bytes as stored, in any portions.
            shard: number of the data file.
            crc32c: masked checksum where it is known, as it must be for strings and variants
                (`encode_strings`); None computes it, which is right for all types of fixed size.

        Returns:
            The tensor with its place and checksum.
        """
        file, crc = self._files[shard], 0
        start = file.size
        for piece in pieces:
            file.write(piece)
            if crc32c is None:
                crc = extend(crc, piece)
        tensor = Tensor(
            key,
            dtype,
            shape,
            shard,
            start,
            file.size - start,
            mask(crc) if crc32c is None else crc32c,
        )
        self._tensors.append(tensor)
        return tensor

    def add_strings(
        self, key: bytes, shape: tuple[int, ...], strings: Sequence[bytes], *, shard: int = 0
    ) -> Tensor:
        """Append a string tensor; ``strings`` are its elements in row-major order."""
        stored, crc = encode_strings(strings)
        return self.add(key, "string", shape, [stored], shard=shard, crc32c=crc)

    def finish(self) -> TensorTable:
        """Close the data files, write the index, and return what the bundle holds."""
        self.close()
        tensors = sorted(self._tensors, key=lambda tensor: tensor.key)
        shards = shard_paths(self._prefix, len(self._files))
        suffixes = (path.name[len(self._prefix.name) :] for path in shards)
        table = TensorTable(tuple(tensors), len(shards), tuple(suffixes))
        index = disk.NewFile(index_path(self._prefix))
        try:
            index.write(encode_index(table))
        finally:
            index.close()
        return table
