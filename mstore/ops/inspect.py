"""Read a version directory as it is, believing nothing: files, tensors, statement."""

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mstore.domain.progress import Progress
from mstore.domain.records import FileRecord, Finding
from mstore.domain.tensors import OBJECT_GRAPH_KEY, Tensor, TensorTable
from mstore.errors import DamagedFileError, Error, InputError
from mstore.formats.saved_model import read_saved_model
from mstore.formats.tensor_bundle import parse_index, shard_paths, tensor_check
from mstore.ops.hashing import file_sha256
from mstore.ops.statement import Statement, read_statement

VARIABLES = Path("variables") / "variables"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Inspection:
    """What stands in a version directory.

    Attributes:
        path: the directory.
        files: its regular files by relative path.
        table: the tensors its index names, or None if there is no readable index.
        names: human names of the variables by key.
        damaged: keys of the tensors whose bytes are not what the index says.
        statement: what it says of itself, or None.
        findings: everything that is wrong with it in itself.
    """

    path: Path
    files: Mapping[str, FileRecord]
    table: TensorTable | None
    names: Mapping[bytes, str]
    damaged: frozenset[bytes]
    statement: Statement | None
    findings: tuple[Finding, ...]

    def name(self, tensor: Tensor) -> str:
        """Return the best name there is for a variable."""
        return self.names.get(tensor.key) or tensor.full_name or tensor.name


def inspect(path: Path, progress: Progress) -> Inspection:
    """Read a version directory; damage ends up in the findings and is never raised.

    Raises:
        OSError: the directory itself cannot be listed.
    """
    findings: list[Finding] = []
    files = _files(path, findings, progress)
    table = _table(path, findings)
    names = _graph(path, findings)
    damaged = _check_tensors(path, table, names, findings) if table else frozenset()
    return Inspection(
        path, files, table, names, damaged, _statement(path, findings), tuple(findings)
    )


def _files(path: Path, findings: list[Finding], progress: Progress) -> dict[str, FileRecord]:
    found: dict[str, FileRecord] = {}
    for file in _walk(path):
        name = str(file.relative_to(path))
        if file.is_symlink() or not file.is_file():
            detail = "is no regular file; its content is not part of this directory"
            findings.append(Finding("irregular-file", name, detail))
            continue
        try:
            size = file.stat().st_size
            found[name] = FileRecord(name, size, file_sha256(file))
            progress.advance(size)
        except OSError as error:
            findings.append(Finding("unreadable-file", name, f"cannot be read: {error.strerror}"))
    return found


def _walk(path: Path) -> Iterator[Path]:
    for directory, folders, names in os.walk(path):
        links = [name for name in folders if (Path(directory) / name).is_symlink()]
        for name in sorted(names + links):
            yield Path(directory) / name


def _table(path: Path, findings: list[Finding]) -> TensorTable | None:
    index = path / f"{VARIABLES}.index"
    if index.exists() and not index.is_file():  # a pipe would be waited for
        findings.append(Finding("unreadable-file", f"{VARIABLES}.index", "is no regular file"))
        return None
    try:
        return parse_index(index.read_bytes(), path=str(index))
    except FileNotFoundError:
        detail = "is missing; the server loads the version all the same and fails every request"
        findings.append(Finding("missing-file", f"{VARIABLES}.index", detail))
    except OSError as error:
        detail = f"cannot be read: {error.strerror}"
        findings.append(Finding("unreadable-file", f"{VARIABLES}.index", detail))
    except DamagedFileError as error:
        findings.append(Finding("damaged-file", f"{VARIABLES}.index", error.message))
    return None


def _graph(path: Path, findings: list[Finding]) -> Mapping[bytes, str]:
    """Check that the graph can be read; return the names it gives to variables."""
    try:
        return read_saved_model(path).variable_names
    except InputError as error:
        findings.append(Finding("missing-file", "saved_model.pb", error.message))
    except DamagedFileError as error:
        findings.append(Finding("damaged-file", _relative(path, error.path), error.message))
    except Error as error:
        findings.append(Finding("unreadable-file", "saved_model.pb", error.message))
    return {}


def _relative(path: Path, file: str) -> str:
    return file.removeprefix(f"{path}/")


def _check_tensors(
    path: Path, table: TensorTable, names: Mapping[bytes, str], findings: list[Finding]
) -> frozenset[bytes]:
    damaged: set[bytes] = set()
    for shard, data in enumerate(shard_paths(path / VARIABLES, table.num_shards)):
        tensors = [t for t in table if t.shard == shard and not t.sliced]
        try:
            if data.exists() and not data.is_file():
                raise OSError(errno.EINVAL, "no regular file")  # noqa: TRY301 - handled alike
            descriptor = os.open(data, os.O_RDONLY)
        except OSError as error:
            detail = f"cannot be read: {error.strerror}; {len(tensors)} tensors are in it"
            findings.append(Finding("missing-file", f"variables/{data.name}", detail))
            damaged |= {tensor.key for tensor in tensors}
            continue
        try:
            bad = [tensor for tensor in tensors if not tensor_is_intact(descriptor, tensor)]
        finally:
            os.close(descriptor)
        for tensor in bad:
            subject = names.get(tensor.key) or tensor.name
            detail = (
                f"its bytes in variables/{data.name} at {tensor.offset} "
                f"({tensor.size} bytes) do not have the CRC32C that the index records"
            )
            findings.append(Finding("tensor", subject, detail))
            damaged.add(tensor.key)
    return frozenset(damaged)


def tensor_is_intact(descriptor: int, tensor: Tensor) -> bool:
    """Return whether the bytes of a tensor have the CRC32C its entry records."""
    check, left, position = tensor_check(tensor), tensor.size, tensor.offset
    while left:
        block = os.pread(descriptor, min(left, _BLOCK), position)
        if not block:
            return False
        check.update(block)
        left -= len(block)
        position += len(block)
    return check.matches()


def _statement(path: Path, findings: list[Finding]) -> Statement | None:
    try:
        return read_statement(path)
    except ValueError as error:
        findings.append(Finding("statement", "assets.extra/mstore.json", str(error)))
        return None


def values(inspection: Inspection) -> tuple[Tensor, ...]:
    """Return the variables of a version: the entries that hold values."""
    if inspection.table is None:
        return ()
    return tuple(t for t in inspection.table.values if t.key != OBJECT_GRAPH_KEY)
