"""Moving averages of the weights, which an optimizer keeps beside the weights themselves.

Where they are in a checkpoint:

* Keras 3 (``use_ema=True``): ``_model_variables_moving_average/N`` of the optimizer, in the order
  of its ``_trainable_variables``.
* Keras 2 (``use_ema=True``): among the optimizer's ``_variables``, under the name
  ``Adam/average/dense/kernel``.
* Optimizers with slots (TensorFlow Addons' ``MovingAverage``): the slot ``average``.

Statistics such as a moving mean have no average: they stay as they are, as in Keras.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from mstore.convert.worker.matching import Bound, fits
from mstore.convert.worker.trained import Leaf, Trained
from mstore.errors import InputError, ProofError, UsageError

RAW, EMA = "raw", "ema"
_LIST = "_model_variables_moving_average"
_SLOT = "average"
_NAME = f"/{_SLOT}/"


def choose(
    bindings: Mapping[int, Bound], trained: Trained, weights: str | None
) -> dict[int, Bound]:
    """Return the bindings to the weights or to their averages, as was asked.

    Args:
        bindings: to the weights themselves.
        trained: the checkpoint.
        weights: ``raw``, ``ema``, or None where nothing was asked.

    Raises:
        UsageError: if it was another word.
        InputError: if there are averages that differ from the weights and nothing was asked, or
            averages were asked for and there are none.
        ProofError: if an average cannot be put into its variable.
    """
    averages = dict(_averages(trained))
    ours = {
        key: averages[bound.leaf.key]
        for key, bound in bindings.items()
        if bound.leaf.key in averages
    }
    require_known(weights)
    if weights == EMA:
        if not ours:
            raise InputError(
                "the checkpoint holds no moving averages of this model's weights",
                hint="an optimizer with use_ema=True keeps them, and must be in the checkpoint; "
                f"export the weights themselves: --weights {RAW}",
            )
        return {**bindings, **{key: _averaged(bindings[key], leaf) for key, leaf in ours.items()}}
    if weights is None and any(
        _differ(trained, bindings[key].leaf, leaf) for key, leaf in ours.items()
    ):
        raise InputError(
            f"the checkpoint holds {len(ours)} weights of the model and, apart from them, their "
            "moving averages (use_ema); either can be exported",
            hint=f"say which: --weights {EMA} for the averages, --weights {RAW} for the weights "
            "as the last step of training left them",
        )
    return dict(bindings)


def require_known(weights: str | None) -> None:
    """Refuse other words than ``raw`` and ``ema``.

    Raises:
        UsageError: if it is another word.
    """
    if weights not in {None, RAW, EMA}:
        raise UsageError(f"weights is {RAW!r} or {EMA!r}, not {weights!r}")


def _averaged(bound: Bound, leaf: Leaf) -> Bound:
    if not fits(bound.weight, leaf):
        raise ProofError(
            f"the moving average {leaf.key} is {leaf.dtype}{list(leaf.shape)}, and "
            f"{bound.weight.name} is {bound.weight.dtype}{list(bound.weight.shape or ())}",
            subjects=[bound.weight.name],
            hint="export the weights themselves: --weights raw",
        )
    return replace(bound, leaf=leaf, instead_of=bound.leaf.key)


def _differ(trained: Trained, one: Leaf, other: Leaf) -> bool:
    first, second = trained.read(one.key), trained.read(other.key)
    return not np.array_equal(first, second)


def _averages(trained: Trained) -> Iterator[tuple[str, Leaf]]:
    """Yield the key of each weight that has an average, and that average."""
    for number in trained.paths:
        node = trained.nodes[number]
        if _LIST in node.children:
            yield from _listed(trained, number)
        for variable, name, slot in node.slots:
            weight, average = trained.nodes[variable].leaf, trained.nodes[slot].leaf
            if name == _SLOT and weight is not None and average is not None:
                yield weight.key, average
    yield from _named(trained)


def _listed(trained: Trained, optimizer: int) -> Iterator[tuple[str, Leaf]]:
    children = trained.nodes[optimizer].children
    averages = trained.nodes[children[_LIST]].children
    for index, number in enumerate(trained.trained_by(optimizer)):
        weight = trained.nodes[number].leaf
        average = trained.nodes[averages[str(index)]].leaf if str(index) in averages else None
        if weight is not None and average is not None:
            yield weight.key, average


def _named(trained: Trained) -> Iterator[tuple[str, Leaf]]:
    leaves = {
        leaf.key: leaf
        for number in trained.paths
        if (leaf := trained.nodes[number].leaf) is not None
    }
    names = Counter(leaf.full_name for leaf in leaves.values())
    by_name = {leaf.full_name: leaf for leaf in leaves.values() if names[leaf.full_name] == 1}
    for leaf in leaves.values():
        _, found, name = leaf.full_name.partition(_NAME)
        if found and name in by_name:
            yield by_name[name].key, leaf
