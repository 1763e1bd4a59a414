"""Checkpoints of the V1 format, which TensorFlow wrote before 2017 and still writes when asked to.

The checkpoint is one file called as its prefix, or files ``<prefix>-00000-of-00002`` and so on,
and a ``.meta`` with the graph (see `mstore.formats.saved_slices` for what is in a file). Floating-
point tensors stand in it as raw bytes; integers and strings are encoded and are decoded into the
file `DECODED`.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mstore.disk import os_errors
from mstore.domain.tensors import DECODED, Tensor, TensorTable
from mstore.errors import DamagedFileError, InputError
from mstore.formats.bundle_index import MAX_ENTRIES, MAX_SHARDS
from mstore.formats.file_view import FileView
from mstore.formats.files import damaged, open_regular, read_up_to
from mstore.formats.layout import Layout, Opened
from mstore.formats.meta_graph import META
from mstore.formats.proto_values import Values, find_values
from mstore.formats.saved_slices import Extents, Variable, is_saved_slices, read_saved_slices
from mstore.formats.slices import slice_key, slice_shape
from mstore.formats.sstable import MAGIC
from mstore.formats.steps import find_step
from mstore.formats.tf1_bundle import architecture_of, meta_suffix, name_slices

_SHARD = re.compile(r"(?P<prefix>.+)-(?P<shard>[0-9]{5}|\?{5})-of-(?P<count>[0-9]{5})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the values of one tensor are.

    Attributes:
        suffix: of the file.
        start: where the ``TensorProto`` begins in it, in bytes.
        length: how long that is.
        raw: where the raw values begin, None where they must be decoded.
        size: bytes of the raw or decoded values.
    """

    suffix: str
    start: int
    length: int
    raw: int | None
    size: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A tensor of the table that has values, and their place."""

    key: bytes
    dtype: str
    shape: tuple[int, ...]
    place: _Place


def read_tf1_v1(prefix: Path) -> Layout:
    """Return the files and tensors of the V1 checkpoint at ``prefix``.

    Each file is read whole, to check the checksums of its blocks. Partitioned variables stand in
    the table as in the V2 format, see `mstore.formats.tf1_bundle`.

    Raises:
        InputError: there is no such checkpoint.
        DamagedFileError: a file is damaged or missing, or two of them contradict each other.
        SystemIOError: the operating system refused.
    """
    suffixes = v1_suffixes(prefix)
    if not suffixes:
        raise InputError(f"there is no checkpoint {prefix} of the V1 format", hint="check the path")
    parts: dict[bytes, _Part] = {}
    wholes: dict[bytes, Variable] = {}
    for suffix in suffixes:
        path = Path(f"{prefix}{suffix}")
        with open_regular(path) as file:
            for variable in read_saved_slices(file, path=str(path)):
                _take(variable, suffix, parts, wholes, str(path))
    table, decoded = _table(suffixes, parts, wholes, str(prefix))
    decode = _Decode(prefix, decoded)
    return Layout(
        format="tf1-v1",
        prefix=prefix,
        files=(*meta_suffix(prefix), *suffixes),
        table=table,
        checked=False,
        step=find_step(prefix, table, read=_Reader(prefix, parts)),
        architecture=architecture_of(prefix),
        decode=decode if decoded else None,
    )


def v1_prefix(path: Path) -> Path | None:
    """Return the prefix of the V1 checkpoint that ``path`` means, None where it means none.

    It may be the prefix, any of its files, or the pattern ``<prefix>-?????-of-00002`` that the
    state file holds for one in several files.

    Raises:
        DamagedFileError: some files of it are missing, or there are two of that name.
        SystemIOError: the operating system refused.
    """
    candidates = [path]
    match = _SHARD.fullmatch(path.name)
    if match is not None:
        candidates.append(path.with_name(match["prefix"]))
    if path.name.endswith(META) and path.name != META:
        candidates.append(path.with_name(path.name.removesuffix(META)))
    for candidate in reversed(candidates):
        if v1_suffixes(candidate):
            return candidate
    return None


def v1_prefixes_in(directory: Path) -> list[Path]:
    """Return the prefixes of the V1 checkpoints in a directory, sorted by name.

    Raises:
        SystemIOError: the operating system refused.
    """
    found = set()
    with os_errors(f"cannot read {directory}"):
        paths = list(directory.iterdir())
    for path in paths:
        if not path.name.startswith(".") and _is_v1(path):
            match = _SHARD.fullmatch(path.name)
            found.add(path if match is None else path.with_name(match["prefix"]))
    return sorted(found)


def v1_suffixes(prefix: Path) -> tuple[str, ...]:
    """Return the suffixes of the files with the values of a V1 checkpoint, () where it is none.

    Raises:
        DamagedFileError: some files of it are missing, or there are two of that name.
        SystemIOError: the operating system refused.
    """
    if not prefix.name:
        return ()
    if _is_v1(prefix):
        return ("",)
    counts: dict[int, set[int]] = {}
    with os_errors(f"cannot read {prefix.parent}"):
        paths = list(prefix.parent.iterdir()) if prefix.parent.is_dir() else []
    for path in paths:
        match = _SHARD.fullmatch(path.name)
        if match and match["prefix"] == prefix.name and _is_v1(path):
            counts.setdefault(int(match["count"]), set()).add(int(match["shard"]))
    if not counts:
        return ()
    whole = [count for count, shards in counts.items() if shards == set(range(count))]
    if len(whole) != 1 or whole[0] > MAX_SHARDS:
        raise damaged(str(prefix), _unclear(counts))
    return tuple(f"-{shard:05d}-of-{whole[0]:05d}" for shard in range(whole[0]))


def _unclear(counts: dict[int, set[int]]) -> str:
    found = " and ".join(f"{len(counts[count])} of {count}" for count in sorted(counts))
    return f"of its files there are {found}, which is not one whole checkpoint"


def _is_v1(path: Path) -> bool:
    """Return whether a file is a table of saved slices, as far as its beginning and end say.

    A damaged one is taken for one, so that reading it says what is wrong.
    """
    # Unlike Path.is_file, this does not raise for names that are too long to exist.
    if path.name.endswith((".index", META)) or not os.path.isfile(path):  # noqa: PTH113
        return False
    with open_regular(path) as file, os_errors(f"cannot read {path}"):
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        if read_up_to(file, 8) != MAGIC.to_bytes(8, "little"):
            return False
        try:
            return is_saved_slices(file, path=str(path))
        except DamagedFileError:
            return True


def _take(
    variable: Variable,
    suffix: str,
    parts: dict[bytes, _Part],
    wholes: dict[bytes, Variable],
    path: str,
) -> None:
    """Add what one file holds of a variable to what the others hold."""
    known = wholes.setdefault(variable.name, variable)
    if (known.dtype, known.shape) != (variable.dtype, variable.shape):
        raise damaged(path, "it gives a tensor another type or shape than another file does")
    for extents, values in variable.slices.items():
        key = _key(variable, extents)
        if key in parts or len(parts) >= MAX_ENTRIES:
            raise damaged(path, "it has a tensor twice, or more of them than any sound checkpoint")
        raw = None if values.raw is None else values.raw.start
        place = _Place(suffix, values.message.start, len(values.message), raw, values.size)
        parts[key] = _Part(key, values.dtype, values.shape, place)


def _key(variable: Variable, extents: Extents) -> bytes:
    """Return the key as in the V2 format: a slice that covers the variable has the plain name."""
    if slice_shape(variable.shape, extents) == variable.shape:
        return variable.name
    return slice_key(variable.name, extents)


def _table(
    suffixes: tuple[str, ...],
    parts: dict[bytes, _Part],
    wholes: dict[bytes, Variable],
    path: str,
) -> tuple[TensorTable, list[_Part]]:
    """Return the table, and the tensors to decode in the order in which they are decoded."""
    tensors, decoded, end = [], [], 0
    for name, whole in wholes.items():
        if name not in parts:
            tensors.append(Tensor(name, whole.dtype, whole.shape, 0, 0, 0, 0, None, sliced=True))
    for key in sorted(parts):
        part = parts[key]
        place = part.place
        shard, offset = suffixes.index(place.suffix), place.raw
        if offset is None:
            shard, offset = len(suffixes), end
            end += place.size
            decoded.append(part)
        tensors.append(Tensor(key, part.dtype, part.shape, shard, offset, place.size, 0))
    tensors.sort(key=lambda tensor: tensor.key)
    if len({tensor.key for tensor in tensors}) != len(tensors):
        raise damaged(path, "two of its tensors have one key")
    files = (*suffixes, DECODED) if decoded else suffixes
    return name_slices(TensorTable(tuple(tensors), len(files), files)), decoded


def _values(file: BinaryIO, part: _Part, path: str) -> Values:
    place = part.place
    message = FileView(file, path)[place.start : place.start + place.length]
    return find_values(message, part.dtype, part.shape, path=path)


@dataclass(frozen=True, slots=True)
class _Decode:
    """Writes the decoded tensors."""

    prefix: Path
    parts: Iterable[_Part]

    def __call__(self, opened: Opened, out: BinaryIO) -> None:
        for part in self.parts:
            suffix = part.place.suffix
            values = _values(opened[suffix], part, f"{self.prefix}{suffix}")
            out.writelines(values.decoded())


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one small tensor."""

    prefix: Path
    parts: dict[bytes, _Part]

    def __call__(self, tensor: Tensor) -> bytes:
        part = self.parts[tensor.key]
        path = Path(f"{self.prefix}{part.place.suffix}")
        with open_regular(path) as file:
            return b"".join(_values(file, part, str(path)).decoded())
