import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstore.domain.warmup import WarmupRequest
from mstore.errors import DamagedFileError, Error
from mstore.formats.warmup import read_warmup
from tests.formats.bundle_writer import FLOAT32, masked, message, number


def record(data: bytes) -> bytes:
    """Frame a record as ``tf.io.TFRecordWriter`` does."""
    length = struct.pack("<Q", len(data))
    frame = length + struct.pack("<I", masked(length))
    return frame + data + struct.pack("<I", masked(data))


def predict(signature: bytes, **inputs: int) -> bytes:
    parts = b"".join(
        message(2, message(1, key.encode()) + message(2, number(1, dtype)))
        for key, dtype in inputs.items()
    )
    return message(6, message(1, message(1, message(3, signature)) + parts))


def write(directory: Path, data: bytes) -> Path:
    path = directory / "requests"
    path.write_bytes(data)
    return path


def test_requests_are_read(tmp_path: Path) -> None:
    data = record(predict(b"embed", x=FLOAT32, odd=99)) + record(message(2, b"")) + record(b"")
    assert read_warmup(write(tmp_path, data)) == (
        WarmupRequest("predict", "embed", {"x": "float32", "odd": None}),
        WarmupRequest("classify"),
        WarmupRequest("none"),
    )
    assert read_warmup(write(tmp_path, b"")) == ()


def test_no_more_are_read_than_tell_that_they_are_too_many(tmp_path: Path) -> None:
    assert len(read_warmup(write(tmp_path, record(b"") * 5000))) == 1001


@pytest.mark.parametrize("place", [0, 8, 11, 12, -1])
def test_a_changed_byte_is_damage(place: int, tmp_path: Path) -> None:
    data = bytearray(record(predict(b"", x=FLOAT32)))
    data[place] ^= 1
    with pytest.raises(DamagedFileError) as caught:
        read_warmup(write(tmp_path, bytes(data)))
    assert "TFRecordWriter" in caught.value.hint


def test_every_truncation_is_damage(tmp_path: Path) -> None:
    data = record(predict(b"", x=FLOAT32))
    for size in range(1, len(data)):
        with pytest.raises(DamagedFileError, match="cut short"):
            read_warmup(write(tmp_path, data[:size]))


@given(data=st.binary(max_size=200), framed=st.booleans())
def test_any_bytes_are_refused_or_read(
    data: bytes, framed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.getbasetemp(), record(data) if framed else data)
    with contextlib.suppress(Error):
        assert len(read_warmup(path)) <= 1001
