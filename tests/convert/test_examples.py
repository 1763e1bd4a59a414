"""Golden examples: files, keys, and how outputs are held against each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mstore.convert.examples import (
    Example,
    Tolerance,
    ensure_parity,
    from_bytes,
    read_example,
    to_bytes,
)
from mstore.domain.signatures import Signature, TensorSpec
from mstore.domain.warmup import WarmupRequest
from mstore.errors import InputError, ParityError, UsageError
from mstore.formats.warmup import read_warmup, record
from mstore.serving.warmup import prediction_log

SPEC = TensorSpec("float32", (None, 2))
SIGNATURES = {
    "serving_default": Signature({"x": SPEC}, {"y": SPEC}),
    "both": Signature({"a": SPEC, "b": SPEC}, {"c": SPEC, "d": SPEC}),
}
X = np.arange(6, dtype="float32").reshape(3, 2)


def parity(expected: Any, got: Any, **tolerance: float) -> dict[str, object]:
    example = Example({"x": X}, {"y": np.asarray(expected)})
    return ensure_parity(example, {"y": np.asarray(got)}, Tolerance(**tolerance))


def test_a_file_names_inputs_outputs_and_signature(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    arrays: dict[str, Any] = {
        "a": X,
        "input/b": X + 1,
        "output/c": X * 2,
        "signature": np.array("both"),
    }
    np.savez(path, **arrays)
    example = read_example(path)
    assert sorted(example.inputs) == ["a", "b"]
    assert sorted(example.outputs) == ["c"]
    assert example.signature == "both"
    again = from_bytes(to_bytes(example))
    assert again.signature == "both"
    assert (again.outputs["c"] == X * 2).all()
    assert sorted(again.fitted(SIGNATURES).inputs) == ["a", "b"]


def test_texts_survive() -> None:
    texts = np.array([b"a\x00b", b"", "ü".encode()], object)
    again = from_bytes(to_bytes(Example({"t": texts}, {"u": np.array(["x", "yz"])})))
    assert again.inputs["t"].tolist() == texts.tolist()
    assert again.outputs["u"].tolist() == [b"x", b"yz"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"x" * 100])
def test_what_is_no_example_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no example"):
        read_example(path)


def test_pickles_and_single_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", x=np.array([{"a": 1}], object))
    np.save(tmp_path / "s.npy", X)
    outputs: dict[str, Any] = {"output/y": X}
    np.savez(tmp_path / "o.npz", **outputs)
    for name in ("p.npz", "s.npy"):
        with pytest.raises(InputError, match="is no example"):
            read_example(tmp_path / name)
    with pytest.raises(InputError, match="holds no inputs"):
        read_example(tmp_path / "o.npz")
    with pytest.raises(InputError, match="there is no file"):
        read_example(tmp_path / "none.npz")


def test_keys_are_those_of_the_signature() -> None:
    only = Example({"": X}, {"": X}).fitted(SIGNATURES)
    assert (list(only.inputs), list(only.outputs)) == (["x"], ["y"])
    for example, words in (
        (Example({"z": X}), "has the input z"),
        (Example({"a": X}, signature="both"), "lacks the input b"),
        (Example({"x": X}, {"z": X}), "has the output z"),
        (Example({"": X}, signature="both"), "has the input"),
        (Example({"x": X}, signature="other"), "there is none"),
    ):
        with pytest.raises(InputError, match=words):
            example.fitted(SIGNATURES)


def test_what_comes_out_is_held_against_what_should() -> None:
    figures = parity([1.0, 2.0], [1.0, 2.000015], rtol=1e-5, atol=0)
    assert figures["rows"] == 3
    assert figures["largest_difference"] == pytest.approx(1.5e-5)
    with pytest.raises(ParityError, match=r"y: 1 of 2 values are off, by up to 1e-05.*\[1\]"):
        parity([1.0, 2.0], [1.0, 2.00001], rtol=0, atol=1e-6)
    with pytest.raises(ParityError, match=r"its shape is \[1\], not \[2\]"):
        parity([1.0, 2.0], [1.0])
    with pytest.raises(ParityError, match="1 of 2 texts are others"):
        parity(np.array([b"a", b"b"]), np.array([b"a", b"c"], object))
    parity([np.nan, np.inf], [np.nan, np.inf])
    for got in ([np.nan, 1.0], [1.0, np.inf], [-np.inf, 1.0]):
        with pytest.raises(ParityError):
            parity([1.0, 1.0], got)
    with pytest.raises(ParityError):
        parity([3, 4], [3, 5], atol=0.5, rtol=0)
    with pytest.raises(UsageError, match="atol is -1"):
        Tolerance(atol=-1)


def test_a_warmup_request_is_read_back(tmp_path: Path) -> None:
    data = prediction_log(
        "m", "both", {"a": ("float32", X), "t": ("string", np.array([b"x", b""], object))}
    )
    (tmp_path / "w").write_bytes(record(data))
    assert read_warmup(tmp_path / "w") == (
        WarmupRequest("predict", "both", {"a": "float32", "t": "string"}),
    )
