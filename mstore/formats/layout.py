"""What every reader of a format returns: the files of a checkpoint and the tensors in them.

Files are named by their suffix: what follows the checkpoint's prefix. The prefix of a TensorBundle
is the one TensorFlow uses (``ckpt-7`` with ``.index``, ``.data-00000-of-00001``); that of a single
file is its name without the format's ending (``model`` with ``.keras``); that of a directory is
its name (``export`` with ``/saved_model.pb``, ``/variables/variables.index``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, get_args

from mstore.domain.tensors import TensorTable
from mstore.errors import InputError

Format: TypeAlias = Literal[
    "tensor-bundle",
    "tf1-bundle",
    "tf1-v1",
    "keras",
    "keras-directory",
    "weights-h5",
    "weights-json",
    "legacy-h5",
    "saved-model",
]
"""How the files are laid out; ``tf1-bundle`` is a TensorBundle without an object graph."""

_FORMATS: dict[str, Format] = {name: name for name in get_args(Format)}


def known_format(name: str) -> Format:
    """Return the format of that name.

    Raises:
        InputError: a newer mstore may know it, this one does not.
    """
    if name not in _FORMATS:
        raise InputError(
            f"checkpoints of the format {name!r} are not known here", hint="use a newer mstore"
        )
    return _FORMATS[name]


Architecture: TypeAlias = Literal["keras", "meta-graph", "saved-model"]
"""What a checkpoint carries of its model besides weights."""

Opened: TypeAlias = Mapping[str, BinaryIO]
"""The files of a checkpoint by suffix, open for reading; whoever opened them closes them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One checkpoint as its format's reader sees it.

    Attributes:
        format: how the files are laid out.
        prefix: path before the suffixes.
        files: suffix of each file, in the order in which they are written out again: the one that
            makes the checkpoint visible to others comes last.
        table: the tensors. `TensorTable.files` gives the suffix of the file that each one's
            ``shard`` means, and ``offset`` and ``size`` are the bytes in that file, raw and
            little-endian as in a TensorBundle. Tensors that are compressed, scattered or of the
            other byte order stand in the file `domain.tensors.DECODED` instead, see ``decode``.
        checked: whether each tensor's ``crc32c`` is on record in the files, to be checked; where
            it is not, ``crc32c`` is 0 and is computed from the bytes when they are taken in.
        step: training step and the variable it was read from, if there is one.
        architecture: what the files carry of the model, or None.
        decode: writes the contents of the file of decoded tensors, in order, given the open files;
            None where there is none.
        identity: computes bytes that are equal for checkpoints of equal content although their
            files differ (an archive with time stamps), given the open files; None where equal
            content means equal files.
    """

    format: Format
    prefix: Path
    files: tuple[str, ...]
    table: TensorTable
    checked: bool = True
    step: tuple[int, str] | None = None
    architecture: Architecture | None = None
    decode: Callable[[Opened, BinaryIO], None] | None = None
    identity: Callable[[Opened], bytes] | None = None

    def path(self, suffix: str) -> Path:
        """Return where the file with that suffix is."""
        return Path(f"{self.prefix}{suffix}")
