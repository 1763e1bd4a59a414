"""Finds the live model in the checkpoint's object graph, variable by variable.

A checkpoint is a graph of objects, joined by the names of attributes. The live model is one too;
both are walked side by side, from each node of the checkpoint that could be the model.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mstore.convert.worker.dialects import is_training_only
from mstore.convert.worker.live import (
    Weight,
    as_weight,
    children,
    is_idle,
    is_variable,
)
from mstore.convert.worker.trained import Leaf, Trained

_NOT_WEIGHTS = frozenset(
    {"optimizer", "_optimizer", "save_counter", "_self_saveable_object_factories"}
)


@dataclass(frozen=True, slots=True)
class Bound:
    """A live variable and the checkpoint's tensor it is restored from.

    Attributes:
        weight: the variable.
        leaf: the tensor.
        path: local names that lead from the model to it.
        by_position: whether its place in a list decided, and not only names of attributes.
        hint: its name as an optimizer's slot spells it; empty where none does.
        by_optimizer: whether an optimizer's list alone leads to it.
        instead_of: key of the weight whose moving average the tensor is; empty for the weight.
    """

    weight: Weight
    leaf: Leaf
    path: str
    by_position: bool
    hint: str = ""
    by_optimizer: bool = False
    instead_of: str = ""


@dataclass(slots=True)
class Match:
    """How the live model fits one node of the checkpoint.

    Attributes:
        node: the checkpoint's node taken for the model.
        bound: identity of each live variable to its tensor.
        missing: live variables that have none, with their path.
        misfits: pairs that differ in dtype or shape.
        torn: live variables that would be restored from two different tensors.
        unused: weights below the node that the live model does not have.
        states: identity of each live table to the keys of its content.
    """

    node: int
    bound: dict[int, Bound] = field(default_factory=dict)
    missing: list[tuple[str, Weight]] = field(default_factory=list)
    misfits: list[Bound] = field(default_factory=list)
    torn: list[tuple[Bound, Bound]] = field(default_factory=list)
    unused: list[tuple[str, Leaf]] = field(default_factory=list)
    states: dict[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every live variable on the walk has exactly one fitting tensor of its own."""
        return bool(self.bound) and not self.faults

    @property
    def faults(self) -> int:
        """How many live variables do not."""
        merged = len(self.bound) - len({bound.leaf.key for bound in self.bound.values()})
        return len(self.missing) + len(self.misfits) + len(self.torn) + merged

    def merged(self) -> list[tuple[Bound, Bound]]:
        """Return pairs of live variables that have one tensor in the checkpoint."""
        owners: dict[str, Bound] = {}
        pairs = [(owners.setdefault(b.leaf.key, b), b) for b in self.bound.values()]
        return [(first, second) for first, second in pairs if first is not second]

    @property
    def is_empty(self) -> bool:
        """Whether the walk met no variable of the live model at all."""
        return not (self.bound or self.missing or self.misfits or self.torn)

    @property
    def score(self) -> tuple[int, int]:
        """Larger for better fits; for choosing what to report when none is complete."""
        return (len(self.bound) + len(self.misfits), -self.faults - len(self.unused))


def match(model: Any, trained: Trained, node: int) -> Match:
    """Walk the live model and the checkpoint together, starting at ``node``."""
    result = Match(node)
    required: dict[int, tuple[str, Weight]] = {}
    used: set[int] = set()
    idle: set[int] = set()
    for thing, number, path, auxiliary in _pairs(model, trained, node):
        if number is not None:
            used.add(number)
            if is_idle(thing):
                idle.add(number)
        if not is_variable(thing):
            if number is not None and trained.nodes[number].state_keys:
                result.states.setdefault(id(thing), trained.nodes[number].state_keys)
            continue
        weight = as_weight(thing)
        if not auxiliary:
            required.setdefault(weight.key, (".".join(path), weight))
        leaf = None if number is None else trained.nodes[number].leaf
        if leaf is not None:
            _bind(result, weight, leaf, path)
    faulty = {bound.weight.key for bound in result.misfits}
    result.missing = [
        entry for key, entry in required.items() if key not in result.bound and key not in faulty
    ]
    result.unused = list(_unused(trained, node, used, idle))
    return result


def _pairs(
    model: Any, trained: Trained, node: int
) -> Iterator[tuple[Any, int | None, tuple[str, ...], bool]]:
    """Yield live object, checkpoint node or None, path, and whether it only serves training."""
    queue: list[tuple[Any, int | None, tuple[str, ...], bool]] = [(model, node, (), False)]
    seen: set[tuple[int, int | None, bool]] = set()
    alive: list[Any] = []  # wrappers made on the way must not give their id to another object
    for thing, number, path, auxiliary in queue:
        alive.append(thing)
        auxiliary_now = auxiliary or is_training_only(thing)
        if (id(thing), number, auxiliary_now) in seen:
            continue
        seen.add((id(thing), number, auxiliary_now))
        yield thing, number, path, auxiliary_now
        if is_variable(thing):
            continue
        known = {} if number is None else trained.nodes[number].children
        queue.extend(
            (child, known.get(name), (*path, name), auxiliary_now)
            for name, child in children(thing).items()
        )


def _bind(result: Match, weight: Weight, leaf: Leaf, path: tuple[str, ...]) -> None:
    bound = Bound(weight, leaf, ".".join(path), any(part.isdecimal() for part in path))
    if not fits(weight, leaf):
        result.misfits.append(bound)
        return
    earlier = result.bound.setdefault(weight.key, bound)
    if earlier.leaf.key != leaf.key:
        result.torn.append((earlier, bound))


def fits(weight: Weight, leaf: Leaf) -> bool:
    """Return whether the tensor has the variable's dtype and a shape it can hold."""
    if weight.dtype != leaf.dtype:
        return False
    shape = weight.shape
    return shape is None or (
        len(shape) == len(leaf.shape)
        and all(a is None or a == b for a, b in zip(shape, leaf.shape, strict=True))
    )


def _unused(
    trained: Trained, start: int, used: set[int], idle: set[int]
) -> Iterator[tuple[str, Leaf]]:
    queue: list[tuple[int, tuple[str, ...]]] = [(start, ())]
    seen = {start}
    for number, path in queue:
        node = trained.nodes[number]
        if node.leaf is not None and number not in used and not _is_counter(path, node.leaf, start):
            yield ".".join(path), node.leaf
        for name, child in node.children.items():
            if child in seen or name in _NOT_WEIGHTS or trained.nodes[child].is_optimizer:
                continue
            if child in idle:
                continue
            seen.add(child)
            queue.append((child, (*path, name)))


def _is_counter(path: tuple[str, ...], leaf: Leaf, start: int) -> bool:
    """Return whether this is the step, epoch or seed that training keeps beside its weights."""
    if leaf.shape == ():  # a scalar of the model itself is a weight; one beside it is not
        return leaf.is_bookkeeping and start == 0 and len(path) == 1
    return leaf.is_bookkeeping
