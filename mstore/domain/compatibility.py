"""Whether clients of one version can go on with another: its signatures compared."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from mstore.domain.signatures import Signature, TensorSpec

Side = Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class SignatureChange:
    """One tensor of a signature that is another one, or a whole signature that is gone.

    Attributes:
        signature: name of the signature.
        side: ``input`` or ``output``; None where the signature itself is gone.
        key: key of the tensor; empty where the signature itself is gone.
        before: as the live version has it, or None.
        after: as the other version has it, or None.
    """

    signature: str
    side: Side | None
    key: str
    before: TensorSpec | None
    after: TensorSpec | None

    def __str__(self) -> str:
        """Return the change in words."""
        if self.side is None:
            return f"the signature {self.signature} is gone"
        what = f"{self.signature}: the {self.side} {self.key}"
        if self.before is None:
            return f"{what} is new: {spelled(self.after)}"
        if self.after is None:
            return f"{what} is gone: it was {spelled(self.before)}"
        return f"{what} was {spelled(self.before)} and is {spelled(self.after)}"


def spelled(spec: TensorSpec | None) -> str:
    """Return a specification as people write it, such as ``float32[?,10]``."""
    if spec is None:
        return "nothing"
    if spec.shape is None:
        return f"{spec.dtype}[...]"
    dims = ",".join("?" if dim is None else str(dim) for dim in spec.shape)
    return f"{spec.dtype}[{dims}]"


def breaking_changes(
    live: Mapping[str, Signature], other: Mapping[str, Signature]
) -> tuple[SignatureChange, ...]:
    """Return what would break a client of the live version, by signature, side and key.

    A client sends every input and reads every output that it knows. It breaks where a signature
    or an output is gone, an input is gone or new, a dtype is another one, an input no longer
    takes a shape that it took, or an output may have a shape that it could not have.
    """
    found: list[SignatureChange] = []
    for name, before in sorted(live.items()):
        after = other.get(name)
        if after is None:
            found.append(SignatureChange(name, None, "", None, None))
            continue
        found += _side(name, "input", before.inputs, after.inputs)
        found += _side(name, "output", before.outputs, after.outputs)
    return tuple(found)


def _side(
    name: str, side: Side, before: Mapping[str, TensorSpec], after: Mapping[str, TensorSpec]
) -> Iterator[SignatureChange]:
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is None and side == "output":
            continue
        if old is not None and new is not None:
            wide, narrow = (new, old) if side == "input" else (old, new)
            if wide.dtype == narrow.dtype and _covers(wide.shape, narrow.shape):
                continue
        yield SignatureChange(name, side, key, old, new)


def _covers(wide: tuple[int | None, ...] | None, narrow: tuple[int | None, ...] | None) -> bool:
    """Return whether every shape that fits ``narrow`` fits ``wide``."""
    if wide is None:
        return True
    if narrow is None or len(wide) != len(narrow):
        return False
    return all(a is None or a == b for a, b in zip(wide, narrow, strict=True))
