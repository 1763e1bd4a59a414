"""Refuses a restore that names contradict.

The place in the object graph decides which tensor a variable is restored from. Places in lists
(the layers of a functional model, an optimizer's variables) only mean something if builder and
training made the layers in the same order; the names they carry can show that they did not.
"""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from mstore.convert.worker.locating import listed
from mstore.convert.worker.matching import Bound
from mstore.errors import ProofError

_NUMBER = re.compile(r"_(\d+)$")


@dataclass(frozen=True, slots=True)
class Name:
    """A variable's path without the numbers that Keras adds, and those numbers.

    Attributes:
        words: components of the path.
        numbers: the number behind each component, 0 where there is none.
    """

    words: tuple[str, ...]
    numbers: tuple[int, ...]


def parse(path: str) -> Name:
    """Return the path's words and numbers.

    >>> parse("net/dense_2/kernel")
    Name(words=('net', 'dense', 'kernel'), numbers=(0, 2, 0))
    """
    words, numbers = [], []
    for part in path.split("/"):
        match = _NUMBER.search(part)
        words.append(part[: match.start()] if match else part)
        numbers.append(int(match[1]) if match else 0)
    return Name(tuple(words), tuple(numbers))


def from_slot(live: Name, slot: str) -> Name | None:
    """Read the training program's path out of an optimizer's slot, along the live path.

    >>> from_slot(parse("net/dense/kernel"), "net_dense_1_kernel_momentum")
    Name(words=('net', 'dense', 'kernel'), numbers=(0, 1, 0))
    """
    pattern = "_".join(rf"{re.escape(word)}(?:_(\d+))?" for word in live.words)
    match = re.match(pattern + "(?:_|$)", slot)
    if match is None:
        return None
    return Name(live.words, tuple(int(number or 0) for number in match.groups()))


@dataclass(frozen=True, slots=True)
class _Case:
    bound: Bound
    live: Name
    trained: Name | None


def refuse_contradictions(bindings: Iterable[Bound]) -> None:
    """Check that the names of training and builder allow these bindings.

    Raises:
        ProofError: if a variable gets a tensor whose name belongs to another variable of the same
            dtype and shape, or if layers that only their place in a list tells apart were made in
            another order than in training.
    """
    cases = _cases(bindings)
    clashes = [*_crossed(cases), *_out_of_order(cases)]
    if not clashes:
        return
    lines = [
        f"{case.bound.weight.name} would get {case.bound.leaf.key}, which is "
        f"{case.bound.leaf.full_name!r} in training"
        + (f" ({case.bound.hint})" if case.bound.hint else "")
        for case in clashes
    ]
    raise ProofError(
        "names contradict the places at which variables were found:" + listed(lines),
        subjects=[case.bound.weight.name for case in clashes],
        hint="make the layers in the order and with the names of training "
        "(layers can be given them: name='dense_1')",
    )


def refuse_unconfirmed(bindings: Iterable[Bound], allowed: Collection[str]) -> None:
    """Check that names confirm what only the order of an optimizer's list says.

    Variables of one dtype and shape could stand in the list in any order; whether training built
    its optimizer on the model's own order shows in the names that it left in the checkpoint.

    Args:
        bindings: all bindings.
        allowed: names of variables that the user vouches for.

    Raises:
        ProofError: naming the variables that nothing tells apart.
    """
    groups: dict[object, list[_Case]] = defaultdict(list)
    for case in _cases(bindings):
        if case.bound.by_optimizer:
            groups[_kind(case)].append(case)
    unconfirmed = []
    for group in groups.values():
        told = Counter(_told(case) for case in group)
        unconfirmed += [
            case.bound
            for case in group
            if len(group) > 1
            and (_told(case) is None or told[_told(case)] > 1)
            and case.bound.weight.name not in allowed
        ]
    if unconfirmed:
        raise ProofError(
            "only the order of the optimizer's list tells these variables apart, and no name in "
            "the checkpoint confirms it:"
            + listed([f"{bound.weight.name} from {bound.leaf.key}" for bound in unconfirmed]),
            subjects=[bound.weight.name for bound in unconfirmed],
            hint="make the layers attributes of their own in training and save again; if the "
            "optimizer was certainly built on model.trainable_variables, vouch for each with "
            "--allow-unrestored NAME",
        )


def _told(case: _Case) -> tuple[object, ...] | None:
    """Return what the checkpoint's names say of the variable, None if they do not fit it."""
    if case.trained is None or case.trained.words[-1] != case.live.words[-1]:
        return None
    if case.trained.words == case.live.words:
        return (case.trained.words, case.trained.numbers)
    return (case.trained.words[-1],)


def _cases(bindings: Iterable[Bound]) -> list[_Case]:
    cases = [_case(bound) for bound in bindings]
    here = {case.live.words[0] for case in cases}
    there = {case.trained.words[0] for case in cases if case.trained is not None}
    if len(here) != 1 or len(there) != 1:
        return cases
    # One model on each side: that it has another name there says nothing.
    return [
        replace(case, trained=replace(case.trained, words=(*here, *case.trained.words[1:])))
        if case.trained is not None
        else case
        for case in cases
    ]


def _case(bound: Bound) -> _Case:
    live = parse(bound.weight.name)
    trained = parse(bound.leaf.full_name) if bound.leaf.full_name else None
    if bound.hint:
        model = (live if trained is None else trained).words[0]
        renamed = replace(live, words=(model, *live.words[1:]))
        trained = from_slot(live, bound.hint) or from_slot(renamed, bound.hint) or trained
    return _Case(bound, live, trained)


def _crossed(cases: list[_Case]) -> Iterator[_Case]:
    """Yield variables whose tensor has the name of another one that got another tensor."""
    owners: dict[tuple[object, ...], list[_Case]] = defaultdict(list)
    for case in cases:
        owners[case.live.words, _kind(case)].append(case)
    for case in cases:
        if case.trained is None or case.trained.words == case.live.words:
            continue
        others = owners.get((case.trained.words, _kind(case)), [])
        if any(
            other.trained is None or other.trained.words != other.live.words for other in others
        ):
            yield case


def _out_of_order(cases: list[_Case]) -> Iterator[_Case]:
    """Yield variables that only differ in numbers, where the numbers are in another order."""
    groups: dict[tuple[object, ...], list[_Case]] = defaultdict(list)
    for case in cases:
        if case.trained is not None and case.trained.words == case.live.words:
            groups[case.live.words, _kind(case)].append(case)
    for group in groups.values():
        if not any(case.bound.by_position for case in group):
            continue
        group.sort(key=lambda case: case.live.numbers)
        for before, after in itertools.pairwise(group):
            if before.live.numbers == after.live.numbers:
                continue
            if (before.trained or before.live).numbers > (after.trained or after.live).numbers:
                yield from (before, after)


def _kind(case: _Case) -> tuple[object, ...]:
    return (case.bound.weight.dtype, case.bound.weight.shape)
