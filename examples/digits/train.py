"""Train on scikit-learn's digits in a custom loop that writes a checkpoint after each epoch.

`metrics.txt` gets one line a checkpoint: prefix and validation loss.
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from model import build
from sklearn.datasets import load_digits

EPOCHS = 6
BATCH = 64

keras.utils.set_random_seed(7)
images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
order = np.random.default_rng(7).permutation(len(images))
train, test = order[:1400], order[1400:]
batches = (
    tf.data.Dataset.from_tensor_slices((images[train], labels[train]))
    .shuffle(1400, seed=7)
    .batch(BATCH)
)

model = build()
optimizer = keras.optimizers.Adam(1e-2)
loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
step = tf.Variable(0, dtype=tf.int64, name="step")
checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=step)
manager = tf.train.CheckpointManager(checkpoint, "ckpts", max_to_keep=None)


@tf.function
def train_step(x: tf.Tensor, y: tf.Tensor) -> None:
    """Take one step of gradient descent."""
    with tf.GradientTape() as tape:
        loss = loss_of(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    step.assign_add(1)


with Path("metrics.txt").open("w") as metrics:
    for epoch in range(1, EPOCHS + 1):
        for x, y in batches:
            train_step(x, y)
        logits = model(images[test], training=False)
        loss = float(loss_of(labels[test], logits))
        accuracy = float(np.mean(np.argmax(logits, axis=1) == labels[test]))
        prefix = manager.save(checkpoint_number=int(step))
        print(f"epoch {epoch}  step {int(step)}  val_loss {loss:.4f}  accuracy {accuracy:.3f}")
        metrics.write(f"{prefix} {loss:.4f}\n")
