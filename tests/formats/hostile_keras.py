"""Feeds damaged Keras files to the readers and reports what came of it.

Run as a process of its own, so that its memory and that of its children can be measured:
``python -m tests.formats.hostile_keras MUTANTS [FORMAT]...``, or ``CASE FILE``, prints one JSON
object. With ``FORKED=1`` in its environment the reading process is a fork, which is quicker.
"""

import json
import os
import random
import resource
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from mstore.errors import Error
from mstore.formats import hdf5_process
from mstore.formats.keras_read import read_keras
from mstore.formats.layout import Layout
from tests.formats.forked import Forked
from tests.formats.hostile import outcome, processor_seconds
from tests.formats.keras_writer import (
    h5_bytes,
    keras3_weights,
    legacy_model,
    legacy_weights,
    members,
    write_archive,
    write_directory,
    write_shards,
)

SEED = 20240301
_HUGE = (b"\xff" * 8, (2**40).to_bytes(8, "little"), (2**31).to_bytes(8, "little"), bytes(8))


class Sink(BytesIO):
    """Counts what is written to it, and keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def write(self, data: Any) -> int:
        self.count += len(data)
        return len(data)


def packed_weights(file: Any) -> None:
    """Write what has to be decoded as well as what Keras writes."""
    keras3_weights(file)
    data = np.arange(3000.0)
    file.create_dataset(
        "layers/a/vars/0", data=data, chunks=(100,), compression="gzip", shuffle=True
    )
    file.create_dataset("layers/b/vars/0", data=data.astype(">f4"))


def archive_of(directory: Path, weights: bytes, method: int) -> Path:
    return write_archive(directory / "m.keras", members(model=weights), method)


def make_archive(directory: Path) -> list[Path]:
    weights = h5_bytes(keras3_weights)
    return [archive_of(directory, weights, zipfile.ZIP_STORED)]


def make_deflated(directory: Path) -> list[Path]:
    weights = h5_bytes(packed_weights)
    return [archive_of(directory, weights, zipfile.ZIP_DEFLATED)]


def make_directory(directory: Path) -> list[Path]:
    path = write_directory(directory / "model")
    return [path, *(path / name for name in members())]


def make_weights(directory: Path) -> list[Path]:
    path = directory / "m.weights.h5"
    path.write_bytes(h5_bytes(packed_weights))
    return [path]


def make_newest(directory: Path) -> list[Path]:
    path = directory / "m.weights.h5"
    path.write_bytes(h5_bytes(packed_weights, libver="latest"))
    return [path]


def make_shards(directory: Path) -> list[Path]:
    path = write_shards(directory)
    return [path, *sorted(directory.glob("*.h5")), path]


def make_legacy(directory: Path) -> list[Path]:
    path = directory / "m.h5"
    path.write_bytes(h5_bytes(legacy_model))
    return [path]


def make_legacy_weights(directory: Path) -> list[Path]:
    path = directory / "m.h5"
    path.write_bytes(h5_bytes(legacy_weights))
    return [path]


FORMATS: dict[str, Callable[[Path], list[Path]]] = {
    "archive": make_archive,
    "deflated": make_deflated,
    "directory": make_directory,
    "weights": make_weights,
    "newest": make_newest,
    "shards": make_shards,
    "legacy": make_legacy,
    "legacy-weights": make_legacy_weights,
}
"""Each writes a sound checkpoint, and returns what is read and then the files to change."""


def mutate(random_: random.Random, data: bytes) -> bytes:
    """Return ``data`` with bits flipped, values made huge, parts copied over others, or cut."""
    out = bytearray(data)
    if random_.random() < 0.05:
        return bytes(out[: random_.randrange(len(out))])
    for _ in range(random_.choice((1, 1, 2, 4, 10, 40))):
        at = random_.randrange(len(out))
        kind = random_.randrange(5)
        if kind == 0:
            out[at] ^= 1 << random_.randrange(8)
        elif kind == 1:
            out[at] = random_.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            out[at : at + 8] = random_.choice(_HUGE)
        elif kind == 3:
            other, length = random_.randrange(len(out)), random_.randrange(1, 64)
            out[at : at + length] = out[other : other + length]
        else:
            length = random_.randrange(1, 16)
            out[at : at + length] = random_.randbytes(length)
    return bytes(out)


def use(path: Path) -> None:
    """Read a checkpoint, and do with it what adding it does."""
    layout = read_keras(path)
    if layout is not None:
        use_layout(layout)


def use_layout(layout: Layout) -> None:
    opened: dict[str, Any] = {}
    try:
        for suffix in layout.files:
            opened[suffix] = layout.path(suffix).open("rb", buffering=0)
        if layout.decode is not None:
            layout.decode(opened, Sink())
        if layout.identity is not None:
            layout.identity(opened)
    except FileNotFoundError as error:
        raise Error("a file that the layout names is not there") from error
    finally:
        for file in opened.values():
            file.close()


def peak_kib() -> int:
    """Return the most memory that this process or one of its children took."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    own = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def many_members(directory: Path) -> Path:
    """Fill the directory of an archive to the most that is read."""
    files = {f"assets/{at:x}": b"" for at in range(70_000)}
    return write_archive(directory / "m.keras", {**members(), **files})


