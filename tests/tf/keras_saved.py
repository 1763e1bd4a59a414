"""Trains a model with Keras, saves it in every format, and says what it holds.

Run as a process of its own: ``python keras_saved.py DIRECTORY``.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import tensorflow as tf


def described(values: Any) -> list[Any]:
    """Return dtype, shape and bytes of each variable."""
    return [
        [
            getattr(item, "path", item.name).removesuffix(":0"),
            tf.as_dtype(item.dtype).name,
            list(item.shape),
            np.asarray(item).tobytes().hex(),
        ]
        for item in values
    ]


def functional() -> Any:
    features, text = keras.Input((16,), name="features"), keras.Input((1,), dtype="string")
    lookup = keras.layers.StringLookup(output_mode="one_hot", name="words")
    lookup.adapt(np.array(["red", "green", "blue"]))
    shared = keras.layers.Dense(16, activation="relu", name="shared")
    encoder = keras.Sequential(
        [keras.Input((16,)), keras.layers.Dense(256, name="deep"), keras.layers.Dropout(0.3)],
        name="encoder",
    )
    x = keras.layers.BatchNormalization(name="norm")(shared(shared(features)))
    x = keras.layers.Dense(128, name="wide")(encoder(x))
    x = keras.layers.Concatenate()([x, lookup(text)])
    model = keras.Model([features, text], keras.layers.Dense(1, name="head")(x))
    model.compile(keras.optimizers.Adam(1e-3), "mse", metrics=["mae"])
    data = (
        (np.random.default_rng(1).random((8, 16)).astype("f4"), np.array([["red"]] * 8)),
        np.ones((8, 1), "f4"),
    )
    model.fit(tf.data.Dataset.from_tensors(data).repeat(7), verbose=0)
    return model


def subclassed() -> Any:
    class Blocks(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = [
                keras.layers.Dense(4, dtype="bfloat16"),
                keras.layers.Dense(3, dtype="mixed_float16"),
            ]

        def call(self, x: Any) -> Any:
            for block in self.blocks:
                x = block(x)
            return x

    model = Blocks()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 3)), epochs=3, verbose=0)
    return model


def saved(optimizer: Any) -> list[Any]:
    variables = optimizer.variables
    return list(variables() if callable(variables) else variables)


def listed(path: Path) -> dict[str, Any]:
    """Return what h5py itself finds in an HDF5 file."""
    found = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = [list(item.shape), np.asarray(item).tobytes().hex()]

    with h5py.File(path) as file:
        file.visititems(note)
    return found


def main() -> None:
    directory = Path(sys.argv[1])
    keras.utils.set_random_seed(7)
    model = functional()
    model.save(directory / "first.keras")
    time.sleep(1.1)  # the date in an archive has seconds
    model.save(directory / "second.keras")
    model.save_weights(directory / "model.weights.h5")
    model.save(directory / "whole.h5")
    tf.train.Checkpoint(model=model).write(str(directory / "ckpt"))
    listing = {
        "model": described(v for v in model.variables if "seed" not in v.name),
        "optimizer": described(saved(model.optimizer)),
        "files": {name: listed(directory / name) for name in ("model.weights.h5", "whole.h5")},
    }
    model.save(directory / "folder", zipped=False)
    model.save_weights(directory / "shards.weights.json", max_shard_size=3e-4)
    other = subclassed()
    other.save(directory / "blocks.keras")
    listing["blocks"] = described([*other.variables, *saved(other.optimizer)])
    model.get_layer("head").bias.assign([0.25])
    model.save(directory / "changed.keras")
    (directory / "listing.json").write_text(json.dumps(listing))


if __name__ == "__main__":
    main()
