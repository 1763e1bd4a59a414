"""Runs an exported SavedModel through TensorFlow's C++ loader in a process of its own."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mstore.convert import strings
from mstore.convert.process import require_tensorflow, run_worker
from mstore.domain.signatures import Signature
from mstore.errors import LoadCheckError, WorkerError, WorkerTimeoutError

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
    request = {
        "saved_model": str(saved_model.absolute()),
        "tensorflow": str(require_tensorflow()),
        "signatures": {name: signature.to_json() for name, signature in signatures.items()},
        "dims": {key: list(shape) for key, shape in (dims or {}).items()},
    }
    with tempfile.TemporaryDirectory(prefix="mstore-check-") as scratch:
        feeds_file, answers_file = Path(scratch, "feeds.npz"), Path(scratch, "answers.npz")
        given, arrays = _slots(feeds or {})
        np.savez(feeds_file, **arrays)  # type: ignore[arg-type]  # taken for allow_pickle
        request |= {"given": given, "feeds": str(feeds_file), "answers": str(answers_file)}
        answer = _run(request, timeout)
        with np.load(answers_file, allow_pickle=False) as answers:
            return {
                name: {key: _read(answers, slot) for key, slot in slots.items()}
                for name, slots in answer["outputs"].items()
            }


def _run(request: Mapping[str, Any], timeout: float | None) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = run_worker("check", request, timeout=timeout)["result"]
    except WorkerTimeoutError:
        raise
    except WorkerError as exc:
        raise LoadCheckError(
            f"TensorFlow's C++ runtime crashes on the SavedModel: {exc.message}",
            hint="a server that loads it would crash too",
        ) from exc
    return answer


def _slots(
    feeds: Mapping[str, Arrays],
) -> tuple[dict[str, dict[str, str]], dict[str, npt.NDArray[Any]]]:
    """Return where each array lies in the file, and the file's arrays."""
    given: dict[str, dict[str, str]] = {}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, feed in feeds.items():
        given[name] = {}
        for key, value in feed.items():
            array = np.asarray(value)
            is_text = array.dtype.kind in "OSU"
            slot = given[name][key] = f"{'s' if is_text else 'o'}{len(arrays)}"
            arrays[slot] = strings.pack(array) if is_text else array
    return given, arrays


def _read(answers: Any, slot: str) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = answers[slot]
    return strings.unpack(array) if slot.startswith("s") else array
