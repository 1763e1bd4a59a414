import struct
from pathlib import Path

import pytest

from mstore.formats.detect import find_step, step_in_name
from mstore.formats.tensor_bundle import read_table
from tests.formats.bundle_writer import FLOAT32, INT32, INT64, SUFFIX, Value, write_bundle


def long(value: int) -> Value:
    return Value(INT64, (), struct.pack("<q", value))


def step_of(directory: Path, values: dict[str, Value], *, plain: bool = False) -> object:
    keyed = {key.encode() + (b"" if plain else SUFFIX): value for key, value in values.items()}
    prefix = write_bundle(directory / "x", keyed)
    return find_step(prefix, read_table(prefix))


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("ckpt-1200", 1200),
        ("model.ckpt-7", 7),
        ("weights_0012", 12),
        ("cp-0007.ckpt", 7),
        ("cp.0010.ckpt", 10),
        ("000012", 12),
        ("ckpt-0", 0),
        ("weights.01-0.45", None),
        ("loss_1.5", None),
        ("model-v2", None),
        ("fp16", None),
        ("best", None),
        ("variables", None),
        ("ckpt-" + "9" * 19, None),
        ("ckpt-" + "9" * 40, None),
    ],
)
def test_steps_in_names(name: str, step: int | None) -> None:
    assert step_in_name(Path("dir-3") / name) == step


def test_the_step_nearest_to_the_root_wins(tmp_path: Path) -> None:
    values = {"step": long(5), "trainer/step": long(9), "optimizer/_iterations": long(6)}
    assert step_of(tmp_path, values) == (5, "step")
    del values["step"]
    assert step_of(tmp_path, values) == (9, "trainer/step")
    del values["trainer/step"]
    assert step_of(tmp_path, values) == (6, "optimizer/_iterations")


def test_variables_that_disagree_are_not_taken(tmp_path: Path) -> None:
    values = {"step": long(5), "global_step": long(6), "trainer/step": long(9)}
    assert step_of(tmp_path, values) == (9, "trainer/step")
    two = {"gen/_iterations": long(5), "disc/_iterations": long(6)}
    assert step_of(tmp_path, two) is None
    assert step_of(tmp_path, {"a/iter": long(5), "b/_iterations": long(5)}) == (5, "a/iter")


def test_name_based_checkpoints_have_a_global_step(tmp_path: Path) -> None:
    assert step_of(tmp_path, {"global_step": long(77)}, plain=True) == (77, "global_step")


def test_only_counting_scalars_are_steps(tmp_path: Path) -> None:
    values = {
        "step": Value(FLOAT32, (), struct.pack("<f", 3)),
        "a/step": Value(INT64, (1,), struct.pack("<q", 3)),
        "b/c/step": long(-3),
        "d/e/f/step": Value(INT32, (), struct.pack("<i", 8)),
    }
    assert step_of(tmp_path, values) == (8, "d/e/f/step")
    del values["d/e/f/step"]
    assert step_of(tmp_path, values) is None
    assert step_of(tmp_path, {"save_counter": long(3)}) is None
