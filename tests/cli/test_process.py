"""The command as a process: what it imports, pipes, completion."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import make_checkpoint

ROOT = Path(__file__).parents[2]
HEAVY = ("tensorflow", "keras", "alembic")
_PROBE = """
import json, sys
from mstore.cli.run import run
status = run(sys.argv[1:])
modules = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps({"status": status, "modules": modules}), file=sys.stderr)
"""


def mstore(*arguments: str, cwd: Path, code: str | None = None) -> subprocess.CompletedProcess[str]:
    program = ["-c", code] if code else ["-m", "mstore"]
    environment = {name: value for name, value in os.environ.items() if name != "MSTORE_STORE"}
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a store of one checkpoint, and an empty serving directory."""
    place = tmp_path_factory.mktemp("process")
    make_checkpoint(place / "ckpt-1", 1)
    (place / "serving").mkdir()
    assert mstore("init", cwd=place).returncode == 0
    assert mstore("add", "ckpt-1", "--model", "m", cwd=place).returncode == 0
    return place


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("list",), 0),
        (("add", "ckpt-1", "--model", "m"), 0),
        (("show", "m"), 0),
        (("log",), 0),
        (("diff", "m", "m"), 0),
        (("verify",), 0),
        (("tag", "m", "good"), 0),
        (("audit", "serving"), 13),
        (("lint", "serving"), 13),
        (("promote", "m:1", "serving"), 12),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_a_command_on_a_current_store_imports_nothing_heavy(
    place: Path, arguments: tuple[str, ...], status: int
) -> None:
    result = mstore(*arguments, cwd=place, code=_PROBE)
    told = json.loads(result.stderr.splitlines()[-1])
    assert told["status"] == status, result.stderr
    assert not set(told["modules"]) & set(HEAVY)


def test_help_imports_neither_the_catalog_nor_numpy_nor_rich(place: Path) -> None:
    result = mstore("--help", cwd=place, code=_PROBE)
    modules = set(json.loads(result.stderr.splitlines()[-1])["modules"])
    assert not modules & {*HEAVY, "sqlalchemy", "numpy", "rich", "google", "blake3"}


def test_a_closed_pipe_leaves_no_trace(place: Path) -> None:
    command = f"{sys.executable} -m mstore list | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode in {0, 141}
    assert result.stderr == ""


def test_the_shell_is_offered_references(place: Path) -> None:
    words = {"_MSTORE_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "mstore show m@"}
    result = subprocess.run(
        [sys.executable, "-m", "mstore"],
        cwd=place,
        env=os.environ | words | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "m@latest" in result.stdout
    assert "m@1" in result.stdout
