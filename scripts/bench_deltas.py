"""What `mstore gc` makes of ten checkpoints of three training runs, and what it costs.

Real optimizers write the checkpoints, slots included: a fine-tune with over half of the bytes
frozen, full training with Adam, and a sparse embedding of which 2 % of the rows change in a step.
"""

import argparse
import filecmp
import importlib.util
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mstore.store import Store

MAKE = """
import sys
import numpy as np
import tensorflow as tf
kind, out, width, every = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
tf.keras.utils.set_random_seed(1)
random = np.random.default_rng(1)
layers, keras = tf.keras.layers, tf.keras
if kind == "sparse":
    rows = width * 25
    model = keras.Sequential([layers.Embedding(rows, 64), layers.Flatten(), layers.Dense(16)])
    optimizer = keras.optimizers.Adagrad(0.05)
    def batch():
        ids = random.integers(0, rows, size=(rows // 50 // every // 4, 4))
        return ids, ids[:, 0] % 16
    shape = (None, 4)
else:
    x = random.normal(size=(20_000, 256)).astype("f4")
    one, two = random.normal(size=(256, 64)), random.normal(size=(64, 10))
    y = np.argmax(np.tanh(x @ one / 8) @ two, 1)
    frozen = [layers.Dense(width, "relu", trainable=False) for _ in range(9 * (kind != "full"))]
    dense = [layers.Dense(width, "relu") for _ in range(2 + (kind == "full"))]
    model = keras.Sequential([*frozen, *dense, layers.Dense(10)])
    optimizer = keras.optimizers.Adam(1e-4 if frozen else 1e-3)
    def batch():
        at = random.integers(0, len(x), size=64)
        return x[at], y[at]
    shape = (None, 256)
model.build(shape)
model(np.zeros((1, *shape[1:]), "i4" if kind == "sparse" else "f4"))
optimizer.build(model.trainable_variables)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
@tf.function(reduce_retracing=True)
def train(x, y):
    with tf.GradientTape() as tape:
        value = loss(y, model(x, training=True))
    weights = model.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(value, weights), weights))
step = tf.Variable(0, dtype=tf.int64, name="step")
checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=step)
for _ in range(10):
    for _ in range(every):
        train(*map(tf.constant, batch()))
        step.assign_add(1)
    checkpoint.write(f"{out}/ckpt-{int(step)}")
"""

GOALS = {"finetune": 0.36, "full": 0.60, "sparse": 0.10}


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def checkout(store: Store, step: int, place: Path, rounds: int) -> float:
    """Return the median of the seconds that a checkout takes."""
    seconds = []
    for _ in range(rounds):
        shutil.rmtree(place, ignore_errors=True)
        seconds.append(timed(lambda: store.checkout(f"m@{step}", place)))
    return statistics.median(seconds)


def met(value: float, limit: float) -> str:
    """Return whether a goal is met, in words."""
    return f"{value:.3f} <= {limit:g}: {'met' if value <= limit else 'MISSED'}"


def measure(kind: str, place: Path, rounds: int) -> None:
    """Add ten checkpoints, collect, and compare each of them with its files."""
    prefixes = sorted(
        {path.with_suffix("") for path in (place / kind).glob("*.index")},
        key=lambda path: int(path.name.partition("-")[2]),
    )
    steps = [int(path.name.partition("-")[2]) for path in prefixes]
    raw = sum(path.stat().st_size for path in (place / kind).iterdir())
    out = place / "out"
    (place / f"store-{kind}").mkdir()
    with Store.init(place / f"store-{kind}") as store:
        for prefix in prefixes:
            store.add(prefix, model="m", run="r")
        before = checkout(store, steps[-1], out, rounds)
        estimate = store.gc(dry_run=True)
        cpu = time.process_time()
        seconds = timed(store.gc)
        cpu = time.process_time() - cpu
        newest, oldest = (checkout(store, step, out, rounds) for step in (steps[-1], steps[0]))
        for prefix, step in zip(prefixes, steps, strict=True):
            shutil.rmtree(out)
            store.checkout(f"m@{step}", out)
            for file in prefix.parent.glob(f"{prefix.name}.*"):
                if not filecmp.cmp(file, out / file.name, shallow=False):
                    raise SystemExit(f"{file} is not what it was")
        if not store.verify().clean:
            raise SystemExit("the store is damaged")
        packs = sum(path.stat().st_size for path in (store.path / "packs").glob("*/*.pack"))
    saved = estimate.before - estimate.after
    print(f"{kind}: ten checkpoints of {raw / 1e7:.0f} MB each")
    print(f"   stored after gc, of the raw bytes  {met(packs / raw, GOALS[kind])}")
    print(f"   checkout of the newest, of before  {met(newest / before, 1.3)}")
    print(f"   checkout of the oldest, of before  {oldest / before:.1f}")
    print(
        f"   gc {seconds:.1f} s, CPU {cpu:.1f} s; the dry run estimated {saved / 1e6:.0f} MB less"
    )


def main() -> None:
    """Make the data and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=768, help="of the layers; the square is bytes")
    parser.add_argument("--every", type=int, default=100, help="steps between two checkpoints")
    parser.add_argument(
        "--rounds", type=int, default=9, help="checkouts of each; the median counts"
    )
    options = parser.parse_args()
    if importlib.util.find_spec("tensorflow") is None:
        raise SystemExit("this needs TensorFlow to write checkpoints: install mstore[tf]")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mstore-bench-", dir=Path.cwd() / "build") as name:
        for kind in GOALS:
            every = 1 if kind == "sparse" else options.every
            (Path(name) / kind).mkdir()
            make = [sys.executable, "-c", MAKE, kind, kind, str(options.width), str(every)]
            subprocess.run(make, cwd=name, check=True, env=os.environ | quiet)
            measure(kind, Path(name), options.rounds)
            shutil.rmtree(Path(name) / kind)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of all {peak:.0f} MB")


if __name__ == "__main__":
    main()
