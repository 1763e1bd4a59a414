import os
from pathlib import Path

import pytest

from mstore.errors import Error, InputError
from mstore.formats.detect import find_checkpoints
from tests.formats.bundle_writer import FLOAT32, Value, write_bundle
from tests.formats.tf1_writer import small_v1, write_v1

SMALL = {b"w": Value(FLOAT32, (), bytes(4))}


def checkpoints(directory: Path, *names: str) -> list[Path]:
    return [write_bundle(directory / name, SMALL) for name in names]


def state(directory: Path, text: str) -> None:
    (directory / "checkpoint").write_text(text)


def refusal(path: Path, *, latest: bool = False) -> InputError:
    with pytest.raises(InputError) as caught:
        find_checkpoints(path, latest=latest)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    "name", ["ckpt.1", "ckpt.1.index", "ckpt.1.data-00000-of-00001", "ckpt.1.meta"]
)
def test_a_prefix_and_each_file_of_it_mean_the_checkpoint(tmp_path: Path, name: str) -> None:
    [prefix] = checkpoints(tmp_path, "ckpt.1")
    assert find_checkpoints(tmp_path / name) == [prefix]


def test_a_directory_means_all_its_checkpoints_in_natural_order(tmp_path: Path) -> None:
    made = checkpoints(tmp_path, "ckpt-2", "ckpt-10", "ckpt-9", "best", "ckpt-09")
    checkpoints(tmp_path / "deeper", "ckpt-1")
    checkpoints(tmp_path, ".hidden", "._ckpt-2")
    (tmp_path / "ckpt-11.index.tempstate123").touch()
    (tmp_path / "ckpt-11.data-00000-of-00001").touch()
    (tmp_path / "folder.index").mkdir()
    found = [path.name for path in find_checkpoints(tmp_path)]
    assert found == ["best", "ckpt-2", "ckpt-09", "ckpt-9", "ckpt-10"]
    assert len(found) == len(made)


def test_a_prefix_goes_before_a_directory_of_its_name(tmp_path: Path) -> None:
    [prefix] = checkpoints(tmp_path, "model")
    [inner] = checkpoints(tmp_path / "model", "ckpt-1")
    assert find_checkpoints(tmp_path / "model") == [prefix]
    state(tmp_path / "model", 'model_checkpoint_path: "ckpt-1"')
    assert find_checkpoints(tmp_path / "model", latest=True) == [inner]


def test_the_latest_is_what_the_state_file_says(tmp_path: Path) -> None:
    first, _ = checkpoints(tmp_path, "ckpt-1", "ckpt-2")
    state(
        tmp_path,
        'model_checkpoint_path: "ckpt-1"\nall_model_checkpoint_paths: "ckpt-1"\n'
        'all_model_checkpoint_paths: "ckpt-2"\nall_model_checkpoint_timestamps: 1.5e9\n'
        "last_preserved_timestamp: 1.0\n",
    )
    assert find_checkpoints(tmp_path, latest=True) == [first]
    assert find_checkpoints(tmp_path / "checkpoint") == [first]


def test_an_absolute_state_is_followed_and_survives_a_move(tmp_path: Path) -> None:
    [here] = checkpoints(tmp_path / "a", "ckpt-1")
    [there] = checkpoints(tmp_path / "b", "ckpt-1")
    state(tmp_path / "a", f'model_checkpoint_path: "{there}"')
    assert find_checkpoints(tmp_path / "a", latest=True) == [there]
    there.with_name("ckpt-1.index").unlink()
    assert find_checkpoints(tmp_path / "a", latest=True) == [here]


