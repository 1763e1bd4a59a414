"""What `ingest` stores is what the files hold, however the buffers are used again."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mstore.domain.progress import NoProgress
from mstore.errors import InputError
from mstore.objects.ingest import BLOCK, SLOTS, WINDOW, Source, Watch, ingest
from mstore.objects.manifest import Manifest
from mstore.objects.packs import CHUNK, PackWriter, decode, object_id, pack_path, read_index

MIB = 1 << 20


class Counted(NoProgress):
    def __init__(self) -> None:
        self.bytes = 0

    def advance(self, count: int) -> None:
        self.bytes += count


def nothing(_ids: Sequence[bytes]) -> set[bytes]:
    return set()


def random(size: int) -> bytes:
    return os.urandom(size)


@contextmanager
def source(
    path: Path,
    data: bytes,
    tensors: Sequence[tuple[int, int]] = (),
    watch: Watch | None = None,
) -> Iterator[Source]:
    path.write_bytes(data)
    with path.open("rb") as file:
        yield Source(path.name, file.fileno(), len(data), tensors, watch)


def stored(directory: Path, writer: PackWriter) -> dict[bytes, bytes]:
    name = writer.seal()
    writer.publish(directory)
    data = pack_path(directory, name).read_bytes()
    entries = read_index(pack_path(directory, name))
    return {e.id: decode(e, data[e.offset : e.offset + e.stored]) for e in entries}


def taken(
    directory: Path,
    sources: Sequence[Source],
    known: Callable[[Sequence[bytes]], set[bytes]] = nothing,
) -> tuple[Manifest, dict[bytes, bytes]]:
    (directory / "work").mkdir()
    (directory / "packs").mkdir()
    writer = PackWriter(directory / "work")
    try:
        manifest = ingest(sources, writer, known, NoProgress())
        return manifest, stored(directory / "packs", writer)
    finally:
        writer.close()


def rebuilt(manifest: Manifest, path: str, chunks: dict[bytes, bytes]) -> bytes:
    pieces = manifest.file(path).pieces
    return b"".join(chunks[p.chunk][p.start : p.start + p.length] for p in pieces)


@pytest.mark.parametrize(
    "size",
    [
        *(0, 1, 4095, BLOCK - 1, BLOCK, BLOCK + 1, WINDOW * BLOCK, SLOTS * BLOCK + 5),
        (3 * SLOTS + 1) * BLOCK - 7,
    ],
)
def test_a_file_of_any_size_can_be_rebuilt(tmp_path: Path, size: int) -> None:
    data = random(size)
    with source(tmp_path / "f", data) as one:
        manifest, chunks = taken(tmp_path, [one])
    assert rebuilt(manifest, "f", chunks) == data
    assert manifest.file("f").sha256 == hashlib.sha256(data).hexdigest()
    assert manifest.file("f").size == size


def test_tensors_of_all_sizes_begin_chunks_of_their_own_and_share_blocks(tmp_path: Path) -> None:
    sizes = [70_000, 12, 900_000, 5 * MIB + 3, 65_536, 400_000, 400_000, 400_000, 1, 2 * MIB]
    offsets = [sum(sizes[:at]) for at in range(len(sizes))]
    data = random(sum(sizes) + 100)
    tensors = list(zip(offsets, sizes, strict=True))
    with source(tmp_path / "f", data, tensors) as one:
        manifest, chunks = taken(tmp_path, [one])
    assert rebuilt(manifest, "f", chunks) == data
    for offset, size in tensors:
        if MIB > size >= 65_536:
            assert object_id(data[offset : offset + size]) in chunks


def test_sha256_is_that_of_the_file_when_it_lags_behind(tmp_path: Path) -> None:
    # Without a writer the rest is much faster than SHA-256, which must not see newer bytes.
    data = b"".join(bytes([number]) * MIB for number in range(64))
    with source(tmp_path / "f", data) as one:
        manifest = ingest([one], None, nothing, NoProgress())
    assert manifest.file("f").sha256 == hashlib.sha256(data).hexdigest()


def test_several_files_large_and_small_keep_their_bytes(tmp_path: Path) -> None:
    contents = {"a": 900, "b": 7 * MIB + 1, "c": 0, "d": 3 * MIB, "e": 30_000, "f": 9 * MIB}
    data = {name: random(size) for name, size in contents.items()}
    with ExitStack() as stack:
        sources = [stack.enter_context(source(tmp_path / name, data[name])) for name in "fbadec"]
        manifest, chunks = taken(tmp_path, sources)
    assert [file.path for file in manifest.files] == list("abcdef")
    for name, content in data.items():
        assert rebuilt(manifest, name, chunks) == content
        assert manifest.file(name).sha256 == hashlib.sha256(content).hexdigest()


def test_chunks_that_are_known_are_not_written(tmp_path: Path) -> None:
    data = random(40 * MIB)
    ids = [object_id(data[at : at + MIB]) for at in range(0, len(data), MIB)]
    frozen = set(ids[1::2])
    with source(tmp_path / "f", data) as one:
        manifest, chunks = taken(tmp_path, [one], lambda asked: frozen & set(asked))
    assert set(chunks) == set(ids) - frozen
    assert [piece.chunk for piece in manifest.file("f").pieces] == ids
    assert manifest.file("f").sha256 == hashlib.sha256(data).hexdigest()


def test_equal_chunks_are_written_once(tmp_path: Path) -> None:
    block = random(MIB)
    with source(tmp_path / "f", block * 20 + b"end") as one:
        manifest, chunks = taken(tmp_path, [one])
    assert sorted(map(len, chunks.values())) == [3, MIB]
    assert rebuilt(manifest, "f", chunks) == block * 20 + b"end"


def test_the_catalog_is_asked_for_windows_of_chunks_not_for_each(tmp_path: Path) -> None:
    asked: list[int] = []

    def known(ids: Sequence[bytes]) -> set[bytes]:
        asked.append(len(ids))
        return set()

    with ExitStack() as stack:
        small = [stack.enter_context(source(tmp_path / n, n.encode())) for n in ("i", "d")]
        taken(tmp_path, small, known)
    assert asked == [2]
    asked.clear()
    (tmp_path / "large").mkdir()
    with source(tmp_path / "f", random(40 * MIB)) as one:
        taken(tmp_path / "large", [one], known)
    assert sum(asked) == 40
    assert asked[:2] == [2, 4]
    assert set(asked[2:-1]) == {WINDOW}


def test_a_watch_sees_every_byte_in_order(tmp_path: Path) -> None:
    data = random(SLOTS * MIB * 2 + 77)
    seen: list[bytes] = []
    position = 0

    def watch(offset: int, part: memoryview) -> None:
        nonlocal position
        assert offset == position
        seen.append(bytes(part))
        position += len(part)

    with source(tmp_path / "f", data, [(5, 3 * MIB)], watch) as one:
        ingest([one], None, nothing, NoProgress())
    assert b"".join(seen) == data


def test_what_a_watch_raises_ends_the_intake(tmp_path: Path) -> None:
    def watch(offset: int, _part: memoryview) -> None:
        if offset >= 5 * MIB:
            raise LookupError("enough")

    progress = Counted()
    with (
        source(tmp_path / "f", random(20 * MIB), (), watch) as one,
        pytest.raises(LookupError, match="enough"),
    ):
        ingest([one], None, nothing, progress)
    assert progress.bytes == 5 * MIB


@pytest.mark.parametrize("size", [1000, 20 * MIB])
def test_a_file_that_became_shorter_is_an_error_that_says_so(tmp_path: Path, size: int) -> None:
    with source(tmp_path / "f", random(size)) as one:
        os.truncate(tmp_path / "f", size - 1)
        with pytest.raises(InputError, match="f became shorter while it was being read"):
            ingest([one], None, nothing, NoProgress())


def test_progress_hears_of_every_byte(tmp_path: Path) -> None:
    progress = Counted()
    with source(tmp_path / "f", random(13 * MIB + 9), [(100, 2 * MIB)]) as one:
        ingest([one], None, nothing, progress)
    assert progress.bytes == 13 * MIB + 9


def test_a_pack_takes_more_objects_at_once_than_one_system_call_does(tmp_path: Path) -> None:
    objects = [number.to_bytes(4, "big") * 5 for number in range(3000)]
    pairs = [(object_id(data), memoryview(data)) for data in (*objects, *objects, b"")]
    (tmp_path / "packs").mkdir()
    writer = PackWriter(tmp_path)
    writer.add(CHUNK, objects[7])
    writer.add_all(CHUNK, pairs)
    writer.add_all(CHUNK, pairs[:10])
    assert stored(tmp_path / "packs", writer) == {object_id(d): d for d in (*objects, b"")}


def test_a_write_that_the_system_cuts_short_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(descriptor: int, parts: Sequence[bytes]) -> int:
        return os.write(descriptor, b"".join(parts)[:7])

    monkeypatch.setattr(os, "writev", cut_short)
    with source(tmp_path / "f", random(1000), [(0, 500)]) as one:
        manifest, chunks = taken(tmp_path, [one])
    assert rebuilt(manifest, "f", chunks) == (tmp_path / "f").read_bytes()


def test_a_write_that_takes_nothing_is_an_error_and_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([0])
    writer = PackWriter(tmp_path)
    monkeypatch.setattr(os, "writev", lambda _descriptor, _parts: next(answers))
    with pytest.raises(OSError, match="Input/output error"):
        writer.add(CHUNK, b"data")
    writer.close()


def test_a_file_that_is_cut_off_while_it_is_read_ends_the_intake(tmp_path: Path) -> None:
    def watch(offset: int, _part: memoryview) -> None:
        if offset == 5 * MIB:
            os.truncate(tmp_path / "f", 8 * MIB - 3)

    with (
        source(tmp_path / "f", random(30 * MIB), (), watch) as one,
        pytest.raises(InputError, match="f became shorter while it was being read"),
    ):
        ingest([one], None, nothing, NoProgress())
