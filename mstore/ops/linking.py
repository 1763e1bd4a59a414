"""Link: a version from a recorded program and a checkpoint's stored tensors, running nothing.

No tensor is copied. The data file of the variables is a list of slices of the checkpoint's chunks
around the program's object graph; the index, its checksums and the fingerprint are new, and equal
byte for byte to what TensorFlow writes for that checkpoint.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from mstore import disk
from mstore.convert.fingerprint import FILE_NAME as FINGERPRINT
from mstore.convert.fingerprint import of_other_variables
from mstore.convert.proof import ProvenVariable
from mstore.convert.template import linked_table
from mstore.domain.records import FileRecord
from mstore.domain.tensors import OBJECT_GRAPH_KEY, Tensor, TensorTable
from mstore.domain.warmup import WARMUP_PATH
from mstore.errors import DamagedStoreError
from mstore.formats.bundle_writer import encode_index
from mstore.formats.crc import TensorCheck, tensor_check
from mstore.formats.tensor_bundle import shard_name
from mstore.objects.manifest import Manifest, ManifestFile, Piece, coalesce
from mstore.objects.packs import CHUNK, PackWriter
from mstore.ops.context import Context
from mstore.ops.programs import OBJECT_GRAPH, Recorded

_VARIABLES = "variables/variables"


@dataclass(frozen=True, slots=True)
class Linked:
    """The files of a linked version.

    Attributes:
        stored: files whose bytes are all in the store.
        fresh: path and bytes of the others.
        proven: the variables and the tensors that they are.
        graph_file: path of the data file that holds the object graph of the variables.
        graph: the object graph by its offset in that file; empty where there is none.
    """

    stored: tuple[ManifestFile, ...]
    fresh: Mapping[str, bytes]
    proven: tuple[ProvenVariable, ...]
    graph_file: str
    graph: Mapping[int, bytes]

    def with_warmup(self, data: bytes | None) -> "Linked":
        """Return the same with a warmup request, unless there is none to give."""
        if data is None or any(file.path == WARMUP_PATH for file in self.stored):
            return self
        return replace(self, fresh={**self.fresh, WARMUP_PATH: data})

    @property
    def records(self) -> tuple[FileRecord, ...]:
        """Path, size and SHA-256 of each file, in order of path."""
        files = [FileRecord(file.path, file.size, file.sha256) for file in self.stored]
        files += [
            FileRecord(path, len(data), hashlib.sha256(data).hexdigest())
            for path, data in self.fresh.items()
        ]
        return tuple(sorted(files, key=lambda file: file.path))

    def store(self, writer: PackWriter, extra: Mapping[str, bytes]) -> Manifest:
        """Write what is fresh, and ``extra`` by path, into a pack; return the whole manifest."""
        files = list(self.stored)
        for path, data in chain(self.fresh.items(), extra.items()):
            piece = Piece(writer.add(CHUNK, data).id, 0, len(data))
            digest = hashlib.sha256(data).hexdigest()
            files.append(ManifestFile(path, len(data), digest, (piece,)))
        return Manifest(tuple(sorted(files, key=lambda file: file.path)))

    def write(self, context: Context, directory: Path, *, values: bool) -> None:
        """Write the files into a directory that is made.

        Args:
            context: the store.
            directory: a new one.
            values: whether the variables are written; where they are not, their data files have
                their size and the object graph, which is all that a look at structure needs.
        """
        paths = [file.path for file in self.stored] + list(self.fresh)
        for parent in sorted({parent for path in paths for parent in Path(path).parents}):
            disk.make_directory(directory / parent)
        for path, data in self.fresh.items():
            _write(directory / path, [data])
        with context.reader() as reader:
            for file in self.stored:
                if values or not file.path.startswith(f"{_VARIABLES}."):
                    _write(directory / file.path, reader.stream(file.pieces))
                else:
                    graph = self.graph if file.path == self.graph_file else {}
                    disk.write_sparse(directory / file.path, file.size, graph)


def _write(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    output = disk.NewFile(path)
    try:
        for part in parts:
            output.write(part)
    finally:
        output.close()


def link(context: Context, recorded: Recorded, manifest: Manifest, trained: TensorTable) -> Linked:
    """Put a checkpoint's tensors in the places of a program's variables.

    Every byte is read once: each chunk is held against its id, each tensor against the CRC32C that
    is on record with the checkpoint, and the SHA-256 of the data files is taken.

    Args:
        context: the store.
        recorded: the program.
        manifest: the checkpoint's files.
        trained: the checkpoint's tensors.

    Raises:
        ProofError: the checkpoint does not have a tensor that the program needs.
        DamagedStoreError: the store cannot give the bytes that are on record.
    """
    table = linked_table(recorded.template, trained)
    index = encode_index(table)
    data = [
        _data_file(context, recorded, manifest, trained, table, shard)
        for shard in range(table.num_shards)
    ]
    files = [f for f in recorded.manifest.files if f.path not in {OBJECT_GRAPH, FINGERPRINT}]
    with context.reader() as reader:
        before = b"".join(reader.stream(recorded.manifest.file(FINGERPRINT).pieces))
        graph = b"".join(reader.stream(recorded.manifest.file(OBJECT_GRAPH).pieces))
    place = table.get(OBJECT_GRAPH_KEY)
    fresh = {f"{_VARIABLES}.index": index, FINGERPRINT: of_other_variables(before, index)}
    sources = recorded.template.sources
    proven = tuple(
        ProvenVariable(
            tensor.key,
            sources[tensor.key],
            recorded.names.get(tensor.key, tensor.name),
            tensor.size,
        )
        for tensor in table.values
    )
    return Linked(
        tuple(sorted((*files, *data), key=lambda file: file.path)),
        fresh,
        proven,
        shard_name(_VARIABLES, 0 if place is None else place.shard, table.num_shards),
        {} if place is None else {place.offset: graph},
    )


def _data_file(
    context: Context,
    recorded: Recorded,
    manifest: Manifest,
    trained: TensorTable,
    table: TensorTable,
    shard: int,
) -> ManifestFile:
    sources = recorded.template.sources
    parts: list[tuple[Tensor, list[Piece]]] = []
    for tensor in sorted((t for t in table if t.shard == shard), key=lambda t: t.offset):
        source = sources.get(tensor.key)
        original = None if source is None else trained.get(source)
        if original is None:
            parts.append((tensor, list(recorded.manifest.file(OBJECT_GRAPH).pieces)))
        else:
            parts.append((tensor, manifest.slices(trained, original)))
    digest = hashlib.sha256()
    with context.reader() as reader:
        pieces = [piece for _, part in parts for piece in part]
        for data, check in zip(reader.stream(pieces), _checks(parts), strict=True):
            digest.update(data)
            check.update(data)
            context.progress.advance(len(data))
    size = sum(tensor.size for tensor, _ in parts)
    name = shard_name(_VARIABLES, shard, table.num_shards)
    return ManifestFile(name, size, digest.hexdigest(), coalesce(pieces))


def _checks(parts: list[tuple[Tensor, list[Piece]]]) -> Iterator[TensorCheck]:
    """Yield the check that each piece belongs to; after the last of a tensor, see that it matched.

    Raises:
        DamagedStoreError: a tensor does not have its checksum.
    """
    for tensor, pieces in parts:
        check = tensor_check(tensor)
        for _ in pieces:
            yield check
        if not check.matches():
            raise DamagedStoreError(
                f"the stored bytes of {tensor.name} do not have their checksum",
                hint="run: mstore verify",
            )
