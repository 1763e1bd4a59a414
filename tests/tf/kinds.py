"""How models of many kinds are trained and saved, and what they give: one function a kind.

Each function runs in a process of its own. It trains as people train, writes a checkpoint into the
directory, and returns a batch with the live model's outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mstore.domain.signatures import TensorSpec
from tests.tf.exporting import load, model_of, train

Feed = dict[str, Any]
DEFAULT = "serving_default"


@dataclass(frozen=True)
class Made:
    """A checkpoint, and what the live model gives.

    Attributes:
        prefix: of the checkpoint.
        builder: ``file.py:name``.
        feeds: signature to a batch.
        live: signature to the live model's outputs.
        options: for the request.
        tolerance: how far outputs may be off.
    """

    prefix: Path
    builder: str
    feeds: dict[str, Feed]
    live: dict[str, Feed]
    options: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-6


Training = Callable[[Path], Made]
KINDS: dict[str, Training] = {}


def kind(function: Training) -> Training:
    KINDS[function.__name__] = function
    return function


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def ints(high: int, *shape: int, dtype: str = "int32") -> Any:
    return np.random.default_rng(5).integers(0, high, size=shape).astype(dtype)


def fit(model: Any, x: Any, **options: Any) -> Any:
    """Compile the model and fit it to made-up targets; no weight keeps its initial value."""
    outputs = model(x)
    targets = keras.tree.map_structure(lambda t: np.abs(floats(*t.shape)), outputs)
    options.setdefault("optimizer", "adam")
    model.compile(loss=keras.tree.map_structure(lambda _: "mse", outputs), **options)
    model.fit(x, targets, epochs=2, batch_size=4, verbose=0)
    disturb(model)
    return model


def disturb(model: Any) -> None:
    """Change each weight a little, statistics too."""
    for index, variable in enumerate(model.variables):
        if tf.as_dtype(variable.dtype).is_floating:
            noise = floats(*variable.shape, seed=index) * 0.03
            variable.assign(variable + tf.cast(np.abs(noise), variable.dtype))


def refresh(model: Any) -> None:
    """Let ``Normalization`` use the statistics that `disturb` has changed."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def arrays(value: Any, name: str = "output_0") -> Feed:
    value = value if isinstance(value, dict) else {name: value}
    return {key: np.asarray(tensor) for key, tensor in value.items()}


def made(
    directory: Path, builder: str, model: Any, feed: Feed, outputs: Any, **options: Any
) -> Made:
    """Save the model under the name ``model`` and return what it gives."""
    name = options.pop("name", "output_0")
    tolerance = options.pop("tolerance", 1e-6)
    objects = options.pop("objects", {})
    prefix = tf.train.Checkpoint(model=model, **objects).save(str(directory / "ckpt"))
    live = {DEFAULT: arrays(outputs, name)}
    return Made(Path(prefix), builder, {DEFAULT: feed}, live, options, tolerance)


# --- structure --------------------------------------------------------------------------------

STRUCTURED = load("structured")


@kind
def named_inputs_and_outputs(directory: Path) -> Made:
    model = STRUCTURED.ads_ranker()
    feed = {"user": ints(20, 8), "history": ints(50, 8, 3, dtype="int64"), "price": floats(8, 2)}
    fit(model, feed)
    y = model(feed)
    outputs = {"click": y["click"], "heads_0": y["heads"][0], "heads_1": y["heads"][1]}
    return made(directory, "structured.py:ads_ranker", model, feed, outputs)


@kind
def siamese_tower(directory: Path) -> Made:
    model = STRUCTURED.siamese()
    feed = {"left": floats(8, 10), "right": floats(8, 10, seed=2)}
    fit(model, [feed["left"], feed["right"]], optimizer=keras.optimizers.Nadam(0.01))
    return made(
        directory, "structured.py:siamese", model, feed, model([feed["left"], feed["right"]])
    )


@kind
def transfer_learning(directory: Path) -> Made:
    model = STRUCTURED.transfer()
    photo = np.abs(floats(8, 12, 12, 3)) * 50
    fit(model, photo, optimizer=keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True))
    return made(
        directory, "structured.py:transfer", model, {"photo": photo},
        model(photo, training=False), name="species",
    )  # fmt: skip


