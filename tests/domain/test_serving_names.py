import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstore.domain.serving_names import MAX_VERSION, canonical_number, server_number


@pytest.mark.parametrize(
    ("name", "server", "canonical"),
    [
        ("1", 1, 1),
        ("0", 0, None),
        ("00", 0, None),
        ("007", 7, None),
        (" 7", 7, None),
        ("7\t\n\v\f\r", 7, None),
        ("+5", 5, None),
        ("-5", -5, None),
        ("-0", 0, None),
        (str(MAX_VERSION), MAX_VERSION, MAX_VERSION),
        (str(MAX_VERSION + 1), None, None),
        (str(-(2**63)), -(2**63), None),
        (str(-(2**63) - 1), None, None),
        ("0" * 40 + "3", 3, None),
        ("9" * 5000, None, None),
        ("", None, None),
        ("+", None, None),
        ("+ 5", None, None),
        ("--5", None, None),
        ("1 2", None, None),
        ("1.0", None, None),
        ("1e3", None, None),
        ("0x10", None, None),
        ("1_0", None, None),
        ("v1", None, None),
        ("7.tmp", None, None),
        ("٣", None, None),
        ("\u00a07", None, None),
        ("\x1c7", None, None),
    ],
)
def test_names_are_read_as_the_server_reads_them(
    name: str, server: int | None, canonical: int | None
) -> None:
    assert server_number(name) == server
    assert canonical_number(name) == canonical


@given(st.integers(1, MAX_VERSION))
def test_what_mstore_writes_is_read_as_the_same_number(number: int) -> None:
    assert server_number(str(number)) == canonical_number(str(number)) == number


@given(st.text(" \t+-0123456789a", max_size=24))
def test_a_canonical_name_is_one_that_the_server_reads_alike(name: str) -> None:
    number = canonical_number(name)
    if number is not None:
        assert server_number(name) == number
        assert str(number) == name
