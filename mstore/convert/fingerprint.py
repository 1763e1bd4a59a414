"""The fingerprint of a SavedModel, without what is random in it.

``fingerprint.pb`` is a ``FingerprintDef`` (tensorflow/core/protobuf/fingerprint.proto): hashes of
parts of the graph in fields 1 to 4, of ``variables.index`` in field 5, a version in field 6, and in
field 7 a random 128-bit number in decimal.
"""

import uuid
from pathlib import Path

from mstore.errors import DamagedFileError
from mstore.formats.farmhash import fingerprint64
from mstore.formats.sstable_writer import varint

FILE_NAME = "fingerprint.pb"
"""Name of the file in a SavedModel's directory."""

_CHECKPOINT_HASH = 5
_UUID = 7
_NAMESPACE = uuid.UUID("5f2d0c1e-8f0f-5c55-9b5b-6d2f6d73746f")


def make_reproducible(saved_model: Path) -> None:
    """Replace the random ``uuid`` in ``fingerprint.pb`` by one made from its other fields.

    Does nothing where there is no such file.

    Raises:
        DamagedFileError: if the file is not a ``FingerprintDef``.
    """
    path = saved_model / FILE_NAME
    if path.is_file():
        path.write_bytes(_with_uuid(_parse(path.read_bytes(), str(path))))


def of_other_variables(fingerprint: bytes, index: bytes) -> bytes:
    """Return the fingerprint of the same graph with other variables.

    Args:
        fingerprint: that of a SavedModel with this graph.
        index: the bytes of the other ``variables.index``.

    Raises:
        DamagedFileError: if it is not a ``FingerprintDef``.
    """
    fields = _parse(fingerprint, FILE_NAME)
    tag = bytes([_CHECKPOINT_HASH << 3])
    return _with_uuid(
        [
            (number, tag + varint(fingerprint64(index)) if number == _CHECKPOINT_HASH else data)
            for number, data in fields
        ]
    )


def _with_uuid(fields: list[tuple[int, bytes]]) -> bytes:
    kept = b"".join(data for number, data in fields if number != _UUID)
    text = str(uuid.uuid5(_NAMESPACE, kept.hex()).int).encode()
    return kept + bytes([_UUID << 3 | 2, len(text)]) + text


def _parse(data: bytes, path: str) -> list[tuple[int, bytes]]:
    """Return number and bytes of each field, tag and all."""
    try:
        return [(number, data[start:stop]) for number, start, stop in _fields(data)]
    except (IndexError, ValueError) as exc:
        raise DamagedFileError(f"{path} is not a fingerprint: {exc}", path=path) from exc


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