@kind
def segmentation(directory: Path) -> Made:
    model = STRUCTURED.unet()
    image = floats(8, 16, 16, 1)
    fit(model, image, optimizer=keras.optimizers.AdamW(0.003))
    feed = {"image": image}
    return made(directory, "structured.py:unet", model, feed, model(image), name="mask")


@kind
def other_convolutions(directory: Path) -> Made:
    model = STRUCTURED.volumes_and_series()
    feed = {"volume": floats(8, 6, 6, 6, 1), "series": floats(8, 20, 3)}
    fit(model, [feed["series"], feed["volume"]], optimizer="adagrad")
    outputs = model([feed["series"], feed["volume"]])
    return made(directory, "structured.py:volumes_and_series", model, feed, outputs)


@kind
def get_config(directory: Path) -> Made:
    model = STRUCTURED.from_description()
    x = floats(8, 6)
    fit(model, x)
    return made(
        directory, "structured.py:from_description", model, {"features": x}, model(x), name="y"
    )


@kind
def lists_of_dicts_of_lists(directory: Path) -> Made:
    model = STRUCTURED.Mixer()
    x = floats(8, 6)
    fit(model, x)
    return made(directory, "structured.py:mixer", model, {"tokens": x}, model(x))


@kind
def tied_weights(directory: Path) -> Made:
    model = STRUCTURED.TiedAutoencoder()
    x = floats(8, 5)
    fit(model, x, optimizer="rmsprop")
    return made(directory, "structured.py:tied_autoencoder", model, {"x": x}, model(x))


@kind
def models_in_models(directory: Path) -> Made:
    model = STRUCTURED.Outer()
    x = floats(8, 4)
    optimizer = train(model, lambda: model(x))
    model.again.offset.assign([0.1, 0.2, 0.3, 0.4])
    return made(
        directory, "structured.py:models_in_models", model, {"x": x}, model(x),
        objects={"optimizer": optimizer},
    )  # fmt: skip


@kind
def unshaped_sequential(directory: Path) -> Made:
    model = STRUCTURED.sequential_without_shape()
    x = floats(8, 2, 3)
    fit(model, x)
    return made(
        directory, "structured.py:sequential_without_shape", model, {"x": x}, model(x),
        inputs={"x": TensorSpec("float32", (None, 2, 3))},
    )  # fmt: skip


@kind
def auxiliary_head(directory: Path) -> Made:
    model = STRUCTURED.Inception()
    x = floats(8, 4)
    optimizer = train(model, lambda: model(x, training=True))
    return made(
        directory, "structured.py:auxiliary_head", model, {"x": x}, model(x),
        objects={"optimizer": optimizer},
    )  # fmt: skip


@kind
def bare_ops(directory: Path) -> Made:
    model = STRUCTURED.Kit()
    x = floats(8, 4)
    optimizer = train(model, lambda: model(x))
    model.counter.assign(7)
    return made(
        directory, "structured.py:bare_ops", model, {"x": x}, model(x),
        objects={"optimizer": optimizer, "epoch": tf.Variable(3)},
    )  # fmt: skip


@kind
def raw_variables(directory: Path) -> Made:
    model = STRUCTURED.raw_variables()
    x = floats(8, 2)
    fit(model, x)
    model.layers[1].first.assign([-1.0, 5.0])
    return made(directory, "structured.py:raw_variables", model, {"x": x}, model(x))


# --- sequences --------------------------------------------------------------------------------

SEQUENCES = load("sequences")


@kind
def stacked_recurrence(directory: Path) -> Made:
    model = SEQUENCES.tagger()
    words = ints(30, 8, 6, dtype="int64")
    words[:, 4:] = 0
    words[:, 0] += 1
    fit(model, words)
    feed = {"words": words}
    return made(directory, "sequences.py:tagger", model, feed, model(words), name="tag")


