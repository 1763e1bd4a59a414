"""Feeds damaged and hostile files to the readers and reports what they cost.

Run as a process of its own, so that its memory can be measured: prints one JSON object.
"""

import io
import json
import os
import random
import re
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from mstore.errors import Error
from mstore.formats.graph_walk import read_graphs
from mstore.formats.meta_graph import parse_meta
from mstore.formats.object_graph import MAX_BYTES, MAX_ITEMS, parse_object_graph
from mstore.formats.saved_model import read_saved_model
from mstore.formats.slices import slice_key
from mstore.formats.sstable import MAGIC, read_entries
from mstore.formats.tensor_bundle import parse_index, read_table
from mstore.formats.tf1_v1 import read_tf1_v1
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
from tests.formats.graph_writer import (
    calls,
    function,
    signature,
    sound_graph,
    string_constant,
    text,
)
from tests.formats.graph_writer import node as graph_node
from tests.formats.tf1_writer import (
    Saved,
    map_entry,
    node,
    small_meta,
    small_v1,
    v1_entries,
    write_v1,
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


def hostile_graphs(make: Callable[[], bytes]) -> Callable[[Path], None]:
    def case(directory: Path) -> None:
        (directory / "saved_model.pb").write_bytes(make())
        read_graphs(directory / "saved_model.pb")

    return case


def served(nodes: bytes, functions: bytes = b"") -> bytes:
    """Wrap encoded nodes and functions into a SavedModel whose signature needs the node y."""
    return message(2, message(2, nodes + message(2, functions)) + signature("s", "y:0"))


def many_nodes() -> bytes:
    return served(b"".join(message(1, graph_node(f"{at}", "Sin", "y")) for at in range(270_000)))


def chained_nodes() -> bytes:
    names = ["y", *(f"{at}" for at in range(1, 200_000))]
    pairs = zip(names, [*names[1:], "end"], strict=True)
    return served(b"".join(message(1, graph_node(name, "Sin", after)) for name, after in pairs))


def chained_functions() -> bytes:
    functions = (
        function(
            f"f{at}", [graph_node("n", f"f{at + 1}"), graph_node("read", "ReadFile", "x")], ["x"]
        )
        for at in range(100_000)
    )
    return served(
        message(1, graph_node("y", "f0", "y")), b"".join(message(1, body) for body in functions)
    )


def crossed_inputs() -> bytes:
    """Make every one of 300 nodes need every other, with thousands of inputs each."""
    names = [f"{at}" for at in range(300)]
    nodes = (graph_node(name, "Sin", *(names * 20)) for name in ["y", *names])
    return served(b"".join(message(1, body) for body in nodes))


def many_readers() -> bytes:
    """Make many ops ask for an argument that stands last in a long function."""
    nodes = [*(graph_node(f"n{at}", "Sin") for at in range(100_000)), string_constant("file", "/x")]
    nodes += [graph_node(f"r{at}", "ReadFile", "file") for at in range(50_000)]
    call = message(1, graph_node("y", "PartitionedCall", f=calls("f")))
    return served(call, message(1, function("f", nodes)))


def many_ops() -> bytes:
    names = ["y", *(f"{at}" for at in range(9_000))]
    nodes = (graph_node(name, f"Op{name}", *names[at : at + 2]) for at, name in enumerate(names))
    return served(b"".join(message(1, body) for body in nodes))


def huge_constant_on_disk(directory: Path) -> None:
    """Hold a constant of nearly 2 GB in a sparse file, and a signature after it."""
    size = (1 << 31) - 200
    tail = signature("s", "y:0")
    value = b"\x22" + varint(size)  # TensorProto.tensor_content
    for field, head in ((8, b""), (2, message(1, b"value")), (5, text(1, "y") + text(2, "Const"))):
        length = size + len(value)
        value = head + varint(field << 3 | 2) + varint(length) + value
    for field in (1, 2):
        value = varint(field << 3 | 2) + varint(size + len(value)) + value
    value = b"\x12" + varint(size + len(value) + len(tail)) + value
    with (directory / "saved_model.pb").open("wb") as file:
        file.write(value)
        file.seek(size, 1)
        file.write(tail)
    (graph,) = read_graphs(directory / "saved_model.pb")
    if graph.constants[0].size < size or [use.op for use in graph.ops] != ["Const"]:
        raise SystemExit(f"the constant was not measured: {graph}")


def mutated_graphs(directory: Path) -> Iterator[Callable[[], object]]:
    random_ = random.Random(SEED)  # noqa: S311 - repeatable, not secret
    sound = b"\x08\x01" + message(2, sound_graph())  # the schema version, then a graph
    for _ in range(MUTATIONS):
        yield partial(hostile_graphs(partial(mutate, random_, sound)), directory)


def nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = message(2, data)
    return data


def mutated_v1(directory: Path) -> Iterator[Callable[[], object]]:
    """Read V1 files: with any bytes changed, with one block changed behind a sound checksum."""
    random_ = random.Random(SEED)  # noqa: S311 - repeatable, not secret
    path = write_v1(directory / "m", small_v1(), block_size=200)
    sound = path.read_bytes()
    places = block_places(sound)
    entries = v1_entries(small_v1())
    for number in range(MUTATIONS):
        at = random_.randrange(len(entries))
        changed = list(entries)
        changed[at] = (changed[at][0], mutate(random_, changed[at][1]))
        data = (
            mutate(random_, sound),
            resealed(random_, sound, places),
            write_table(changed, block_size=200),
        )[number % 3]
        path.write_bytes(data)
        yield lambda: whole_v1(path)


def whole_v1(path: Path) -> None:
    """Read a V1 checkpoint as taking it in does: with every value decoded."""
    layout = read_tf1_v1(path)
    if layout.decode is not None:
        with path.open("rb", buffering=0) as file:
            layout.decode({"": file}, io.BytesIO())


def mutated_metas(_directory: Path) -> Iterator[Callable[[], object]]:
    random_ = random.Random(SEED)  # noqa: S311 - repeatable, not secret
    for _ in range(MUTATIONS):
        yield partial(parse_meta, mutate(random_, small_meta()), path="m.meta")


def hostile_meta(make: Callable[[], bytes]) -> Callable[[Path], None]:
    def case(_directory: Path) -> None:
        parse_meta(make(), path="hostile.meta")

    return case


def hostile_v1(make: Callable[[], bytes]) -> Callable[[Path], None]:
    def case(directory: Path) -> None:
        (directory / "m").write_bytes(make())
        whole_v1(directory / "m")

    return case


def v1_of(meta: bytes, *items: tuple[bytes, bytes]) -> bytes:
    return write_table([(b"", message(1, meta)), *items])


def v1_of_tiny_blocks() -> bytes:
    tensors = {b"%05d" % at: Saved(FLOAT32, (1,), [1]) for at in range(40_000)}
    return write_table(v1_entries(tensors), block_size=1)


def v1_on_disk(directory: Path) -> None:
    """End 20 GB of nothing in a sound footer whose blocks lie in them."""
    place = varint(0) + varint(20 << 30)
    footer = (place + place).ljust(40, b"\0")
    with (directory / "m").open("wb") as file:
        file.truncate(20 << 30)
        file.seek((20 << 30) + 10)
        file.write(footer + struct.pack("<Q", MAGIC))
    whole_v1(directory / "m")


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
    "many nodes": hostile_graphs(many_nodes),
    "chained nodes": hostile_graphs(chained_nodes),
    "chained functions": hostile_graphs(chained_functions),
    "crossed inputs": hostile_graphs(crossed_inputs),
    "many readers": hostile_graphs(many_readers),
    "many ops": hostile_graphs(many_ops),
    "huge constant": huge_constant_on_disk,
    "nodes to be run": hostile_graphs(lambda: served(b"\x0a\x00" * 1_000_000)),
    "functions to be run": hostile_graphs(lambda: served(b"", b"\x0a\x00" * 1_000_000)),
    "signatures to be run": hostile_graphs(
        lambda: message(2, b"".join(signature(f"{at}", "y:0") for at in range(5_000)))
    ),
    "nested messages": hostile_saved_model(lambda: nested(3000)),
    "meta of empty nodes": hostile_meta(lambda: message(2, b"\x0a\x00" * 1_000_000)),
    "meta of placeholders": hostile_meta(
        lambda: message(2, b"".join(node(f"{at:06d}", "Placeholder") for at in range(270_000)))
    ),
    "meta of variables": hostile_meta(
        lambda: map_entry(4, b"variables", message(2, b"\x0a\x03\x0a\x01v" * 1_000_000))
    ),
    "V1 of empty tensors": hostile_v1(lambda: v1_of(b"\x0a\x00" * 1_000_000)),
    "V1 of slices": hostile_v1(lambda: v1_of(message(1, b"\x18\x01" + b"\x22\x00" * 500_000))),
    "V1 of strings": hostile_v1(
        lambda: write_table(v1_entries({b"s": Saved(7, (1_000_000,), [b""] * 1_000_000)}))
    ),
    "V1 of a huge claim": hostile_v1(
        lambda: write_table(v1_entries({b"s": Saved(9, (2**62,), [1])}))
    ),
    "V1 of tiny blocks": hostile_v1(v1_of_tiny_blocks),
    "V1 on disk": v1_on_disk,
}


