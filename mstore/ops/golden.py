"""The golden example of an export: which one, its warmup request, and whether it comes out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mstore import disk
from mstore.catalog.checkpoints import CheckpointRow
from mstore.convert.check import EXAMPLE
from mstore.convert.examples import (
    Array,
    Example,
    Tolerance,
    ensure_parity,
    from_bytes,
    read_example,
)
from mstore.domain.signatures import Signature, TensorSpec
from mstore.domain.warmup import WARMUP_PATH
from mstore.errors import InputError
from mstore.formats.warmup import record
from mstore.ops.context import Context
from mstore.ops.made import ExportOptions
from mstore.serving.warmup import prediction_log

_LARGEST_WARMUP = 4 << 20
"""Bytes of a request; a server parses messages of 64 MB, and loads that take long help nobody."""


def golden_example(
    context: Context,
    row: CheckpointRow,
    options: ExportOptions,
    signatures: Mapping[str, Signature],
) -> Example | None:
    """Return the example that the export is given, or that was recorded with the checkpoint.

    Its arrays have the dtypes of the signature's inputs.

    Raises:
        InputError: it does not fit the signatures.
    """
    if options.example is not None:
        example = read_example(options.example)
    elif row.checkpoint.example is not None:
        with context.reader() as reader:
            example = from_bytes(bytes(reader.read(bytes.fromhex(row.checkpoint.example))))
    else:
        return None
    fitted = example.fitted(signatures)
    specs = signatures[fitted.signature].inputs
    inputs = {key: _typed(key, value, specs[key]) for key, value in fitted.inputs.items()}
    return Example(inputs, fitted.outputs, fitted.signature)


def _typed(key: str, value: Array, spec: TensorSpec) -> Array:
    """Return an input as the signature takes it.

    Raises:
        InputError: its shape or its kind of values is another.
    """
    shape = spec.shape
    fits = shape is None or (
        len(shape) == value.ndim
        and all(a is None or a == b for a, b in zip(shape, value.shape, strict=True))
    )
    is_text = value.dtype.kind in "OSU"
    if not fits or is_text != (spec.dtype == "string"):
        raise InputError(
            f"the example's input {key} is {value.dtype}{list(value.shape)}, and the signature "
            f"takes {spec.dtype}{'[...]' if shape is None else list(shape)}",
            hint="None is a dimension of any length",
        )
    if is_text:
        texts = [t if isinstance(t, bytes) else str(t).encode() for t in value.ravel().tolist()]
        made: Array = np.empty(value.shape, object)
        made.ravel()[:] = texts
        return made
    if spec.dtype == "bfloat16":
        return value  # the process that runs it has its own way to carry these
    return value.astype(np.dtype(spec.dtype), copy=False)


def warmup(model: str, example: Example, signatures: Mapping[str, Signature]) -> bytes | None:
    """Return the warmup file of an example; None where it has a type that numpy has not.

    A request that is too large for a start is left out as well.
    """
    specs = signatures[example.signature].inputs
    if any(spec.dtype == "bfloat16" for spec in specs.values()):
        return None
    inputs: dict[str, Any] = {
        key: (specs[key].dtype, np.ascontiguousarray(value))
        for key, value in example.inputs.items()
    }
    data = record(prediction_log(model, example.signature, inputs))
    return data if len(data) <= _LARGEST_WARMUP else None


def place_warmup(directory: Path, data: bytes) -> None:
    """Write the warmup file into a SavedModel that has none of its own."""
    path = directory / WARMUP_PATH
    if path.exists():
        return
    path.parent.mkdir(exist_ok=True)
    output = disk.NewFile(path)
    try:
        output.write(data)
    finally:
        output.close()


def parity(
    example: Example | None, outputs: Mapping[str, Mapping[str, Array]], options: ExportOptions
) -> tuple[str, dict[str, object]]:
    """Return the outcome of the check ``parity`` and its figures.

    Raises:
        ParityError: what came out is not what was recorded.
    """
    if example is None or not example.outputs:
        return "skipped", {}
    tolerance = Tolerance(options.atol, options.rtol)
    return "passed", ensure_parity(example, outputs[EXAMPLE], tolerance)