def test_names_that_are_not_ascii_are_followed(tmp_path: Path) -> None:
    [prefix] = checkpoints(tmp_path, "modèle-1")
    state(tmp_path, 'model_checkpoint_path: "mod\\303\\250le-1"')
    assert find_checkpoints(tmp_path, latest=True) == [prefix]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no state file"),
        ("model_checkpoint_path: 7", "does not parse"),
        ('modle_checkpoint_path: "ckpt-1"', "does not parse"),
        ("\x00", "does not parse"),
        ("{" * 5000, "does not parse"),
        ("", "names no checkpoint"),
        ('model_checkpoint_path: "a\\000b"', "names no checkpoint"),
        ('model_checkpoint_path: "/"', "which is gone"),
        ('model_checkpoint_path: "ckpt-9"', "names ckpt-9, which is gone"),
        (f'model_checkpoint_path: "{"x" * 5000}"', "which is gone"),
    ],
)
def test_a_state_that_leads_nowhere_is_refused(
    tmp_path: Path, text: str | None, words: str
) -> None:
    checkpoints(tmp_path, "ckpt-1")
    if text is not None:
        state(tmp_path, text)
    error = refusal(tmp_path, latest=True)
    assert words in error.message
    assert "--latest" in error.hint


def test_a_state_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(b"\xff\xfe\xff")
    assert "does not parse" in refusal(tmp_path, latest=True).message


def test_only_directories_have_a_latest(tmp_path: Path) -> None:
    [prefix] = checkpoints(tmp_path, "ckpt-1")
    assert "not a directory" in refusal(prefix, latest=True).message


def test_what_is_there_instead_is_named(tmp_path: Path) -> None:
    assert "there is no checkpoint" in refusal(tmp_path / "missing").message
    assert "*.index" in refusal(tmp_path).message
    (tmp_path / "x.data-00000-of-00001").touch()
    assert "not complete" in refusal(tmp_path).hint
    assert "no x.index" in refusal(tmp_path / "x.data-00000-of-00001").message
    (tmp_path / "notes.txt").touch()
    assert "is not a checkpoint" in refusal(tmp_path / "notes.txt").message


def test_checkpoints_of_the_v1_format_are_found_beside_others(tmp_path: Path) -> None:
    [prefix] = checkpoints(tmp_path, "ckpt-9")
    old = write_v1(tmp_path / "ckpt-10", small_v1())
    assert find_checkpoints(old) == [old]
    assert find_checkpoints(tmp_path) == [prefix, old]
    (tmp_path / "m-00000-of-00001").write_bytes(old.read_bytes())
    for name in ("m", "m-00000-of-00001"):
        assert find_checkpoints(tmp_path / name) == [tmp_path / "m"]
    for name, found in (("ckpt-10", old), ("m-?????-of-00001", tmp_path / "m")):
        state(tmp_path, f'model_checkpoint_path: "{name}"')
        assert find_checkpoints(tmp_path, latest=True) == [found]


def test_a_savedmodel_is_a_checkpoint_by_its_directory_or_its_graph(tmp_path: Path) -> None:
    for name in ("epoch-10", "epoch-9"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    assert find_checkpoints(tmp_path / "epoch-9") == [tmp_path / "epoch-9"]
    assert find_checkpoints(tmp_path / "epoch-9" / "saved_model.pb") == [tmp_path / "epoch-9"]
    [prefix] = checkpoints(tmp_path, "ckpt-1")
    assert find_checkpoints(tmp_path) == [prefix, tmp_path / "epoch-9", tmp_path / "epoch-10"]


def test_keras_files_are_found_by_their_beginning_or_their_name(tmp_path: Path) -> None:
    hdf5 = b"\x89HDF\r\n\x1a\n"
    for name, start in (("a.keras", b""), ("b-9.bin", hdf5), ("c_00000.weights.h5", hdf5)):
        (tmp_path / name).write_bytes(start)
    (tmp_path / "c.weights.json").write_text(
        '{"weight_map": {"/layers/dense/vars": ["c_00000.weights.h5"]}}'
    )
    (tmp_path / "data.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "d").mkdir()
    for name in ("config.json", "model.weights.h5"):
        (tmp_path / "d" / name).touch()
    names = [path.name for path in find_checkpoints(tmp_path)]
    assert names == ["a.keras", "b-9.bin", "c.weights.json", "d"]
    assert find_checkpoints(tmp_path / "c_00000.weights.h5") == [tmp_path / "c.weights.json"]
    assert find_checkpoints(tmp_path / "d") == [tmp_path / "d"]


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is not a checkpoint" in refusal(tmp_path / "pipe").message
    os.mkfifo(tmp_path / "checkpoint")
    with pytest.raises(Error):
        find_checkpoints(tmp_path, latest=True)
