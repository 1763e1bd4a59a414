"""Hostile and damaged Keras files: an error in words, in little memory and time."""

import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
import pytest

from mstore.errors import DamagedFileError, Error, InputError
from mstore.formats import hdf5_child, hdf5_process, keras_shards, zip_members
from mstore.formats.keras_read import read_keras
from mstore.formats.windows import Window
from tests.formats.hostile_keras import CASES, FORMATS, use, use_layout
from tests.formats.keras_writer import (
    BIAS,
    KERNEL,
    h5_bytes,
    keras3_weights,
    members,
    write_archive,
    write_directory,
    write_shards,
)

ROOT = Path(__file__).parents[2]
MUTANTS = 1000
MEMORY_KIB = 300_000


def report_of(*arguments: str, forked: bool = False) -> Any:
    result = subprocess.run(
        [sys.executable, "-m", "tests.formats.hostile_keras", *arguments],
        cwd=ROOT,
        env={**os.environ, "FORKED": "1" if forked else ""},
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", FORMATS)
def test_mutants_end_in_words_or_are_read(name: str) -> None:
    report = report_of(str(MUTANTS), name, forked=True)
    assert sum(report["outcomes"].values()) == MUTANTS
    assert len(report["outcomes"]) > 3
    assert report["strays"] == []
    assert report["kib"] < MEMORY_KIB
    assert report["seconds"] < 10


@pytest.mark.parametrize("name", ["archive", "shards", "legacy"])
def test_a_fork_reads_as_a_process_that_was_started(name: str) -> None:
    assert report_of("12", name)["outcomes"] == report_of("12", name, forked=True)["outcomes"]


@pytest.mark.parametrize("case", CASES)
def test_hostile_files_cost_little(case: str, tmp_path: Path) -> None:
    report = report_of(case, str(CASES[case](tmp_path)))
    assert report["kib"] < MEMORY_KIB
    assert report["seconds"] < 10


@pytest.mark.parametrize("name", ["weights", "archive", "deflated", "legacy"])
def test_a_file_that_is_cut_short_is_never_read_as_whole(name: str, tmp_path: Path) -> None:
    path = FORMATS[name](tmp_path)[-1]
    data = path.read_bytes()
    for size in range(0, len(data), len(data) // 12):
        path.write_bytes(data[:size])
        with pytest.raises(DamagedFileError):
            use(path)


# HDF5


def soft(file: Any) -> None:
    file["b"] = h5py.SoftLink("/layers/dense")


def soft_cycle(file: Any) -> None:
    file["layers/again"] = h5py.SoftLink("/layers")


def external(file: Any) -> None:
    file["b"] = h5py.ExternalLink("/etc/passwd", "/")


def second_name(file: Any) -> None:
    file["b"] = file["layers/dense/vars/0"]


def hard_cycle(file: Any) -> None:
    file["layers/again"] = file["/"]


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4, 3))
    file.create_virtual_dataset("a/vars/0", layout)


def elsewhere(file: Any) -> None:
    file.create_dataset("a/vars/0", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def deep(file: Any) -> None:
    file.create_group("/".join(["a"] * 100))


def long_name(file: Any) -> None:
    file.create_group("a" * 5000)


def unwritten(file: Any) -> None:
    file.create_dataset("a/vars/0", (1 << 40,), "f4")


def bomb(file: Any) -> None:
    file.create_dataset("a/vars/0", (1 << 30,), "f4", chunks=(1 << 20,), compression="gzip")


def wide_chunks(file: Any) -> None:
    file.create_dataset("a/vars/0", (1 << 26,), "f4", chunks=(1 << 26,), compression="gzip")


def plugin(file: Any) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file.create_group("a/vars").id, b"0", h5py.h5t.IEEE_F32LE, space, plist)


def many_attributes(file: Any) -> None:
    for number in range(1500):
        file.attrs[f"a{number}"] = 1


def many_names(file: Any) -> None:
    file["layers"].attrs.create("weight_names", np.zeros(60_000, "S100"))