@kind
def handed_over_states(directory: Path) -> Made:
    model = SEQUENCES.forecaster()
    feed = {"past": floats(8, 8, 3), "known": floats(8, 4, 2)}
    fit(model, [feed["past"], feed["known"]])
    outputs = model([feed["past"], feed["known"]])
    return made(directory, "sequences.py:forecaster", model, feed, outputs, name="demand")


@kind
def convolutional_recurrence(directory: Path) -> Made:
    model = SEQUENCES.radar()
    frames = floats(8, 3, 6, 6, 1)
    fit(model, frames)
    return made(directory, "sequences.py:radar", model, {"frames": frames}, model(frames))


@kind
def transformer_with_masks(directory: Path) -> Made:
    model = SEQUENCES.Encoder()
    tokens = ints(39, 8, 6) + 1
    tokens[::2, 3:] = 0
    fit(model, tokens)
    return made(directory, "sequences.py:encoder", model, {"inputs": tokens}, model(tokens))


@kind
def attention_with_a_mask_input(directory: Path) -> Made:
    model = SEQUENCES.cross_attention()
    q, v = floats(8, 4, 6), floats(8, 5, 6, seed=1)
    keep = ints(2, 8, 5).astype(bool)
    keep[:, 0] = True
    fit(model, [q, v, keep])
    feed = {"query": q, "value": v, "keep": keep}
    return made(
        directory, "sequences.py:cross_attention", model, feed, model([q, v, keep]), name="context"
    )


@kind
def stateful_recurrence(directory: Path) -> Made:
    model = SEQUENCES.speaker()
    frames = floats(2, 5, 3)
    optimizer = train(model, lambda: model(frames))
    result = made(
        directory, "sequences.py:speaker", model, {"frames": frames}, 0.0,
        objects={"optimizer": optimizer},
    )  # fmt: skip
    result.live[DEFAULT].update(arrays(model(frames)))  # from the state that is saved
    return result


# --- preprocessing ----------------------------------------------------------------------------

COLUMNS = load("columns")


@kind
def adapted_columns(directory: Path) -> Made:
    model = COLUMNS.census()
    feed = {
        "age": np.linspace(15, 90, 8, dtype="float32")[:, None],
        "city": np.array([["oslo"], ["rome"], ["x"], ["köln"]] * 2, object),
        "zip": np.array([[501], [7], [3], [99]] * 2),
        "jobs": ints(6, 8, 3),
    }
    tensors = {key: tf.constant(value) for key, value in feed.items()}
    train(model, lambda: model(tensors))
    refresh(model)
    feed["city"] = np.array([[text.encode() for text in row] for row in feed["city"]], object)
    return made(directory, "columns.py:census", model, feed, model(tensors))


def _texts(directory: Path, mode: str) -> Made:
    model = COLUMNS.sentiment(mode)
    text = np.array([[b"Fine FILM!"], ["köln".encode()], [b"bad, bad bore"]], object)
    train(model, lambda: model(tf.constant(text)))
    return made(
        directory, "columns.py:sentiment", model, {"review": text}, model(tf.constant(text)),
        name="positive", builder_args={"mode": mode},
    )  # fmt: skip


@kind
def texts_as_numbers(directory: Path) -> Made:
    return _texts(directory, "int")


@kind
def texts_by_frequency(directory: Path) -> Made:
    return _texts(directory, "tf_idf")


@kind
def texts_as_bags(directory: Path) -> Made:
    return _texts(directory, "multi_hot")


@kind
def tables_from_files(directory: Path) -> Made:
    model = COLUMNS.Geo(COLUMNS.vocabulary())
    city = np.array([b"rome", "köln".encode(), b"nowhere", b"new york"], object)
    optimizer = train(model, lambda: model(tf.constant(city)))
    return made(
        directory, "columns.py:geo", model, {"city": city}, model(tf.constant(city)),
        objects={"optimizer": optimizer},
    )  # fmt: skip


