"""The fingerprint's random number becomes a function of its other fields."""

from pathlib import Path

import pytest

from mstore.convert.fingerprint import make_reproducible
from mstore.errors import DamagedFileError

# Written by TensorFlow 2.21: fields 1 to 6, then a random number in decimal.
FIELDS = (
    b"\x08\xda\xe6\xe9\x98\xca\xf6\xe7\x92E\x10\xdc\x8e\xec\xc9\xd7\xb1\xa2\x96\xa3\x01\x18\xb3"
    b"\xcd\xa6\x84\xe6\xef\xfc\xaaz \x8d\xa6\xcb\xe2\xc3\x97\xa0\x85\x88\x01(\x98\xc7\xc3\xe9\x96"
    b"\xa0\x92\xc1G2\x02\x08\x04"
)


def rewritten(tmp_path: Path, data: bytes) -> bytes:
    (tmp_path / "fingerprint.pb").write_bytes(data)
    make_reproducible(tmp_path)
    return (tmp_path / "fingerprint.pb").read_bytes()


def test_two_random_numbers_become_one(tmp_path: Path) -> None:
    one = rewritten(tmp_path, FIELDS + b":'133819801985587831147931140601409059127")
    two = rewritten(tmp_path, FIELDS + b":\x0212")
    assert one == two
    assert one.startswith(FIELDS)
    assert one[len(FIELDS) :][2:].isdigit()
    assert one[len(FIELDS) + 1] == len(one) - len(FIELDS) - 2


def test_other_fields_give_another_number(tmp_path: Path) -> None:
    one = rewritten(tmp_path, FIELDS)
    two = rewritten(tmp_path, FIELDS.replace(b"\x08\xda", b"\x08\xdb"))
    assert one[len(FIELDS) :] != two[len(FIELDS) :]


def test_doing_it_twice_changes_nothing(tmp_path: Path) -> None:
    once = rewritten(tmp_path, FIELDS)
    assert rewritten(tmp_path, once) == once


def test_a_savedmodel_without_fingerprint_is_left_alone(tmp_path: Path) -> None:
    make_reproducible(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data", [b"\x08", b"\x08\xff", b":\xff\xff", b"\x0b", b"\x80" * 20, b"\x09\x01"]
)
def test_other_files_are_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError):
        rewritten(tmp_path, data)
