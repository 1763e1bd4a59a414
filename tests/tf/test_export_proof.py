"""The proof trusts nothing but the bytes: a wrong claim or a changed file does not pass it."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mstore.convert.check import check
from mstore.convert.proof import prove
from mstore.convert.request import Sample
from mstore.errors import Error, IntegrityError, LoadCheckError, ProofError
from mstore.formats.tensor_bundle import BundleFiles
from tests.tf.exporting import LIMIT, Exported, export, load, train

X = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")
Sources = Mapping[bytes, bytes | None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Exported]:
    directory = tmp_path_factory.mktemp("proof")
    model = load("classic").sequential()
    train(model, lambda: model(X))
    for layer in model.layers[:2]:
        layer.bias.assign(np.zeros(8, "float32"))  # equal content, from two places
    prefix = Path(tf.train.Checkpoint(model=model).write(str(directory / "ckpt")))
    return prefix, export(prefix, directory / "out", "classic.py:sequential")


def key(exported: Exported, name: str) -> bytes:
    return next(k for k, value in exported.result.names.items() if value == name)


def refuse(prefix: Path, directory: Path, sources: Sources, *words: str) -> ProofError:
    with pytest.raises(ProofError) as caught:
        prove(BundleFiles(prefix), directory, sources)
    for word in words:
        assert word in caught.value.message
    return caught.value


def test_an_honest_export_is_proven(made: tuple[Path, Exported]) -> None:
    prefix, exported = made
    proven = prove(BundleFiles(prefix), exported.path, exported.result.sources)
    assert len(proven) == 6
    assert {v.source_key for v in proven} == set(exported.result.sources.values())


def test_equal_content_without_a_source_proves_nothing(made: tuple[Path, Exported]) -> None:
    prefix, exported = made
    bias = key(exported, "sequential/dense/bias")
    sources = {**exported.result.sources, bias: None}
    error = refuse(prefix, exported.path, sources, "dense/bias", "was not restored")
    assert error.subjects == ("sequential/dense/bias",)
    proven = prove(
        BundleFiles(prefix), exported.path, sources, allow_unrestored=["sequential/dense/bias"]
    )
    assert [v.name for v in proven if v.source_key is None] == ["sequential/dense/bias"]


def test_a_variable_that_the_claim_forgets_is_named(made: tuple[Path, Exported]) -> None:
    prefix, exported = made
    sources = dict(exported.result.sources)
    del sources[key(exported, "sequential/dense/kernel")]
    refuse(prefix, exported.path, sources, "dense/kernel", "was not restored")


def test_two_variables_from_one_tensor_are_refused(made: tuple[Path, Exported]) -> None:
    prefix, exported = made
    sources = dict(exported.result.sources)
    one, two = key(exported, "sequential/dense/bias"), key(exported, "sequential/dense_1/bias")
    sources[one] = sources[two]
    refuse(prefix, exported.path, sources, "dense/bias", "dense_1/bias", "shares")


def test_a_source_of_another_shape_or_content_is_refused(made: tuple[Path, Exported]) -> None:
    prefix, exported = made
    sources = dict(exported.result.sources)
    one, two = key(exported, "sequential/dense/kernel"), key(exported, "sequential/dense_1/kernel")
    three, four = key(exported, "sequential/dense_1/bias"), key(exported, "sequential/dense_2/bias")
    swapped = {**sources, one: sources[two], two: sources[one]}
    refuse(prefix, exported.path, swapped, "dense/kernel", "dense_1/kernel", "float32[4, 8]")
    refuse(prefix, exported.path, {**sources, three: sources[four]}, "dense_1/bias")


def test_a_source_that_is_not_in_the_checkpoint_is_refused(made: tuple[Path, Exported]) -> None:
    prefix, exported = made
    bias = key(exported, "sequential/dense/bias")
    refuse(prefix, exported.path, {**exported.result.sources, bias: b"no"}, "no tensor")
    more = {**exported.result.sources, b"weights/9/x": None}
    refuse(prefix, exported.path, more, "not in the SavedModel's variables")


@pytest.mark.parametrize("side", ["checkpoint", "saved model"])
def test_each_changed_byte_of_the_weights_is_found(
    side: str, made: tuple[Path, Exported], tmp_path: Path
) -> None:
    prefix, exported = made
    for file in prefix.parent.glob("ckpt.*"):
        shutil.copy(file, tmp_path)
    shutil.copytree(exported.path, tmp_path / "out")
    data = (
        tmp_path / "ckpt.data-00000-of-00001"
        if side == "checkpoint"
        else tmp_path / "out" / "variables" / "variables.data-00000-of-00001"
    )
    good = data.read_bytes()
    for position in range(0, len(good), 97):
        data.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(IntegrityError):
            prove(BundleFiles(tmp_path / "ckpt"), tmp_path / "out", exported.result.sources)
    data.write_bytes(good[:-1])
    with pytest.raises(Error):
        prove(BundleFiles(tmp_path / "ckpt"), tmp_path / "out", exported.result.sources)


def test_other_tags_are_refused(made: tuple[Path, Exported], tmp_path: Path) -> None:
    prefix, _ = made
    module = tf.Module()
    module.weights = [tf.Variable([1.0])]
    serve = tf.function(lambda: {"y": module.weights[0] * 1}, input_signature=[])
    options = tf.saved_model.SaveOptions(extra_tags=["prod"])
    tf.saved_model.save(module, str(tmp_path / "sm"), {"serving_default": serve}, options)
    with pytest.raises(ProofError):
        prove(BundleFiles(prefix), tmp_path / "sm", {})


def test_a_missing_index_is_found_though_the_loader_does_not_mind(
    made: tuple[Path, Exported], tmp_path: Path
) -> None:
    prefix, exported = made
    shutil.copytree(exported.path, tmp_path / "out")
    (tmp_path / "out" / "variables" / "variables.index").unlink()
    refuse(prefix, tmp_path / "out", exported.result.sources, "not in the SavedModel's variables")
    with pytest.raises(LoadCheckError, match="fails in TensorFlow's C\\+\\+ runtime"):
        check(tmp_path / "out", exported.info.signatures, timeout=LIMIT)


def test_the_loader_names_what_is_wrong_with_a_damaged_savedmodel(
    made: tuple[Path, Exported], tmp_path: Path
) -> None:
    _, exported = made
    shutil.copytree(exported.path, tmp_path / "out")
    graph = tmp_path / "out" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:500])
    with pytest.raises(LoadCheckError, match="refuses the SavedModel"):
        check(tmp_path / "out", exported.info.signatures, timeout=LIMIT)


def test_other_outputs_than_the_sample_are_refused(made: tuple[Path, Exported]) -> None:
    _, exported = made
    sample = exported.result.samples["serving_default"]
    wrong = {name: value + 0.01 for name, value in sample.outputs.items()}
    signatures = exported.info.signatures
    check(exported.path, signatures, samples={"serving_default": sample}, timeout=LIMIT)
    with pytest.raises(LoadCheckError, match=r"differs by up to 0\.01"):
        check(
            exported.path,
            signatures,
            samples={"serving_default": Sample(sample.feeds, wrong, sample.tolerance)},
            timeout=LIMIT,
        )


def test_wrong_feeds_are_named(made: tuple[Path, Exported]) -> None:
    _, exported = made
    with pytest.raises(LoadCheckError, match="takes inputs, and was given x"):
        exported.serve(x=X)
    with pytest.raises(LoadCheckError, match="code 3"):
        exported.serve(inputs=X[:, :2])