MUTANTS: dict[str, Callable[[Path], Iterator[Callable[[], object]]]] = {
    "V1 mutations": mutated_v1,
    "meta mutations": mutated_metas,
    "graph mutations": mutated_graphs,
}


def outcome(case: Callable[[], object]) -> str:
    try:
        case()
    except Error as error:
        # The words without names and numbers: how many different checks were reached.
        return type(error).__name__ + ": " + re.sub(r"\d+|\S*[/\\]\S*", "_", error.message)[:80]
    return "read"


def processor_seconds() -> float:
    """Return the time that this process and its children took; a busy machine does not count."""
    return sum(os.times()[:4])


def peak_kib() -> int:
    # ru_maxrss would count the parent's memory from before exec.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def runs_of(name: str, directory: Path) -> Iterable[Callable[[], object]]:
    if name in CASES:
        return [partial(CASES[name], directory)]
    if name in MUTANTS:
        return MUTANTS[name](directory)
    return (partial(parse_index, data, path="m.index") for data in mutated_indexes())


def main() -> None:
    """Run the mutations, or the case that is named."""
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for run in runs_of(sys.argv[1], directory):
            start = processor_seconds()
            outcomes[outcome(run)] += 1
            slowest = max(slowest, processor_seconds() - start)
    report = {"outcomes": outcomes, "seconds": slowest, "kib": peak_kib()}
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
