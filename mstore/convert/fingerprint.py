"""Makes the one random field of a SavedModel a function of the others.

``fingerprint.pb`` is a ``FingerprintDef`` (tensorflow/core/protobuf/fingerprint.proto): five hashes
in fields 1 to 5, a version in field 6, and in field 7 a random 128-bit number in decimal.
"""

import uuid
from pathlib import Path

from mstore.errors import DamagedFileError

_UUID_FIELD = 7
_NAMESPACE = uuid.UUID("5f2d0c1e-8f0f-5c55-9b5b-6d2f6d73746f")


def make_reproducible(saved_model: Path) -> None:
    """Replace the random ``uuid`` in ``fingerprint.pb`` by one made from its other fields.

    Does nothing where there is no such file.

    Raises:
        DamagedFileError: if the file is not a ``FingerprintDef``.
    """
    path = saved_model / "fingerprint.pb"
    if not path.is_file():
        return
    data = path.read_bytes()
    try:
        kept = b"".join(
            data[start:stop] for number, start, stop in _fields(data) if number != _UUID_FIELD
        )
    except (IndexError, ValueError) as exc:
        raise DamagedFileError(f"{path} is not a fingerprint: {exc}", path=str(path)) from exc
    text = str(uuid.uuid5(_NAMESPACE, kept.hex()).int).encode()
    path.write_bytes(kept + bytes([_UUID_FIELD << 3 | 2, len(text)]) + text)


def _fields(data: bytes) -> list[tuple[int, int, int]]:
    """Return number, start and end of each field of a protobuf message."""
    fields, position = [], 0
    while position < len(data):
        start = position
        tag, position = _varint(data, position)
        match tag & 7:
            case 0:
                _, position = _varint(data, position)
            case 1:
                position += 8
            case 2:
                length, position = _varint(data, position)
                position += length
            case 5:
                position += 4
            case kind:
                raise ValueError(f"wire type {kind}")
        if position > len(data):
            raise ValueError("cut short")
        fields.append((tag >> 3, start, position))
    return fields


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, position
    raise ValueError("varint too long")
