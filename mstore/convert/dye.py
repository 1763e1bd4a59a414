"""Dyes: values that tell the tensors of a checkpoint apart.

A checkpoint of the same structure is filled with values that no two tensors share, that differ from
the real ones, and that depend on the place of each element, so that a part, a sum or a transposed
copy of a tensor is not taken for the tensor. Exported like the real checkpoint, it shows where each
tensor lands, and whether anything else depends on a value.

Where a type has too few values to tell all its tensors apart, several dyed checkpoints do it
together: each tensor gets the digits of a number of its own.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mstore.domain.tensors import DTYPES, OBJECT_GRAPH_KEY, Tensor, TensorReader
from mstore.formats.bundle_writer import BundleWriter, encode_strings
from mstore.formats.crc import element_count, masked_crc

Content = tuple[str, tuple[int, ...], int]

_BLOCK = 1 << 16
_FEW = 6
_TRIES = 1000
_ITEM_SIZES = dict(DTYPES.values())
_OPAQUE = frozenset({"variant", "resource"})
# Bits of the mantissa, first and last exponent field in use: finite numbers of either sign, some
# far below 1 and some far above it, so that clipping and rounding show.
_FLOATS = {
    "float16": (10, 8, 22),
    "bfloat16": (7, 111, 143),
    "float32": (23, 111, 143),
    "float64": (52, 1007, 1039),
}
_PARTS = {"complex64": ("float32", 2), "complex128": ("float64", 2)}
_SIGNED = frozenset({"int16", "int32", "int64", "qint16", "qint32"})
# Bits in use of other types. Larger integers stay small: a model may take one for a size.
_MASKS = {"bool": 0x01, "int4": 0x07, "uint4": 0x07}
_FLOAT8_MASK, _BYTE_MASK, _WIDE_MASK = 0xBF, 0xFF, 0x7FFF


class Dyes:
    """The dyed checkpoints of one real checkpoint.

    Attributes:
        rounds: how many there must be.
    """

    def __init__(self, real: TensorReader) -> None:
        """Number the tensors whose types have few values; nothing is written yet."""
        self._real = real
        self._tensors = real.table.values
        self._seen = {tensor.key: [tensor.content] for tensor in self._tensors}
        self._codes, self.rounds = _codes(self._tensors)

    @property
    def opaque(self) -> list[Tensor]:
        """The tensors that cannot be dyed."""
        return [t for t in self._real.table if t.dtype in _OPAQUE or t.sliced]

    def write(self, prefix: Path) -> None:
        """Write the next dyed checkpoint: the same keys, types, shapes and object graph."""
        turn = len(next(iter(self._seen.values()), [])) - 1
        taken: set[Content] = set()
        with BundleWriter(prefix) as writer:
            for number, tensor in enumerate(self._real.table):
                if tensor.key == OBJECT_GRAPH_KEY or tensor.dtype in _OPAQUE:
                    pieces: Iterable[bytes | memoryview] = self._real.pieces(tensor)
                    crc: int | None = tensor.crc32c
                else:
                    pieces, crc = self._dyed(tensor, turn, number, taken)
                made = writer.add(tensor.key, tensor.dtype, tensor.shape, pieces, crc32c=crc)
                if tensor.key in self._seen:
                    self._seen[tensor.key].append(made.content)
                    taken.add(made.content)
            writer.finish()

    def found(self, contents: Sequence[Content]) -> set[bytes]:
        """Return the tensors that had these contents, in the real checkpoint and in each round."""
        return {key for key, seen in self._seen.items() if seen == list(contents)}

    def unmarked(self, key: bytes) -> bool:
        """Return whether a tensor that has bytes was the real one in every round."""
        tensor = self._real.table.get(key)
        assert tensor is not None  # noqa: S101 - the key is one of ours
        return tensor.size > 0 and len(set(self._seen[key])) == 1

    def _dyed(
        self, tensor: Tensor, turn: int, number: int, taken: set[Content]
    ) -> tuple[Iterable[bytes], int | None]:
        """Return the bytes of a tensor for a round, and their checksum where that is special."""
        count = element_count(tensor.shape)
        if tensor.dtype == "string":
            texts = [b"mstore dye %d %d %d" % (turn, number, place) for place in range(count)]
            stored, crc = encode_strings(texts)
            return [stored], crc
        if tensor.key in self._codes:
            real = b"".join(map(bytes, self._real.pieces(tensor)))
            return [_next_value(tensor, real, self._codes[tensor.key], turn)], None
        if 0 < count < _FEW:
            real = b"".join(map(bytes, self._real.pieces(tensor)))
            return [self._unlike(tensor, real, (turn, number), taken)], None
        return _random(tensor, turn, number, 0), None

    @staticmethod
    def _unlike(tensor: Tensor, real: bytes, place: tuple[int, int], taken: set[Content]) -> bytes:
        """Return few elements that no tensor of the same type and shape has in this round."""
        made = b""
        for salt in range(_TRIES):
            made = b"".join(_random(tensor, *place, salt))
            content = (tensor.dtype, tensor.shape, masked_crc(made))
            # Of the other sign, so that it shows where only one sign is passed through.
            flipped = (made[-1] ^ real[-1]) & 0x80 or tensor.dtype not in {*_FLOATS, *_SIGNED}
            if content not in taken and content != tensor.content and flipped:
                break
        return made


def _codes(tensors: Sequence[Tensor]) -> tuple[dict[bytes, tuple[int, int]], int]:
    """Return a number and the base of its digits for tensors of few values; and how many digits.

    Only tensors that are equal in the real checkpoint need different numbers.
    """
    groups: dict[Content, list[Tensor]] = {}
    for tensor in tensors:
        if _ITEM_SIZES[tensor.dtype] == 1 and 0 < tensor.size < _FEW:
            groups.setdefault(tensor.content, []).append(tensor)
    codes: dict[bytes, tuple[int, int]] = {}
    rounds = 1
    for group in groups.values():
        base: int = (2 if group[0].dtype == "bool" else 256) ** group[0].size
        digits = 1
        # The number whose digits are all the highest stands for the real value in each round.
        while base**digits - 1 < len(group):
            digits += 1
        rounds = max(rounds, digits)
        codes |= {tensor.key: (code, base) for code, tensor in enumerate(group)}
    return codes, rounds


def _next_value(tensor: Tensor, real: bytes, code: tuple[int, int], turn: int) -> bytes:
    """Return the real value moved on by one and by the digit of this round, around its base."""
    number, base = code
    step: int = 1 + number // base**turn % base
    if tensor.dtype == "bool":
        value = (sum(byte << place for place, byte in enumerate(real)) + step) % base
        return bytes(value >> place & 1 for place in range(len(real)))
    return ((int.from_bytes(real, "little") + step) % base).to_bytes(len(real), "little")


def _random(tensor: Tensor, turn: int, number: int, salt: int) -> Iterator[bytes]:
    """Yield the bytes of a tensor, the same for the same numbers."""
    dtype, parts = _PARTS.get(tensor.dtype, (tensor.dtype, 1))
    count = element_count(tensor.shape) * parts
    if not _ITEM_SIZES[dtype]:
        count = tensor.size  # 4-bit integers, a byte for one or two
    for block, start in enumerate(range(0, count, _BLOCK)):
        key = turn << 96 | number << 64 | salt << 48 | block
        generator = np.random.Generator(np.random.Philox(key=key))
        yield _values(dtype, min(_BLOCK, count - start), generator).tobytes()


def _values(dtype: str, count: int, generator: np.random.Generator) -> Any:
    """Return ``count`` random elements as little-endian unsigned integers of the same width."""
    width = _ITEM_SIZES[dtype] or 1
    kind = np.dtype(f"<u{width}")
    bits: Any = np.frombuffer(generator.bytes(count * width), kind)
    if dtype in _FLOATS:
        mantissa, low, high = _FLOATS[dtype]
        exponents = generator.integers(low, high + 1, count).astype(kind)
        sign = kind.type(1 << (8 * width - 1))
        return bits & (sign | kind.type((1 << mantissa) - 1)) | exponents << kind.type(mantissa)
    if width == 1:
        mask = _FLOAT8_MASK if dtype.startswith("float8") else _MASKS.get(dtype, _BYTE_MASK)
        return bits & kind.type(mask)
    small = bits & kind.type(_WIDE_MASK)
    if dtype not in _SIGNED:
        return small
    negative = generator.integers(0, 2, count).astype(bool)
    return np.where(negative, (~small + kind.type(1)).astype(kind), small).astype(kind)
