"""From what the builder returns to a built model and the entries to trace."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from mstore.convert.madeup import LENGTHS
from mstore.convert.request import TraceRequest
from mstore.convert.worker.calling import (
    concrete,
    eager_building,
    find_call,
    made_up,
    tries,
    ways,
)
from mstore.convert.worker.dialects import ends_of, is_layer
from mstore.convert.worker.entries import (
    DEFAULT,
    Entry,
    functional_entry,
    given_specs,
    own_functions,
    signature_entry,
)
from mstore.convert.worker.live import reachable, require_model
from mstore.errors import InputError
from mstore.servable import Servable


@dataclass(frozen=True, slots=True)
class Prepared:
    """A built model and what it will be asked.

    Attributes:
        model: the live model, with all its layers built.
        entries: the signatures to be.
        dims: input key to a shape the model was called with.
    """

    model: Any
    entries: tuple[Entry, ...]
    dims: Mapping[str, tuple[int, ...]]


def prepare(build: Callable[[], Servable], request: TraceRequest) -> Prepared:
    """Build the model by calling it, where it is not built, and decide on the signatures.

    Args:
        build: runs the builder; run again where a call that failed left half-built layers.
        request: what was asked for.

    Raises:
        BuilderError: if the builder fails, or the model cannot be called.
        InputError: if the inputs are not known.
    """
    servable = build()
    require_model(servable.model, request.builder or request.checkpoint.name)
    given = given_specs(servable, request)
    ends = ends_of(servable.model)
    default: Entry | None = None
    dims: Mapping[str, tuple[int, ...]] = {}
    if ends is not None:
        # Signatures of the user's take inputs of their own, such as encoded pictures.
        own = {} if servable.signatures else given
        default = functional_entry(servable.model, own, ends)
    elif given and not servable.signatures:
        servable, default, dims = find_call(servable, given, build)
    entries = _entries(servable, default, given)
    if servable.signatures:
        _build_the_rest(servable.model, given)
    return Prepared(servable.model, entries, dims)


def _entries(
    servable: Servable, default: Entry | None, given: Mapping[str, tf.TensorSpec]
) -> tuple[Entry, ...]:
    functions = dict(servable.signatures or {})
    if not functions and default is None:
        functions = own_functions(servable.model)
    if not functions:
        if default is None:
            raise _unknown_inputs(servable.model)
        return (default,)
    known = {**(default.specs if default is not None else {}), **given}
    entries = [signature_entry(name, function, known) for name, function in functions.items()]
    if DEFAULT not in functions:
        # Clients that name no signature get this one; the first is the default, as in Keras.
        first = entries[0]
        entries.insert(0, Entry(DEFAULT, first.specs, first.function, first.output_names))
    for entry in entries:
        _call_once(entry)
    return tuple(entries)


def _build_the_rest(model: Any, given: Mapping[str, tf.TensorSpec]) -> None:
    """Call the model itself, if its signatures left layers of it without weights."""
    layers = [thing for _, thing in reachable(model) if is_layer(thing)]
    if not given or all(layer.built for layer in layers) or not is_layer(model):
        return
    for way in ways(model, given):
        tensors = {
            key: made_up(given[key], concrete(given[key].shape, LENGTHS[0])) for key in way.keys
        }
        # A model without a call of its own is fine: what is missing shows in the proof.
        with eager_building(), contextlib.suppress(Exception):
            way.call(model, tensors)
            return


def _call_once(entry: Entry) -> None:
    with eager_building():
        for length, text in tries(entry.specs):
            tensors = [
                made_up(spec, concrete(spec.shape, length), text) for spec in entry.specs.values()
            ]
            try:
                entry.function(*tensors)
            except Exception:  # noqa: BLE001, S112 - tracing will show what is wrong
                continue
            return


def _unknown_inputs(model: Any) -> InputError:
    name = type(model).__name__
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    shape = next((s for s in shapes.values() if isinstance(s, (list, tuple))), None)
    dims = "?,10" if shape is None else ",".join(["?", *(str(d or "?") for d in shape[1:])])
    return InputError(
        f"{name} does not say what its inputs are",
        hint=f"give them: --input 'x=float32[{dims}]', or return "
        f'mstore.Servable(model, inputs={{"x": tf.TensorSpec([None, ...], tf.float32)}})',
    )
