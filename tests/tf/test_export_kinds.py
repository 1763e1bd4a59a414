"""Models of every kind that people train come out right, or are refused with the reason."""

from concurrent.futures import Future
from pathlib import Path

import pytest

from mstore.convert.check import check
from mstore.errors import Error, InputError, LoadCheckError, ProofError
from tests.tf import kinds as training
from tests.tf.exporting import LIMIT, Exported, export, largest_difference
from tests.tf.forking import Forks
from tests.tf.kinds import DEFAULT, KINDS, Made

Kinds = dict[str, "Future[tuple[Made, Exported]]"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loader_gives_what_the_live_model_gives(kind: str, kinds: Kinds) -> None:
    made, exported = kinds[kind].result()
    outputs = check(
        exported.path,
        exported.info.signatures,
        dims=exported.result.dims,
        samples=exported.result.samples,
        feeds=made.feeds,
        timeout=LIMIT,
    )
    for signature, live in made.live.items():
        assert largest_difference(outputs[signature], live) <= made.tolerance, signature
    assert all(variable.source_key for variable in exported.proven)


@pytest.mark.parametrize("kind", ["grouped_convolutions", "grouped_series"])
def test_groups_are_served_without_onednn_too(
    kind: str, kinds: Kinds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")  # the default on processors without AVX512
    made, exported = kinds[kind].result()
    outputs = exported.serve(**made.feeds[DEFAULT])
    assert largest_difference(outputs, made.live[DEFAULT]) <= made.tolerance


def exported_weights(made: Made, directory: Path, forks: Forks, weights: str | None) -> Exported:
    return export(
        made.prefix, directory / str(weights), made.builder,
        trace=forks.trace, checked=False, weights=weights,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("train", "key"),
    [
        (training.averaged, b"optimizer/_variables/"),
        (training.averaged_in_list, b"optimizer/_variables/"),
        (training.averaged_in_slots, b"/.OPTIMIZER_SLOT/optimizer/average/"),
        (training.averaged_by_keras_2, b"optimizer/_variables/"),
    ],
)
def test_weights_and_their_averages_are_both_proven_and_neither_is_guessed(
    train: "training.Training", key: bytes, forks: Forks, tmp_path: Path
) -> None:
    made = forks.run(train, tmp_path)
    with pytest.raises(InputError, match="moving averages") as caught:
        exported_weights(made, tmp_path, forks, None)
    assert "--weights ema" in caught.value.hint
    assert "--weights raw" in caught.value.hint
    for weights, live in (("raw", made.live[DEFAULT]), ("ema", made.live["ema"])):
        exported = exported_weights(made, tmp_path, forks, weights)
        outputs = exported.serve(**made.feeds[DEFAULT])
        assert largest_difference(outputs, live) <= made.tolerance
        averages = [v for v in exported.proven if v.source_key and key in v.source_key]
        assert bool(averages) == (weights == "ema")
        assert not exported.result.unused


def test_averages_that_equal_the_weights_are_not_asked_about(forks: Forks, tmp_path: Path) -> None:
    made = forks.run(training.averaged, tmp_path, "averaged", True)
    exported = exported_weights(made, tmp_path, forks, None)
    outputs = exported.serve(**made.feeds[DEFAULT])
    assert largest_difference(outputs, made.live["ema"]) <= made.tolerance


def test_averages_that_are_not_there_cannot_be_exported(forks: Forks, tmp_path: Path) -> None:
    made = forks.run(training.custom_train_step, tmp_path)
    with pytest.raises(InputError, match="holds no moving averages"):
        exported_weights(made, tmp_path, forks, "ema")


@pytest.mark.parametrize(
    ("train", "kind", "words"),
    [
        (training.raw_variables_in_a_list, ProofError, "that the signatures use"),
        (training.sparse_input, InputError, "sparse or ragged"),
        (training.ragged_input, InputError, "nested"),
        (training.compiled_function, LoadCheckError, "XLA"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(
    train: "training.Training", kind: type[Error], words: str, forks: Forks, tmp_path: Path
) -> None:
    made = forks.run(train, tmp_path)
    with pytest.raises(kind, match=words) as caught:
        export(made.prefix, tmp_path / "out", made.builder, trace=forks.trace, **made.options)
    assert caught.value.hint
