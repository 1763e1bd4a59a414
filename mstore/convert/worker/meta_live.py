"""The trained graph as TensorFlow 1 runs it: what it gives is what the export must give."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mstore.convert.arrays import Array, difference
from mstore.convert.madeup import BATCHES
from mstore.convert.request import Sample
from mstore.convert.worker.load_check import candidates
from mstore.convert.worker.meta_entries import MetaEntry
from mstore.domain.signatures import TensorSpec
from mstore.errors import InputError, ProofError

v1 = tf.compat.v1

_TOLERANCE = 1e-4
_REPEATABLE = 1e-5
_LOW_PRECISION = 0.1
_TRIES = 64


class LiveGraph:
    """The whole trained graph in a session, restored by its own saver.

    Attributes:
        graph: the graph.
    """

    def __init__(self, meta: Any, name: str) -> None:
        """Import the graph.

        Args:
            meta: the ``MetaGraphDef``.
            name: of its file, for errors.

        Raises:
            InputError: this TensorFlow cannot make it.
        """
        self.graph = tf.Graph()
        self._name = name
        try:
            with self.graph.as_default():
                self._saver = v1.train.import_meta_graph(meta, clear_devices=True)
        except Exception as exc:
            # What is raised depends on what in the graph is not understood.
            raise InputError(
                f"TensorFlow {tf.__version__} cannot use the graph in {name}: {_first_line(exc)}",
                hint="ops that this TensorFlow does not have (of tf.contrib, or your own) cannot "
                "be exported; rebuild the model in a builder: --builder FILE.py:NAME",
            ) from exc
        self._session = v1.Session(graph=self.graph, config=_config())

    def restore(self, checkpoint: str, filling: Iterable[str], assets: Mapping[str, Path]) -> None:
        """Restore all variables and fill the tables.

        Args:
            checkpoint: prefix or pattern.
            filling: nodes that fill tables.
            assets: file by the constant that names it in the graph.

        Raises:
            ProofError: the checkpoint is not of this graph.
        """
        try:
            # Outside of its graph, TensorFlow 2 would take the saver for one of eager variables.
            with self.graph.as_default():
                if self._saver is not None:
                    self._saver.restore(self._session, checkpoint)
        except (tf.errors.OpError, ValueError) as exc:
            raise ProofError(
                f"the graph in {self._name} does not fit the checkpoint: {_first_line(exc)}",
                subjects=[],
                hint="the .meta beside a checkpoint must be the one that was saved with it",
            ) from exc
        feeds = {f"{node}:0": str(path) for node, path in assets.items()}
        for name in filling:
            self._session.run(self.graph.get_operation_by_name(name), feeds)

    def spec(self, tensor: str) -> TensorSpec:
        """Return dtype and shape of a tensor.

        Raises:
            InputError: there is none, or it is no value.
        """
        try:
            found = self.graph.get_tensor_by_name(tensor)
        except (KeyError, ValueError) as exc:
            raise InputError(f"the graph has no tensor {tensor!r}") from exc
        dtype = found.dtype.base_dtype
        if dtype in {tf.resource, tf.variant}:
            raise InputError(f"{tensor!r} is a {dtype.name}, not a tensor of values")
        shape = None if found.shape.rank is None else tuple(found.shape.as_list())
        return TensorSpec(dtype.name, shape)

    def run(self, entry: MetaEntry, feed: Mapping[str, Array], fixed: Mapping[str, Array]) -> Any:
        """Return the outputs of an entry point by key."""
        feeds = {entry.inputs[key]: value for key, value in feed.items()} | dict(fixed)
        return self._session.run(dict(entry.outputs), feeds)

    def rehearse(
        self, entry: MetaEntry, fixed: Mapping[str, Array], tolerance: float
    ) -> tuple[Sample | None, dict[str, tuple[int, ...]], str]:
        """Run an entry point on made-up batches of 1 and 3.

        Args:
            entry: what to run.
            fixed: values of the tensors that are fixed.
            tolerance: of the sample.

        Returns:
            The last batch with its outputs or None, the shapes of its inputs, and a warning or
            the empty text.
        """
        specs = {key: self.spec(tensor) for key, tensor in entry.inputs.items()}
        sample: Sample | None = None
        shapes: dict[str, tuple[int, ...]] = {}
        for batch in BATCHES:
            for feed in _feeds(specs, shapes, batch):
                try:
                    outputs = self._outputs(entry, feed, fixed)
                except (tf.errors.OpError, ValueError):
                    continue
                if difference(outputs, self._outputs(entry, feed, fixed), _REPEATABLE):
                    why = f"the signature {entry.name!r} gives other outputs at each call"
                    return None, shapes, why
                shapes = {key: value.shape for key, value in feed.items()}
                sample = Sample(feed, outputs, tolerance)
                break
            else:
                why = f"the signature {entry.name!r} could not be run on made-up inputs"
                return None, shapes, why
        return sample, shapes, ""

    def _outputs(
        self, entry: MetaEntry, feed: Mapping[str, Array], fixed: Mapping[str, Array]
    ) -> dict[str, Array]:
        return {key: _plain(value) for key, value in self.run(entry, feed, fixed).items()}


def tolerance_of(graph: tf.Graph) -> float:
    """Return how far floating-point outputs of a graph may be off."""
    low = {tf.float16, tf.bfloat16}
    types = (out.dtype.base_dtype for op in graph.get_operations() for out in op.outputs)
    return _LOW_PRECISION if any(dtype in low for dtype in types) else _TOLERANCE


def constant(text: str, spec: TensorSpec, tensor: str) -> Array:
    """Return a fixed value as an array of a tensor's dtype and shape.

    Raises:
        InputError: the text is no value of that dtype, or the shape is open.
    """
    open_shape = () if spec.shape is None else spec.shape
    shape = [size for size in open_shape if size is not None]
    if len(shape) != len(open_shape):
        raise InputError(
            f"{tensor!r} has open dimensions, so that its value cannot be fixed",
            hint=f"make it an input: --input NAME={tensor}",
        )
    return np.full(shape, _scalar(text, spec, tensor))


def _scalar(text: str, spec: TensorSpec, tensor: str) -> Array:
    dtype = tf.as_dtype(spec.dtype)
    words = {"true": True, "false": False}
    try:
        if dtype == tf.bool:
            return np.array(words[text.strip().lower()])
        if dtype == tf.string:
            return np.array(text.encode(), object)
        return np.array(complex(text) if dtype.is_complex else float(text)).astype(
            dtype.as_numpy_dtype
        )
    except (KeyError, ValueError) as exc:
        raise InputError(f"{text!r} is no {spec.dtype}, which {tensor!r} is") from exc


def _feeds(
    specs: Mapping[str, TensorSpec], shapes: Mapping[str, tuple[int, ...]], batch: int
) -> Iterator[dict[str, Array]]:
    known = {key: list(shape) for key, shape in shapes.items()}
    for feed in itertools.islice(candidates(specs, known, batch), _TRIES):
        yield {
            key: array.view(dtype) if array.dtype.itemsize == np.dtype(dtype).itemsize else array
            for key, array in feed.items()
            for dtype in (tf.as_dtype(specs[key].dtype).as_numpy_dtype,)
        }


def _plain(value: Any) -> Array:
    array: Array = np.asarray(value)
    # The loader hands types that numpy lacks on as float32.
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _config() -> Any:
    return v1.ConfigProto(device_count={"GPU": 0})


def _first_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0] if lines else type(exc).__name__
