"""What goes wrong in a builder ends in a message that names it, and in nothing else."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf

from mstore.domain.signatures import TensorSpec
from mstore.errors import (
    BuilderError,
    Error,
    InputError,
    ProofError,
    UsageError,
    WorkerError,
    WorkerTimeoutError,
)
from tests.tf.exporting import BUILDERS, export, largest_difference, load, train

X = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")


@pytest.fixture(scope="module")
def sequential(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    model = load("classic").sequential()
    optimizer = train(model, lambda: model(X))
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    return Path(checkpoint.save(str(tmp_path_factory.mktemp("seq") / "ckpt"))), model


@pytest.fixture(scope="module")
def subclassed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    model = load("classic").Net()
    optimizer = train(model, lambda: model(X))
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=tf.Variable(3))
    return Path(checkpoint.save(str(tmp_path_factory.mktemp("net") / "ckpt"))), model


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("builder", "kind", "words"),
    [
        ("raises", BuilderError, ["ValueError: no vocabulary in Überordner", "hostile.py:17"]),
        ("raises_interrupt", BuilderError, ["KeyboardInterrupt", "hostile.py:21"]),
        ("exits", BuilderError, ["sys.exit(3)", "hostile.py:25"]),
        ("exits_at_once", WorkerError, ["ended with status 7"]),
        ("kills_itself", WorkerError, ["killed by SIGKILL"]),
        ("crashes", WorkerError, ["killed by SIGSEGV"]),
        ("raises_in_call", BuilderError, ["call is broken"]),
    ],
)
def test_a_builder_that_fails_is_named_with_its_cause(
    builder: str, kind: type[Error], words: list[str], sequential: tuple[Path, Any], tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        export(sequential[0], tmp_path / "out", f"hostile.py:{builder}")
    assert caught.value.exit_status == 1
    for word in words:
        assert word in caught.value.message
    assert not (tmp_path / "out" / "saved_model.pb").exists()


def _alive(pids: list[int]) -> Iterator[int]:
    for pid in pids:
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            yield pid


@pytest.mark.usefixtures("started")
def test_a_builder_that_hangs_is_killed_with_its_children(
    sequential: tuple[Path, Any], tmp_path: Path
) -> None:
    marker = tmp_path / "pids"
    started = time.monotonic()
    with pytest.raises(WorkerTimeoutError) as caught:
        export(
            sequential[0],
            tmp_path / "out",
            "hostile.py:hangs",
            builder_args={"marker": str(marker)},
            timeout=30,
        )
    assert time.monotonic() - started < 60
    assert "30 s" in caught.value.message
    assert "waiting for the cluster" in caught.value.message
    pids = [int(pid) for pid in marker.read_text().split()]
    deadline = time.monotonic() + 30
    while list(_alive(pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(_alive(pids))


@pytest.mark.usefixtures("started")
def test_a_builder_that_ignores_signals_is_killed(
    sequential: tuple[Path, Any], tmp_path: Path
) -> None:
    with pytest.raises(WorkerTimeoutError):
        export(sequential[0], tmp_path / "out", "hostile.py:hangs_deaf", timeout=6)


@pytest.mark.parametrize(
    "builder", ["chatters", "reads_input", "leaves_threads_and_children", "changes_directory"]
)
def test_odd_builders_that_return_a_model_are_served(
    builder: str, sequential: tuple[Path, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prefix, model = sequential
    exported = export(prefix, tmp_path / "out", f"hostile.py:{builder}", checked=False)
    assert largest_difference(exported.serve(inputs=X), {"output_0": model(X)}) <= 1e-6
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("builder", "words"),
    [
        ("missing_layer", ["d2._kernel float32[8,8]", "not in the builder's model"]),
        ("extra_layer", ["dense_3/kernel", "not in the checkpoint"]),
        ("other_shape", ["float32[4,9]", "float32[4,8]", "shape"]),
        ("other_dtype", ["float64[4,8]", "float32[4,8]", "dtype"]),
        ("not_a_model", ["dict", "no model"]),
        ("sequential", ["sequential"]),
    ],
)
def test_a_builder_of_another_model_is_refused_naming_the_difference(
    builder: str, words: list[str], subclassed: tuple[Path, Any], tmp_path: Path
) -> None:
    kind = BuilderError if builder == "not_a_model" else ProofError
    with pytest.raises(kind) as caught:
        export(subclassed[0], tmp_path / "out", f"classic.py:{builder}")
    for word in words:
        assert word in caught.value.message
    assert not (tmp_path / "out" / "saved_model.pb").exists()


def test_a_missing_layer_of_a_sequential_model_is_refused(
    sequential: tuple[Path, Any], tmp_path: Path
) -> None:
    with pytest.raises(ProofError, match="dense"):
        export(sequential[0], tmp_path / "out", "classic.py:sequential_missing")


def test_a_model_that_does_not_know_its_inputs_says_what_to_give(
    subclassed: tuple[Path, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        export(subclassed[0], tmp_path / "out", "classic.py:subclassed_without_inputs")
    assert "Net" in caught.value.message
    assert "--input 'x=float32[?,10]'" in caught.value.hint


def test_inputs_from_the_request_build_the_model(
    subclassed: tuple[Path, Any], tmp_path: Path
) -> None:
    prefix, model = subclassed
    exported = export(
        prefix,
        tmp_path / "out",
        "classic.py:subclassed_without_inputs",
        inputs={"features": TensorSpec("float32", (None, 4))},
        checked=False,
    )
    assert largest_difference(exported.serve(features=X), {"output_0": model(X)}) <= 1e-6


def test_an_unbuilt_sequential_model_is_built_from_given_inputs(
    sequential: tuple[Path, Any], tmp_path: Path
) -> None:
    prefix, model = sequential
    exported = export(
        prefix,
        tmp_path / "out",
        "classic.py:sequential_unbuilt",
        inputs={"x": TensorSpec("float32", (None, 4))},
        checked=False,
    )
    assert largest_difference(exported.serve(x=X), {"output_0": model(X)}) <= 1e-6


def test_arguments_of_the_builder_are_converted_by_annotation(
    subclassed: tuple[Path, Any], tmp_path: Path
) -> None:
    arguments = {"units": "8", "extra": "false", "note": "12"}
    exported = export(
        subclassed[0],
        tmp_path / "out",
        "classic.py:with_arguments",
        builder_args=arguments,
        checked=False,
    )
    assert exported.result.root == "model"


@pytest.mark.parametrize("arguments", [{"units": "many"}, {"units": "8", "wrong": "1"}])
def test_arguments_that_do_not_fit_are_refused(
    arguments: dict[str, str], subclassed: tuple[Path, Any], tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        export(
            subclassed[0],
            tmp_path / "out",
            "classic.py:with_arguments",
            builder_args=arguments,
        )


def test_a_builder_in_a_module_is_found_from_the_search_path(
    sequential: tuple[Path, Any], tmp_path: Path
) -> None:
    package = tmp_path / "nets" / "inner"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package.parent / "__init__.py").write_text("")
    (package / "made.py").write_text((BUILDERS / "classic.py").read_text())
    exported = export(
        sequential[0], tmp_path / "out", "/nets.inner.made:sequential".removeprefix("/"),
        search_path=tmp_path, checked=False,
    )  # fmt: skip
    assert exported.result.root == "model"


def test_nothing_is_written_beside_the_output(sequential: tuple[Path, Any], tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    export(sequential[0], work / "out", "classic.py:sequential", checked=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert [path.name for path in work.iterdir()] == ["out"]
    assert sorted(path.name for path in (work / "out").iterdir()) == [
        "assets", "fingerprint.pb", "saved_model.pb", "variables",
    ]  # fmt: skip
