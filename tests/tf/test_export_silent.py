"""Ways in which a variable could get a wrong value without a word: cured or refused."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mstore.domain.signatures import TensorSpec
from mstore.errors import BuilderError, InputError, LoadCheckError, ProofError
from tests.tf.exporting import KERAS, TOLERANCE, export, largest_difference, load, model_of, train

X = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
TRICKY = load("tricky")


def save(tmp_path: Path, with_optimizer: bool = True, **objects: Any) -> Path:
    model = next(iter(objects.values()))
    optimizer = train(model, lambda: model(X))
    if with_optimizer:
        objects["optimizer"] = optimizer
    return Path(tf.train.Checkpoint(**objects).save(str(tmp_path / "ckpt")))


def exports(prefix: Path, tmp_path: Path, builder: str, live: Any, **options: Any) -> None:
    exported = export(prefix, tmp_path / "out", f"tricky.py:{builder}", checked=False, **options)
    assert largest_difference(exported.serve(x=X), {"output_0": live}) <= TOLERANCE


def refused(prefix: Path, tmp_path: Path, builder: str, *words: str, **options: Any) -> ProofError:
    with pytest.raises(ProofError) as caught:
        export(prefix, tmp_path / "out", f"tricky.py:{builder}", **options)
    for word in words:
        assert word in caught.value.message
    assert caught.value.exit_status == 13
    assert caught.value.hint
    return caught.value


def test_named_layers_in_another_order_are_refused(tmp_path: Path) -> None:
    model = TRICKY.two_branches("a", "b")
    prefix = save(tmp_path, model=model)
    refused(prefix, tmp_path, "two_branches", "a/kernel", "b/kernel",
            builder_args={"first": "b", "second": "a"})  # fmt: skip
    exports(prefix, tmp_path, "two_branches", model(X))


def test_unnamed_layers_made_in_another_order_are_refused(tmp_path: Path) -> None:
    model = TRICKY.unnamed_branches()
    prefix = save(tmp_path, model=model)
    refused(prefix, tmp_path, "unnamed_branches", "dense", builder_args={"swap": "true"})
    exports(prefix, tmp_path, "unnamed_branches", model(X))


def test_layers_in_a_list_come_from_the_optimizers_list(tmp_path: Path) -> None:
    model = TRICKY.ListNet()
    prefix = save(tmp_path, model=model)
    refused(prefix, tmp_path, "list_net", "kernel", builder_args={"swap": "true"})
    exports(prefix, tmp_path, "list_net", model(X))


@pytest.mark.parametrize("name", ["other_optimizer", "critic_optimizer", "trainer"])
def test_the_optimizer_of_another_model_does_not_lend_its_weights(
    name: str, tmp_path: Path
) -> None:
    saved, other = TRICKY.ListNet(), TRICKY.ListNet()
    saved(X)
    optimizer = train(other, lambda: other(X))
    objects = {"model": saved, name: optimizer}
    prefix = Path(tf.train.Checkpoint(**objects).save(str(tmp_path / "ckpt")))
    error = refused(prefix, tmp_path, "list_net", name, "kernel")
    assert len(error.subjects) == len(saved.weights)


@pytest.mark.parametrize("name", ["opt", "model_optimizer"])
def test_an_optimizer_that_is_named_after_the_model_lends_its_weights(
    name: str, tmp_path: Path
) -> None:
    model = TRICKY.ListNet()
    optimizer = train(model, lambda: model(X))
    objects = {"model": model, name: optimizer}
    prefix = Path(tf.train.Checkpoint(**objects).save(str(tmp_path / "ckpt")))
    exports(prefix, tmp_path, "list_net", model(X))


def test_layers_in_a_list_without_the_optimizer_are_refused_by_name(tmp_path: Path) -> None:
    model = TRICKY.ListNet()
    prefix = save(tmp_path, with_optimizer=False, model=model)
    error = refused(prefix, tmp_path, "list_net", "list_net/dense", "kernel", "bias")
    assert "lists and dicts" in error.hint


def test_statistics_in_a_list_are_refused_by_name(tmp_path: Path) -> None:
    model = TRICKY.ListNet(statistics=True)
    prefix = save(tmp_path, model=model)
    refused(
        prefix, tmp_path, "list_net", "moving_mean", "moving_variance",
        builder_args={"statistics": "true"},
    )  # fmt: skip


def test_a_list_that_the_builder_forgot_is_refused(tmp_path: Path) -> None:
    varied = load("varied")
    model = varied.Listed()
    optimizer = train(model, lambda: model(X))
    prefix = Path(
        tf.train.Checkpoint(model=model, optimizer=optimizer).save(str(tmp_path / "ckpt"))
    )
    forgetful = tmp_path / "forgetful.py"
    forgetful.write_text(
        "import keras, tensorflow as tf\nfrom mstore import Servable\n"
        "class Listed(keras.Model):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.stem = keras.layers.Dense(4)\n"
        "    def call(self, x):\n"
        "        return self.stem(x)\n"
        "def build():\n"
        "    return Servable(Listed(), {'x': tf.TensorSpec([None, 4], tf.float32)})\n"
    )
    with pytest.raises(ProofError, match="optimizer trained") as caught:
        export(prefix, tmp_path / "out", f"{forgetful}:build")
    assert len(caught.value.subjects) == 10


@pytest.mark.parametrize(
    ("builder", "label"),
    [
        ("cached", "cache float32[4]"),
        ("random_projection", "matrix float32[4, 3]"),
        ("shuffled", "order int32[64]"),
        ("pretrained_copy", "copy float32[4]"),
    ],
)
def test_values_computed_before_the_restore_are_refused(
    builder: str, label: str, tmp_path: Path
) -> None:
    prefix = save(tmp_path, model=getattr(TRICKY, builder)())
    refused(prefix, tmp_path, builder, label)


@pytest.mark.parametrize("builder", ["refreshed", "fixed_projection"])
def test_values_that_do_not_depend_on_initial_values_are_served(
    builder: str, tmp_path: Path
) -> None:
    model = getattr(TRICKY, builder)()
    prefix = save(tmp_path, model=model)
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    exports(prefix, tmp_path, builder, model(X))


def test_two_models_of_one_kind_must_be_told_apart(tmp_path: Path) -> None:
    generator, discriminator = TRICKY.generator(), TRICKY.generator()
    train(discriminator, lambda: discriminator(X))
    prefix = save(tmp_path, generator=generator, discriminator=discriminator)
    with pytest.raises(InputError) as caught:
        export(prefix, tmp_path / "out", "tricky.py:generator")
    assert "discriminator, generator" in caught.value.message
    assert "--root discriminator" in caught.value.hint
    exports(prefix, tmp_path, "generator", discriminator(X), root="discriminator")


def test_one_of_two_different_models_is_found(tmp_path: Path) -> None:
    generator, critic = TRICKY.generator(), TRICKY.critic()
    train(critic, lambda: critic(X))
    prefix = save(tmp_path, generator=generator, critic=critic)
    exports(prefix, tmp_path, "critic", critic(X))


def test_a_root_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    prefix = save(tmp_path, net=TRICKY.generator())
    with pytest.raises(InputError) as caught:
        export(prefix, tmp_path / "out", "tricky.py:generator", root="model")
    assert "net" in caught.value.hint


def test_a_builder_that_returns_one_model_for_all_is_served_with_a_new_import(
    tmp_path: Path,
) -> None:
    model = TRICKY.generator()
    prefix = save(tmp_path, model=model)
    exports(prefix, tmp_path, "same_each_time", model(X))


def test_a_seed_that_is_not_saved_is_refused_unless_allowed(tmp_path: Path) -> None:
    prefix = save(tmp_path, model=TRICKY.Sampler())
    error = refused(prefix, tmp_path, "sampler", "seed_generator_state")
    exported = export(
        prefix, tmp_path / "out", "tricky.py:sampler", allow_unrestored=error.subjects
    )
    assert [v.name for v in exported.proven if v.source_key is None] == list(error.subjects)
    assert any("other outputs at each call" in text for text in exported.result.warnings)


def test_state_that_a_call_changes_is_the_checkpoints(tmp_path: Path) -> None:
    model = TRICKY.Stateful()
    prefix = save(tmp_path, model=model)
    stored = model.calls.numpy()
    live = model(X)
    model.calls.assign(stored)
    exports(prefix, tmp_path, "stateful", live)


def test_a_vocabulary_that_the_builder_lacks_is_refused(tmp_path: Path) -> None:
    model = TRICKY.adapted_text()
    model.layers[1].adapt(["some words of some text"])
    prefix = Path(tf.train.Checkpoint(model=model).save(str(tmp_path / "ckpt")))
    refused(prefix, tmp_path, "adapted_text", "string_lookup", "vocabulary")


def test_bins_that_the_builder_lacks_are_refused(tmp_path: Path) -> None:
    model = TRICKY.Binned()
    model.bins.adapt(np.arange(40.0).reshape(-1, 1))
    model(np.ones((2, 1), "float32"))
    prefix = Path(tf.train.Checkpoint(model=model).save(str(tmp_path / "ckpt")))
    with pytest.raises(BuilderError, match="bin_boundaries"):
        export(prefix, tmp_path / "out", "tricky.py:binned")


def test_variables_of_one_name_and_shape_keep_apart(tmp_path: Path) -> None:
    module = TRICKY.SameNames()
    feed = X[:, :3]
    for index, variable in enumerate(module.variables):
        variable.assign_add(tf.fill(variable.shape, 0.1 * index))
    prefix = Path(tf.train.Checkpoint(module=module).save(str(tmp_path / "ckpt")))
    exported = export(prefix, tmp_path / "out", "tricky.py:same_names", checked=False)
    assert largest_difference(exported.serve(x=feed), {"output_0": module(feed)}) <= TOLERANCE


def test_the_content_of_a_mutable_table_is_the_checkpoints(tmp_path: Path) -> None:
    module = TRICKY.Counts()
    words = [f"word {index}".encode() for index in range(100)]
    module.table.insert(words, [float(index) for index in range(100)])
    prefix = Path(tf.train.Checkpoint(module=module).save(str(tmp_path / "ckpt")))
    exported = export(prefix, tmp_path / "out", "tricky.py:counts", checked=False)
    feed = np.array([*words[::7], b"unknown"], object)
    live = {"output_0": module(tf.constant(feed))}
    assert largest_difference(exported.serve(word=feed), live) <= TOLERANCE


def test_a_table_that_is_not_in_the_checkpoint_is_refused(tmp_path: Path) -> None:
    module = TRICKY.Counts()
    prefix = Path(tf.train.Checkpoint(w=module.w).save(str(tmp_path / "ckpt")))
    refused(prefix, tmp_path, "counts", "Counts.table")


def test_a_graph_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    varied = load("varied")
    model = varied.over_time()
    feed = np.random.default_rng(1).normal(size=(2, 6, 8)).astype("float32")
    optimizer = train(model, lambda: model(feed))
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt")))
    if KERAS >= (3, 13):  # before, nothing of the length was kept in the graph
        with pytest.raises(ProofError, match="does not compute what the model does") as caught:
            export(prefix, tmp_path / "out", "varied.py:over_time")
        assert "--input 'x=float32[?,8,8]'" in caught.value.hint
    exported = export(
        prefix,
        tmp_path / "again",
        "varied.py:over_time",
        inputs={"x": TensorSpec("float32", (None, 6, 8))},
        checked=False,
    )
    assert largest_difference(exported.serve(x=feed), {"output_0": model(feed)}) <= TOLERANCE


def test_a_model_that_needs_xla_is_refused_as_the_server_would(tmp_path: Path) -> None:
    model = TRICKY.channels_first()
    prefix = Path(tf.train.Checkpoint(model=model).save(str(tmp_path / "ckpt")))
    with pytest.raises(LoadCheckError, match="XLA") as caught:
        export(prefix, tmp_path / "out", "tricky.py:channels_first")
    assert "TensorFlow Serving disables XLA" in caught.value.hint


def test_a_fixed_batch_is_kept_and_said(tmp_path: Path) -> None:
    model = TRICKY.fixed_batch()
    prefix = Path(tf.train.Checkpoint(model=model).save(str(tmp_path / "ckpt")))
    exported = export(prefix, tmp_path / "out", "tricky.py:fixed_batch")
    assert exported.info.signatures["serving_default"].inputs["x"].shape == (2, 4)
    assert any("batch of 2" in text for text in exported.result.warnings)


def test_low_precision_is_close_to_the_live_model(tmp_path: Path) -> None:
    model = load("varied").mixed_precision()
    optimizer = train(model, lambda: model(X))
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt")))
    exported = export(prefix, tmp_path / "out", "varied.py:mixed_precision", checked=False)
    graph = tf.function(model_of(model))
    assert largest_difference(exported.serve(x=X), {"y": graph(X)}) <= TOLERANCE
    assert keras.backend.floatx() == "float32"


def optimizer_on(variables: list[Any], *, momentum: float) -> Any:
    optimizer = keras.optimizers.SGD(0.1, momentum=momentum)
    optimizer.build(variables)
    return optimizer


@pytest.mark.parametrize(
    ("momentum", "words"),
    [(0.0, "only the order of the optimizer's list"), (0.9, "names contradict the places")],
)
def test_an_optimizer_built_in_another_order_is_refused(
    momentum: float, words: str, tmp_path: Path
) -> None:
    model = TRICKY.Chain()
    train(model, lambda: model(X))
    optimizer = optimizer_on(model.trainable_variables[::-1], momentum=momentum)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt")))
    refused(prefix, tmp_path, "chain", words, "chain/dense")


def test_an_order_that_no_name_confirms_can_be_vouched_for(tmp_path: Path) -> None:
    model = TRICKY.Chain()
    train(model, lambda: model(X))
    optimizer = optimizer_on(model.trainable_variables, momentum=0.0)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt")))
    error = refused(prefix, tmp_path, "chain", "no name in the checkpoint confirms it")
    exports(prefix, tmp_path, "chain", model(X), allow_unrestored=error.subjects)


@pytest.mark.parametrize("count", ["1", "3"])
def test_a_list_of_another_length_is_refused(count: str, tmp_path: Path) -> None:
    prefix = save(tmp_path, model=TRICKY.Chain())
    refused(prefix, tmp_path, "chain", "chain/dense", builder_args={"count": count})


def test_optimizers_of_two_models_of_one_kind_are_not_mixed_up(tmp_path: Path) -> None:
    model, other = TRICKY.Chain(), TRICKY.Chain()
    train(other, lambda: other(X))
    both = [train(model, lambda: model(X)), train(other, lambda: other(X))]
    checkpoint = tf.train.Checkpoint(model=model, one=both[0], two=both[1])
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt")))
    refused(prefix, tmp_path, "chain", "several optimizers' lists")
    checkpoint = tf.train.Checkpoint(model=model, other=other, two=both[1])
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt2")))
    refused(prefix, tmp_path, "chain", "several models it could belong to")


def test_the_optimizer_that_a_compiled_model_holds_is_its_own(tmp_path: Path) -> None:
    model, other = TRICKY.Chain(), TRICKY.Chain()
    for net in (model, other):
        net.compile("adam", "mse")
        net.fit(X, X, verbose=0)
    prefix = Path(tf.train.Checkpoint(a=model, b=other).save(str(tmp_path / "ckpt")))
    exports(prefix, tmp_path, "chain", other(X), root="b")


@pytest.mark.parametrize("tied", [True, False])
def test_layers_tied_on_one_side_alone_are_refused(tied: bool, tmp_path: Path) -> None:
    prefix = save(tmp_path, model=TRICKY.Pair(tied=tied))
    words = "one variable in the checkpoint" if tied else "two in the checkpoint"
    refused(prefix, tmp_path, "pair", words, builder_args={"tied": str(not tied)})


def test_a_layer_of_nobody_is_refused_by_name(tmp_path: Path) -> None:
    prefix = save(tmp_path, model=TRICKY.Borrowing())
    refused(prefix, tmp_path, "borrowing", "borrowing/dense", "that the signatures use")


def test_moving_averages_beside_the_weights_are_asked_about(tmp_path: Path) -> None:
    model = TRICKY.Averaged()
    optimizer = train(model, lambda: model(X), keras.optimizers.Adam(0.1, use_ema=True))
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    prefix = Path(checkpoint.save(str(tmp_path / "ckpt")))
    with pytest.raises(InputError, match="moving averages") as caught:
        export(prefix, tmp_path / "out", "tricky.py:averaged", checked=False)
    assert "--weights ema" in caught.value.hint
    assert "--weights raw" in caught.value.hint
    exports(prefix, tmp_path, "averaged", model(X), weights="raw")


def test_a_layer_that_cannot_be_finalized_is_the_builders_error(tmp_path: Path) -> None:
    prefix = save(tmp_path, model=TRICKY.Refusing())
    with pytest.raises(
        BuilderError, match=r"finalize_state\(\) raised RuntimeError: no statistics"
    ):
        export(prefix, tmp_path / "out", "tricky.py:refusing")
