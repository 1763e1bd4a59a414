"""Feeds damaged and hostile files to the readers and reports what they cost.

Run as a process of its own, so that its memory can be measured: prints one JSON object.
"""

import json
import random
import re
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mstore.errors import Error
from mstore.formats.object_graph import MAX_BYTES, MAX_ITEMS, parse_object_graph
from mstore.formats.saved_model import read_saved_model
from mstore.formats.slices import slice_key
from mstore.formats.sstable import read_entries
from mstore.formats.tensor_bundle import parse_index, read_table
from tests.formats.bundle_writer import (
    FLOAT32,
    BlockBuilder,
    Entry,
    Value,
    header,
    masked,
    message,
    sealed,
    small_values,
    table_end,
    varint,
    write_bundle,
    write_index,
    write_table,
)

SEED = 20240229
MUTATIONS = 1500


def sound_indexes() -> list[bytes]:
    """Return indexes that between them use every part of the format."""
    with tempfile.TemporaryDirectory() as name:
        prefix = write_bundle(Path(name) / "x", small_values())
        small = prefix.with_name("x.index").read_bytes()
    many = {b"layer/%03d" % at: Entry(FLOAT32, (2,), 0, 8 * at, 8, at + 1) for at in range(60)}
    sliced = {
        b"part": Entry(FLOAT32, (3,), slices=[[(0, 2)], [(2, 1)]]),
        slice_key(b"part", [(0, 2)]): Entry(FLOAT32, (2,), 1, 0, 8, 5),
        slice_key(b"part", [(2, 1)]): Entry(FLOAT32, (1,), 1, 8, 4, 6),
    }
    return [
        small,
        write_index(many, block_size=300),
        write_index(sliced, num_shards=2),
        write_index({}),
    ]


def block_places(data: bytes) -> list[tuple[int, int]]:
    """Return start and end of each sealed block of a sound table, by trying their checksums."""
    places, start = [], 0
    while start < len(data) - 48:
        for end in range(start + 9, len(data) - 47):
            stored = struct.unpack_from("<I", data, end - 4)[0]
            if data[end - 5] == 0 and masked(data[start : end - 4]) == stored:
                places.append((start, end))
                start = end
                break
        else:
            break
    return places


def mutate(random_: random.Random, data: bytes) -> bytes:
    """Return ``data`` with some bytes changed, cut, doubled or moved."""
    out = bytearray(data)
    for _ in range(random_.choice((1, 1, 1, 2, 5, 20))):
        at = random_.randrange(len(out)) if out else 0
        other = random_.randrange(len(out)) if out else 0
        kind = random_.randrange(6)
        if kind == 0 and out:
            out[at] ^= 1 << random_.randrange(8)
        elif kind == 1 and out:
            out[at] = random_.choice((0, 1, 0x7F, 0x80, 0xFF, random_.randrange(256)))
        elif kind == 2:
            out[at:at] = out[other : other + random_.randrange(1, 40)]
        elif kind == 3:
            del out[at : at + random_.randrange(1, 20)]
        elif kind == 4:
            out[at:at] = random_.choice((b"\xff" * 10, varint(2**63), varint(2**31), bytes(8)))
        elif random_.random() < 0.2:
            del out[at:]
    return bytes(out)


def resealed(random_: random.Random, data: bytes, places: list[tuple[int, int]]) -> bytes:
    """Return ``data`` with one block changed behind a sound checksum, so that it is looked into.

    The block keeps its length, so that the handles still fit.
    """
    start, end = random_.choice(places)
    block = data[start : end - 5]
    # Mostly the restart points at the end stay, or little else would ever be reached.
    kept = 4 * (struct.unpack("<I", block[-4:])[0] + 1) if random_.random() < 0.9 else 0
    size = len(block) - kept
    body = mutate(random_, block[:size])[:size].ljust(size, b"\0")
    return data[:start] + sealed(body + block[size:]) + data[end:]


def rewritten(random_: random.Random) -> bytes:
    """Return a sound table whose header or entries are changed."""
    items = [(b"", header())]
    for at in range(random_.randrange(1, 6)):
        entry = Entry(FLOAT32, (2,), 0, 8 * at, 8, 99, slices=[[(0, 1)]] if at == 3 else [])
        items.append((b"k%d" % at, entry.encode()))
    at = random_.randrange(len(items))
    items[at] = (items[at][0], mutate(random_, items[at][1]))
    return write_table(items)


def mutated_indexes() -> Iterator[bytes]:
    random_ = random.Random(SEED)  # noqa: S311 - repeatable, not secret
    sound = [(data, block_places(data)) for data in sound_indexes()]
    for number in range(MUTATIONS):
        data, places = random_.choice(sound)
        yield (
            mutate(random_, data),
            resealed(random_, data, places),
            rewritten(random_),
        )[number % 3]


