"""A Keras callback that puts checkpoints into a store as training writes them.

It runs in the training process, which has TensorFlow; nothing else of mstore imports this module.
"""

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from mstore.errors import UsageError
from mstore.ops.background import PendingAdd
from mstore.store import Store, StrPath


class StoreCheckpoint(keras.callbacks.Callback):
    """Write a checkpoint of model and optimizer now and then, and add it with the logs as metrics.

    The checkpoint is a ``tf.train.Checkpoint(model=..., optimizer=...)``; its step is the number
    of batches trained. Writing it takes as long as TensorFlow takes; hashing and storing happen in
    another thread, which training waits for only at the end, or when it saves faster than the
    store can take.

    Before the live model is left to train on, each of its weights is looked for in the
    checkpoint: layers in plain Python lists or dicts would be lost without a word otherwise.
    """

    def __init__(
        self,
        store: Store | StrPath = ".",
        *,
        model: str,
        run: str | None = None,
        save_freq: str | int = "epoch",
        checkpoint: Any = None,
        tags: tuple[str, ...] = (),
        meta: Mapping[str, str] | None = None,
        builder: str | None = None,
        example: Any = None,
    ) -> None:
        """Prepare the callback.

        Args:
            store: an open store, or where to look for one.
            model: name of the model in the store.
            run: name of the training run.
            save_freq: ``"epoch"``, or a number of batches.
            checkpoint: what to write instead of model and optimizer, a ``tf.train.Checkpoint``.
            tags: tags for each checkpoint; each moves on to the newest one.
            meta: free text by key for each checkpoint.
            builder: ``FILE.py:NAME`` that builds the model again, recorded for later exports.
            example: a batch, whose outputs at each checkpoint are recorded with it; every export
                must then give them.

        Raises:
            UsageError: ``save_freq`` is neither ``"epoch"`` nor a positive number.
            StoreNotFoundError: there is no store.
        """
        super().__init__()
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq > 0):
            raise UsageError(f"save_freq is 'epoch' or a number of batches, not {save_freq!r}")
        self._store = store if isinstance(store, Store) else Store.open(store)
        self._owns_store = not isinstance(store, Store)
        self._name = model
        self._options: dict[str, Any] = {"run": run, "tags": tags, "builder": builder}
        self._meta = dict(meta or {})
        self._save_freq = save_freq
        self._checkpoint = checkpoint
        self._example = example
        self._batches = 0
        self._saved_at: int | None = None
        self._pending: list[PendingAdd] = []
        self.added: list[Any] = []
        """The checkpoints added so far, `mstore.Checkpoint` each."""

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Go on counting from the optimizer's iterations, as after a restore."""
        del logs
        self._batches = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Count the batch, and save after every ``save_freq`` of them."""
        del batch
        self._batches += 1
        if self._save_freq != "epoch" and self._batches % int(self._save_freq) == 0:
            self._save(logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Save with the epoch's logs, unless saving goes by batches."""
        if self._save_freq == "epoch":
            self._save(logs, epoch=epoch)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Wait for what is still being added, and raise what went wrong with it."""
        del logs
        self._collect(keep=0)
        if self._owns_store:
            self._store.close()

    def _save(self, logs: Mapping[str, Any] | None, epoch: int | None = None) -> None:
        if self._saved_at == self._batches:
            return
        self._saved_at = self._batches
        metrics, meta = _split(logs or {})
        if epoch is not None:
            meta["epoch"] = str(epoch)
        with tempfile.TemporaryDirectory(prefix=".mstore-tmp-", dir=self._store.path) as folder:
            prefix = self._write(Path(folder) / f"ckpt-{self._batches}")
            # The files are open from here on; the directory may go while they are being added.
            pending = self._store.add(
                prefix,
                model=self._name,
                live=self.model,
                step=self._batches,
                metrics=metrics,
                meta=self._meta | meta,
                background=True,
                example=self._example,
                **self._options,
            )
        assert isinstance(pending, PendingAdd)  # noqa: S101 - asked for with background=True
        self._pending.append(pending)
        self._collect(keep=1)

    def _write(self, prefix: Path) -> Path:
        import tensorflow as tf  # noqa: PLC0415 - the training process has it already

        checkpoint = self._checkpoint
        if checkpoint is None:
            checkpoint = tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer)
        return Path(os.fspath(checkpoint.write(str(prefix))))

    def _collect(self, keep: int) -> None:
        """Take in what has been added, leaving at most ``keep`` under way."""
        while len(self._pending) > keep:
            self.added.append(self._pending.pop(0).result())


def _split(logs: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Return finite logs as metrics and the others, which cannot be compared, as text."""
    metrics: dict[str, float] = {}
    meta: dict[str, str] = {}
    for name, value in logs.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            metrics[name] = number
        else:
            meta[name] = str(number)
    return metrics, meta
