"""Write a checkpoint's original files out again, bit for bit."""

from pathlib import Path

from mstore import disk
from mstore.catalog.checkpoints import CheckpointRow
from mstore.domain.records import Checkout, FileRecord
from mstore.errors import ConflictError, InputError
from mstore.objects.manifest import Manifest, ManifestFile
from mstore.objects.reader import ObjectReader
from mstore.ops.context import Context
from mstore.ops.hashing import file_sha256
from mstore.ops.query import find_checkpoint, place, prefix_name


def checkout(context: Context, reference: str, directory: Path) -> Checkout:
    """Write the files of a checkpoint into ``directory``, made if need be.

    Files appear under their names when they are complete, the index last; files that are there
    already with the same content are left alone.

    Raises:
        ConflictError: another file of that name is there.
        InputError: ``directory`` is a file.
        DamagedStoreError: an object is missing or damaged.
    """
    row = find_checkpoint(context, reference)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is not a directory", hint="name another one")
    with disk.os_errors(f"checking out into {directory} failed"):
        directory.mkdir(parents=True, exist_ok=True)
        disk.sweep(directory)
        manifest = context.manifest(row.manifest)
        with disk.work_directory(directory) as work:
            files = write_checkpoint(context, row, manifest, work, directory)
    restored = place(directory, row.checkpoint, manifest)
    return Checkout(row.checkpoint, str(restored), tuple(files))


def write_checkpoint(
    context: Context, row: CheckpointRow, manifest: Manifest, work: Path, directory: Path
) -> list[FileRecord]:
    """Write a checkpoint's files in ``work``, then move them to ``directory``, the index last."""
    name = prefix_name(row.checkpoint, manifest)
    originals = manifest.originals
    wanted = [file for file in originals if not _present(directory / (name + file.path), file)]
    context.progress.start(f"writing {name}", sum(file.size for file in wanted))
    try:
        with context.reader() as reader:
            for file in wanted:
                _make_parents(work, name + file.path)
                _write(context, reader, file, work / (name + file.path))
    finally:
        context.progress.finish()
    for file in sorted(wanted, key=lambda file: file.path in _LAST):
        _make_parents(directory, name + file.path)
        disk.rename_new(work / (name + file.path), directory / (name + file.path))
    return [FileRecord(name + file.path, file.size, file.sha256) for file in originals]


_LAST = frozenset({".index", ".weights.json", "/saved_model.pb", "/config.json"})
"""The files by which others see that a checkpoint is complete."""


def _make_parents(directory: Path, name: str) -> None:
    for parent in reversed(Path(name).parents[:-1]):
        disk.make_directory(directory / parent)


def _present(path: Path, file: ManifestFile) -> bool:
    """Return whether the very file is there already."""
    if not path.exists():
        return False
    if file_sha256(path) == file.sha256:
        return True
    raise ConflictError(
        f"{path} is there already with other content",
        hint="check out into another directory",
    )


def _write(context: Context, reader: ObjectReader, file: ManifestFile, path: Path) -> None:
    output = disk.NewFile(path)
    try:
        for part in reader.stream(file.pieces):
            output.write(part)
            context.progress.advance(len(part))
    finally:
        output.close()
