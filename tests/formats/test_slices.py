import pytest

from mstore.formats.slices import FULL, slice_key


@pytest.mark.parametrize(
    ("name", "extents", "key"),
    [
        # As TensorFlow 2.21 writes them (tf.compat.v1.train.Saver, three partitions of (200, 3)).
        (b"part", [(0, 67), (0, 3)], b"\x00part\x00\x01\x01\x02\x80\xc0C\x80\x83"),
        (b"part", [(67, 67), (0, 3)], b"\x00part\x00\x01\x01\x02\xc0C\xc0C\x80\x83"),
        (b"part", [(134, 66), (0, 3)], b"\x00part\x00\x01\x01\x02\xc0\x86\xc0B\x80\x83"),
        (b"v", [(0, FULL)], b"\x00v\x00\x01\x01\x01\x80\x7f"),
        (b"\x00\xff", [], b"\x00\x00\xff\xff\x00\x00\x01\x00"),
        (b"v", [(2**62, 8191)], b"\x00v\x00\x01\x01\x01\xff\xc0@" + bytes(7) + b"\xdf\xff"),
    ],
)
def test_keys_of_slices(name: bytes, extents: list[tuple[int, int]], key: bytes) -> None:
    assert slice_key(name, extents) == key


def test_keys_sort_as_their_starts_do() -> None:
    starts = [0, 1, 63, 64, 8191, 8192, 2**20, 2**31, 2**40, 2**62]
    keys = [slice_key(b"v", [(start, 1)]) for start in starts]
    assert keys == sorted(keys)