@kind
def tables_that_change(directory: Path) -> Made:
    model = COLUMNS.Counted()
    ids = np.array([3, 4, 5, 99])
    train(model, lambda: model(tf.constant(ids)))
    model.counter.seen.insert(tf.constant([3, 5, 8], tf.int64), [0.5, 1.5, 9.0])
    model.counter.dense.insert(tf.constant([4, 99], tf.int64), tf.constant([2, 6], tf.int64))
    return made(directory, "columns.py:counted", model, {"ids": ids}, model(tf.constant(ids)))


@kind
def serialized_examples(directory: Path) -> Made:
    servable = COLUMNS.examples()
    model = servable.model
    x = floats(4, 3) * 3 + 1
    model.layers[1].adapt(x)
    fit(model, x)
    refresh(model)
    messages = []
    for row in x:
        feature = {"x": tf.train.Feature(float_list=tf.train.FloatList(value=row.tolist()))}
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        messages.append(example.SerializeToString())
    y = np.asarray(model(x))
    result = made(
        directory, "columns.py:examples", model, {"examples": np.array(messages, object)},
        {"y": y, "key": np.array([b"none"] * 4, object)},
    )  # fmt: skip
    result.feeds["plain"], result.live["plain"] = {"x": x}, {"y": y}
    return result


@kind
def ragged_inside(directory: Path) -> Made:
    module = COLUMNS.RaggedInside()
    module.table.assign(floats(9, 2))
    sentence = np.array([b"a b c", b"one", b"some more words here"], object)
    return made(
        directory, "columns.py:ragged_inside", module, {"sentence": sentence},
        module(tf.constant(sentence)),
    )  # fmt: skip


# --- ways of training -------------------------------------------------------------------------

REGIMES = load("regimes")


@kind
def custom_train_step(directory: Path) -> Made:
    model = REGIMES.Distilled()
    x = floats(8, 4)
    model.compile(optimizer=keras.optimizers.Adam(0.02))
    model.fit(x, floats(8, 2), epochs=3, batch_size=4, verbose=0)
    disturb(model.backbone)
    return made(directory, "regimes.py:distilled", model, {"x": x}, model(x))


@kind
def variational(directory: Path) -> Made:
    model = REGIMES.Vae()
    x, z = floats(8, 4), floats(8, 2)
    optimizer = train(model, lambda: model(x, training=True))
    result = made(
        directory, "regimes.py:vae", model, {"x": x}, {"x": model(x)},
        objects={"optimizer": optimizer},
    )  # fmt: skip
    h = model.encoder(x)
    result.feeds.update(encode={"x": x}, decode={"z": z})
    result.live["encode"] = arrays({"mean": model.mean(h), "log_var": model.log_var(h)})
    result.live["decode"] = arrays({"x": model.decoder(z)})
    return result


def _gan() -> Any:
    gan = REGIMES.Gan(REGIMES.generator(), REGIMES.discriminator())
    gan.compile(keras.optimizers.Adam(2e-3, beta_1=0.5), keras.optimizers.Adam(2e-3))
    gan.fit(floats(8, 8, 8, 1), epochs=3, batch_size=4, verbose=0)
    disturb(gan.generator)
    disturb(gan.discriminator)
    return gan


@kind
def generator_of_a_gan(directory: Path) -> Made:
    gan = _gan()
    noise = floats(8, 3)
    return made(
        directory, "regimes.py:generator", gan, {"noise": noise}, gan.generator(noise),
        root="model.generator",
    )  # fmt: skip


@kind
def discriminator_beside_a_generator(directory: Path) -> Made:
    gan = _gan()
    image = floats(8, 8, 8, 1)
    prefix = tf.train.Checkpoint(
        generator=gan.generator,
        discriminator=gan.discriminator,
        generator_optimizer=gan.g_optimizer,
        discriminator_optimizer=gan.d_optimizer,
    ).save(str(directory / "gan"))
    live = arrays(gan.discriminator(image))
    return Made(
        Path(prefix), "regimes.py:discriminator", {DEFAULT: {"image": image}}, {DEFAULT: live}
    )


@kind
def lora_of_keras(directory: Path) -> Made:
    model = model_of(REGIMES.lora())
    ids = ints(12, 8, 3)
    fit(model, ids)
    return made(directory, "regimes.py:lora", model, {"ids": ids}, model(ids))


