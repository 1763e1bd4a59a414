"""Which chunks are to be stored as differences, and to which others.

A chunk's base is the chunk in the same place of the same tensor at the next newer step of its run,
so that the newest checkpoint is read as it is. Where a chunk is in several checkpoints, the newest
run and step that have it count: bases are always newer, and there is an end to them. What an
earlier collection has stored as a difference stays so, unless nothing needs its base but this.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mstore.catalog import checkpoints as queries
from mstore.catalog import damage, objects, programs
from mstore.catalog import versions as ledger
from mstore.catalog.engine import reading
from mstore.domain.tensors import DTYPES, Tensor
from mstore.errors import DamagedFileError, DamagedStoreError
from mstore.objects.manifest import Manifest
from mstore.objects.packs import MOST_BASES
from mstore.objects.planes import words_of
from mstore.ops.context import Context
from mstore.ops.stored import tensor_table

LONGEST = 10
"""Most bases one after the other: to read a chunk, so many others are read at most."""

ALONE = bytes(32)
"""In the place of a base: the chunk was, or is to be, compressed by itself."""

_WIDTHS = dict(DTYPES.values())

Place = tuple[bytes | str, int]
"""Where a chunk begins: key of a tensor and offset in it, or path of a file and offset."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How a chunk is to be stored if it becomes smaller that way.

    Attributes:
        base: id of its base, or `ALONE`.
        words: what its numbers are, see `mstore.objects.planes.WORDS`.
        newest: whether it is of the newest checkpoint of a run, which is to be read fast.
    """

    base: bytes
    words: int
    newest: bool = False


def plan(context: Context) -> dict[bytes, Wish]:
    """Return what is to be tried with which chunks, the newest first."""
    with reading(context.engine) as connection:
        runs = queries.manifests_by_run(connection)
        others = {row.manifest for row in ledger.find_versions(connection)}
        others |= {row.manifest for row in programs.find_programs(connection)}
        made = _Plan(
            context,
            objects.bases(connection),
            objects.tried(connection),
            set(damage.noted(connection)),
        )
    for manifests in runs:
        made.run(manifests)
    for manifest in sorted(others):
        made.alone(manifest)
    made.let_go()
    return made.wishes


@dataclass
class _Plan:
    context: Context
    bases: Mapping[bytes, bytes]
    tried: Mapping[bytes, bytes]
    damaged: set[bytes]
    wishes: dict[bytes, Wish] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    packed: dict[bytes, Wish] = field(default_factory=dict)
    heights: dict[bytes, int] = field(init=False)

    def __post_init__(self) -> None:
        self.heights = _heights(self.bases)

    def run(self, manifests: Sequence[bytes]) -> None:
        """Plan the checkpoints of a run, the newest first."""
        newer: dict[Place, bytes] = {}
        for at, key in enumerate(manifests):
            places = dict(self._places(key))
            for place, (chunk, words) in places.items():
                self._wish(chunk, newer.get(place), words, newest=at == 0)
            if places:
                newer = {place: chunk for place, (chunk, _) in places.items()}

    def alone(self, key: bytes) -> None:
        """Plan the chunks of a version or a program that no checkpoint has."""
        for chunk, words in dict(self._places(key)).values():
            self._wish(chunk, None, words, newest=False)

    def _wish(self, chunk: bytes, base: bytes | None, words: int, *, newest: bool) -> None:
        if chunk in self.seen:
            return
        self.seen.add(chunk)
        if chunk in self.bases:
            self.packed[chunk] = Wish(base or ALONE, words, newest)
        elif chunk not in self.damaged:
            base = self._best(chunk, base)
            if self.tried.get(chunk) != base:
                self.wishes[chunk] = Wish(base, words, newest)

    def let_go(self) -> None:
        """Plan other bases for differences to chunks that nothing else needs, if all were seen."""
        for chunk, wish in self.packed.items():
            if self.bases[chunk] not in self.seen and chunk not in self.damaged:
                self.wishes[chunk] = replace(wish, base=self._best(chunk, wish.base))

    def _best(self, chunk: bytes, base: bytes | None) -> bytes:
        """Return the base if it may be one, else `ALONE`."""
        if base is None or base == ALONE or base in self.damaged or not self._may_have(chunk, base):
            return ALONE
        return base

    def _may_have(self, chunk: bytes, base: bytes) -> bool:
        """Return whether the chain of bases would end, and soon enough for whoever needs it."""
        length = self.heights.get(chunk, 0) + 1
        while length <= LONGEST:
            if base == chunk:
                return False
            wish = self.wishes.get(base)
            found = wish.base if wish else self.bases.get(base, ALONE)
            if found == ALONE:
                return True
            base, length = found, length + 1
        return False

    def _places(self, key: bytes) -> Iterator[tuple[Place, tuple[bytes, int]]]:
        try:
            manifest = self.context.manifest(key)
            tensors = tensors_of(self.context, manifest)
        except (DamagedStoreError, DamagedFileError):  # for verify to tell
            return
        yield from places(manifest, tensors)


def tensors_of(context: Context, manifest: Manifest) -> dict[str, list[Tensor]]:
    """Return the tensors in each file that has any, in the order of their offsets."""
    table = tensor_table(context, manifest)
    found: dict[str, list[Tensor]] = {}
    for tensor in table:
        if not tensor.sliced and tensor.size and tensor.shard < len(table.files):
            found.setdefault(table.files[tensor.shard], []).append(tensor)
    return {path: sorted(tensors, key=lambda t: t.offset) for path, tensors in found.items()}


def places(
    manifest: Manifest, tensors: Mapping[str, Sequence[Tensor]]
) -> Iterator[tuple[Place, tuple[bytes, int]]]:
    """Yield where each chunk of a manifest begins, and what its numbers are."""
    for file in manifest.files:
        inside = tensors.get(file.path, ())
        starts = [tensor.offset for tensor in inside]
        offset = 0
        for piece in file.pieces:
            at = bisect_right(starts, offset) - 1
            tensor = inside[at] if at >= 0 else None
            if tensor is not None and offset < tensor.offset + tensor.size:
                words = words_of(tensor.dtype, _WIDTHS.get(tensor.dtype, 0))
                yield (tensor.key, offset - tensor.offset), (piece.chunk, words)
            else:
                yield (file.path, offset), (piece.chunk, 0)
            offset += piece.length


def _heights(bases: Mapping[bytes, bytes]) -> dict[bytes, int]:
    """Return how long the longest chain is that ends at each object."""
    heights: dict[bytes, int] = {}
    for key in bases:
        base, length = bases.get(key), 1
        while base is not None and length <= MOST_BASES:
            if heights.get(base, 0) < length:
                heights[base] = length
            base, length = bases.get(base), length + 1
    return heights
