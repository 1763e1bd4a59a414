"""A model from a builder, restored from a checkpoint that knows its variables by name alone.

``tf.compat.v1.train.Saver`` writes such checkpoints: the key of a tensor is the name that its
variable had in the graph (tensorflow/python/training/saver.py). Without the graph (``.meta``), only
those names tell which variable of the builder's model each tensor belongs to.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from mstore.convert.request import TraceRequest
from mstore.convert.worker.averages import EMA, RAW, require_known
from mstore.convert.worker.constants import Snapshot
from mstore.convert.worker.dialects import environment
from mstore.convert.worker.live import Weight, known_weights
from mstore.convert.worker.loading import call_builder, load_builder, users_code
from mstore.convert.worker.locating import listed
from mstore.convert.worker.preparing import Prepared, prepare
from mstore.convert.worker.reads import Reads
from mstore.convert.worker.rebuilding import run_builder_again
from mstore.convert.worker.restoring import refresh_derived
from mstore.convert.worker.sources import Restored
from mstore.convert.worker.trained import open_reader
from mstore.errors import InputError, ProofError, UsageError

_AVERAGE = "/ExponentialMovingAverage"
_COUNTERS = frozenset({"int32", "int64"})
_POWERS = frozenset({"beta1_power", "beta2_power"})
"""What Adam of TensorFlow 1 keeps beside its slots, as variables of their own."""
_SEED = "seed_generator_state"


class NamedCheckpoint:
    """The strategy for checkpoints without an object graph: variables are found by their names."""

    hint = (
        "name the variables of the builder's model as training did; or give the graph "
        "(the .meta file beside the checkpoint); or let them be with --allow-unrestored NAME"
    )

    def __init__(self, request: TraceRequest, reads: Reads) -> None:
        """Open the checkpoint.

        Args:
            request: what was asked.
            reads: notices whose values are read while layers compute what they derive.

        Raises:
            DamagedFileError: if TensorFlow cannot read it.
            UsageError: if a node of an object graph was asked for; there is none.
        """
        if request.root is not None:
            raise UsageError(
                "the checkpoint has no object graph in which --root could name a node",
                hint="leave --root away: its variables are found by their names",
            )
        self._request = request
        self._reads = reads
        self._reader = open_reader(request.checkpoint)
        self._shapes: Mapping[str, list[int]] = self._reader.get_variable_to_shape_map()
        self._dtypes: Mapping[str, Any] = self._reader.get_variable_to_dtype_map()
        self._bound: dict[int, tuple[Weight, str]] = {}

    def build(self) -> Prepared:
        """Run the builder."""
        builder = load_builder(self._request)
        with users_code("building the model", self._request):
            return prepare(lambda: call_builder(builder, self._request), self._request)

    def restore(self, prepared: Prepared) -> Restored:
        """Find the tensor of each variable by its name, and assign it."""
        weights = known_weights(prepared.model)
        bound = self._choose(self._bind(weights.values()))
        before = Snapshot(weights.values())
        self._bound = bound
        self._put(prepared, self._reads)
        before.forget(weight.variable.numpy() for weight, _ in bound.values())
        return Restored(
            sources={key: name for key, (_, name) in bound.items()},
            before=before,
            unused=tuple(self._unused({name for _, name in bound.values()})),
        )

    def put_back(self) -> None:
        """Assign the tensors once more."""
        for weight, name in self._bound.values():
            weight.variable.assign(self._reader.get_tensor(name))

    def build_again(self, taken: set[int]) -> Prepared:
        """Run the builder again."""
        return prepare(lambda: run_builder_again(self._request, taken), self._request)

    def restore_again(self, prepared: Prepared) -> None:
        """Restore another build by the same names."""
        for weight, name in self._choose(
            self._bind(known_weights(prepared.model).values())
        ).values():
            weight.variable.assign(self._reader.get_tensor(name))
        with users_code("a layer's finalize_state()", self._request):
            refresh_derived(prepared.model)

    def environment(self) -> Mapping[str, str]:
        """Return the version of tf-keras, if the builder uses it."""
        return environment()

    def _put(self, prepared: Prepared, reads: Reads) -> None:
        self.put_back()
        with users_code("a layer's finalize_state()", self._request), reads.watching():
            refresh_derived(prepared.model)

    def _bind(self, weights: Iterable[Weight]) -> dict[int, tuple[Weight, str]]:
        """Return each variable with its tensor.

        Raises:
            ProofError: if a tensor does not fit the variable of its name, if two variables have
                one name, or if no variable at all has the name of a tensor.
        """
        claims: dict[str, list[Weight]] = defaultdict(list)
        lost = []
        for weight in weights:
            name = next((name for name in _names(weight) if name in self._shapes), None)
            if name is not None:
                claims[name].append(weight)
            elif _SEED not in weight.name:
                lost.append(weight)
        faults = [
            f"{name} is the name of {len(found)} variables of the model"
            for name, found in claims.items()
            if len(found) > 1
        ]
        faults += [
            f"{name} is {found[0].dtype}{list(found[0].shape or ())}, and the checkpoint has "
            f"{self._dtype(name)}{list(self._shapes[name])}"
            for name, found in claims.items()
            if not self._fits(found[0], name)
        ]
        if not claims:
            faults += [
                f"{weight.name} {weight.dtype}{list(weight.shape or ())} is not in the checkpoint"
                for weight in lost
            ]
            faults += [f"{name} is not in the model" for name in self._unused(set())]
        if faults:
            raise ProofError(
                "the checkpoint knows its variables by name alone, and the names do not lead to "
                "the builder's model:" + listed(faults),
                subjects=list(claims) or [weight.name for weight in lost],
                hint=self.hint,
            )
        return {found[0].key: (found[0], name) for name, found in claims.items()}

    def _choose(self, bound: dict[int, tuple[Weight, str]]) -> dict[int, tuple[Weight, str]]:
        """Put the moving averages in the place of the weights where they were asked for."""
        require_known(self._request.weights)
        averages = {
            key: (weight, name + _AVERAGE)
            for key, (weight, name) in bound.items()
            if name + _AVERAGE in self._shapes
        }
        if self._request.weights == EMA:
            if not averages:
                raise InputError(
                    "the checkpoint holds no moving averages of this model's weights",
                    hint=f"export the weights themselves: --weights {RAW}",
                )
            return bound | averages
        if self._request.weights is None and any(
            not np.array_equal(
                self._reader.get_tensor(name), self._reader.get_tensor(bound[key][1])
            )
            for key, (_, name) in averages.items()
        ):
            raise InputError(
                f"the checkpoint holds {len(averages)} weights of the model and, apart from them, "
                f"their moving averages (NAME{_AVERAGE}); either can be exported",
                hint=f"say which: --weights {EMA} for the averages, --weights {RAW} for the "
                "weights as the last step of training left them",
            )
        return bound

    def _fits(self, weight: Weight, name: str) -> bool:
        shape = tf.TensorShape(self._shapes[name])
        return weight.dtype == self._dtype(name) and bool(
            tf.TensorShape(weight.shape).is_compatible_with(shape)
        )

    def _dtype(self, name: str) -> str:
        return str(tf.as_dtype(self._dtypes[name]).name)

    def _unused(self, used: set[str]) -> list[str]:
        """Return the tensors that the model does not have, but for slots and counters, sorted."""
        return sorted(
            name
            for name in self._shapes
            if name not in used
            and not any(part in self._shapes for part in _parents(name))
            and name.rpartition("/")[2] not in _POWERS
            and (self._shapes[name] or self._dtype(name) not in _COUNTERS)
        )


def _names(weight: Weight) -> list[str]:
    """Return the names under which a tensor may be the variable's, the likeliest first.

    Keras 3 puts the model's own name in front of what older programs called the variable.
    """
    outer, slash, inner = weight.name.partition("/")
    return [weight.name, *([inner] if slash and outer else [])]


def _parents(name: str) -> list[str]:
    """Return what ``name`` could be a slot of: ``w/Adam`` is one of ``w``."""
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]
