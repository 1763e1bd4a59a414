"""Looks into HDF5 files, in a process of its own that can do no harm.

libhdf5 crashes on files made to that end and asks for gigabytes (docs/adr/0006-hdf5-in-a-child.md),
so this process first gives up what it does not need: it can open no file, write none, and has a
limit of memory and of processor time. `mstore.formats.hdf5_process` starts it; nothing imports it.

Standard input: the request as JSON. Standard output: a line of JSON for each file, or the decoded
bytes of one.
Standard error: ``{"refused": text}`` or ``{"damaged": text}``.
"""

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
from h5py import h5a, h5d, h5f, h5g, h5l, h5o

from mstore.errors import Error
from mstore.formats.hdf5_blocks import MAX_CHUNK, blocks, read_block
from mstore.formats.hdf5_elements import Refused, describe, read_text, weight_names
from mstore.formats.windows import Window, WindowFile

MAX_OBJECTS = 30_000
"""Groups and datasets in a file."""

MAX_DEPTH = 64
"""Groups within groups."""

_MAX_NAME = 1024
_MAX_PATH = 4096
_MAX_ATTRIBUTES = 1000
_REASON = 200


def main() -> None:
    """Answer one request, see `mstore.formats.hdf5_process`."""
    request = json.load(sys.stdin.buffer)
    _confine(request["memory"], request["seconds"])
    try:
        for descriptor, start, size in request["windows"]:
            with _opened(Window(descriptor, start, size, "the file")) as file:
                found = examine(file, request["allowance"])
                if request["decode"]:
                    _decode(file, found["datasets"])
                else:
                    print(json.dumps(found), flush=True)  # noqa: T201 - the answer
        sys.stdout.flush()
    except Refused as error:
        _fail("refused", str(error))
    except Error as error:
        _fail("damaged", error.message)
    except MemoryError:
        _fail("damaged", "reading it takes more memory than a sound file needs")
    except Exception as error:  # noqa: BLE001 - libhdf5's complaints come as any class
        _fail("damaged", str(error) or type(error).__name__)


def _fail(kind: str, text: str) -> None:
    json.dump({kind: " ".join(text.split())[:_REASON]}, sys.stderr)
    sys.stderr.flush()
    sys.exit(1)


def _confine(memory: int, seconds: int) -> None:
    """Allow so much more memory and processor time, and no opening or writing of files."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    for kind, limit in (
        (resource.RLIMIT_AS, pages * resource.getpagesize() + memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))


def _opened(window: Window) -> Any:
    # The cache holds one chunk, so that blocks smaller than a chunk do not unpack it again.
    return h5py.File(WindowFile(window, window.size), "r", rdcc_nbytes=MAX_CHUNK + (1 << 20))


def examine(file: Any, allowance: int) -> dict[str, Any]:
    """Return what an open ``h5py.File`` holds, as JSON.

    Args:
        file: the file.
        allowance: bytes to which its packed data may unfold.

    Returns:
        ``datasets``: path, dtype, shape, offset (None where it must be decoded), size, name of
        the variable, value of an integer scalar; ``labels``: path of a group to the name of its
        layer; ``attributes``: names of the root's attributes.

    Raises:
        Refused: it has something that is not accepted.
        Exception: anything, on a damaged file.
    """
    names: dict[str, str] = {}
    labels: dict[str, str] = {}
    datasets: list[dict[str, Any]] = []
    unfolded = 0
    for path, item in _objects(file.id):
        if not isinstance(item, h5d.DatasetID):
            label = read_text(item, b"name") if f"/{path}".endswith("/vars") else None
            if label:
                labels[path] = label
            names.update(
                (f"{path}/{name}" if path else name, name.removesuffix(":0"))
                for name in weight_names(item)
            )
        elif (described := describe(item, path)) is not None:
            datasets.append(described)
            unfolded += described["size"] if described["offset"] is None else 0
            if unfolded > allowance:
                raise Refused("its packed or unwritten data unfolds to many times the file's size")
    for described in datasets:
        described["name"] = names.get(described["path"])
    datasets.sort(key=lambda item: _encoded(item["path"]))
    return {"datasets": datasets, "labels": labels, "attributes": _attribute_names(file.id)}


def _objects(file: h5f.FileID) -> Iterator[tuple[str, Any]]:
    """Yield each group and dataset with its path, without the first slash."""
    root = h5g.open(file, b"/")
    seen = {h5o.get_info(root).addr}
    pending = [("", root, 0)]
    while pending:
        path, group, depth = pending.pop()
        yield path, group
        for name in group:
            inner = _joined(path, name)
            link = group.links.get_info(name)
            if link.type != h5l.TYPE_HARD:
                raise Refused(f"{inner} is a link to another place")
            if link.u in seen:  # the address of the object
                raise Refused(f"{inner} is a second name of another object")
            seen.add(link.u)
            item = h5o.open(group, name)
            if len(seen) > MAX_OBJECTS:
                raise Refused(f"it has more than {MAX_OBJECTS} groups and datasets")
            if isinstance(item, h5d.DatasetID):
                yield inner, item
            elif isinstance(item, h5g.GroupID):
                if depth == MAX_DEPTH:
                    raise Refused(f"its groups are more than {MAX_DEPTH} deep")
                pending.append((inner, item, depth + 1))


def _joined(path: str, name: bytes) -> str:
    if len(name) > _MAX_NAME or len(path) + len(name) >= _MAX_PATH:
        raise Refused(f"it has a name of {len(path) + len(name)} bytes")
    text = name.decode("utf-8", "surrogateescape")
    return f"{path}/{text}" if path else text


def _encoded(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _attribute_names(file: h5f.FileID) -> list[str]:
    count = h5a.get_num_attrs(file)
    if count > _MAX_ATTRIBUTES:
        raise Refused(f"it has {count} attributes")
    names = [h5a.open(file, index=at).name for at in range(count)]
    return [n.decode("utf-8", "replace") if isinstance(n, bytes) else n for n in names]


def _decode(file: Any, datasets: list[dict[str, Any]]) -> None:
    """Write the values of the datasets that cannot be taken where they stand, in order."""
    for described in datasets:
        if described["offset"] is None:
            item = h5d.open(file.id, _encoded(described["path"]))
            for start, count in blocks(item):
                sys.stdout.buffer.write(read_block(item, start, count))
