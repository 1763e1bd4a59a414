"""Loads a SavedModel with the C++ loader and runs its signatures. Imports no TensorFlow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mstore.convert import arrays
from mstore.convert.madeup import BATCHES, LENGTHS, TEXTS, choices
from mstore.convert.worker.capi import Array, Library, Session, StatusError, carried, carrier
from mstore.domain.signatures import TensorSpec
from mstore.errors import LoadCheckError, MissingExtraError
from mstore.formats import protos, wire

_SIGNATURE_DEF = 5  # field of MetaGraphDef
_INVALID_ARGUMENT = 3
_FIELDS = 100_000_000


def run_check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Serve one request to check; see `mstore.convert.check`.

    The outputs are written to the file that the request names.

    Returns:
        ``{"xla_disabled": whether the library could be kept from compiling}``.
    """
    directory = Path(request["saved_model"])
    try:
        library = Library(Path(request["tensorflow"]))
    except (OSError, AttributeError) as exc:
        raise MissingExtraError(
            f"TensorFlow's C++ library cannot be used: {exc}",
            hint="pip install 'mstore[tf]'; the check needs Linux and libtensorflow_cc.so.2",
        ) from exc
    try:
        session = Session(library, directory)
    except StatusError as exc:
        raise LoadCheckError(
            f"TensorFlow's C++ loader refuses the SavedModel: {exc.text} (code {exc.code})"
        ) from exc
    names = _tensor_names(session.meta_graph)
    given = arrays.read(Path(request["feeds"]))
    outputs: dict[str, dict[str, Array]] = {}
    for name, signature in request["signatures"].items():
        if name not in names:
            raise LoadCheckError(f"the SavedModel has no signature {name!r} when loaded")
        specs = {key: TensorSpec.from_json(spec) for key, spec in signature["inputs"].items()}
        run = _Run(session, name, specs, names[name])
        if name in given:
            outputs[name] = run(given[name])
        else:
            batches = _Batches(specs, request["dims"], _real(given, specs))
            outputs[name] = _made_up(run, signature["outputs"], batches)
        sample = given.get(f"sample {name}")
        if sample is not None:
            outputs[f"sample {name}"] = run(sample)
        example = given.get(f"example {name}")
        if example is not None:
            outputs[f"example {name}"] = run(example)
    arrays.write(Path(request["answers"]), outputs)
    return {"xla_disabled": library.xla_disabled}


class _Run:
    """Runs one signature."""

    def __init__(
        self,
        session: Session,
        name: str,
        specs: Mapping[str, TensorSpec],
        tensors: tuple[dict[str, str], dict[str, str]],
    ) -> None:
        self.session = session
        self.name = name
        self.specs = specs
        self.inputs, self.outputs = tensors

    def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Run with these arrays.

        Raises:
            LoadCheckError: if it fails.
        """
        if set(feed) != set(self.inputs):
            raise LoadCheckError(
                f"the signature {self.name!r} takes {', '.join(sorted(self.inputs))}, "
                f"and was given {', '.join(sorted(feed))}"
            )
        try:
            return self.attempt(feed)
        except StatusError as exc:
            raise self.failure(exc, "the given example") from exc

    def attempt(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Run with these arrays and let the status through."""
        feeds = {}
        for key, array in feed.items():
            dtype = self.specs[key].dtype
            typed = array if dtype == "string" else carried(dtype, array)
            feeds[self.inputs[key]] = (dtype, typed)
        results = self.session.run(feeds, list(self.outputs.values()))
        return dict(zip(self.outputs, results, strict=True))

    def failure(self, exc: StatusError, what: str) -> LoadCheckError:
        """Return the error for a run that failed."""
        text = exc.text.strip().splitlines()
        hint = ""
        if "XLA compilation disabled" in exc.text:
            hint = (
                "TensorFlow Serving disables XLA; this model needs it "
                "(grouped or channels-first convolutions do, on a CPU)"
            )
        elif any(spec.dtype == "string" for spec in self.specs.values()):
            hint = "made-up strings may be no valid input; give a real batch: --example FILE.npz"
        return LoadCheckError(
            f"the signature {self.name!r} fails in TensorFlow's C++ runtime with {what}: "
            + " ".join(text[:3])
            + f" (code {exc.code})",
            hint=hint,
        )


@dataclass(frozen=True, eq=False)
class _Batches:
    """Where batches for a signature come from.

    Attributes:
        specs: its inputs.
        dims: input key to a concrete shape that the model was run with.
        real: a batch that someone gave, for when nothing that is made up is valid; or None.
    """

    specs: Mapping[str, TensorSpec]
    dims: Mapping[str, list[int]]
    real: Mapping[str, Array] | None

    def of(self, size: int) -> Iterator[Mapping[str, Array]]:
        """Yield batches of ``size`` rows, the likeliest to be valid first."""
        if self.real is not None and any(spec.dtype == "string" for spec in self.specs.values()):
            yield {key: np.resize(a, (size, *a.shape[1:])) for key, a in self.real.items()}
        yield from candidates(self.specs, self.dims, size)


