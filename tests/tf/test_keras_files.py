"""The readers of Keras files against files that Keras wrote, after real training steps."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mstore.domain.tensors import DECODED
from mstore.formats.keras_read import read_keras
from mstore.formats.layout import Layout
from mstore.formats.tensor_bundle import read_table
from mstore.objects.chunking import SMALL, cut
from tests.formats.test_keras_read import contents, identity, raw, read

HERE = Path(__file__).parent
STEP = 7


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return what Keras 3 wrote in two processes."""
    found = {}
    for name in ("3", "again"):
        directory = tmp_path_factory.mktemp(f"keras-{name}-")
        result = subprocess.run(
            [sys.executable, str(HERE / "keras_saved.py"), str(directory)],
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stderr.decode()[-4000:]
        found[name] = directory
    return found


def listing(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "listing.json").read_text())
    return found


def values(layout: Layout) -> dict[str, tuple[str, tuple[int, ...], str]]:
    files = contents(layout)
    return {t.name: (t.dtype, t.shape, raw(layout, files, t).hex()) for t in layout.table}


def live(rows: list[Any]) -> set[Any]:
    return {(dtype, tuple(shape), data) for _, dtype, shape, data in rows}


EVERYTHING = [
    ("3", "first.keras", "keras"),
    ("3", "folder", "keras-directory"),
    ("3", "model.weights.h5", "weights-h5"),
    ("3", "shards.weights.json", "weights-json"),
    ("3", "whole.h5", "legacy-h5"),
]


@pytest.mark.parametrize(("keras", "name", "format_"), EVERYTHING)
def test_the_table_is_what_the_model_holds(
    made: dict[str, Path], keras: str, name: str, format_: str
) -> None:
    layout = read(made[keras] / name)
    expected = listing(made[keras])
    found = {key: v for key, v in values(layout).items() if not key.startswith("metrics/")}
    assert set(found.values()) == live(expected["model"] + expected["optimizer"])
    assert len(found) == len(expected["model"] + expected["optimizer"])
    assert layout.format == format_
    assert layout.architecture == ("keras" if format_ in {*KERAS_WHOLE} else None)
    assert layout.step is not None
    assert layout.step[0] == STEP
    assert layout.decode is None
    assert min(layout.files)


KERAS_WHOLE = ("keras", "keras-directory", "legacy-h5")


@pytest.mark.parametrize("keras", ["3"])
@pytest.mark.parametrize("name", ["model.weights.h5", "whole.h5"])
def test_keys_are_the_paths_that_h5py_lists(made: dict[str, Path], keras: str, name: str) -> None:
    found = values(read(made[keras] / name))
    expected = listing(made[keras])["files"][name]
    assert {key: [list(shape), data] for key, (_, shape, data) in found.items()} == expected


@pytest.mark.parametrize("keras", ["3"])
def test_legacy_names_are_those_of_the_variables(made: dict[str, Path], keras: str) -> None:
    layout = read(made[keras] / "whole.h5")
    found = values(layout)
    expected = listing(made[keras])
    assert {tensor.full_name: found[tensor.name] for tensor in layout.table} == {
        name: (dtype, tuple(shape), data)
        for name, dtype, shape, data in expected["model"] + expected["optimizer"]
    }


def test_layers_are_named_in_keras_3(made: dict[str, Path]) -> None:
    layout = read(made["3"] / "first.keras")
    found = values(layout)
    named = {tensor.full_name: found[tensor.name][2] for tensor in layout.table}
    data = {name: data for name, _, _, data in listing(made["3"])["model"]}
    assert named["shared/0"] == data["shared/kernel"]
    assert named["encoder/deep/1"] == data["encoder/deep/bias"]
    assert named["norm/2"] == data["norm/moving_mean"]


def test_bfloat16_and_the_steps_of_an_inner_optimizer(made: dict[str, Path]) -> None:
    layout = read(made["3"] / "blocks.keras")
    found = values(layout)
    assert set(found.values()) == live(listing(made["3"])["blocks"])
    assert found["blocks/dense/vars/0"][0] == "bfloat16"
    name = "optimizer/inner_optimizer/vars/0"  # loss scaling may have skipped a step
    assert layout.step == (int.from_bytes(bytes.fromhex(found[name][2]), "little"), name)


def test_saves_of_equal_weights_are_equal(made: dict[str, Path]) -> None:
    for keras in ("3",):
        first, second = (made[keras] / f"{n}.keras" for n in ("first", "second"))
        assert first.read_bytes() != second.read_bytes()
        assert identity(first) == identity(second)
    here, there = made["3"], made["again"]
    assert identity(here / "first.keras") == identity(there / "first.keras")
    assert identity(here / "folder") == identity(there / "folder")
    assert identity(here / "first.keras") != identity(here / "changed.keras")


def test_the_vocabulary_is_part_of_the_identity(made: dict[str, Path], tmp_path: Path) -> None:
    source = made["3"] / "first.keras"
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    (vocabulary,) = (name for name in files if name.endswith("vocabulary.txt"))
    for text in (files[vocabulary], files[vocabulary].replace(b"red", b"tan")):
        path = tmp_path / f"{hashlib.sha256(text).hexdigest()}.keras"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in {**files, vocabulary: text}.items():
                archive.writestr(name, data)
        assert (identity(path) == identity(source)) == (text == files[vocabulary])
        layout = read(path)
        assert values(layout) == values(read(source))
        assert layout.table.files[-1] == DECODED


def large_chunks(data: bytes, extents: list[tuple[int, int]]) -> set[bytes]:
    """Return the ids of the chunks that hold large tensors alone."""
    starts = {offset for offset, size in extents if size >= SMALL}
    return {
        hashlib.sha256(data[at : at + size]).digest()
        for at, size in cut(len(data), extents)
        if at in starts
    }


def test_large_tensors_are_the_same_chunks_in_every_format(made: dict[str, Path]) -> None:
    directory = made["3"]
    table = read_table(directory / "ckpt")
    data = (directory / "ckpt.data-00000-of-00001").read_bytes()
    wanted = large_chunks(data, [(t.offset, t.size) for t in table if not t.sliced])
    assert len(wanted) == 3  # a kernel and its two slots
    for name in ("first.keras", "folder", "model.weights.h5", "whole.h5", "shards.weights.json"):
        layout = read_keras(directory / name)
        assert layout is not None
        files = contents(layout)
        found: set[bytes] = set()
        for number, suffix in enumerate(layout.table.files):
            extents = [(t.offset, t.size) for t in layout.table if t.shard == number]
            found |= large_chunks(files[suffix], extents)
        assert wanted == found, name
