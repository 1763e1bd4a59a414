"""Binds variables that only an optimizer's list in the checkpoint reaches.

``tf.train.Checkpoint`` does not follow Keras layers into Python lists and dicts. Their trainable
variables are in the checkpoint only where an optimizer is: as ``_trainable_variables/N``, in the
order of ``model.trainable_variables``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mstore.convert.worker.live import Weight, all_weights, trainable_weights
from mstore.convert.worker.locating import listed
from mstore.convert.worker.matching import Bound, Match, fits
from mstore.convert.worker.trained import Leaf, Trained
from mstore.errors import ProofError

_SEED = "seed_generator_state"


def bind_unreached(model: Any, trained: Trained, found: Match) -> dict[int, Bound]:
    """Return the bindings of the walk, completed through an optimizer's list where it needs to be.

    Variables that are no trainable ones and that the walk did not reach stay unbound; whether a
    signature needs them shows later.

    Raises:
        ProofError: if trainable variables remain without a tensor, or lists disagree.
    """
    bound = dict(found.bound)
    trainable = trainable_weights(model)
    lost = [weight for weight in trainable if weight.key not in bound]
    lists = {node: _leaves(trained, node) for node in trained.optimizers()}
    if not lost:
        _refuse_surplus(trainable, bound, lists, trained)
        return bound
    fitting = {
        node: pairs
        for node, leaves in lists.items()
        if (pairs := _pairs(trainable, leaves, bound)) is not None
    }
    distinct = {tuple(leaf.key for leaf in pairs) for pairs in fitting.values()}
    if len(distinct) != 1:
        raise _lost(model, lost, bound, several=len(distinct) > 1)
    node, leaves = next(iter(fitting.items()))
    hints = slot_names(trained, node)
    for index, (weight, leaf) in enumerate(zip(trainable, leaves, strict=True)):
        path = f"{'.'.join(trained.paths[node])}._trainable_variables.{index}"
        bound.setdefault(
            weight.key, Bound(weight, leaf, path, by_position=True, hint=hints.get(index, ""))
        )
    return bound


def _leaves(trained: Trained, node: int) -> list[Leaf]:
    leaves = [trained.nodes[number].leaf for number in trained.trained_by(node)]
    return [leaf for leaf in leaves if leaf is not None]


def _pairs(
    trainable: Sequence[Weight], leaves: list[Leaf], bound: Mapping[int, Bound]
) -> list[Leaf] | None:
    """Return the leaves in the order of the variables, or None if the list is not theirs."""
    if len(leaves) != len(trainable):
        return None
    for weight, leaf in zip(trainable, leaves, strict=True):
        anchor = bound.get(weight.key)
        if not fits(weight, leaf) or (anchor is not None and anchor.leaf.key != leaf.key):
            return None
    return leaves


def slot_names(trained: Trained, optimizer: int) -> dict[int, str]:
    """Return what the optimizer's slots say of each variable's path: index to ``path_slot``.

    Keras 3 names a slot ``<path with _ for />_<kind>`` below the optimizer's own name.
    """
    count = len(trained.trained_by(optimizer))
    for name in sorted(trained.nodes[optimizer].children):
        slots = trained.items(optimizer, name)
        if name.startswith(("_trainable", "_variables")) or not slots or len(slots) != count:
            continue
        leaves = [trained.nodes[slot].leaf for slot in slots]
        return {
            index: leaf.full_name.partition("/")[2] or leaf.full_name
            for index, leaf in enumerate(leaves)
            if leaf is not None
        }
    return {}


def _refuse_surplus(
    trainable: Sequence[Weight],
    bound: Mapping[int, Bound],
    lists: Mapping[int, list[Leaf]],
    trained: Trained,
) -> None:
    """Refuse a model that lacks layers which training kept in a list, beside those it has."""
    ours = {bound[weight.key].leaf.key for weight in trainable}
    theirs = set(trained.weights_of_no_optimizer())
    for node, leaves in lists.items():
        if not ours & {leaf.key for leaf in leaves}:
            continue
        surplus = [leaf for leaf in leaves if leaf.key not in ours and leaf.key not in theirs]
        if surplus:
            names = [leaf.full_name or leaf.key for leaf in surplus]
            hints = slot_names(trained, node)
            keys = [leaf.key for leaf in leaves]
            raise ProofError(
                "training's optimizer trained variables beside the model's that the builder's "
                "model does not have:"
                + listed(
                    [
                        f"{hints.get(keys.index(leaf.key)) or leaf.full_name} {list(leaf.shape)}"
                        f" ({leaf.key})"
                        for leaf in surplus
                    ]
                ),
                subjects=names,
                hint="build the model as training built it, layers in lists and dicts too",
            )


def _lost(
    model: Any, lost: Sequence[Weight], bound: Mapping[int, Bound], *, several: bool
) -> ProofError:
    others = [
        weight
        for weight in all_weights(model)
        if weight.key not in bound
        and weight.key not in {entry.key for entry in lost}
        and _SEED not in weight.name
    ]
    weights = [*lost, *others]
    why = (
        "several optimizers' lists fit them, and they differ"
        if several
        else "no optimizer in it lists them"
    )
    return ProofError(
        f"the checkpoint does not hold these variables of the model ({why}):"
        + listed([f"{weight.name} {weight.dtype}{list(weight.shape or ())}" for weight in weights]),
        subjects=[weight.name for weight in weights],
        hint="tf.train.Checkpoint does not save Keras layers in Python lists and dicts: make each "
        "an attribute of its own in training (or put the optimizer into the checkpoint), and save "
        "again",
    )