def quadratic_keys() -> bytes:
    """Spell keys of 60 KB with five bytes each, in restart-free blocks."""
    out, index = bytearray(), BlockBuilder(1)
    for at in range(20):
        first = b"%02d" % at + b"a" * 60_000
        entries = bytearray(b"\x00" + varint(len(first)) + b"\x00" + first)
        for step in range(10_000):
            entries += varint(len(first) - 1) + b"\x02\x00" + struct.pack(">H", 0x6161 + step)
        block = bytes(entries) + struct.pack("<II", 0, 1)
        handle = varint(len(out)) + varint(len(block))
        index.add(b"%02db" % at, handle)
        out += sealed(block)
    return bytes(out) + table_end(len(out), index)


def most_entries() -> bytes:
    """Describe as many empty tensors as a file may, and some more."""
    value = Entry(FLOAT32, (0,)).encode()
    items = [(b"", header())]
    items += [(struct.pack(">I", at), value) for at in range(1, 270_000)]
    return write_table(items)


def many_slices() -> bytes:
    slices = [[(0, 1)]] * 100_000
    return write_index({b"p": Entry(FLOAT32, (1,), slices=slices)})


def many_extents() -> bytes:
    head = Entry(FLOAT32, (1,)).encode() + message(7, b"\x0a\x00" * 10) * 40_000
    items = [(b"p%02d" % at, head) for at in range(30)]
    return write_table([(b"", header()), *items])


def all_restarts() -> bytes:
    block = struct.pack("<I", 0) * 5_000_000 + struct.pack("<I", 5_000_000)
    index = BlockBuilder(1)
    index.add(b"z", varint(0) + varint(len(block)))
    body = sealed(block)
    return body + table_end(len(body), index)


def hostile_table(make: Callable[[], bytes]) -> Callable[[Path], None]:
    def case(_directory: Path) -> None:
        parse_index(make(), path="hostile.index")

    return case


def hostile_graph(make: Callable[[], bytes]) -> Callable[[Path], None]:
    def case(_directory: Path) -> None:
        parse_object_graph(make(), path="hostile")

    return case


def huge_graph_on_disk(directory: Path) -> None:
    """Claim an object graph of 20 GB in a sparse data file that really has them."""
    size = 20 << 30
    entry = Entry(7, (), 0, 0, size, 1)
    index = write_index({b"_CHECKPOINTABLE_OBJECT_GRAPH": entry})
    (directory / "x.index").write_bytes(index)
    with (directory / "x.data-00000-of-00001").open("wb") as file:
        file.truncate(size)
    read_table(directory / "x")


def huge_index_on_disk(directory: Path) -> None:
    with (directory / "x.index").open("wb") as file:
        file.truncate(20 << 30)
    read_table(directory / "x")


def string_of_many_elements(directory: Path) -> None:
    write_bundle(directory / "x", {b"s": Value(7, (2**40,), [b""])})
    read_table(directory / "x")


def hostile_saved_model(make: Callable[[], bytes]) -> Callable[[Path], None]:
    def case(directory: Path) -> None:
        (directory / "saved_model.pb").write_bytes(make())
        read_saved_model(directory)

    return case


def nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = message(2, data)
    return data


def quadratic_table(_directory: Path) -> None:
    for _ in read_entries(quadratic_keys(), path="hostile.index"):
        pass


CASES: dict[str, Callable[[Path], None]] = {
    "quadratic keys": quadratic_table,
    "most entries": hostile_table(most_entries),
    "many slices": hostile_table(many_slices),
    "many extents": hostile_table(many_extents),
    "all restarts": hostile_table(all_restarts),
    "graph of empty nodes": hostile_graph(lambda: b"\x0a\x00" * (MAX_BYTES // 2)),
    "graph of bare nodes": hostile_graph(lambda: b"\x0a\x00" * MAX_ITEMS),
    "graph of empty children": hostile_graph(lambda: message(1, b"\x0a\x00" * (1 << 20))),
    "graph on disk": huge_graph_on_disk,
    "index on disk": huge_index_on_disk,
    "many strings": string_of_many_elements,
    "empty nodes": hostile_saved_model(lambda: message(2, message(2, b"\x0a\x00" * 1_000_000))),
    "graph of functions": hostile_saved_model(
        lambda: message(2, message(2, message(2, b"\x0a\x04\x1a\x02\x12\x00" * 1_000_000)))
    ),
    "empty signatures": hostile_saved_model(lambda: message(2, b"\x2a\x00" * 300_000)),
    "nested messages": hostile_saved_model(lambda: nested(3000)),
}


def outcome(case: Callable[[], object]) -> str:
    try:
        case()
    except Error as error:
        # The words without names and numbers: how many different checks were reached.
        return type(error).__name__ + ": " + re.sub(r"\d+|\S*[/\\]\S*", "_", error.message)[:80]
    return "read"


def peak_kib() -> int:
    # ru_maxrss would count the parent's memory from before exec.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def main() -> None:
    """Run the mutations, or the case that is named."""
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        case = CASES.get(sys.argv[1])
        runs = (
            [partial(case, directory)]
            if case
            else (partial(parse_index, data, path="m.index") for data in mutated_indexes())
        )
        for run in runs:
            start = time.monotonic()
            outcomes[outcome(run)] += 1
            slowest = max(slowest, time.monotonic() - start)
    report = {"outcomes": outcomes, "seconds": slowest, "kib": peak_kib()}
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
