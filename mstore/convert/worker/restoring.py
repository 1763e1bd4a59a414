"""Puts the checkpoint's values into the live model."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mstore.convert.worker.dialects import is_layer
from mstore.convert.worker.live import reachable
from mstore.convert.worker.matching import Bound
from mstore.convert.worker.trained import Trained
from mstore.errors import ProofError


def restore(model: Any, prefix: Path, path: tuple[str, ...], trained: Trained) -> None:
    """Let TensorFlow restore what is no variable (tables) from the node at ``path``."""
    if not _has_other_state(trained):
        return
    root: Any = model
    for name in reversed(path):
        root = tf.train.Checkpoint(**{name: root})
    if not isinstance(root, tf.train.Checkpoint):
        root = tf.train.Checkpoint(root)
    root.read(str(prefix)).expect_partial()


def assign(trained: Trained, bindings: Iterable[Bound]) -> None:
    """Give each variable the value of the tensor it is bound to."""
    for bound in bindings:
        bound.weight.variable.assign(trained.read(bound.leaf.key))


def _has_other_state(trained: Trained) -> bool:
    return any(node.state_keys for node in trained.nodes)


def refresh_derived(model: Any) -> None:
    """Let layers compute anew what they keep besides their weights.

    ``Normalization`` folds its statistics, tf-idf lookups their weights, into constants when they
    are built; both do it again when asked.

    Raises:
        ProofError: if a preprocessing layer was never adapted, and no checkpoint keeps what it
            needs.
    """
    for path, thing in reachable(model):
        if not is_layer(thing):
            continue
        if type(thing).__name__ == "Discretization" and hasattr(thing, "bin_boundaries"):
            _require(thing.bin_boundaries is not None, path, thing, "bin boundaries")
            continue  # its bins are no weights; finalizing would empty them
        if _is_empty_lookup(thing):
            _require(False, path, thing, "vocabulary")
        finalize = getattr(thing, "finalize_state", None)
        if callable(finalize):
            finalize()


def _is_empty_lookup(layer: Any) -> bool:
    table = getattr(layer, "lookup_table", None)
    if table is None or not hasattr(layer, "vocabulary_size"):
        return False
    return int(np.asarray(table.size())) == 0


def _require(fine: bool, path: str, layer: Any, what: str) -> None:
    if not fine:
        raise ProofError(
            f"the layer {layer.name!r} ({path}) has no {what}, and the checkpoint does not hold "
            "one",
            subjects=[layer.name],
            hint=f"give the {what} in the builder, as training had it (adapt(), or an argument)",
        )
