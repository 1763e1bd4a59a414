"""Read objects and files back, each chunk checked against its id."""

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import groupby
from pathlib import Path
from types import TracebackType

from mstore.errors import DamagedStoreError
from mstore.objects.manifest import Piece
from mstore.objects.packs import MOST_BASES, Entry, decode, pack_path

Locate = Callable[[Sequence[bytes]], Mapping[bytes, tuple[str, Entry]]]
"""Finds the pack and the place in it of each object id; unknown ids are left out."""

Place = tuple[str, Entry]
Places = dict[bytes, Place]

_AHEAD = 8
_CACHED = 16
_OPEN_PACKS = 64
_BATCH = 500
_TRIES = 3
"""How often an object is looked for whose pack went away: `gc` may move it at any time."""


class ObjectReader:
    """Reads objects of a store; not shared between threads."""

    def __init__(self, packs: Path, locate: Locate) -> None:
        """Read from the packs under ``packs`` where ``locate`` says."""
        self._packs = packs
        self._locate = locate
        self._open: OrderedDict[str, int] = OrderedDict()
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._reads: list[Future[bytes]] = []

    def __enter__(self) -> "ObjectReader":
        """Return the reader itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the packs."""
        self.close()

    def close(self) -> None:
        """Close the packs that were opened."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def read(self, key: bytes) -> bytes:
        """Return one object.

        Raises:
            DamagedStoreError: it is missing or damaged.
        """
        return _load(self._sources(key, self._places([key])))

    def stream(self, pieces: Iterable[Piece]) -> Iterator[memoryview]:
        """Yield the bytes of each piece in order, reading and checking ahead in two threads.

        Raises:
            DamagedStoreError: a chunk is missing or damaged.
        """
        wanted = list(pieces)
        places = self._places({piece.chunk for piece in wanted})
        groups = [(chunk, list(group)) for chunk, group in groupby(wanted, key=lambda p: p.chunk)]
        if len(groups) == 1:  # as most tensors are; threads would cost more than the read
            yield from self._slices(*groups[0], self._now(groups[0][0], places))
            return
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="mstore-read") as pool:
            yield from self._stream(groups, places, pool)

    def _places(self, ids: Iterable[bytes]) -> Places:
        """Find objects, their bases, and the bases of these."""
        places: Places = {}
        wanted = list(ids)
        for _ in range(MOST_BASES + 1):
            for at in range(0, len(wanted), _BATCH):
                places.update(self._locate(wanted[at : at + _BATCH]))
            named = (places[key][1].base for key in wanted if key in places)
            wanted = list({base for base in named if base is not None and base not in places})
            if not wanted:
                break
        return places

    def _stream(
        self,
        groups: list[tuple[bytes, list[Piece]]],
        places: Places,
        pool: ThreadPoolExecutor,
    ) -> Iterator[memoryview]:
        ahead: deque[Future[bytes] | bytes] = deque()
        for position in range(len(groups) + _AHEAD):
            if position < len(groups):
                ahead.append(self._fetch(groups[position][0], places, pool))
            if position >= _AHEAD:
                chunk, slices = groups[position - _AHEAD]
                ready = ahead.popleft()
                data = ready if isinstance(ready, bytes) else ready.result()
                yield from self._slices(chunk, slices, data)

    def _now(self, chunk: bytes, places: Places) -> bytes:
        cached = self._cache.get(chunk)
        return _load(self._sources(chunk, places)) if cached is None else cached

    def _slices(self, chunk: bytes, slices: list[Piece], data: bytes) -> Iterator[memoryview]:
        self._remember(chunk, data)
        view = memoryview(data)
        for piece in slices:
            if piece.start + piece.length > len(data):
                raise DamagedStoreError(f"a manifest reaches past chunk {chunk.hex()}")
            yield view[piece.start : piece.start + piece.length]

    def _fetch(
        self, chunk: bytes, places: Places, pool: ThreadPoolExecutor
    ) -> "Future[bytes] | bytes":
        cached = self._cache.get(chunk)
        if cached is not None:
            return cached
        read = pool.submit(_load, self._sources(chunk, places))
        self._reads = [other for other in self._reads if not other.done()]
        self._reads.append(read)
        return read

    def _remember(self, chunk: bytes, data: bytes) -> None:
        self._cache[chunk] = data
        self._cache.move_to_end(chunk)
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)

    def _sources(self, key: bytes, places: Places) -> "list[_Source]":
        """Return where to read an object and its bases, itself first."""
        for _ in range(_TRIES):
            try:
                return [
                    (self._descriptor(name), name, entry) for name, entry in _chain(key, places)
                ]
            except FileNotFoundError:
                places.update(self._places([key]))
        name = places[key][0]
        raise DamagedStoreError(f"pack {name} is missing", hint="run: mstore verify")

    def _descriptor(self, name: str) -> int:
        if name not in self._open:
            if len(self._open) >= _OPEN_PACKS:
                wait(self._reads)
                os.close(self._open.popitem(last=False)[1])
            try:
                self._open[name] = os.open(pack_path(self._packs, name), os.O_RDONLY)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise DamagedStoreError(
                    f"pack {name} cannot be opened: {error.strerror}",
                    hint="run: mstore verify",
                ) from error
        self._open.move_to_end(name)
        return self._open[name]


_Source = tuple[int, str, Entry]
"""Descriptor and name of a pack, and what to read from it."""


def _chain(key: bytes, places: Mapping[bytes, Place]) -> list[Place]:
    """Return an object's place, that of its base, and so on.

    Raises:
        DamagedStoreError: one is missing, or there is no end to them.
    """
    chain: list[Place] = []
    wanted: bytes | None = key
    while wanted is not None:
        if len(chain) > MOST_BASES:
            raise DamagedStoreError(
                f"object {key.hex()} is a difference to too many others",
                hint="run: mstore verify",
            )
        place = places.get(wanted)
        if place is None:
            raise _missing(key, wanted)
        chain.append(place)
        wanted = place[1].base
    return chain


def _load(sources: Sequence[_Source]) -> bytes:
    """Read and check an object, its bases before it."""
    data = None
    for descriptor, name, entry in reversed(sources):
        data = _read(descriptor, name, entry, data)
    assert data is not None  # noqa: S101 - there is always one source
    return data


def _read(descriptor: int, name: str, entry: Entry, base: bytes | None) -> bytes:
    try:
        stored = os.pread(descriptor, entry.stored, entry.offset)
    except OSError as error:
        raise DamagedStoreError(f"pack {name} cannot be read: {error.strerror}") from error
    if len(stored) != entry.stored:
        raise DamagedStoreError(f"pack {name} is cut short", hint="run: mstore verify")
    return decode(entry, stored, base)


def _missing(key: bytes, wanted: bytes) -> DamagedStoreError:
    which = f"object {key.hex()}" if key == wanted else f"{wanted.hex()}, a base of {key.hex()},"
    return DamagedStoreError(f"{which} is not in the store", hint="run: mstore verify")
