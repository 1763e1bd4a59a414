"""Golden examples: a batch for one signature, and what has to come out."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mstore.convert import arrays
from mstore.domain.signatures import Signature
from mstore.errors import InputError, ParityError, UsageError

Array = npt.NDArray[Any]

DEFAULT_SIGNATURE = "serving_default"
ONLY = ""
"""Key of an input or output that is the only one, whatever the signature calls it."""

_OUTPUT = "output/"
_INPUT = "input/"
_SIGNATURE = "signature"


@dataclass(frozen=True, eq=False)
class Example:
    """A batch and the outputs that belong to it.

    Attributes:
        inputs: input key to array; strings as arrays of ``bytes`` objects, ``str`` or ``S``.
        outputs: output key to array; empty where nothing is known but that it must run.
        signature: name of the signature.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array] = field(default_factory=dict)
    signature: str = DEFAULT_SIGNATURE

    def fitted(self, signatures: Mapping[str, Signature]) -> "Example":
        """Return the example with the keys of its signature.

        Raises:
            InputError: there is no such signature, or its keys are others.
        """
        found = signatures.get(self.signature)
        if found is None:
            raise InputError(
                f"the example is for the signature {self.signature}, and there is none",
                hint=f"signatures: {', '.join(sorted(signatures))}",
            )
        return Example(
            _named("input", self.inputs, list(found.inputs), complete=True),
            _named("output", self.outputs, list(found.outputs), complete=False),
            self.signature,
        )


def _named(
    side: str, given: Mapping[str, Array], keys: list[str], *, complete: bool
) -> dict[str, Array]:
    if set(given) == {ONLY} and len(keys) == 1:
        return {keys[0]: given[ONLY]}
    unknown, missing = sorted(set(given) - set(keys)), sorted(set(keys) - set(given))
    if unknown or (complete and missing):
        shown = ", ".join(name or "(the only one)" for name in unknown or missing)
        what = "has" if unknown else "lacks"
        raise InputError(
            f"the example {what} the {side} {shown}",
            hint=f"the signature's {side}s: {', '.join(sorted(keys))}",
        )
    return dict(given)


def read_example(path: Path) -> Example:
    """Read a ``.npz`` file: arrays by input key, what comes out as ``output/KEY``.

    ``input/KEY`` is the same as ``KEY``; ``signature``, a text, names another signature than
    ``serving_default``. No pickle is read.

    Raises:
        InputError: there is no such file, or it is none.
    """
    try:
        # Opened here: where numpy finds no archive it leaves the file open.
        with path.open("rb") as file:
            found = dict(np.load(file, allow_pickle=False).items())
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}", hint="give a .npz file") from error
    # An .npy file gives one array, which has no names.
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError, AttributeError) as error:
        raise InputError(
            f"{path} is no example: {error}",
            hint="write one with numpy.savez('example.npz', x=batch, **{'output/y': outputs}); "
            "strings as arrays of bytes with a fixed length (dtype 'S')",
        ) from error
    name = found.pop(_SIGNATURE, None)
    outputs = {k.removeprefix(_OUTPUT): v for k, v in found.items() if k.startswith(_OUTPUT)}
    inputs = {k.removeprefix(_INPUT): v for k, v in found.items() if not k.startswith(_OUTPUT)}
    if not inputs:
        raise InputError(f"{path} holds no inputs", hint="name each array by its input key")
    return Example(inputs, outputs, DEFAULT_SIGNATURE if name is None else str(name))


def to_bytes(example: Example) -> bytes:
    """Return an example as bytes that `from_bytes` reads."""
    file = io.BytesIO()
    name = {_SIGNATURE: np.array(example.signature.encode(), object)}
    arrays.write_to(file, {"input": example.inputs, "output": example.outputs, "name": name})
    return file.getvalue()


def from_bytes(data: bytes) -> Example:
    """Return the example that `to_bytes` wrote."""
    groups = arrays.read_from(io.BytesIO(data))
    return Example(groups["input"], groups["output"], groups["name"][_SIGNATURE].item().decode())


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an output may be off: ``atol + rtol * |expected|`` for each element."""

    atol: float = 1e-5
    rtol: float = 1e-5

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: one is negative or not finite.
        """
        for name, value in (("atol", self.atol), ("rtol", self.rtol)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"{name} is {value}; it must be 0 or a positive number")


def ensure_parity(
    example: Example, got: Mapping[str, Array], tolerance: Tolerance
) -> dict[str, object]:
    """Hold what came out against what has to come out.

    Returns:
        ``{"signature", "rows", "atol", "rtol", "largest_difference"}``.

    Raises:
        ParityError: an output is another one; with the largest differences.
    """
    worst = 0.0
    wrong = []
    for key, expected in sorted(example.outputs.items()):
        problem, gap = _difference(expected, got[key], tolerance)
        worst = max(worst, gap)
        if problem:
            wrong.append(f"{key}: {problem}")
    if wrong:
        raise ParityError(
            f"the golden example does not come out of {example.signature}:\n  "
            + "\n  ".join(wrong),
            differences=wrong,
            hint="the weights or the code are others than when it was recorded; where rounding "
            "alone differs, allow more with --atol and --rtol",
        )
    rows = max((len(value) for value in example.inputs.values() if value.ndim), default=1)
    return {
        "signature": example.signature,
        "rows": rows,
        "atol": tolerance.atol,
        "rtol": tolerance.rtol,
        "largest_difference": worst,
    }


def _difference(expected: Array, got: Array, tolerance: Tolerance) -> tuple[str, float]:
    """Return in words how an output differs, or nothing, and by how much at most."""
    if expected.shape != got.shape:
        return f"its shape is {list(got.shape)}, not {list(expected.shape)}", 0.0
    if expected.dtype.kind in "OSU" or got.dtype.kind in "OSU":
        first, second = _texts(expected), _texts(got)
        count = sum(a != b for a, b in zip(first, second, strict=True))
        return (f"{count} of {len(first)} texts are others" if count else ""), 0.0
    first_, second_ = expected.astype(np.complex128), got.astype(np.complex128)
    with np.errstate(invalid="ignore"):
        gaps = np.abs(second_ - first_)
    same = (first_ == second_) | (np.isnan(first_) & np.isnan(second_))
    allowed = tolerance.atol + tolerance.rtol * np.where(np.isfinite(first_), np.abs(first_), 0)
    # Written so that a NaN on one side is beyond every tolerance.
    off = ~same & ~(gaps <= allowed)
    worst = float(np.where(same, 0.0, np.where(np.isnan(gaps), np.inf, gaps)).max(initial=0.0))
    if not off.any():
        return "", worst
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(off)), off.shape))
    problem = f"{int(off.sum())} of {off.size} values are off, by up to {worst:.3g}; the first at "
    return problem + f"{list(at)} is {got[at]!s} and was {expected[at]!s}", worst


def _texts(array: Array) -> list[bytes]:
    return [t if isinstance(t, bytes) else str(t).encode() for t in array.ravel().tolist()]
