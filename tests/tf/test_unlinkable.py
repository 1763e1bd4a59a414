"""Programs that would be wrong for other checkpoints: dyes show it, and so does linking them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mstore.convert import dyeing
from mstore.convert.check import check
from mstore.convert.dyeing import why_not_linkable
from mstore.convert.request import TraceRequest, TraceResult
from mstore.convert.trace import trace
from mstore.formats.saved_model import read_saved_model
from tests.tf.exporting import LIMIT, TOLERANCE, largest_difference, load, model_of
from tests.tf.linked import Program, learned

X = np.random.default_rng(2).normal(size=(5, 4)).astype("float32")
UNLINKABLE = load("unlinkable")


@dataclass(frozen=True)
class Case:
    """A model, what changes in it between two checkpoints, and how it answers.

    Attributes:
        feed: a batch.
        set: gives the live model the values of the first (0) or the second checkpoint (1).
        read: what is said of the variable that is read, and of the export from other values.
    """

    feed: dict[str, Any]
    set: Callable[[Any, int], None]
    read: str
    dyed: str


def open_or_close(model: Any, number: int) -> None:
    model.gate.assign((0.5, -0.5)[number])


def name_words(model: Any, number: int) -> None:
    model.words.assign((["red", "blue"], ["blue", "red"])[number])
    model.finalize_state()


def double(model: Any, number: int) -> None:
    layer = model.get_layer("derived")
    layer.base.assign(np.arange(4, dtype="float32") + 1 + number)
    layer.finalize_state()


CASES = {
    "gated": Case({"x": X}, open_or_close, "Variable", "the graph depends on values"),
    "worded": Case(
        {"word": np.array([b"red", b"blue"], object)},
        name_words,
        "Variable",
        "depends on values",
    ),
    "derived": Case({"x": X}, double, "base", "no plain copy"),
}


def answers(path: Path, feed: dict[str, Any]) -> dict[str, Any]:
    signatures = read_saved_model(path).signatures
    chosen = {"serving_default": signatures["serving_default"]}
    outputs = check(path, chosen, feeds={"serving_default": feed}, timeout=LIMIT)
    return outputs["serving_default"]


def written(files: dict[str, bytes], directory: Path) -> Path:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


@pytest.mark.parametrize("name", CASES)
def test_a_program_that_holds_values_is_seen_and_would_be_wrong(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    model = model_of(getattr(UNLINKABLE, name)())
    tensors = {key: tf.constant(value) for key, value in case.feed.items()}
    model(*tensors.values())
    checkpoint = tf.train.Checkpoint(model=model)
    prefixes, live = [], []
    for number in (0, 1):
        case.set(model, number)
        prefixes.append(Path(checkpoint.save(str(tmp_path / "ckpt"))))
        live.append({"output_0": np.asarray(model(*tensors.values()))})

    program = learned(prefixes[0], tmp_path, f"unlinkable.py:{name}")
    assert largest_difference(answers(program.path, case.feed), live[0]) <= TOLERANCE
    assert program.reason is not None
    assert case.read in program.reason
    assert "is read while the graph is made" in program.reason
    monkeypatch.setattr(dyeing, "trace", without_reads)
    assert case.dyed in reason_by_dyes_alone(program, tmp_path / "again")

    # What linking would do if nothing held it back.
    linked = program.link(prefixes[1])
    if name == "derived":
        # Right by chance: training kept the two in step. Out of step they show it.
        model.get_layer("derived").twice.assign(np.zeros(4, "float32"))
        stale = Path(checkpoint.save(str(tmp_path / "ckpt")))
        linked = program.link(stale)
        model.get_layer("derived").finalize_state()
        live[1] = {"output_0": np.asarray(model(*tensors.values()))}
    wrong = answers(written(linked, tmp_path / "linked"), case.feed)
    assert largest_difference(wrong, live[1]) > 0.1


def without_reads(request: TraceRequest, **options: Any) -> TraceResult:
    return replace(trace(request, **options), read=())


def reason_by_dyes_alone(program: Program, work: Path) -> str:
    """Return the reason that is found where reads go unnoticed."""
    work.mkdir()
    blind = replace(program.traced, result=replace(program.traced.result, read=()))
    return why_not_linkable(blind, work, timeout=LIMIT) or ""
