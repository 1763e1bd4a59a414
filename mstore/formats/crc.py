"""The masked CRC32C that TensorFlow records for blocks and tensors.

Masking is LevelDB's (tensorflow/core/lib/hash/crc32c.h): a checksum stored beside the data it
covers must not itself look like a checksum of such data. How the elements of string and variant
tensors enter the checksum is in tensorflow/core/util/tensor_bundle/tensor_bundle.cc
(``WriteStringTensor``, ``WriteVariantTensor``).
"""

from typing import Protocol, TypeAlias

import google_crc32c

from mstore.domain.tensors import Tensor

Buffer: TypeAlias = bytes | bytearray | memoryview
"""What the readers here take for bytes."""

_MASK_DELTA = 0xA282EAD8
_UINT32 = 0xFFFFFFFF
_VARINT64_BYTES = 10
# google_crc32c takes only `bytes`; other buffers are copied in pieces that stay in the cache.
_PIECE = 1 << 18


def mask(crc: int) -> int:
    """Return the masked form of a CRC32C.

    >>> hex(mask(0))
    '0xa282ead8'
    """
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _UINT32


def extend(crc: int, data: Buffer) -> int:
    """Return the plain CRC32C of what ``crc`` covered followed by ``data``."""
    if isinstance(data, bytes) and len(data) <= _PIECE:
        return int(google_crc32c.extend(crc, data))
    view = memoryview(data).cast("B")
    for start in range(0, len(view), _PIECE):
        crc = int(google_crc32c.extend(crc, bytes(view[start : start + _PIECE])))
    return crc


def masked_crc(data: Buffer) -> int:
    """Return the masked CRC32C of ``data``."""
    return mask(extend(0, data))


class RunningCrc:
    """Masked CRC32C of bytes that come in pieces; right for all dtypes of fixed size."""

    def __init__(self) -> None:
        """Start with no bytes."""
        self._crc = 0

    def update(self, data: Buffer) -> None:
        """Add the next bytes."""
        self._crc = extend(self._crc, data)

    def value(self) -> int:
        """Return the masked checksum of all bytes so far."""
        return mask(self._crc)


class TensorCheck(Protocol):
    """Checks the bytes of one tensor piece by piece, in bounded memory."""

    def update(self, data: Buffer) -> None:
        """Add the next bytes."""

    def matches(self) -> bool:
        """Return whether all bytes so far are exactly what the index describes."""

    def value(self) -> int:
        """Return the masked checksum that an index would record for the bytes so far."""


