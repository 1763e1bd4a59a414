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
from mstore.formats.files import read_limited
from mstore.formats.keras_probe import keras_path
from mstore.formats.saved_model import FILE_NAME
from mstore.formats.steps import find_step, step_in_name
from mstore.formats.tensor_bundle import index_path
from mstore.formats.tf1_v1 import v1_prefix, v1_prefixes_in

__all__ = ["STATE_FILE", "find_checkpoints", "find_step", "latest_checkpoint", "step_in_name"]

STATE_FILE = "checkpoint"
"""Name of the file in which TensorFlow records the latest checkpoint of a directory."""

_MAX_STATE = 1 << 22
_FILE_OF_CHECKPOINT = re.compile(
    r"(?P<prefix>.+)(?:\.index|\.meta|\.data-[0-9]{5,}-of-[0-9]{5,})", re.DOTALL
)
_ACCEPTED = (
    "give a checkpoint's prefix, one of its files, a Keras file, a SavedModel, or a directory"
)


def find_checkpoints(path: Path, *, latest: bool = False) -> list[Path]:
    """Return the prefixes of the checkpoints that ``path`` means, in natural order.

    Args:
        path: a prefix, any file of a checkpoint, a Keras file, a SavedModel, a state file, or a
            directory; of a directory all checkpoints directly in it.
        latest: of a directory, only the one that its state file names.

    Raises:
        InputError: there is no checkpoint, or the state file does not lead to one.
        SystemIOError: the operating system refused.
    """
    with os_errors(f"cannot read {path}"):
        if not latest and is_checkpoint(path):
            return [path]
        if path.is_dir():
            if latest:
                return [latest_checkpoint(path)]
            return _in_directory(path) if keras_path(path) is None else [path]
        if path.name == STATE_FILE and path.is_file():
            return [latest_checkpoint(path.parent)]
        if latest:
            raise InputError(
                f"{path} is not a directory, so it has no latest checkpoint",
                hint="give the directory that holds the file called checkpoint",
            )
        return [_owner(path)]


def _owner(path: Path) -> Path:
    """Return what names the checkpoint that a file belongs to."""
    if path.name == FILE_NAME and path.is_file():
        return path.parent
    match = _FILE_OF_CHECKPOINT.fullmatch(path.name)
    prefix = path.parent / match["prefix"] if match else path
    found = keras_path(path) or v1_prefix(path) or (prefix if _has_index(prefix) else None)
    if found is None:
        raise _nothing_at(path, prefix)
    return found


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
        if (old := v1_prefix(prefix)) is not None:
            return old
    raise InputError(f"the state file {path} names {name}, which is gone", hint=instead)


def _has_index(prefix: Path) -> bool:
    # Unlike Path.is_file, this does not raise for names that are too long to exist.
    return bool(prefix.name) and os.path.isfile(index_path(prefix))  # noqa: PTH113


def is_checkpoint(path: Path) -> bool:
    """Return whether ``path`` itself names one checkpoint."""
    return _has_index(path) or os.path.isfile(path / FILE_NAME)  # noqa: PTH113 - the same


def _in_directory(directory: Path) -> list[Path]:
    names = {name for entry in os.scandir(directory) if (name := _named_by(entry))}
    names |= {prefix.name for prefix in v1_prefixes_in(directory)}
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
    if _has_index(path):
        return None
    if is_checkpoint(path):
        return entry.name
    keras = keras_path(path)
    return None if keras is None else keras.name


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
    if any(".data-" in item.name for item in directory.iterdir()):
        hint = "there are data files without an .index: the checkpoint is not complete"
    return InputError(
        f"there is no checkpoint (*.index, *.keras, *.h5, saved_model.pb) in {directory}", hint=hint
    )


def _nothing_at(path: Path, prefix: Path) -> InputError:
    if prefix != path and path.exists():
        return InputError(
            f"{path} belongs to a checkpoint that has no {index_path(prefix).name}",
            hint="TensorFlow writes the .index last: wait for the save to end, or copy it too",
        )
    if not path.exists():
        return InputError(f"there is no checkpoint {path}", hint=_ACCEPTED)
    return InputError(f"{path} is not a checkpoint", hint=_ACCEPTED)
