"""Decides which node of the checkpoint is the model."""

from collections import defaultdict
from typing import Any

from mstore.convert.worker.matching import Bound, Match, match
from mstore.convert.worker.trained import Trained
from mstore.errors import InputError, ProofError

_SHOWN = 8


def locate(model: Any, trained: Trained, root: str | None) -> Match:
    """Find the node that the model fits, the shallowest first.

    Args:
        model: the live model, built.
        trained: the checkpoint.
        root: dotted path of the node, to decide; None tries all.

    Raises:
        InputError: if ``root`` names no node, or several nodes at the same depth fit.
        ProofError: if the model fits none, naming the variables of the nearest.
    """
    if root is not None:
        return _complete([match(model, trained, _node_at(trained, root))], trained)
    by_depth: dict[int, list[int]] = defaultdict(list)
    for number, path in trained.paths.items():
        node = trained.nodes[number]
        if node.children and not node.is_optimizer:
            by_depth[len(path)].append(number)
    tried: list[Match] = []
    for depth in sorted(by_depth):
        matches = [match(model, trained, number) for number in by_depth[depth]]
        fitting = [found for found in matches if found.is_complete and not found.unused]
        if len(fitting) > 1:
            raise _ambiguous(fitting, trained)
        if fitting:
            return fitting[0]
        tried += matches
    if all(found.is_empty for found in tried):
        return _by_elimination(tried, trained)
    return _complete(tried, trained)


def _by_elimination(tried: list[Match], trained: Trained) -> Match:
    """Choose the node of a model whose layers are all in Python lists: the only one beside others.

    Nothing is restored from the node itself then, but what an optimizer lists.
    """
    top = set(trained.models())
    likely = [found for found in tried if found.node in top]
    return likely[0] if len(likely) == 1 else tried[0]


def name_of(trained: Trained, number: int) -> str:
    """Return the node's dotted path, ``""`` for the root."""
    return ".".join(trained.paths[number])


def _node_at(trained: Trained, root: str) -> int:
    number = 0
    for part in root.split(".") if root else ():
        known = trained.nodes[number].children
        if part not in known:
            raise InputError(
                f"the checkpoint has no object {root!r}",
                hint="it has " + ", ".join(sorted(known)) if known else "",
            )
        number = known[part]
    return number


def _ambiguous(fitting: list[Match], trained: Trained) -> InputError:
    names = [name_of(trained, found.node) for found in fitting]
    return InputError(
        "the model fits several objects of the checkpoint: " + ", ".join(names),
        hint=f"say which one it is: --root {names[0]}",
    )


def _complete(tried: list[Match], trained: Trained) -> Match:
    best = max(tried, key=lambda found: found.score, default=None)
    if best is None:
        raise InputError("the checkpoint holds no objects")
    if (best.is_complete or best.is_empty) and not best.unused:
        return best
    raise _misfit(best, trained)


def _misfit(best: Match, trained: Trained) -> ProofError:
    place = name_of(trained, best.node)
    lines = [
        f"{weight.name} {_spec(weight.dtype, weight.shape)} is not in the checkpoint"
        for _, weight in best.missing
    ]
    lines += [_difference(bound) for bound in best.misfits]
    lines += [
        f"{first.weight.name} is one variable here and two in the checkpoint: "
        f"{first.leaf.key} and {second.leaf.key}"
        for first, second in best.torn
    ]
    lines += [
        f"{first.weight.name} and {second.weight.name} are one variable in the checkpoint: "
        f"{first.leaf.key}"
        for first, second in best.merged()
    ]
    subjects = [weight.name for _, weight in best.missing]
    subjects += [bound.weight.name for bound in best.misfits]
    subjects += [first.weight.name for first, _ in (*best.torn, *best.merged())]
    lines += [
        f"{path} {_spec(leaf.dtype, leaf.shape)} of the checkpoint"
        + (f" ({leaf.full_name!r} in training)" if leaf.full_name else "")
        + " is not in the builder's model"
        for path, leaf in best.unused
    ]
    subjects += [leaf.key for _, leaf in best.unused]
    what = f"object {place!r}" if place else "root"
    return ProofError(
        f"the builder's model is not the one in the checkpoint (nearest: its {what}):"
        + listed(lines),
        subjects=subjects,
        hint="build the model as training built it; if it lies elsewhere in the checkpoint, "
        "give --root NAME",
    )


def listed(lines: list[str]) -> str:
    """Return the lines below each other, indented, and how many are left out."""
    shown = "".join(f"\n  {line}" for line in lines[:_SHOWN])
    left = len(lines) - _SHOWN
    return shown + (f"\n  and {left} more" if left > 0 else "")


def _difference(bound: Bound) -> str:
    weight, leaf = bound.weight, bound.leaf
    what = "dtype" if weight.dtype != leaf.dtype else "shape"
    return (
        f"{weight.name} has another {what}: {_spec(weight.dtype, weight.shape)} here, "
        f"{_spec(leaf.dtype, leaf.shape)} in the checkpoint"
    )


def _spec(dtype: str, shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return dtype
    return f"{dtype}[{','.join('?' if length is None else str(length) for length in shape)}]"