class _PlainCheck:
    """Check of a tensor that is stored as its raw bytes."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._crc = 0
        self._size = 0

    def update(self, data: Buffer) -> None:
        self._crc = extend(self._crc, data)
        self._size += memoryview(data).nbytes

    def matches(self) -> bool:
        return self._size == self._tensor.size and mask(self._crc) == self._tensor.crc32c

    def value(self) -> int:
        return mask(self._crc)


class _FramedCheck:
    """What string and variant tensors share: varints and checksums that may be cut anywhere."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._elements = element_count(tensor.shape)
        self._crc = 0
        self._size = 0
        self._sound = True
        self._pending = bytearray()

    def update(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._size += len(view)
        if self._sound and self._size <= self._tensor.size:
            self._consume(view)

    def matches(self) -> bool:
        return (
            self._sound
            and self._size == self._tensor.size
            and self._complete()
            and mask(self._crc) == self._tensor.crc32c
        )

    def value(self) -> int:
        return mask(self._crc)

    def _consume(self, view: memoryview) -> None:
        raise NotImplementedError

    def _complete(self) -> bool:
        raise NotImplementedError

    def _varint(self, view: memoryview, position: int) -> tuple[int | None, int]:
        """Take one varint; return None for it where the bytes at hand end within it."""
        while position < len(view):
            byte = view[position]
            position += 1
            self._pending.append(byte)
            if byte < 0x80:  # noqa: PLR2004 - the continuation bit
                value = 0
                for part in reversed(self._pending):
                    value = value << 7 | part & 0x7F
                # Padded with zeros it would be other bytes with the same checksum.
                padded = byte == 0 and len(self._pending) > 1
                self._pending.clear()
                self._sound &= value >> 64 == 0 and not padded
                return value, position
            if len(self._pending) >= _VARINT64_BYTES:
                self._sound = False
                return None, len(view)
        return None, position

    def _checksum(self, view: memoryview, position: int) -> tuple[bool, int]:
        """Take the four bytes of an inner checksum; return whether they are all there."""
        taken = view[position : position + 4 - len(self._pending)]
        self._pending += taken
        position += len(taken)
        if len(self._pending) < 4:  # noqa: PLR2004 - bytes of a checksum
            return False, position
        self._sound &= int.from_bytes(self._pending, "little") == mask(self._crc)
        self._crc = extend(self._crc, self._pending)
        self._pending.clear()
        return True, position


class _StringCheck(_FramedCheck):
    """``[varint length] * n, checksum of the lengths, bytes``."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor)
        self._lengths_left = self._elements
        self._checksum_left = True
        self._bytes_left = 0

    def _consume(self, view: memoryview) -> None:
        position = 0
        fixed = bytearray()
        while self._lengths_left and self._sound:
            length, position = self._varint(view, position)
            if length is None or not self._sound:
                break
            # Lengths beyond 32 bits enter as uint64, the others as uint32, as old readers expect.
            fixed += length.to_bytes(4 if length <= _UINT32 else 8, "little")
            self._bytes_left += length
            self._lengths_left -= 1
        self._crc = extend(self._crc, fixed)
        if not self._lengths_left and self._checksum_left and self._sound:
            done, position = self._checksum(view, position)
            self._checksum_left = not done
        if not self._lengths_left and not self._checksum_left:
            self._crc = extend(self._crc, view[position:])
            self._bytes_left -= len(view) - position

    def _complete(self) -> bool:
        return not self._lengths_left and not self._checksum_left and self._bytes_left == 0


class _VariantCheck(_FramedCheck):
    """``[varint length, bytes, checksum of everything before] * n``."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor)
        self._elements_left = self._elements
        self._body_left: int | None = None

    def _consume(self, view: memoryview) -> None:
        position = 0
        while self._elements_left and self._sound and position < len(view):
            if self._body_left is None:
                self._body_left, position = self._varint(view, position)
                if self._body_left is None or not self._sound:
                    return
                self._crc = extend(self._crc, self._body_left.to_bytes(8, "little"))
            body = view[position : position + self._body_left]
            self._crc = extend(self._crc, body)
            position += len(body)
            self._body_left -= len(body)
            if self._body_left == 0:
                done, position = self._checksum(view, position)
                if done:
                    self._elements_left -= 1
                    self._body_left = None
        self._sound &= position == len(view)

    def _complete(self) -> bool:
        return self._elements_left == 0


def tensor_check(tensor: Tensor) -> TensorCheck:
    """Return the check for the bytes of ``tensor``, whatever its dtype.

    >>> check = tensor_check(Tensor(b"x", "uint8", (9,), 0, 0, 9, mask(0xE3069283)))
    >>> check.update(b"1234"), check.update(b"56789"), check.matches()
    (None, None, True)
    """
    if tensor.dtype == "string":
        return _StringCheck(tensor)
    if tensor.dtype == "variant":
        return _VariantCheck(tensor)
    return _PlainCheck(tensor)


def check_crc(tensor: Tensor, raw: Buffer) -> bool:
    """Return whether ``raw`` has the size, structure and checksum that the index records."""
    check = tensor_check(tensor)
    check.update(raw)
    return check.matches()


def element_count(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a tensor of that shape."""
    count = 1
    for dimension in shape:
        count *= dimension
    return count
