"""Runs an exported SavedModel through TensorFlow's C++ loader in a process of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mstore.domain.signatures import Signature

Arrays = Mapping[str, npt.NDArray[Any]]


def check(
    saved_model: Path,
    signatures: Mapping[str, Signature],
    *,
    feeds: Mapping[str, Arrays] | None = None,
    dims: Mapping[str, tuple[int, ...]] | None = None,
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
        timeout: seconds after which the process is killed; None waits for ever.

    Returns:
        Signature name to output key to array; of made-up batches, those of the batch of 3.

    Raises:
        LoadCheckError: if the loader refuses the SavedModel, a signature does not run, or the
            process crashes.
        WorkerTimeoutError: if it takes longer than ``timeout``.
        MissingExtraError: if TensorFlow's shared library is not installed.
    """
    raise NotImplementedError
