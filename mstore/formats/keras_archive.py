"""Reads ``.keras`` archives: zip files of a model's configuration, weights and assets.

Keras stores the weights without packing them, so their tensors are taken from within the archive,
where they are the same bytes as in any other checkpoint. An archive that was packed again has its
weights unpacked into an unnamed temporary file, and their tensors decoded.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from mstore.disk import os_errors
from mstore.errors import DamagedFileError, InputError
from mstore.formats.files import open_regular
from mstore.formats.hdf5 import read_contents
from mstore.formats.keras_layout import Part, make_layout, split_name
from mstore.formats.keras_members import (
    CONFIG,
    MAX_JSON,
    METADATA,
    WEIGHTS,
    canonical,
    check_config,
    identity,
)
from mstore.formats.layout import Layout, Opened
from mstore.formats.windows import Window
from mstore.formats.zip_members import Archive, Member


def read_archive(path: Path) -> Layout | None:
    """Return the layout of a ``.keras`` archive, None for a zip archive of another kind.

    Raises:
        DamagedFileError: it is damaged.
        InputError: it has something that is not accepted, or weights of another format.
        MissingExtraError: h5py is not installed.
        SystemIOError: the operating system refused.
    """
    with open_regular(path) as file, os_errors(f"cannot read {path}"):
        window = Window.whole(file.fileno(), str(path))
        try:
            archive = Archive(window)
        except DamagedFileError:
            if path.suffix == ".keras":
                raise
            return None
        if archive.get(CONFIG) is None:
            if path.suffix == ".keras":
                raise InputError(
                    f"{path} is a zip archive, but not one of a Keras model: it has no {CONFIG}",
                    hint="save the model again: model.save('model.keras')",
                )
            return None
        member = _weights(archive, path)
        for name, check in ((CONFIG, check_config), (METADATA, _check_metadata)):
            found = archive.get(name)
            if found is not None:
                check(archive.read(found, MAX_JSON), str(path))
        open_ = partial(_open_member, path, member)
        with open_(file) as inner:
            contents = read_contents(inner)
    prefix, suffix = split_name(path)
    part = Part(suffix, contents, member.start if member.stored else None, open_)
    return make_layout(
        "keras",
        prefix,
        (suffix,),
        [part],
        architecture="keras",
        identity=partial(_identity, path, suffix),
    )


def _check_metadata(data: bytes, path: str) -> None:
    canonical(METADATA, data, path)


def _weights(archive: Archive, path: Path) -> Member:
    member = archive.get(WEIGHTS)
    if member is None:
        raise InputError(
            f"{path} has no {WEIGHTS}, the only kind of weights that is read",
            hint="save the model again: model.save('model.keras')",
        )
    return member


@contextmanager
def _open_member(path: Path, member: Member, file: BinaryIO) -> Iterator[Window]:
    """Give the member as a window: of the archive where it is stored, else of a temporary file."""
    window = Window.whole(file.fileno(), str(path))
    if member.stored:
        yield window.part(member.start, member.packed)
        return
    archive = Archive(window)
    again = archive.get(member.name)
    if again != member:
        raise DamagedFileError(f"{path} changed while it was being read", path=str(path))
    with tempfile.TemporaryFile() as unpacked:
        for piece in archive.stream(member):
            unpacked.write(piece)
        unpacked.flush()
        yield Window.whole(unpacked.fileno(), str(path))


def _identity(path: Path, suffix: str, opened: Opened) -> bytes:
    archive = Archive(Window.whole(opened[suffix].fileno(), str(path)))
    members = {member.name: archive.stream(member) for member in archive.members}
    return identity("keras", members, str(path))
