"""The structure of a checkpoint: its tensors without their values.

Checkpoints of one training program have one structure, run after run. Two checkpoints of the same
structure can only differ in values, and so a program made from one fits the other.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mstore.domain.tensors import OBJECT_GRAPH_KEY, TensorTable

_NUMBER = re.compile(r"_(\d+)(?=[_/:]|$)")
# Whether a checkpoint was written by save() or by write() says nothing of the model.
_IGNORED = frozenset({OBJECT_GRAPH_KEY, b"save_counter/.ATTRIBUTES/VARIABLE_VALUE"})


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor of a structure.

    Attributes:
        key: key in the checkpoint.
        dtype: TensorFlow's name of the element type.
        shape: length of each dimension.
        words: its name in the training program without the numbers that Keras gives.
        rank: place of its numbers among the tensors of the same words. Keras counts on from model
            to model in one process, so that the numbers themselves mean nothing; their order does.
    """

    key: bytes
    dtype: str
    shape: tuple[int, ...]
    words: str = ""
    rank: int = 0

    @property
    def name(self) -> str:
        """The name in the training program, or the key."""
        return self.words or self.key.decode("utf-8", "backslashreplace")

    def to_json(self) -> list[Any]:
        """Return a list that `from_json` reads."""
        return [self.key.hex(), self.dtype, list(self.shape), self.words, self.rank]

    @classmethod
    def from_json(cls, body: Any) -> "Part":
        """Return the part that `to_json` wrote.

        Raises:
            ValueError: it is none.
        """
        try:
            key, dtype, shape, words, rank = body
            return cls(
                bytes.fromhex(key), str(dtype), tuple(map(int, shape)), str(words), int(rank)
            )
        except TypeError as error:
            raise ValueError("no part of a structure") from error


def structure_of(table: TensorTable) -> tuple[Part, ...]:
    """Return the structure of a checkpoint, in key order."""
    tensors = [tensor for tensor in table if tensor.key not in _IGNORED]
    names = {tensor.key: _split(tensor.full_name or "") for tensor in tensors}
    ranks = _ranks(names.values())
    return tuple(
        Part(t.key, t.dtype, t.shape, names[t.key][0], ranks[names[t.key]])
        for t in sorted(tensors, key=lambda item: item.key)
    )


def _split(name: str) -> tuple[str, tuple[int, ...]]:
    numbers = tuple(int(number) for number in _NUMBER.findall(name))
    return _NUMBER.sub("", name), numbers


def _ranks(
    names: Iterable[tuple[str, tuple[int, ...]]],
) -> Mapping[tuple[str, tuple[int, ...]], int]:
    groups: dict[str, set[tuple[int, ...]]] = {}
    for words, numbers in names:
        groups.setdefault(words, set()).add(numbers)
    return {
        (words, numbers): rank
        for words, group in groups.items()
        for rank, numbers in enumerate(sorted(group))
    }


def differences(program: Iterable[Part], checkpoint: Iterable[Part]) -> list[str]:
    """Return in words how the structure of a checkpoint differs from that of a program.

    Tensors are held against those of the same name: a layer that is put between others moves the
    keys of all that follow, which are told only where nothing else differs. There is no line only
    if the two are equal.
    """
    before, after = _by_name(program), _by_name(checkpoint)
    lines, moved = [], []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None and new is not None:
            lines.append(f"{_described(new)} is new")
        elif new is None and old is not None:
            lines.append(f"{_described(old)} is gone")
        elif old is not None and new is not None:
            if (old.dtype, old.shape) != (new.dtype, new.shape):
                lines.append(f"{_described(new)} was {_described(old)}")
            elif old != new:
                moved.append(f"{_described(new)} has another key")
    return lines or moved


def _by_name(parts: Iterable[Part]) -> dict[tuple[str, int, int], Part]:
    """Return the parts by name, rank and place among those that share both; by key without one."""
    found: dict[tuple[str, int, int], Part] = {}
    counts: Counter[tuple[str, int]] = Counter()
    for part in sorted(parts, key=lambda item: item.key):
        name = (part.name, part.rank)
        found[(part.name, part.rank, counts[name])] = part
        counts[name] += 1
    return found


def _described(part: Part) -> str:
    number = f" #{part.rank}" if part.rank else ""
    return f"{part.name}{number} {part.dtype}{list(part.shape)}"
