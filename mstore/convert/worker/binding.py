"""Binds variables that only an optimizer's list in the checkpoint reaches.

``tf.train.Checkpoint`` does not follow Keras layers into Python lists and dicts. Their trainable
variables are in the checkpoint only where an optimizer is: as ``_trainable_variables/N``, in the
order of ``model.trainable_variables``.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mstore.convert.worker.live import Weight, all_weights, trainable_weights
from mstore.convert.worker.locating import listed
from mstore.convert.worker.matching import Bound, Match, fits
from mstore.convert.worker.trained import Leaf, Trained
from mstore.errors import ProofError

_QUANTIZED = frozenset({"int4", "int8", "uint4", "uint8"})
_SEED = "seed_generator_state"
_OPTIMIZER_NAMES = ("optimizer", "_optimizer", "optim", "opt")
# A loss-scaling optimizer holds the one that trains.
_WRAPPED = "inner_optimizer"


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
    node = _the_optimizer(model, trained, found, lists)
    leaves, hints = lists[node], slot_names(trained, node)
    for index, (weight, leaf) in enumerate(zip(trainable, leaves, strict=True)):
        path = f"{'.'.join(trained.paths[node])}._trainable_variables.{index}"
        bound.setdefault(
            weight.key,
            Bound(weight, leaf, path, True, hints.get(index, ""), by_optimizer=True),
        )
    return bound


def _the_optimizer(
    model: Any, trained: Trained, found: Match, lists: Mapping[int, list[Leaf]]
) -> int:
    """Return the optimizer whose list is the model's."""
    trainable = trainable_weights(model)
    fitting = [node for node, leaves in lists.items() if _is_ours(trainable, leaves, found.bound)]
    # Beside several models, the root's optimizer could be any one's.
    is_beside = found.node == 0 and len(trained.models()) > 1
    own = set() if is_beside else set(trained.nodes[found.node].children.values())
    # The one that the model itself holds (compile) goes first.
    fitting = [node for node in fitting if node in own] or fitting
    why = ""
    if not fitting:
        why = "no optimizer in it lists them"
    elif len({tuple(leaf.key for leaf in lists[node]) for node in fitting}) > 1:
        why = "several optimizers' lists fit them, and they differ"
    elif not any(weight.key in found.bound for weight in trainable):
        why = _foreign(trained, found.node, fitting[0], own)
    if why:
        raise _lost(model, found.bound, why)
    return fitting[0]


def _foreign(trained: Trained, model: int, optimizer: int, own: Collection[int]) -> str:
    """Return why an optimizer may train another model, where no variable of ours is in its list.

    Then shapes alone would make it ours, and an optimizer of another model of the same class has
    the same shapes. It counts as ours only under a name that says so.
    """
    if optimizer not in own and len(trained.models()) > 1:
        return "an optimizer's list fits them, but there are several models it could belong to"
    path = [part for part in trained.paths[optimizer] if part != _WRAPPED]
    name = path[-1].lower() if path else ""
    # The walk finds nothing in a model that has all in lists, and so stays at the root above it.
    places = [model] if model else trained.models()
    beside = [trained.paths[place][-1] for place in places]
    names = {*_OPTIMIZER_NAMES, *(f"{m}_{o}".lower() for m in beside for o in _OPTIMIZER_NAMES)}
    if name in names:
        return ""
    return (
        f"the list of {'.'.join(trained.paths[optimizer])!r} fits them, but nothing says that it "
        "is this model's optimizer"
    )


def _leaves(trained: Trained, node: int) -> list[Leaf]:
    leaves = [trained.nodes[number].leaf for number in trained.trained_by(node)]
    return [leaf for leaf in leaves if leaf is not None]


def _is_ours(trainable: Sequence[Weight], leaves: list[Leaf], bound: Mapping[int, Bound]) -> bool:
    """Return whether the list fits the variables, and agrees with those that are bound."""
    if len(leaves) != len(trainable):
        return False
    for weight, leaf in zip(trainable, leaves, strict=True):
        anchor = bound.get(weight.key)
        if not fits(weight, leaf) or (anchor is not None and anchor.leaf.key != leaf.key):
            return False
    return True


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
    # Quantizing puts an integer weight in the place of the trained one, under its name.
    replaced = tuple(
        f"/{bind.leaf.full_name}"
        for bind in bound.values()
        if bind.leaf.dtype in _QUANTIZED and bind.leaf.full_name
    )
    for node, leaves in lists.items():
        if not ours & {leaf.key for leaf in leaves}:
            continue
        surplus = [
            leaf
            for leaf in leaves
            if leaf.key not in ours | theirs and not f"/{leaf.full_name}".endswith(replaced)
        ]
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


def _lost(model: Any, bound: Mapping[int, Bound], why: str) -> ProofError:
    weights = [*trainable_weights(model), *all_weights(model)]
    lost = {
        weight.key: weight
        for weight in weights
        if weight.key not in bound and _SEED not in weight.name
    }
    return ProofError(
        f"the checkpoint does not hold these variables of the model ({why}):"
        + listed([f"{w.name} {w.dtype}{list(w.shape or ())}" for w in lost.values()]),
        subjects=[weight.name for weight in lost.values()],
        hint="tf.train.Checkpoint does not save Keras layers in Python lists and dicts: make each "
        "an attribute of its own in training (or put its optimizer into the checkpoint, as "
        "optimizer=), and save again",
    )