REFUSED: dict[Callable[[Any], None], str] = {
    soft: "is a link to another place",
    soft_cycle: "is a link to another place",
    external: "is a link to another place",
    second_name: "is a second name of another object",
    hard_cycle: "is a second name of another object",
    virtual: "a virtual dataset",
    elsewhere: "keeps its data in another file",
    deep: "groups are more than 64 deep",
    long_name: "a name of 5000 bytes",
    unwritten: "unfolds to many times",
    bomb: "unfolds to many times",
    wide_chunks: "chunks of more than 16 MiB",
    plugin: "filter 32015, which needs a plug-in",
    many_attributes: "it has 1500 attributes",
    many_names: "list of weight names is too long",
}


@pytest.mark.parametrize("fill", REFUSED, ids=lambda fill: fill.__name__)
@pytest.mark.parametrize("packed", [False, True], ids=["file", "archive"])
def test_what_keras_never_writes_is_refused(
    fill: Callable[[Any], None], packed: bool, tmp_path: Path
) -> None:
    def write(file: Any) -> None:
        keras3_weights(file)
        fill(file)

    options: Any = {"libver": "latest"} if fill in {many_attributes, many_names} else {}
    data = h5_bytes(write, **options)
    path = tmp_path / "m.weights.h5"
    path.write_bytes(data)
    if packed:
        path = write_archive(tmp_path / "m.keras", members(model=data), zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=REFUSED[fill]) as caught:
        read_keras(path)
    assert caught.value.hint


