"""The training step of a checkpoint, from its variables or its name."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mstore.domain.tensors import Tensor, TensorTable
from mstore.formats.tensor_bundle import read_tensor

_VALUE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_STEPS = frozenset({"step", "global_step"})
_ITERATIONS = frozenset({"_iterations", "iterations", "iter"})
_INTEGERS = {
    f"{sign}int{bits}": not sign for sign in ("", "u") for bits in (8, 16, 32, 64)
}  # name -> whether it is signed
_MAX_STEP = 2**63 - 1
_MAX_CANDIDATES = 64
_NAME_SUFFIXES = re.compile(r"(?:\.(?:ckpt|weights|tf|checkpoint))+", re.IGNORECASE)
_STEP_AT_END = re.compile(r"(?:^|[-_]|[A-Za-z_][-.])([0-9]{1,19})", re.ASCII)


class _Candidate(NamedTuple):
    name: str
    depth: int
    tensor: Tensor


def step_in_name(prefix: Path) -> int | None:
    """Return the number at the end of a checkpoint's name, None where there is none.

    >>> [step_in_name(Path(name)) for name in ("ckpt-1200", "weights_0012", "cp-0007.ckpt")]
    [1200, 12, 7]
    >>> [step_in_name(Path(name)) for name in ("weights.01-0.45", "model-v2", "best")]
    [None, None, None]
    """
    name = prefix.name
    while (match := re.search(_NAME_SUFFIXES.pattern + r"$", name, re.IGNORECASE)) is not None:
        name = name[: match.start()]
    match = re.search(_STEP_AT_END.pattern + r"$", name, re.ASCII)
    if match is None or int(match[1]) > _MAX_STEP:
        return None
    return int(match[1])


def find_step(
    prefix: Path, table: TensorTable, *, read: Callable[[Tensor], bytes] | None = None
) -> tuple[int, str] | None:
    """Return the step that the checkpoint's own variables hold, and the variable's name.

    Looks at integer scalars called ``step`` or ``global_step``, those nearest to the root first,
    then at the iterations of optimizers. Where several of one kind hold different values, none of
    them is taken.

    Args:
        prefix: of a TensorBundle.
        table: its tensors.
        read: gives the bytes of a tensor, where the checkpoint is none.

    Raises:
        DamagedFileError: the bytes of such a variable are damaged.
        SystemIOError: the operating system refused.
    """

    def value_of(tensor: Tensor) -> int:
        raw = read_tensor(prefix, table, tensor) if read is None else read(tensor)
        return int.from_bytes(raw, "little", signed=_INTEGERS[tensor.dtype])

    for tier in _tiers(table):
        values = {value_of(item.tensor) for item in tier}
        if len(values) == 1 and 0 <= (value := values.pop()) <= _MAX_STEP:
            return value, tier[0].name
    return None


def _tiers(table: TensorTable) -> Iterator[list[_Candidate]]:
    steps = sorted(_named(table, _STEPS), key=lambda item: (item.depth, item.name))
    for depth in sorted({item.depth for item in steps}):
        yield [item for item in steps if item.depth == depth]
    iterations = sorted(_named(table, _ITERATIONS), key=lambda item: (item.depth, item.name))
    if iterations:
        yield iterations


def _named(table: TensorTable, names: frozenset[str]) -> list[_Candidate]:
    found = []
    for tensor in table.values:
        if tensor.shape == () and tensor.dtype in _INTEGERS:
            path = tensor.name.removesuffix(_VALUE_SUFFIX)
            parents, _, last = path.rpartition("/")
            if last in names and "/.ATTRIBUTES/" not in path:
                found.append(_Candidate(path, parents.count("/") + bool(parents), tensor))
    return found[:_MAX_CANDIDATES]
