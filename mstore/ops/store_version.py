"""Take a version's files into the store; its variables cost nothing, they are the checkpoint's."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mstore.convert.proof import ProvenVariable
from mstore.convert.tables import is_table_part
from mstore.domain.progress import NoProgress
from mstore.domain.tensors import Tensor, TensorTable
from mstore.errors import DamagedStoreError
from mstore.formats.tensor_bundle import read_table, shard_paths
from mstore.objects.ingest import Source, ingest
from mstore.objects.manifest import Manifest, ManifestFile, Piece, coalesce
from mstore.objects.packs import CHUNK, PackWriter
from mstore.ops.context import Context
from mstore.ops.stored import tensor_table

_VARIABLES = Path("variables") / "variables"


def store_files(
    context: Context,
    writer: PackWriter,
    directory: Path,
    proven: Sequence[ProvenVariable],
    checkpoint: Manifest,
) -> Manifest:
    """Write the files of a SavedModel into a pack and return their manifest.

    The bytes of a proven variable are not stored again: the manifest points at the chunks of the
    checkpoint that hold them.

    Raises:
        DamagedStoreError: the chunks pointed at do not give the file's bytes.
    """
    data = _data_files(context, writer, directory, proven, checkpoint)
    taken = {file.path for file in data}
    files = sorted(str(file.relative_to(directory)) for file in _files(directory))
    descriptors: list[int] = []
    try:
        sources = []
        for name in files:
            if name not in taken:
                descriptors.append(os.open(directory / name, os.O_RDONLY))
                sources.append(Source(name, descriptors[-1], os.fstat(descriptors[-1]).st_size))
        rest = ingest(sources, writer, context.known, NoProgress())
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return Manifest(tuple(sorted((*data, *rest.files), key=lambda file: file.path)))


def _files(directory: Path) -> Iterator[Path]:
    return (file for file in directory.rglob("*") if file.is_file())


def _data_files(
    context: Context,
    writer: PackWriter,
    directory: Path,
    proven: Sequence[ProvenVariable],
    checkpoint: Manifest,
) -> list[ManifestFile]:
    prefix = directory / _VARIABLES
    if not prefix.with_name(f"{prefix.name}.index").is_file():
        return []
    table = read_table(prefix)
    sources = tensor_table(context, checkpoint)
    pieces = _source_pieces(proven, table, sources, checkpoint)
    return [
        _data_file(context, writer, directory, path, _in_shard(table, shard), pieces)
        for shard, path in enumerate(shard_paths(prefix, table.num_shards))
    ]


def _in_shard(table: TensorTable, shard: int) -> list[Tensor]:
    return sorted((t for t in table if t.shard == shard and t.size), key=lambda t: t.offset)


def _source_pieces(
    proven: Sequence[ProvenVariable],
    table: TensorTable,
    sources: TensorTable,
    checkpoint: Manifest,
) -> dict[bytes, list[Piece]]:
    """Return, for each variable's key, the slices of chunks that hold its bytes.

    A hash table may have been written in another order; it has bytes of its own.
    """
    found: dict[bytes, list[Piece]] = {}
    for variable in proven:
        made = table.get(variable.key)
        tensor = sources.get(variable.source_key) if variable.source_key else None
        if made is None or tensor is None:
            continue
        if made.content == tensor.content or not is_table_part(variable.key):
            found[variable.key] = checkpoint.slices(sources, tensor)
    return found


def _data_file(
    context: Context,
    writer: PackWriter,
    directory: Path,
    path: Path,
    tensors: Sequence[Tensor],
    known: dict[bytes, list[Piece]],
) -> ManifestFile:
    pieces: list[Piece] = []
    size, position = path.stat().st_size, 0
    with path.open("rb") as file:
        for tensor in tensors:
            shared = known.get(tensor.key)
            if shared is not None:
                pieces += _fresh(writer, file.fileno(), position, tensor.offset)
                pieces += shared
                position = tensor.offset + tensor.size
        pieces += _fresh(writer, file.fileno(), position, size)
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    name = str(path.relative_to(directory))
    made = ManifestFile(name, size, digest.hexdigest(), coalesce(pieces))
    _ensure_equal(context, writer, made, path)
    return made


def _fresh(writer: PackWriter, descriptor: int, start: int, end: int) -> list[Piece]:
    """Store bytes of the file that no tensor of the checkpoint has."""
    pieces = []
    for offset in range(start, end, 1 << 20):
        data = os.pread(descriptor, min(1 << 20, end - offset), offset)
        pieces.append(Piece(writer.add(CHUNK, data).id, 0, len(data)))
    return pieces


def _ensure_equal(context: Context, writer: PackWriter, file: ManifestFile, path: Path) -> None:
    """Check the shared slices against the file: what is stored must be what was proven."""
    shared: list[tuple[int, Piece]] = []
    position = 0
    for piece in file.pieces:
        if piece.chunk not in writer.entries:
            shared.append((position, piece))
        position += piece.length
    with path.open("rb") as stream, context.reader() as reader:
        parts = reader.stream([piece for _, piece in shared])
        for (offset, piece), part in zip(shared, parts, strict=True):
            if os.pread(stream.fileno(), piece.length, offset) != part:
                raise DamagedStoreError(
                    f"the stored bytes of {file.path} at {offset} differ from the export",
                    hint="run: mstore verify",
                )