def config_of_lists(directory: Path) -> Path:
    """Write the JSON that takes the most memory for its size."""
    text = b'{"class_name": "X", "a": [' + b"[]," * 2_790_000 + b"[]]}"
    return write_archive(directory / "m.keras", members(config=text), zipfile.ZIP_DEFLATED)


def map_of_lists(directory: Path) -> Path:
    path = directory / "m.weights.json"
    path.write_bytes(b'{"weight_map": {}, "a": [' + b"[]," * 1_390_000 + b"[]]}")
    return path


def zeros_to_decode(directory: Path) -> Path:
    """Store zeros in the largest chunks that are taken, up to what they may unfold to."""

    def fill(file: Any) -> None:
        for number in range(4):
            group = file.create_group(f"layers/a{number}/vars")
            options = {"chunks": (1 << 22,), "compression": "gzip", "shuffle": True}
            group.create_dataset("0", data=np.zeros(1 << 24, "f4"), **options)

    path = directory / "m.weights.h5"
    path.write_bytes(h5_bytes(fill))
    return path


def many_small(directory: Path) -> Path:
    """Write nearly as many datasets as are taken."""

    def fill(file: Any) -> None:
        for number in range(9_900):
            group = file.create_group(f"layers/a{number}/vars")
            group["0"] = np.float32(number)

    path = directory / "m.weights.h5"
    path.write_bytes(h5_bytes(fill))
    return path


CASES: dict[str, Callable[[Path], Path]] = {
    "many members": many_members,
    "config of lists": config_of_lists,
    "map of lists": map_of_lists,
    "zeros": zeros_to_decode,
    "many small": many_small,
}


def run_case(name: str) -> None:
    """Read what another process wrote, so that only reading is measured."""
    path = Path(sys.argv[2])
    start = processor_seconds()
    found = outcome(lambda: use(path))
    report = {"outcomes": {found: 1}, "seconds": processor_seconds() - start, "kib": peak_kib()}
    json.dump(report | {"case": name}, sys.stdout)


def main() -> None:
    """Mutate each format so many times, or read the file of the case that is named."""
    if os.environ.get("FORKED") == "1":
        hdf5_process._start = Forked  # type: ignore[assignment]
    if sys.argv[1] in CASES:
        run_case(sys.argv[1])
        return
    mutants, names = int(sys.argv[1]), sys.argv[2:] or list(FORMATS)
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    strays: list[str] = []
    for name in names:
        random_ = random.Random(f"{SEED} {name}")  # noqa: S311 - repeatable, not secret
        with tempfile.TemporaryDirectory() as folder:
            read, *changed = FORMATS[name](Path(folder))
            changed = changed or [read]
            sound = {path: path.read_bytes() for path in changed}
            before = sorted(Path(folder).rglob("*"))
            for _ in range(mutants):
                path = random_.choice(changed)
                path.write_bytes(mutate(random_, sound[path]))
                start = processor_seconds()
                outcomes[outcome(lambda read=read: use(read))] += 1  # type: ignore[misc]
                slowest = max(slowest, processor_seconds() - start)
                path.write_bytes(sound[path])
            strays += [str(path) for path in sorted(Path(folder).rglob("*")) if path not in before]
    report = {"outcomes": outcomes, "seconds": slowest, "kib": peak_kib(), "strays": strays}
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
