import struct
from pathlib import Path

import pytest

from mstore.errors import DamagedFileError, InputError
from mstore.formats.tf1_bundle import read_tf1_bundle
from tests.formats.bundle_writer import FLOAT32, INT64, Entry, Value, write_bundle
from tests.formats.tf1_writer import ordered_code, small_meta


def write(directory: Path, *, shards: int = 1) -> Path:
    halves = [[(0, 2), (0, 3)], [(2, 2), (0, 3)]]
    values = {
        b"w": Value(FLOAT32, (2, 3), struct.pack("<6f", *range(6)), shards - 1),
        b"global_step": Value(INT64, (), struct.pack("<q", 1200)),
        ordered_code(b"emb", halves[0]): Value(FLOAT32, (2, 3), bytes(24)),
        ordered_code(b"emb", halves[1]): Value(FLOAT32, (2, 3), bytes(range(24))),
    }
    heads = {b"emb": Entry(FLOAT32, (4, 3), slices=halves)}
    return write_bundle(directory / "model.ckpt-7", values, num_shards=shards, heads=heads)


def test_a_checkpoint_without_its_graph_has_weights_alone(tmp_path: Path) -> None:
    layout = read_tf1_bundle(write(tmp_path))
    assert layout.format == "tf1-bundle"
    assert layout.files == (".data-00000-of-00001", ".index")
    assert layout.architecture is None
    assert layout.checked


def test_the_graph_comes_with_it_and_the_index_last(tmp_path: Path) -> None:
    prefix = write(tmp_path, shards=2)
    Path(f"{prefix}.meta").write_bytes(small_meta())
    layout = read_tf1_bundle(prefix)
    assert layout.files == (".data-00000-of-00002", ".data-00001-of-00002", ".meta", ".index")
    assert layout.architecture == "meta-graph"


def test_the_step_is_the_variable_and_not_the_name(tmp_path: Path) -> None:
    assert read_tf1_bundle(write(tmp_path)).step == (1200, "global_step")


def test_slices_have_names_that_people_can_read(tmp_path: Path) -> None:
    table = read_tf1_bundle(write(tmp_path)).table
    assert {t.full_name for t in table if t.full_name} == {"emb[0:2,0:3]", "emb[2:4,0:3]"}
    head = table.get(b"emb")
    assert head is not None
    assert head.sliced


def test_files_of_estimators_beside_it_are_none_of_its_own(tmp_path: Path) -> None:
    prefix = write(tmp_path)
    for name in ("graph.pbtxt", "events.out.tfevents.1.host", "checkpoint"):
        (tmp_path / name).write_text("x")
    for name in ("eval", "export"):
        (tmp_path / name).mkdir()
    assert read_tf1_bundle(prefix).files == (".data-00000-of-00001", ".index")


@pytest.mark.parametrize("data", [b"", b"\xff" * 20, small_meta()[:-3], b"not a graph"])
def test_a_damaged_graph_is_an_error_and_says_how_to_go_on(tmp_path: Path, data: bytes) -> None:
    prefix = write(tmp_path)
    Path(f"{prefix}.meta").write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"\.meta is damaged") as caught:
        read_tf1_bundle(prefix)
    assert "move it away" in caught.value.hint


def test_a_directory_in_the_place_of_the_graph_is_refused(tmp_path: Path) -> None:
    prefix = write(tmp_path)
    Path(f"{prefix}.meta").mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        read_tf1_bundle(prefix)
