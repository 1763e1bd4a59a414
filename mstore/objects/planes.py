"""Chunks as differences, split into planes of bytes and compressed with Zstandard.

The stored bytes (all integers little-endian; see docs/FORMAT.md)::

    checksum 32   BLAKE3 of all that follows
    base     32   id of the object that this is a difference to; of a difference alone
    words    u8   what the numbers are, see `WORDS`
    order    u8   1: in the order of the base's exponents, 0: as they are
    planes        for each byte of a number, the least significant first: u32 length, bytes
    tail          the bytes behind the last whole number, as they are

Each number is replaced by its difference to the base's number in the same place, as unsigned
integers of that width, modulo 2^n, and the difference is folded so that small ones of either sign
have zeros on top: ``d << 1 ^ -(d < 0)``. Neighbours on the number line of floats of one sign are
neighbours as integers, so that weights that moved little give small differences. Without a base
it is the difference to zeros. How large a difference is depends on the exponent; in its order the
bytes of a plane are alike over long stretches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from mstore.errors import DamagedStoreError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.unsignedinteger[Any]]

MOST: Final = 1 << 20
"""Longest object that may be stored this way; readers take no more memory, whatever is claimed."""

CHECKSUM: Final = 32
BASE: Final = 32
_LEVEL = 1
_MOSTLY_ZERO = 2
"""Where one in so many numbers is the same as in the base, sorting breaks up the zeros."""


@dataclass(frozen=True, slots=True)
class Words:
    """How numbers are laid out: bytes of each, lowest bit and mask of a float's exponent."""

    width: int
    shift: int = 0
    mask: int = 0


WORDS: Final[Mapping[int, Words]] = MappingProxyType(
    {
        0: Words(1),
        1: Words(2),
        2: Words(4),
        3: Words(8),
        4: Words(2, 10, 0x1F),  # IEEE binary16
        5: Words(2, 7, 0xFF),  # bfloat16
        6: Words(4, 23, 0xFF),  # IEEE binary32
        7: Words(8, 52, 0x7FF),  # IEEE binary64
    }
)
"""By their number in the stored bytes."""

_OF_DTYPES = {
    "float16": 4,
    "bfloat16": 5,
    "float32": 6,
    "float64": 7,
    "complex64": 6,
    "complex128": 7,
}
_OF_WIDTHS = {1: 0, 2: 1, 4: 2, 8: 3}


def words_of(dtype: str, width: int) -> int:
    """Return the number in `WORDS` for tensors of a type whose elements have ``width`` bytes."""
    return _OF_DTYPES.get(dtype, _OF_WIDTHS.get(width, 0))


def encode(data: bytes, words: int, base: bytes | None = None, base_id: bytes = b"") -> bytes:
    """Return ``data`` as it is stored.

    Args:
        data: at most `MOST` bytes.
        words: what the numbers are, a key of `WORDS`.
        base: bytes of the object to take the difference to, of any length; None for zeros.
        base_id: its id.
    """
    import numpy as np  # noqa: PLC0415 - most commands need none of it

    layout = WORDS[words]
    numbers = _numbers(data, layout)
    order = None
    if base is None:
        numbers = _fold(numbers, layout)
    else:
        others = _numbers(_fit(base, len(data)), layout)
        numbers = _fold(numbers - others, layout)
        if layout.mask and np.count_nonzero(numbers) * _MOSTLY_ZERO > len(numbers):
            order = _order(others, layout)
            numbers = numbers[order]
    planes = np.ascontiguousarray(numbers.view(np.uint8).reshape(-1, layout.width).T)
    body = [base_id, bytes((words, int(order is not None)))]
    for plane in planes:
        body += _plane(plane.tobytes())
    body.append(data[len(numbers) * layout.width :])
    whole = b"".join(body)
    return blake3(whole).digest() + whole


def _plane(plane: bytes) -> tuple[bytes, bytes]:
    packed = _compressor().compress(plane)
    kept = packed if len(packed) < len(plane) else plane
    return len(kept).to_bytes(4, "little"), kept


def why_not_whole(stored: bytes) -> str:
    """Return why stored bytes are not those that were written, or an empty text."""
    if len(stored) < CHECKSUM or blake3(stored[CHECKSUM:]).digest() != stored[:CHECKSUM]:
        return "its stored bytes do not have their checksum"
    return ""


def base_of(stored: bytes) -> bytes:
    """Return the id of the base that the first bytes of a stored difference name."""
    return stored[CHECKSUM : CHECKSUM + BASE]