def _real(
    given: Mapping[str, Mapping[str, Array]], specs: Mapping[str, TensorSpec]
) -> Mapping[str, Array] | None:
    """Return the batch of a golden example that fits the inputs, of whichever signature it is."""
    if not _takes_batch(specs):
        return None
    for name, batch in given.items():
        if not name.startswith("example ") or batch.keys() != specs.keys():
            continue
        if all(_may_be(batch[key], spec) for key, spec in specs.items()):
            return batch
    return None


def _may_be(array: Array, spec: TensorSpec) -> bool:
    if (array.dtype.kind in "OSU") != (spec.dtype == "string"):
        return False
    shape = spec.shape or ()
    return (
        array.ndim == len(shape) > 0
        and len(array) > 0
        and all(
            own is None or own == there
            for own, there in zip(shape[1:], array.shape[1:], strict=True)
        )
    )


def _made_up(run: _Run, promised: Mapping[str, Any], batches: _Batches) -> dict[str, Array]:
    last: dict[str, Array] = {}
    for batch in BATCHES:
        last = _first_that_runs(run, batches, batch)
        for key, array in last.items():
            shape = promised[key]["shape"]
            if shape is None or not _takes_batch(run.specs):
                continue
            wanted = [batch if i == 0 and d is None else d for i, d in enumerate(shape)]
            if len(wanted) != array.ndim or any(
                d is not None and d != n for d, n in zip(wanted, array.shape, strict=True)
            ):
                raise LoadCheckError(
                    f"the output {key!r} of the signature {run.name!r} has the shape "
                    f"{list(array.shape)} for a batch of {batch}, and promises {shape}"
                )
    return last


def _takes_batch(specs: Mapping[str, TensorSpec]) -> bool:
    return all(spec.shape and spec.shape[0] is None for spec in specs.values()) and bool(specs)


def _first_that_runs(run: _Run, batches: _Batches, batch: int) -> dict[str, Array]:
    first: StatusError | None = None
    for feed in batches.of(batch):
        try:
            return run.attempt(feed)
        except StatusError as exc:
            first = first or exc
            if exc.code != _INVALID_ARGUMENT:  # not the fault of what we made up
                break
    if first is None:
        raise LoadCheckError(f"the signature {run.name!r} has nothing to be run with")
    raise run.failure(first, f"a made-up batch of {batch}")


def candidates(
    specs: Mapping[str, TensorSpec], dims: Mapping[str, list[int]], batch: int
) -> Iterator[dict[str, Array]]:
    """Yield made-up batches, the likeliest first; types numpy lacks as the bits that carry them."""
    has_strings = any(spec.dtype == "string" for spec in specs.values())
    is_open = any(None in (spec.shape or ())[1:] for spec in specs.values())
    known = [(None, text) for text in (TEXTS if has_strings else TEXTS[:1])] if dims else []
    for length, text in (*known, *choices(has_open=is_open, has_strings=has_strings)):
        yield {
            key: _array(spec, _shape(spec, dims.get(key), length, batch), text)
            for key, spec in specs.items()
        }


def _shape(
    spec: TensorSpec, known: list[int] | None, length: int | None, batch: int
) -> tuple[int, ...]:
    """Return a shape: as it is known to work, or open dimensions filled with ``length``."""
    shape = spec.shape if spec.shape is not None else (None,)
    filled = [batch, *([length or LENGTHS[0]] * (len(shape) - 1))]
    if length is None and known is not None and len(known) == len(shape):
        filled = [batch, *known[1:]]
    return tuple(own if own is not None else made for own, made in zip(shape, filled, strict=False))


def _array(spec: TensorSpec, shape: tuple[int, ...], text: bytes) -> Array:
    if spec.dtype == "string":
        array: Array = np.empty(shape, object)
        array.fill(text)
        return array
    kind = carrier(spec.dtype)
    if spec.dtype == "bool":
        return np.ones(shape, kind)
    if spec.dtype.startswith(("float", "complex")):
        count = int(np.prod(shape, dtype=np.int64))
        return (np.arange(count) % 7 / 7).reshape(shape).astype(kind)
    return np.zeros(shape, kind)


def _tensor_names(meta_graph: bytes) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Return the graph's tensor for each input and output key, by signature."""
    found = {}
    budget = wire.Budget(_FIELDS)
    view = memoryview(meta_graph)
    for _, data in wire.messages(view, {_SIGNATURE_DEF}, budget, path="the loaded graph"):
        entry = protos.SignatureEntry()
        entry.ParseFromString(bytes(data))
        found[entry.key.decode()] = (_by_key(entry.value.inputs), _by_key(entry.value.outputs))
    return found


def _by_key(entries: Any) -> dict[str, str]:
    return {entry.key.decode(): entry.value.name.decode() for entry in entries}
