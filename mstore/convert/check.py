"""Runs an exported SavedModel through TensorFlow's C++ loader in a process of its own."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mstore.convert import arrays
from mstore.convert.examples import Example
from mstore.convert.process import require_tensorflow, run_worker
from mstore.convert.request import Sample
from mstore.domain.signatures import Signature
from mstore.errors import LoadCheckError, WorkerError, WorkerTimeoutError

EXAMPLE = "example "
"""Under what the outputs of the example come; no signature can have this name."""

Arrays = Mapping[str, npt.NDArray[Any]]


def check(
    saved_model: Path,
    signatures: Mapping[str, Signature],
    *,
    feeds: Mapping[str, Arrays] | None = None,
    dims: Mapping[str, tuple[int, ...]] | None = None,
    samples: Mapping[str, Sample] | None = None,
    example: Example | None = None,
    timeout: float | None = None,
) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Load the SavedModel as TensorFlow Serving does and run its signatures.

    Each signature in ``feeds`` is run once with what is given; each other one with made-up
    batches of 1 and 3, whose outputs must have the batch's length where the signature says so.

    Args:
        saved_model: the SavedModel's directory.
        signatures: what it promises, from ``mstore.formats.saved_model``.
        feeds: signature name to input key to array; strings as arrays of ``bytes`` objects.
        dims: input key to a shape that is known to work (``TraceResult.dims``).
        samples: signature name to a batch and the live model's outputs for it
            (``TraceResult.samples``), which must come out.
        example: a batch that is run as well, with the keys of its signature.
        timeout: seconds after which the process is killed; None waits for ever.

    Returns:
        Signature name to output key to array; of made-up batches, those of the batch of 3. Of the
        example under `EXAMPLE`.

    Raises:
        LoadCheckError: if the loader refuses the SavedModel, a signature does not run or gives
            other outputs than a sample, or the process crashes.
        WorkerTimeoutError: if it takes longer than ``timeout``.
        MissingExtraError: if TensorFlow's shared library is not installed.
    """
    request = {
        "saved_model": str(saved_model.absolute()),
        "tensorflow": str(require_tensorflow()),
        "signatures": {name: signature.to_json() for name, signature in signatures.items()},
        "dims": {key: list(shape) for key, shape in (dims or {}).items()},
    }
    given = dict(feeds or {})
    if example is not None:
        given[f"example {example.signature}"] = example.inputs
    outputs = _run(request, given, timeout, samples or {})
    found = {name: outputs[name] for name in signatures}
    if example is not None:
        found[EXAMPLE] = outputs[f"example {example.signature}"]
    return found


def _run(
    request: Mapping[str, Any],
    feeds: Mapping[str, Arrays],
    timeout: float | None,
    samples: Mapping[str, Sample],
) -> dict[str, dict[str, npt.NDArray[Any]]]:
    rehearsed = {f"sample {name}": sample.feeds for name, sample in samples.items()}
    with tempfile.TemporaryDirectory(prefix="mstore-check-") as scratch:
        given, answers = Path(scratch, "feeds.npz"), Path(scratch, "answers.npz")
        arrays.write(given, {**feeds, **rehearsed})
        try:
            run_worker(
                "check",
                {**request, "feeds": str(given), "answers": str(answers)},
                timeout=timeout,
            )
        except WorkerTimeoutError:
            raise
        except WorkerError as exc:
            raise LoadCheckError(
                f"TensorFlow's C++ runtime crashes on the SavedModel: {exc.message}",
                hint="a server that loads it would crash too",
            ) from exc
        outputs = arrays.read(answers)
    for name, sample in samples.items():
        how = arrays.difference(sample.outputs, outputs[f"sample {name}"], sample.tolerance)
        if how:
            raise LoadCheckError(
                f"the signature {name!r} gives other outputs through TensorFlow's C++ loader than "
                f"the live model: {how}"
            )
    return outputs
