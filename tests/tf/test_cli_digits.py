"""The example of the README, from training to an audit, through the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mstore.formats.tensor_bundle import read_table

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "MSTORE_STORE"},
    "PYTHONPATH": str(ROOT),
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}


def python(cwd: Path, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def mstore(cwd: Path, *arguments: str, status: int = 0) -> Any:
    return json.loads(python(cwd, "-m", "mstore", *arguments, "--json", status=status))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained example whose checkpoints are in a store, the best of them served."""
    place = tmp_path_factory.mktemp("digits")
    for file in (ROOT / "examples" / "digits").glob("*.py"):
        shutil.copy(file, place)
    python(place, "train.py")
    mstore(place, "init")
    for line in (place / "metrics.txt").read_text().splitlines():
        prefix, loss = line.split()
        mstore(place, "add", prefix, "--model", "digits", "--metric", f"val_loss={loss}")
    mstore(
        place,
        *("export", "digits@best:val_loss", "--builder", "model.py:build"),
        *("--to", "serving/digits", "-m", "for the test"),
    )
    return place


def test_the_best_checkpoint_is_served_and_proven(place: Path) -> None:
    losses = {item["step"]: item["metrics"]["val_loss"] for item in mstore(place, "list")}
    report = mstore(place, "audit", "serving/digits")
    (version,) = report["versions"]
    assert (version["version"], version["verdict"], version["live"]) == (1, "proven", True)
    assert losses[version["checkpoint"]["step"]] == min(losses.values())
    (exported,) = mstore(place, "list", "--versions")
    assert exported["checks"]["weights"] == "proven"
    assert exported["checks"]["load"] == "passed"
    assert mstore(place, "log", "--limit", "1")[0]["model"] == "digits"


def test_the_variables_file_is_hardly_larger_than_the_weights(place: Path) -> None:
    prefix = place / "serving/digits/1/variables/variables"
    (data,) = prefix.parent.glob("variables.data-*")
    table = read_table(prefix)
    assert len(table.values) == 10
    assert table.nbytes < data.stat().st_size <= 1.01 * table.nbytes


def test_an_audit_elsewhere_needs_no_store(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "serving", tmp_path / "serving")
    (version,) = mstore(place, "audit", str(tmp_path / "serving" / "digits" / "1"))["versions"]
    assert version["verdict"] == "proven"


def test_promoting_again_elsewhere_gives_the_same_files(place: Path) -> None:
    mstore(place, "promote", "digits:1", "other")
    for path in sorted((place / "serving/digits/1").rglob("*")):
        if path.is_file() and path.name != "mstore.json":
            twin = place / "other/1" / path.relative_to(place / "serving/digits/1")
            assert twin.read_bytes() == path.read_bytes()


def test_a_flipped_bit_is_found_and_the_tensor_named(place: Path) -> None:
    shutil.copytree(place / "serving", place / "damaged")
    python(place, "flip.py", "damaged/digits/1/variables/variables.data-00000-of-00001")
    (version,) = mstore(place, "audit", "damaged/digits", status=13)["versions"]
    assert version["verdict"] == "modified"
    assert any("hidden/kernel" in str(finding) for finding in version["findings"])
