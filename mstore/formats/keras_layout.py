"""Puts together the `Layout` of a Keras checkpoint from the HDF5 files in it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from mstore.domain.tensors import DECODED, Tensor, TensorTable
from mstore.formats.files import damaged
from mstore.formats.hdf5 import Contents, Dataset, write_decoded
from mstore.formats.keras_names import find_step, full_names
from mstore.formats.layout import Architecture, Layout, Opened
from mstore.formats.windows import Window

ENDINGS = (".weights.h5", ".keras", ".hdf5", ".h5", ".zip")
"""What is left out of a file's name to get the checkpoint's, the longest first."""

Opener: TypeAlias = Callable[[BinaryIO], AbstractContextManager[Window]]
"""Gives the HDF5 file within an open file."""

_PIECE = 1 << 20
_MAX_SHOWN = 100

KerasFormat: TypeAlias = Literal[
    "keras", "keras-directory", "weights-h5", "weights-json", "legacy-h5"
]


@dataclass(frozen=True, slots=True)
class Part:
    """One HDF5 file of a checkpoint.

    Attributes:
        suffix: of the file that it is, or is in.
        contents: what it holds.
        shift: where it starts in that file, in bytes; None where it is packed there, so that
            all of its tensors have to be decoded.
        open: gives it again, from the open file.
    """

    suffix: str
    contents: Contents
    shift: int | None
    open: Opener


def whole(path: Path) -> Opener:
    """Return the opener for a file that is HDF5 from its first byte to its last."""
    return lambda file: nullcontext(Window.whole(file.fileno(), str(path)))


def split_name(path: Path) -> tuple[Path, str]:
    """Return prefix and suffix of a checkpoint that is one file.

    >>> split_name(Path("runs/model.weights.h5"))
    (PosixPath('runs/model'), '.weights.h5')
    """
    for ending in ENDINGS:
        if path.name.endswith(ending) and path.name != ending:
            return path.with_name(path.name.removesuffix(ending)), ending
    return path, ""


def make_layout(
    format_: KerasFormat,
    prefix: Path,
    files: tuple[str, ...],
    parts: Sequence[Part],
    *,
    architecture: Architecture | None = None,
    identity: Callable[[Opened], bytes] | None = None,
) -> Layout:
    """Return the layout of a checkpoint whose weights are in ``parts``.

    Raises:
        DamagedFileError: two parts hold a tensor under the same key.
    """
    datasets = [item for part in parts for item in part.contents.datasets]
    labels: dict[str, str] = {}
    for part in parts:
        labels.update(part.contents.labels)
    names = full_names(datasets, labels)
    data_files = tuple(dict.fromkeys(part.suffix for part in parts))
    tensors: dict[bytes, Tensor] = {}
    decoded = 0
    for part in parts:
        for item in part.contents.datasets:
            if item.key in tensors:
                raise damaged(f"{prefix}{part.suffix}", f"another file holds {_shown(item)} too")
            here = data_files.index(part.suffix), (part.shift or 0) + (item.offset or 0)
            tensors[item.key] = _tensor(item, here, names)
        for item in _unfolded(part):
            tensors[item.key] = _tensor(item, (len(data_files), decoded), names)
            decoded += item.size
    if decoded:
        data_files = (*data_files, DECODED)
    ordered = tuple(tensors[key] for key in sorted(tensors))
    return Layout(
        format=format_,
        prefix=prefix,
        files=files,
        table=TensorTable(ordered, len(data_files), data_files),
        checked=False,
        step=find_step(datasets),
        architecture=architecture,
        decode=partial(_decode, tuple(parts)) if decoded else None,
        identity=identity,
    )


def _tensor(item: Dataset, place: tuple[int, int], names: Mapping[bytes, str]) -> Tensor:
    shard, offset = place
    return Tensor(
        item.key, item.dtype, item.shape, shard, offset, item.size, 0, names.get(item.key)
    )


def _copied(part: Part) -> list[Dataset]:
    """Return what stands as it is in an HDF5 file that is itself packed."""
    if part.shift is not None:
        return []
    return [item for item in part.contents.datasets if item.offset is not None and item.size]


def _unfolded(part: Part) -> list[Dataset]:
    """Return the datasets of a part that are in the file of decoded tensors, in their order."""
    return [*_copied(part), *part.contents.decoded]


def _decode(parts: Sequence[Part], opened: Opened, output: BinaryIO) -> None:
    for part in parts:
        if not _unfolded(part):
            continue
        with part.open(opened[part.suffix]) as window:
            for item in _copied(part):
                _copy(window.part(item.offset or 0, item.size), output)
            write_decoded(window, part.contents, output)


def _copy(window: Window, output: BinaryIO) -> None:
    done = 0
    while done < window.size:
        piece = window.read(done, _PIECE)
        if not piece:
            raise damaged(window.path, "it became shorter while it was being read")
        output.write(piece)
        done += len(piece)


def _shown(item: Dataset) -> str:
    return ascii(item.key.decode("utf-8", "replace"))[1:-1][:_MAX_SHOWN]