@kind
def lora_of_ones_own(directory: Path) -> Made:
    model = REGIMES.adapted()
    x = floats(8, 4)
    fit(model, x)
    return made(directory, "regimes.py:adapted", model, {"x": x}, model(x))


@kind
def quantized_weights(directory: Path) -> Made:
    model = keras.Sequential(
        [keras.Input((8,), name="x"), keras.layers.Dense(16, "relu"), keras.layers.Dense(4)],
        name="small",
    )
    x = floats(8, 8)
    fit(model, x)
    model.quantize("int8")
    return made(directory, "regimes.py:quantized", model, {"x": x}, model(x))


def _half(directory: Path, policy: str) -> Made:
    model = REGIMES.half_precision(policy)
    x = floats(8, 8, 8, 3)
    fit(model, x)
    live = tf.function(lambda x: model(x, training=False), jit_compile=False)(x)
    return made(
        directory, "regimes.py:half_precision", model, {"x": x}, live,
        builder_args={"policy": policy}, tolerance=2e-3,
    )  # fmt: skip


@kind
def mixed_float16(directory: Path) -> Made:
    return _half(directory, "mixed_float16")


@kind
def mixed_bfloat16(directory: Path) -> Made:
    return _half(directory, "mixed_bfloat16")


@kind
def float64_everywhere(directory: Path) -> Made:
    model = REGIMES.doubles()
    x = floats(8, 4).astype("float64")
    fit(model, x)
    return made(directory, "regimes.py:doubles", model, {"x": x}, model(x))


@kind
def normalized_weights(directory: Path) -> Made:
    model = REGIMES.weight_normed()
    x = floats(8, 5)
    fit(model, x)
    return made(directory, "regimes.py:weight_normed", model, {"x": x}, model(x))


@kind
def grouped_convolutions(directory: Path) -> Made:
    model = REGIMES.pictures(2)
    x = floats(8, 8, 8, 4)
    fit(model, x)
    return made(
        directory, "regimes.py:pictures", model, {"x": x}, model(x), builder_args={"groups": "2"}
    )


@kind
def grouped_series(directory: Path) -> Made:
    model = REGIMES.grouped_series()
    x = floats(8, 9, 4)
    fit(model, x)
    return made(directory, "regimes.py:grouped_series", model, {"x": x}, model(x))


@kind
def compiled_by_xla(directory: Path) -> Made:
    model = REGIMES.Distilled()
    x = floats(8, 4)
    model.compile(optimizer="adam", jit_compile=True)
    model.fit(x, floats(8, 2), epochs=2, batch_size=4, verbose=0)
    disturb(model.backbone)
    return made(directory, "regimes.py:distilled", model, {"x": x}, model(x))


@kind
def mirrored(directory: Path) -> Made:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    x = floats(8, 4)
    with strategy.scope():
        model = REGIMES.averaged()
        model.compile("adam", "mse")
    model.fit(x, floats(8, 2), epochs=2, batch_size=4, verbose=0)
    return made(directory, "regimes.py:averaged", model, {"x": x}, model(x))


# --- modules ----------------------------------------------------------------------------------

MODULES = load("modules")


@kind
def modules_in_containers(directory: Path) -> Made:
    module = MODULES.Experts()
    x = floats(8, 4)
    module(x)
    disturb(module)
    module.order.assign([1, 2, 0])
    module.mask.assign([False, True, True])
    return made(directory, "modules.py:experts", module, {"x": x}, module(x))


@kind
def several_signatures(directory: Path) -> Made:
    module = MODULES.Service()
    x, limit = floats(8, 3), floats(8)
    module.anything.assign([[1.5, 2.5], [3.5, 4.5]])
    module.body.w.assign_add(tf.ones([3, 4]))
    module.threshold.assign(-0.5)
    prefix = tf.train.Checkpoint(root=module).write(str(directory / "service"))
    feeds = {"score": {"x": x}, "decide": {"x": x, "limit": limit}, "count": {"n": np.int32(5)}}
    live = {
        "score": arrays(module.score(x)),
        "decide": arrays(module.decide(x, limit)),
        "count": arrays(module.count(5)),
    }
    return Made(Path(prefix), "modules.py:service", feeds, live)


