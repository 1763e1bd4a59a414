"""The members of a zip archive, listed and read with every length checked.

``zipfile`` reads the archive; what it leaves to its callers is checked here: sizes, names, members
that overlap (a bomb that needs no nesting), links and encryption. Nothing is extracted by name.
The fields are those of PKWARE's APPNOTE, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mstore.errors import Error, InputError
from mstore.formats.files import damaged
from mstore.formats.hdf5_process import allowance
from mstore.formats.windows import Window, WindowFile

MAGIC = b"PK\x03\x04"
"""The first bytes of an archive with members."""

MAX_MEMBERS = 10_000
"""Members of an archive."""

_MAX_DIRECTORY = 4 << 20  # also the most that is read at once
_LOCAL = struct.Struct("<4s22xHH")
_ENCRYPTED = 1
_PIECE = 1 << 20
_MAX_SHOWN = 100
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill")


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes:
        name: its path in the archive.
        start: where its bytes start in the archive.
        packed: how many they are there.
        size: how many they are unpacked.
        stored: whether they stand there as they are.
    """

    name: str
    start: int
    packed: int
    size: int
    stored: bool


class Archive:
    """An open zip archive whose directory has been checked.

    Attributes:
        members: its files, in the order of its directory; no directories.
    """

    def __init__(self, window: Window) -> None:
        """Read the directory of the archive in the window.

        Raises:
            DamagedFileError: the archive is damaged, cut short or contradicts itself.
            InputError: it has something that is not accepted: names that lead elsewhere, links,
                encryption, a way of packing other than deflate, more than it may unfold to.
        """
        self._window = window
        with _complaints(window.path):
            # What is read at once is bounded, and with it the directory.
            self._zip = zipfile.ZipFile(WindowFile(window, _MAX_DIRECTORY))
            infos = self._zip.infolist()
            _check_infos(infos, window)
            members = [_member(info, window) for info in infos]
        _check_places(infos, members, window)
        self._infos = {info.filename: info for info in infos}
        self.members = tuple(m for m in members if not m.name.endswith("/"))

    def get(self, name: str) -> Member | None:
        """Return the file of that name, or None."""
        return next((member for member in self.members if member.name == name), None)

    def stream(self, member: Member) -> Iterator[bytes]:
        """Yield the bytes of a file, unpacked.

        Raises:
            DamagedFileError: they do not have their length or CRC-32, or do not unpack.
        """
        done = 0
        with _complaints(self._window.path), self._zip.open(self._infos[member.name]) as file:
            while piece := file.read(_PIECE):
                done += len(piece)
                yield piece
        if done != member.size:
            raise damaged(self._window.path, f"{shown(member.name)} is cut short")

    def read(self, member: Member, limit: int) -> bytes:
        """Return the bytes of a file of at most ``limit`` bytes, unpacked.

        Raises:
            DamagedFileError: it is longer, or as for `stream`.
        """
        if member.size > limit:
            raise damaged(
                self._window.path,
                f"{shown(member.name)} has {member.size} bytes, more than the {limit} it may have",
            )
        return b"".join(self.stream(member))


def shown(name: str) -> str:
    """Return a member's name for a message: printable and of bounded length."""
    return ascii(name)[1:-1][:_MAX_SHOWN]


@contextmanager
def _complaints(path: str) -> Iterator[None]:
    """Turn what ``zipfile`` raises on damaged archives into `DamagedFileError`."""
    try:
        yield
    except Error:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,  # a version of the format that is not known
        RuntimeError,  # encrypted, says the header of the member alone
        OSError,  # a position before the start
        OverflowError,
        UnicodeError,
        ValueError,
        LookupError,
        struct.error,
    ) as error:
        reason = ascii(str(error) or type(error).__name__)[1:-1][:_MAX_SHOWN]
        raise damaged(path, f"as a zip archive: {reason}") from error


def _check_infos(infos: list[zipfile.ZipInfo], window: Window) -> None:
    if len(infos) > MAX_MEMBERS:
        raise _refused(window.path, f"it has {len(infos)} members, more than {MAX_MEMBERS}")
    names: set[str] = set()
    for info in infos:
        _check_info(info, window.path)
        if info.filename in names:
            raise damaged(window.path, f"two members are called {shown(info.filename)}")
        names.add(info.filename)
    for name in names:
        parts = name.rstrip("/").split("/")
        if any("/".join(parts[:at]) in names for at in range(1, len(parts))):
            raise damaged(window.path, f"{shown(name)} is within a member that is a file")
    if sum(info.file_size for info in infos) > allowance(window.size):
        raise _refused(window.path, "it unfolds to more than a hundred times its size: a zip bomb")


def _check_info(info: zipfile.ZipInfo, path: str) -> None:
    # `ZipInfo.filename` ends at a NUL; the name as it is in the file shows it.
    name = info.orig_filename
    parts = name.removesuffix("/").split("/")
    if (
        not name.isprintable()
        or "\\" in name
        or ":" in parts[0]
        or any(part in {"", ".", ".."} for part in parts)
    ):
        raise _refused(
            path, f"its member {shown(name)} would be outside of it or has no sound name"
        )
    if info.flag_bits & _ENCRYPTED:
        raise _refused(path, f"its member {shown(name)} is encrypted")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise _refused(path, f"its member {shown(name)} is a link or a device")
    if name.lower().endswith(_PICKLES):
        raise _refused(path, f"its member {shown(name)} is a pickle, which can run any code")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise _refused(path, f"its member {shown(name)} is packed in a way that Keras does not use")
    stored = info.compress_type == zipfile.ZIP_STORED
    if (stored or name.endswith("/")) and info.compress_size != info.file_size:
        raise damaged(path, f"{shown(name)} has two sizes")


def _refused(path: str, why: str) -> InputError:
    return InputError(
        f"{path} cannot be taken: {why}",
        hint="save the model again with Keras, which writes no such archives",
    )


def _member(info: zipfile.ZipInfo, window: Window) -> Member:
    """Return a member with the place of its bytes, which only its local header tells."""
    header = window.read(info.header_offset, _LOCAL.size) if info.header_offset >= 0 else b""
    if len(header) < _LOCAL.size:
        raise damaged(window.path, f"{shown(info.filename)} is not where its directory says")
    magic, name, extra = _LOCAL.unpack(header)
    if magic != MAGIC:
        raise damaged(window.path, f"{shown(info.filename)} is not where its directory says")
    start = info.header_offset + _LOCAL.size + name + extra
    stored = info.compress_type == zipfile.ZIP_STORED
    return Member(info.filename, start, info.compress_size, info.file_size, stored)


def _check_places(infos: list[zipfile.ZipInfo], members: list[Member], window: Window) -> None:
    """Check that no two members share bytes and that all are within the archive."""
    end = 0
    for info, member in sorted(
        zip(infos, members, strict=True), key=lambda pair: pair[0].header_offset
    ):
        if info.header_offset < end:
            raise damaged(window.path, f"{shown(member.name)} overlaps another member")
        end = member.start + member.packed
    if end > window.size:
        raise damaged(window.path, f"it has {window.size} bytes, a member ends at {end}: cut short")
