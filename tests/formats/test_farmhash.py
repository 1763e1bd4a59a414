"""Fingerprints against values that FarmHash itself and TensorFlow give."""

import pytest

from mstore.formats.farmhash import fingerprint64

LONG = bytes(range(256)) * 3


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0x9AE16A3B2F90404F),
        (b"a", 0xB3454265B6DF75E3),
        (b"mstore", 0xE1422D99D359510F),
        (b"0123456789", 0xAD052244B781C4EB),
        (b"x" * 33, 0xAA49185443E61637),
        (b"y" * 64, 0x3E0F00391283E8B8),
        (LONG, 0x1D08637075CFEA20),
    ],
    ids=lambda value: str(len(value)) if isinstance(value, bytes) else "",
)
def test_fingerprints_are_those_of_farmhash(data: bytes, expected: int) -> None:
    assert fingerprint64(data) == expected


def test_every_length_has_a_fingerprint_of_its_own() -> None:
    prints = {fingerprint64(LONG[:length]) for length in range(300)}
    assert len(prints) == 300
    assert all(0 <= value < 1 << 64 for value in prints)
