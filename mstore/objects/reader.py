"""Read objects and files back, each chunk checked against its id."""

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from types import TracebackType

from mstore.errors import DamagedStoreError
from mstore.objects.manifest import Piece
from mstore.objects.packs import Entry, decode, pack_path

Locate = Callable[[Sequence[bytes]], Mapping[bytes, tuple[str, Entry]]]
"""Finds the pack and the place in it of each object id; unknown ids are left out."""

_AHEAD = 8
_CACHED = 16
_OPEN_PACKS = 64


class ObjectReader:
    """Reads objects of a store; not shared between threads."""

    def __init__(self, packs: Path, locate: Locate) -> None:
        """Read from the packs under ``packs`` where ``locate`` says."""
        self._packs = packs
        self._locate = locate
        self._open: OrderedDict[str, int] = OrderedDict()
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()

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
        place = self._locate([key]).get(key)
        if place is None:
            raise _missing(key)
        return self._load(self._descriptor(place[0]), place)

    def stream(self, pieces: Iterable[Piece]) -> Iterator[memoryview]:
        """Yield the bytes of each piece in order, reading and checking ahead in two threads.

        Raises:
            DamagedStoreError: a chunk is missing or damaged.
        """
        wanted = list(pieces)
        places: dict[bytes, tuple[str, Entry]] = {}
        ids = list({piece.chunk for piece in wanted})
        for at in range(0, len(ids), 500):
            places.update(self._locate(ids[at : at + 500]))
        groups = [(chunk, list(group)) for chunk, group in groupby(wanted, key=lambda p: p.chunk)]
        if len(groups) == 1:  # as most tensors are; threads would cost more than the read
            yield from self._slices(*groups[0], self._now(groups[0][0], places))
            return
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="mstore-read") as pool:
            yield from self._stream(groups, places, pool)

    def _stream(
        self,
        groups: list[tuple[bytes, list[Piece]]],
        places: Mapping[bytes, tuple[str, Entry]],
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

    def _now(self, chunk: bytes, places: Mapping[bytes, tuple[str, Entry]]) -> bytes:
        cached = self._cache.get(chunk)
        if cached is not None:
            return cached
        place = places.get(chunk)
        if place is None:
            raise _missing(chunk)
        return self._load(self._descriptor(place[0]), place)

    def _slices(self, chunk: bytes, slices: list[Piece], data: bytes) -> Iterator[memoryview]:
        self._remember(chunk, data)
        view = memoryview(data)
        for piece in slices:
            if piece.start + piece.length > len(data):
                raise DamagedStoreError(f"a manifest reaches past chunk {chunk.hex()}")
            yield view[piece.start : piece.start + piece.length]

    def _fetch(
        self, chunk: bytes, places: Mapping[bytes, tuple[str, Entry]], pool: ThreadPoolExecutor
    ) -> "Future[bytes] | bytes":
        cached = self._cache.get(chunk)
        if cached is not None:
            return cached
        place = places.get(chunk)
        if place is None:
            raise _missing(chunk)
        return pool.submit(self._load, self._descriptor(place[0]), place)

    def _remember(self, chunk: bytes, data: bytes) -> None:
        self._cache[chunk] = data
        self._cache.move_to_end(chunk)
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)

    def _descriptor(self, name: str) -> int:
        if name not in self._open:
            # Descriptors that reads in flight may use are among the newest and stay open.
            if len(self._open) >= _OPEN_PACKS:
                os.close(self._open.popitem(last=False)[1])
            try:
                self._open[name] = os.open(pack_path(self._packs, name), os.O_RDONLY)
            except OSError as error:
                raise DamagedStoreError(
                    f"pack {name} cannot be opened: {error.strerror}",
                    hint="run: mstore verify",
                ) from error
        self._open.move_to_end(name)
        return self._open[name]

    @staticmethod
    def _load(descriptor: int, place: tuple[str, Entry]) -> bytes:
        name, entry = place
        try:
            stored = os.pread(descriptor, entry.stored, entry.offset)
        except OSError as error:
            raise DamagedStoreError(f"pack {name} cannot be read: {error.strerror}") from error
        if len(stored) != entry.stored:
            raise DamagedStoreError(f"pack {name} is cut short", hint="run: mstore verify")
        return decode(entry, stored)


def _missing(key: bytes) -> DamagedStoreError:
    return DamagedStoreError(f"object {key.hex()} is not in the store", hint="run: mstore verify")
