"""Finds checkpoints in the paths that people give, and the training step of each.

The state file called ``checkpoint`` is a ``CheckpointState`` in protobuf's text form
(tensorflow/python/checkpoint/checkpoint_management.py). It is followed only where the latest
checkpoint is asked for: checkpoints kept by time are not in it.
"""

import os
import re
from pathlib import Path

from google.protobuf import text_format

from mstore.disk import os_errors
from mstore.errors import InputError
from mstore.formats import protos
from mstore.formats.files import open_regular, read_limited, read_up_to
from mstore.formats.saved_model import FILE_NAME
from mstore.formats.sstable import MAGIC
from mstore.formats.steps import find_step, step_in_name
from mstore.formats.tensor_bundle import index_path

__all__ = ["STATE_FILE", "find_checkpoints", "find_step", "latest_checkpoint", "step_in_name"]

STATE_FILE = "checkpoint"
"""Name of the file in which TensorFlow records the latest checkpoint of a directory."""

_MAX_STATE = 1 << 22
_FILE_OF_CHECKPOINT = re.compile(
    r"(?P<prefix>.+)(?:\.index|\.meta|\.data-[0-9]{5,}-of-[0-9]{5,})", re.DOTALL
)
_KERAS = (".keras", ".h5", ".hdf5", ".weights.json")
_ACCEPTED = "give a checkpoint's prefix, one of its files, a SavedModel, or a directory of them"


def find_checkpoints(path: Path, *, latest: bool = False) -> list[Path]:
    """Return the prefixes of the checkpoints that ``path`` means, in natural order.

    Args:
        path: a prefix, any file of a checkpoint, a SavedModel, a state file, or a directory; of
            a directory all checkpoints directly in it.
        latest: of a directory, only the one that its state file names.

    Raises:
        InputError: there is no checkpoint, or the state file does not lead to one.
        SystemIOError: the operating system refused.
    """
    with os_errors(f"cannot read {path}"):
        if not latest and is_checkpoint(path):
            return [path]
        if path.is_dir():
            return [latest_checkpoint(path)] if latest else _in_directory(path)
        if path.name == STATE_FILE and path.is_file():
            return [latest_checkpoint(path.parent)]
        if latest:
            raise InputError(
                f"{path} is not a directory, so it has no latest checkpoint",
                hint="give the directory that holds the file called checkpoint",
            )
        if path.name == FILE_NAME and path.is_file():
            return [path.parent]
        match = _FILE_OF_CHECKPOINT.fullmatch(path.name)
        prefix = path.parent / match["prefix"] if match else path
        if match and _has_index(prefix):
            return [prefix]
        raise _nothing_at(path, prefix)


def latest_checkpoint(directory: Path) -> Path:
    """Return the prefix of the checkpoint that the state file of ``directory`` names.

    Raises:
        InputError: there is no state file, it does not parse, or what it names is gone.
        SystemIOError: the operating system refused.
    """
    path = directory / STATE_FILE
    instead = f"leave out --latest to take all checkpoints in {directory}"
    if not path.is_file():
        raise InputError(f"{directory} has no state file called {STATE_FILE}", hint=instead)
    state = protos.CheckpointState()
    try:
        text_format.Parse(read_limited(path, _MAX_STATE), state)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"the state file {path} does not parse", hint=instead) from error
    name = os.fsdecode(state.model_checkpoint_path)
    if not name or "\0" in name:
        raise InputError(f"the state file {path} names no checkpoint", hint=instead)
    # A directory that was moved keeps absolute paths to where it was.
    for prefix in (directory / name, directory / Path(name).name):
        if _has_index(prefix):
            return prefix
    raise InputError(f"the state file {path} names {name}, which is gone", hint=instead)


def _has_index(prefix: Path) -> bool:
    # Unlike Path.is_file, this does not raise for names that are too long to exist.
    return bool(prefix.name) and os.path.isfile(index_path(prefix))  # noqa: PTH113


def is_checkpoint(path: Path) -> bool:
    """Return whether ``path`` itself names one checkpoint."""
    return _has_index(path) or os.path.isfile(path / FILE_NAME)  # noqa: PTH113 - the same


def _in_directory(directory: Path) -> list[Path]:
    names = [name for entry in os.scandir(directory) if (name := _named_by(entry))]
    if not names:
        raise _nothing_in(directory)
    return [directory / name for name in sorted(names, key=_natural)]


def _named_by(entry: "os.DirEntry[str]") -> str | None:
    """Return the name of the checkpoint that a directory's entry makes visible, None if none."""
    if entry.name.startswith("."):
        return None
    if entry.name.endswith(".index") and entry.is_file():
        return entry.name.removesuffix(".index")
    path = Path(entry.path)
    return entry.name if not _has_index(path) and is_checkpoint(path) else None


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Order numbers within names by value: ``ckpt-9`` before ``ckpt-10``."""
    parts = re.split(r"([0-9]+)", name)
    # A number of any length compares as its digits do once their count is compared first.
    return [
        (len(part.lstrip("0")), part.lstrip("0")) if position % 2 else (0, part)
        for position, part in enumerate(parts)
    ], name


def _nothing_in(directory: Path) -> InputError:
    hint = _ACCEPTED
    if any(item.name.endswith(_KERAS) for item in directory.iterdir()):
        hint = "Keras files are not supported yet; save with tf.train.Checkpoint instead"
    elif any(".data-" in item.name for item in directory.iterdir()):
        hint = "there are data files without an .index: the checkpoint is not complete"
    return InputError(f"there is no checkpoint (*.index, saved_model.pb) in {directory}", hint=hint)


def _nothing_at(path: Path, prefix: Path) -> InputError:
    if prefix != path and path.exists():
        return InputError(
            f"{path} belongs to a checkpoint that has no {index_path(prefix).name}",
            hint="TensorFlow writes the .index last: wait for the save to end, or copy it too",
        )
    if not path.exists():
        return InputError(f"there is no checkpoint {path}", hint=_ACCEPTED)
    if path.name.endswith(_KERAS):
        return InputError(
            f"{path} is a Keras file, which is not supported yet",
            hint="save with tf.train.Checkpoint(model=model).write(...) and add that",
        )
    if _is_table(path):
        return InputError(
            f"{path} is a checkpoint of the V1 format, which is not supported",
            hint="load it with TensorFlow and save it again as V2",
        )
    return InputError(f"{path} is not a checkpoint", hint=_ACCEPTED)


def _is_table(path: Path) -> bool:
    """Return whether a file ends in the magic number, as a V1 checkpoint does."""
    if not path.is_file():
        return False
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        return read_up_to(file, 8) == MAGIC.to_bytes(8, "little")