def test_too_many_objects_are_refused(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        for number in range(hdf5_child.MAX_OBJECTS):
            file.create_group(f"g{number}")

    path = tmp_path / "m.h5"
    path.write_bytes(h5_bytes(fill, libver="latest"))
    with pytest.raises(InputError, match="more than 30000 groups and datasets"):
        read_keras(path)


def test_datasets_that_share_bytes_are_damage(tmp_path: Path) -> None:
    """The address of one dataset is written over that of another."""
    path = tmp_path / "m.weights.h5"
    path.write_bytes(h5_bytes(keras3_weights))
    layout = read_keras(path)
    assert layout is not None
    first, second = (
        next(t for t in layout.table if t.name == name)
        for name in ("layers/dense/vars/0", "layers/sequential/layers/dense/vars/0")
    )
    data = path.read_bytes()
    address = struct.pack("<QQ", second.offset, second.size)
    assert data.count(address) == 1
    path.write_bytes(data.replace(address, struct.pack("<QQ", first.offset + 4, first.size)))
    with pytest.raises(DamagedFileError, match="share the bytes"):
        read_keras(path)


def test_a_file_that_makes_the_library_loop_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less time than looking takes stands for a file on which it never ends."""
    monkeypatch.setattr(hdf5_process, "SECONDS", 0)
    path = tmp_path / "m.weights.h5"
    path.write_bytes(h5_bytes(keras3_weights))
    with pytest.raises(DamagedFileError, match="cannot read it"):
        read_keras(path)


def test_the_process_can_open_and_write_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from mstore.formats import hdf5_child\n"
        "kept = os.open(sys.argv[1], os.O_RDWR)\n"
        "hdf5_child._confine(1 << 26, 5)\n"
        "for attempt in (\n"
        "    lambda: open(sys.argv[1]), lambda: os.write(kept, b'x'), lambda: bytearray(1 << 27),\n"
        "    lambda: os.fork() if os.getuid() else open('/dev/null'),\n"
        "):\n"
        "    try: attempt(); print('allowed')\n"
        "    except (OSError, MemoryError) as error: print(type(error).__name__)"
    )
    path = tmp_path / "file"
    path.write_bytes(b"kept")
    command = [sys.executable, "-c", f"import signal; signal.signal(25, signal.SIG_IGN); {code}"]
    result = subprocess.run([*command, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split()[:3] == ["OSError", "OSError", "MemoryError"]
    assert path.read_bytes() == b"kept"


def test_no_plugin_is_loaded_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(tmp_path))
    kept = hdf5_process._environment()
    assert "HDF5_PLUGIN_PATH" not in kept
    assert kept["HDF5_PLUGIN_PRELOAD"] == "::"


def test_a_module_beside_the_file_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "h5py.py").write_text("raise SystemExit('run')")
    path = tmp_path / "m.weights.h5"
    path.write_bytes(h5_bytes(keras3_weights))
    monkeypatch.chdir(tmp_path)
    assert read_keras(path) is not None


def test_a_file_that_changes_before_it_is_decoded_is_damage(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "m.keras", method=zipfile.ZIP_DEFLATED)
    layout = read_keras(path)
    assert layout is not None
    write_archive(path, members(model=h5_bytes(lambda f: f.create_dataset("a/vars/0", data=BIAS))))
    with pytest.raises(DamagedFileError, match="changed while"):
        use_layout(layout)


# Archives


def renamed(old: bytes, new: bytes, others: Mapping[str, bytes] = MappingProxyType({})) -> bytes:
    """Return an archive in which a member has another name, of the same length."""
    assert len(old) == len(new)
    return archive_bytes({**members(), **others, old.decode(): b"x"}).replace(old, new)


def archive_bytes(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def link() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members().items():
            archive.writestr(name, data)
        info = zipfile.ZipInfo("assets/link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def flagged(offset_local: int, offset_central: int, value: int) -> bytes:
    """Return an archive with a field of the last member's headers set."""
    data = bytearray(archive_bytes(members()))
    struct.pack_into("<H", data, data.rindex(b"PK\x03\x04") + offset_local, value)
    struct.pack_into("<H", data, data.rindex(b"PK\x01\x02") + offset_central, value)
    return bytes(data)


def zeros(count: int, size: int) -> bytes:
    files = {**members(), **{f"assets/{n}": bytes(size) for n in range(count)}}
    return archive_bytes(files, zipfile.ZIP_DEFLATED)


def overlapping() -> bytes:
    """Return an archive whose last member has the place of the one before it."""
    data = bytearray(archive_bytes({**members(), "assets/aa": b"x", "assets/ab": b"x"}))
    last = data.rindex(b"PK\x01\x02")
    before = data.rindex(b"PK\x01\x02", 0, last)
    data[last + 42 : last + 46] = data[before + 42 : before + 46]
    return bytes(data)


def declared(size: int) -> bytes:
    """Return an archive whose weights say that they unfold to another size."""
    data = bytearray(archive_bytes(members(), zipfile.ZIP_DEFLATED))
    at = data.index(b"PK\x01\x02")
    for _ in range(2):
        at = data.index(b"PK\x01\x02", at + 1)
    struct.pack_into("<I", data, at + 24, size)
    return bytes(data)


def other_crc() -> bytes:
    data = bytearray(archive_bytes(members()))
    at = data.index(KERNEL.tobytes())
    data[at] ^= 1
    return bytes(data)


ARCHIVES: dict[str, tuple[Callable[[], bytes], type[Error], str]] = {
    "climbing": (lambda: renamed(b"assets/xx", b"../escape"), InputError, "outside"),
    "climbing within": (lambda: renamed(b"assets/xx", b"assets/.."), InputError, "outside"),
    "absolute": (lambda: renamed(b"assets/xx", b"/assets/x"), InputError, "outside"),
    "backslash": (lambda: renamed(b"assets/xx", rb"..\assets"), InputError, "outside"),
    "drive": (lambda: renamed(b"assets/xx", b"c:/assets"), InputError, "outside"),
    "zero byte": (lambda: renamed(b"assets/xx", b"assets/\0x"), InputError, "outside"),
    "twice": (
        lambda: renamed(b"assets/xx", b"assets/aa", {"assets/aa": b""}),
        DamagedFileError,
        "two members",
    ),
    "file as folder": (
        lambda: archive_bytes({**members(), "assets/a": b"", "assets/a/b": b""}),
        DamagedFileError,
        "within a member that is a file",
    ),
    "link": (link, InputError, "a link or a device"),
    "encrypted": (lambda: flagged(6, 8, 1), InputError, "encrypted"),
    "bzip2": (lambda: flagged(8, 10, zipfile.ZIP_BZIP2), InputError, "packed in a way"),
    "unknown packing": (lambda: flagged(8, 10, 99), InputError, "packed in a way"),
    "pickle": (
        lambda: archive_bytes({**members(), "assets/x.pkl": b"\x80\x04."}),
        InputError,
        "a pickle, which can run any code",
    ),
    "bomb": (lambda: zeros(1, 400 << 20), InputError, "zip bomb"),
    "bomb in parts": (lambda: zeros(30, 20 << 20), InputError, "zip bomb"),
    "overlap": (overlapping, DamagedFileError, "overlaps another member"),
    "huge size": (lambda: declared(0xFFFFFFF0), InputError, "zip bomb"),
    "size too large": (lambda: declared(20_000), DamagedFileError, "cut short"),
    "size too small": (lambda: declared(2000), DamagedFileError, "is damaged"),
    "other bytes": (other_crc, DamagedFileError, "CRC"),
    "no config": (
        lambda: archive_bytes({"model.weights.h5": h5_bytes(keras3_weights)}),
        InputError,
        "it has no config.json",
    ),
    "no weights": (
        lambda: archive_bytes({"config.json": b"{}", "model.weights.npz": b""}),
        InputError,
        "no model.weights.h5",
    ),
    "config of nothing": (
        lambda: archive_bytes(members(config=b"[" * 100_000)),
        DamagedFileError,
        "is not JSON",
    ),
    "huge config": (
        lambda: archive_bytes(members(config=b"[" * (9 << 20)), zipfile.ZIP_DEFLATED),
        DamagedFileError,
        "more than the 8388608 it may have",
    ),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_hostile_archives_are_refused(kind: str, tmp_path: Path) -> None:
    make, error, words = ARCHIVES[kind]
    path = tmp_path / "m.keras"
    path.write_bytes(make())
    with pytest.raises(error, match=words) as caught:
        use(path)
    assert caught.value.hint
    assert sorted(tmp_path.iterdir()) == [path]


def test_an_archive_of_too_many_members_is_refused(tmp_path: Path) -> None:
    files = {f"assets/{n}": b"" for n in range(zip_members.MAX_MEMBERS)}
    with pytest.raises(InputError, match="more than 10000"):
        read_keras(write_archive(tmp_path / "m.keras", {**members(), **files}))


def test_a_zip64_archive_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members().items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
    use(path)
    assert read_keras(path) is not None


# Directories and shards


def test_links_among_the_assets_are_refused(tmp_path: Path) -> None:
    path = write_directory(tmp_path / "model")
    (path / "assets" / "more").symlink_to("/etc")
    with pytest.raises(InputError, match="is a link or a device"):
        read_keras(path)


@pytest.mark.parametrize(
    "name", ["../model_00000.weights.h5", "/etc/x_00000.weights.h5", "x.h5", "a\n_00000.weights.h5"]
)
def test_a_map_that_leads_elsewhere_is_damage(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.weights.json"
    path.write_text(json.dumps({"weight_map": {"/layers/dense/vars": [name]}}))
    with pytest.raises(DamagedFileError, match="no name of a shard"):
        read_keras(path)


@pytest.mark.parametrize("names", [5, [5], None, {}, [["x"]]])
def test_a_map_of_other_things_is_damage(names: object, tmp_path: Path) -> None:
    path = tmp_path / "model.weights.json"
    path.write_text(json.dumps({"weight_map": {"/layers/dense/vars": names}}))
    with pytest.raises(DamagedFileError, match="no name of a shard"):
        read_keras(path)


def test_maps_of_nothing_and_of_too_much_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.json"
    path.write_text('{"weight_map": {}}')
    with pytest.raises(InputError, match="lists no weights"):
        read_keras(path)
    many = [f"model_{n:05d}.weights.h5" for n in range(keras_shards.MAX_SHARDS + 1)]
    path.write_text(json.dumps({"weight_map": {"/a/vars": many}}))
    with pytest.raises(DamagedFileError, match="more than 256"):
        read_keras(path)
    path.write_text('{"weight_map": ' + "[" * keras_shards.MAX_MAP)
    with pytest.raises(DamagedFileError, match="more than the 4194304"):
        read_keras(path)


def test_the_same_variable_in_two_shards_is_damage(tmp_path: Path) -> None:
    path = write_shards(tmp_path)
    first, second = (tmp_path / f"model_0000{n}.weights.h5" for n in range(2))
    second.write_bytes(first.read_bytes())
    weight_map = {"/layers/dense/vars": [first.name, second.name]}
    path.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(DamagedFileError, match="another file holds layers/dense/vars/0 too"):
        read_keras(path)


def test_a_window_shows_its_part_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(100)))
    with (tmp_path / "x").open("rb") as file:
        window = Window.whole(file.fileno(), "x").part(10, 20)
        assert window.read(5, 100) == bytes(range(15, 30))
        assert window.read(30, 5) == b""
        with pytest.raises(DamagedFileError):
            window.part(10, 11)
