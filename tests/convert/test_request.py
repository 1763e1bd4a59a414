"""Requests and results survive the way to the conversion process and back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstore.convert.request import TraceRequest, TraceResult, parse_input
from mstore.domain.signatures import TensorSpec
from mstore.errors import UsageError

KEYS = st.binary(min_size=1, max_size=12)
SPECS = st.builds(
    TensorSpec,
    st.sampled_from(["float32", "int64", "string", "bfloat16"]),
    st.none() | st.lists(st.none() | st.integers(0, 99), max_size=4).map(tuple),
)


@given(st.dictionaries(KEYS, st.none() | KEYS), st.dictionaries(KEYS, st.text()), st.text())
def test_results_round_trip_whatever_the_keys(
    sources: dict[bytes, bytes | None], names: dict[bytes, str], root: str
) -> None:
    result = TraceResult(sources, names, root, {"keras": "3"}, {"x": (2, 3)}, ("w",), (b"\xff",))
    assert TraceResult.from_json(result.to_json()) == result


@given(st.dictionaries(st.text(min_size=1), SPECS), st.none() | st.text())
def test_requests_round_trip(inputs: dict[str, TensorSpec], root: str | None) -> None:
    request = TraceRequest(
        Path("/c/ckpt-1"), Path("/out"), "a.py:b", {"k": "v"}, inputs, root, ("w",), Path("/here")
    )
    assert TraceRequest.from_json(request.to_json()) == request


@pytest.mark.parametrize(
    ("text", "key", "spec"),
    [
        ("x=float32[?,10]", "x", TensorSpec("float32", (None, 10))),
        ("b-side=int64[None, -1 ,3]", "b-side", TensorSpec("int64", (None, None, 3))),
        ("s=string[?]", "s", TensorSpec("string", (None,))),
        ("n=float[]", "n", TensorSpec("float32", ())),
        ("n=double", "n", TensorSpec("float64", ())),
    ],
)
def test_inputs_are_read(text: str, key: str, spec: TensorSpec) -> None:
    assert parse_input(text) == (key, spec)


@pytest.mark.parametrize(
    "text", ["", "x", "=float32[1]", "x=float33[1]", "x=float32[a]", "x=float32[1", "x=float32[²]"]
)
def test_inputs_that_do_not_parse_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_input(text)
    assert "float32[?,10]" in caught.value.hint
