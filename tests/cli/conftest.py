"""The command line run in this process, in an empty directory, on real stores."""

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mstore.cli.run import run
from tests.formats.bundle_writer import FLOAT32, INT64, Value, write_bundle


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]


Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSTORE_STORE", raising=False)

    def call(*arguments: str | Path) -> Result:
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return call


def make_checkpoint(prefix: Path, step: int, weights: Sequence[float] = (1.0, 2.0)) -> Path:
    values = {
        b"model/kernel/.ATTRIBUTES/VARIABLE_VALUE": Value(
            FLOAT32, (len(weights),), struct.pack(f"<{len(weights)}f", *weights)
        ),
        b"step/.ATTRIBUTES/VARIABLE_VALUE": Value(INT64, (), struct.pack("<q", step)),
    }
    return write_bundle(prefix, values)


@pytest.fixture
def store(cli: Cli, tmp_path: Path) -> Path:
    """A store of three checkpoints of the model m, steps 10, 20 and 30, best in the middle."""
    assert cli("init").status == 0
    for step, loss in ((10, 0.9), (20, 0.1), (30, 0.5)):
        prefix = make_checkpoint(tmp_path / "ckpts" / f"ckpt-{step}", step, (loss, 2.0))
        result = cli("add", prefix, "--model", "m", "--run", "r1", "--metric", f"val_loss={loss}")
        assert result.status == 0, result.err
    return tmp_path / ".mstore"
