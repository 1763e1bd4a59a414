"""How the variables of a program are laid out in its bundle, and which tensors they are.

From it and from the tensor table of a checkpoint follows the index of the bundle that TensorFlow
would write for that checkpoint, without reading a single tensor: types, shapes, order and object
graph are the program's, checksums are on record with the checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mstore.domain.tensors import OBJECT_GRAPH_KEY, Tensor, TensorTable
from mstore.errors import ProofError


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one tensor in the bundle.

    Attributes:
        tensor: the entry as the program's first export had it.
        source: key of the checkpoint's tensor that goes there; None for the object graph, which
            is the program's own.
    """

    tensor: Tensor
    source: bytes | None

    def to_json(self) -> list[Any]:
        """Return a list that `from_json` reads."""
        t = self.tensor
        source = None if self.source is None else self.source.hex()
        return [t.key.hex(), t.dtype, list(t.shape), t.shard, t.size, t.crc32c, source]

    @classmethod
    def from_json(cls, body: Any) -> "Slot":
        """Return the slot that `to_json` wrote.

        Raises:
            ValueError: it is none.
        """
        try:
            key, dtype, shape, shard, size, crc32c, source = body
            tensor = Tensor(
                bytes.fromhex(key),
                str(dtype),
                tuple(map(int, shape)),
                int(shard),
                0,
                int(size),
                int(crc32c),
            )
            return cls(tensor, None if source is None else bytes.fromhex(source))
        except TypeError as error:
            raise ValueError("no slot of a template") from error


@dataclass(frozen=True, slots=True)
class Template:
    """The bundle of a program's variables, without their values.

    Attributes:
        slots: the tensors in the order of their bytes, data file by data file.
        num_shards: how many data files there are.
    """

    slots: tuple[Slot, ...]
    num_shards: int

    def to_json(self) -> dict[str, Any]:
        """Return an object that `from_json` reads."""
        return {"num_shards": self.num_shards, "slots": [slot.to_json() for slot in self.slots]}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Template":
        """Return the template that `to_json` wrote.

        Raises:
            ValueError: it is none.
        """
        try:
            slots = tuple(Slot.from_json(slot) for slot in body["slots"])
            return cls(slots, int(body["num_shards"]))
        except (KeyError, TypeError) as error:
            raise ValueError("no template of a program") from error

    @property
    def sources(self) -> dict[bytes, bytes]:
        """Key of each variable in the bundle to the key of the checkpoint's tensor."""
        return {slot.tensor.key: slot.source for slot in self.slots if slot.source is not None}


def template_of(variables: TensorTable, sources: Mapping[bytes, bytes | None]) -> Template:
    """Return the template of a traced export.

    Args:
        variables: what its bundle holds.
        sources: key of each variable to the key of the checkpoint's tensor.

    Raises:
        KeyError: a variable has no source.
    """
    order = sorted(variables, key=lambda tensor: (tensor.shard, tensor.offset, tensor.key))
    slots = []
    for tensor in order:
        source = None if tensor.key == OBJECT_GRAPH_KEY else sources[tensor.key]
        if source is None and tensor.key != OBJECT_GRAPH_KEY:
            raise KeyError(tensor.name)
        slots.append(Slot(replace(tensor, full_name=None, offset=0), source))
    return Template(tuple(slots), variables.num_shards)


def linked_table(template: Template, trained: TensorTable) -> TensorTable:
    """Return what the bundle holds when the variables are the tensors of a checkpoint.

    Raises:
        ProofError: the checkpoint lacks a tensor, or has it with another type or shape.
    """
    ends = [0] * template.num_shards
    tensors, wrong = [], []
    for slot in template.slots:
        tensor = slot.tensor
        if slot.source is not None:
            source = trained.get(slot.source)
            if source is None or (source.dtype, source.shape) != (tensor.dtype, tensor.shape):
                wrong.append(slot.source.decode("utf-8", "backslashreplace"))
                continue
            tensor = replace(tensor, size=source.size, crc32c=source.crc32c)
        tensors.append(replace(tensor, offset=ends[tensor.shard]))
        ends[tensor.shard] += tensor.size
    if wrong:
        raise ProofError(
            "the checkpoint does not have these tensors as the program needs them: "
            + ", ".join(wrong),
            subjects=wrong,
            hint="export with a builder, which makes a program for this checkpoint",
        )
    return TensorTable(tuple(sorted(tensors, key=lambda item: item.key)), template.num_shards)