@kind
def many_dtypes(directory: Path) -> Made:
    module = MODULES.Complex()
    x = floats(8, 2)
    module.phase.assign(tf.complex([0.3, -1.0], [2.0, 0.25]))
    module.half.assign([0.5, -2.0])
    module.steps.assign([9, 200])
    return made(directory, "modules.py:many_dtypes", module, {"x": x}, module(x))


# --- averages ---------------------------------------------------------------------------------


def averaged(directory: Path, build: str = "averaged", overwrite: bool = False) -> Made:
    """Train with averages; under ``ema`` stands what the averages give."""
    model = model_of(getattr(REGIMES, build)())
    x = floats(8, 4)
    optimizer = keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9)
    train(model, lambda: model(x), optimizer)
    if overwrite:
        optimizer.finalize_variable_values(model.trainable_variables)
    result = made(
        directory, f"regimes.py:{build}", model, {"x": x}, model(x),
        objects={"optimizer": optimizer},
    )  # fmt: skip
    optimizer.finalize_variable_values(model.trainable_variables)
    result.live["ema"] = arrays(model(x, training=False))
    return result


def averaged_in_list(directory: Path) -> Made:
    return averaged(directory, "averaged_blocks")


def averaged_in_slots(directory: Path) -> Made:
    """Averages of an optimizer with slots, as TensorFlow Addons kept them."""
    import tf_keras  # noqa: PLC0415 - Keras 2

    class Averaging(tf_keras.optimizers.legacy.SGD):
        def _create_slots(self, var_list: Any) -> None:
            for variable in var_list:
                self.add_slot(variable, "average", initializer="ones")

    module, x = MODULES.Experts(), floats(8, 4)
    module(x)
    optimizer = Averaging(0.1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(module(x) ** 2)
    weights = module.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
    result = made(
        directory, "modules.py:experts", module, {"x": x}, module(x),
        objects={"optimizer": optimizer},
    )  # fmt: skip
    for weight in weights:
        weight.assign(optimizer.get_slot(weight, "average"))
    result.live["ema"] = arrays(module(x))
    return result


def averaged_by_keras_2(directory: Path) -> Made:
    """Averages among the variables of an optimizer, told by their names."""
    model, x = REGIMES.averaged(), floats(8, 4)
    train(model, lambda: model(x))
    optimizer = tf.Module()
    optimizer._iterations = tf.Variable(3, dtype=tf.int64)
    optimizer._variables = [
        tf.Variable(w.value * 0.5, name=f"Adam/average/{w.value.name.removesuffix(':0')}")
        for w in model.trainable_variables
    ]
    prefix = tf.train.Checkpoint(model=model, optimizer=optimizer).write(str(directory / "ckpt"))
    live = {DEFAULT: arrays(model(x))}
    for weight, average in zip(model.trainable_variables, optimizer._variables, strict=True):
        weight.assign(average)
    live["ema"] = arrays(model(x))
    return Made(Path(prefix), "regimes.py:averaged", {DEFAULT: {"x": x}}, live)


# --- refused ----------------------------------------------------------------------------------


def raw_variables_in_a_list(directory: Path) -> Made:
    model = STRUCTURED.raw_variables(in_list=True)
    x = floats(8, 2)
    fit(model, x)
    return made(
        directory, "structured.py:raw_variables", model, {"x": x}, model(x),
        builder_args={"in_list": "true"},
    )  # fmt: skip


def sparse_input(directory: Path) -> Made:
    model = COLUMNS.sparse_input()
    return made(directory, "columns.py:sparse_input", model, {}, 0.0)


def ragged_input(directory: Path) -> Made:
    return made(directory, "columns.py:ragged_input", COLUMNS.Ragged(), {}, 0.0)


def compiled_function(directory: Path) -> Made:
    module, x = REGIMES.Compiled(), floats(8, 2)
    return made(directory, "regimes.py:compiled_function", module, {"x": x}, module(x))