def decode(stored: bytes, raw: int, base: bytes | None = None) -> bytes:
    """Return what `encode` was given.

    Args:
        stored: the stored bytes; nothing that they claim is believed.
        raw: length of the object.
        base: bytes of the base where it is a difference.

    Raises:
        DamagedStoreError: they are not what `encode` returns.
    """
    import numpy as np  # noqa: PLC0415 - most commands need none of it

    at = CHECKSUM if base is None else CHECKSUM + BASE
    if raw > MOST or len(stored) < at + 2 or stored[at] not in WORDS or stored[at + 1] > 1:
        raise DamagedStoreError("it is no such encoding")
    layout, ordered = WORDS[stored[at]], bool(stored[at + 1])
    if ordered and (base is None or not layout.mask):
        raise DamagedStoreError("it is in the order of exponents that there are not")
    count = raw // layout.width
    planes = np.empty((count, layout.width), np.uint8)
    at += 2
    for number in range(layout.width):
        at, plane = _read_plane(stored, at, count)
        planes[:, number] = np.frombuffer(plane, np.uint8)
    if len(stored) - at != raw - count * layout.width:
        raise DamagedStoreError("its planes do not have their length")
    numbers: Numbers = planes.reshape(-1).view(_dtype(layout))
    if base is not None:
        others = _numbers(_fit(base, raw), layout)
        if ordered:
            sorted_ = numbers
            numbers = np.empty_like(sorted_)
            numbers[_order(others, layout)] = sorted_
        numbers = _unfold(numbers) + others
    else:
        numbers = _unfold(numbers)
    return numbers.tobytes() + stored[at:]


def _read_plane(stored: bytes, at: int, count: int) -> tuple[int, bytes]:
    """Return where the next plane begins, and this one."""
    import zstandard  # noqa: PLC0415 - most commands need none of it

    length = int.from_bytes(stored[at : at + 4], "little")
    kept = stored[at + 4 : at + 4 + length]
    if len(kept) != length or length > count:
        raise DamagedStoreError("its planes do not have their length")
    if length == count:
        return at + 4 + length, kept
    try:
        # The size that a frame claims is allocated at once, so it is looked at before.
        if zstandard.frame_content_size(kept) != count:
            raise DamagedStoreError("its planes do not have their length")
        plane = _decompressor().decompress(kept, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DamagedStoreError(f"its planes cannot be decompressed: {error}") from error
    if len(plane) != count:
        raise DamagedStoreError("its planes do not have their length")
    return at + 4 + length, plane


def _fit(base: bytes, length: int) -> bytes:
    """Cut a base to a length, or fill it up with zeros."""
    return base[:length] if len(base) >= length else base.ljust(length, b"\0")


@cache
def _dtype(layout: Words) -> "np.dtype[np.unsignedinteger[Any]]":
    import numpy as np  # noqa: PLC0415 - most commands need none of it

    return np.dtype(f"<u{layout.width}")


def _numbers(data: bytes, layout: Words) -> "Numbers":
    import numpy as np  # noqa: PLC0415 - most commands need none of it

    return np.frombuffer(data, _dtype(layout), len(data) // layout.width)


def _fold(difference: "Numbers", layout: Words) -> "Numbers":
    one = difference.dtype.type(1)
    top = difference.dtype.type(8 * layout.width - 1)
    folded: Numbers = (difference << one) ^ (~(difference >> top) + one)
    return folded


def _unfold(folded: "Numbers") -> "Numbers":
    one = folded.dtype.type(1)
    difference: Numbers = (folded >> one) ^ (~(folded & one) + one)
    return difference


def _order(base: "Numbers", layout: Words) -> "NDArray[np.intp]":
    """Return the places of the base's numbers by exponent, those of the same in their order."""
    import numpy as np  # noqa: PLC0415 - most commands need none of it

    exponents = (base >> base.dtype.type(layout.shift)) & base.dtype.type(layout.mask)
    narrow = np.uint8 if layout.mask <= 0xFF else np.uint16  # noqa: PLR2004 - radix sort
    return np.argsort(exponents.astype(narrow), kind="stable")


def _compressor() -> Any:
    """Return a compressor; they cannot be shared between threads, and cost little."""
    import zstandard  # noqa: PLC0415 - most commands need none of it

    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False)


def _decompressor() -> Any:
    import zstandard  # noqa: PLC0415 - most commands need none of it

    return zstandard.ZstdDecompressor(max_window_size=MOST)
