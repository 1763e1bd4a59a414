"""The architecture: training and `mstore export` both get the model here."""

import keras


def build() -> keras.Model:
    """Return a small convolutional network for 8 x 8 grey images of digits."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            keras.layers.Conv2D(16, 3, activation="relu", name="conv"),
            keras.layers.BatchNormalization(momentum=0.9, name="norm"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu", name="hidden"),
            keras.layers.Dense(10, name="logits"),
        ],
        name="digits",
    )
