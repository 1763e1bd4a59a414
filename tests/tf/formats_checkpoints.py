"""Writes checkpoints and a SavedModel with TensorFlow, and what TensorFlow reads in them.

Run as a process of its own with the output directory as argument: TensorFlow's warnings and
threads stay out of the tests, and no test can lean on it by mistake.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import keras
import numpy as np
import tensorflow as tf

v1 = tf.compat.v1

DTYPES = (
    *("float32", "float64", "int32", "uint8", "int16", "int8", "string", "complex64", "int64"),
    *("bool", "bfloat16", "uint16", "complex128", "float16", "uint32", "uint64"),
    *("float8_e5m2", "float8_e4m3fn", "qint8", "quint8", "qint32"),
)


def raw(value: Any) -> Any:
    """Return a value's bytes in hexadecimal, element by element for strings."""
    if isinstance(value, bytes):
        return [value.hex()]
    if value.dtype == object:
        return [item.hex() for item in value.reshape(-1)]
    return value.tobytes().hex()


def described(prefix: Path) -> dict[str, Any]:
    """Return dtype, shape and bytes of each tensor as TensorFlow reads them."""
    reader = tf.train.load_checkpoint(str(prefix))
    shapes = reader.get_variable_to_shape_map()
    dtypes = reader.get_variable_to_dtype_map()
    return {
        key: {
            "dtype": dtypes[key].name,
            "shape": shapes[key],
            "raw": raw(reader.get_tensor(key)),
        }
        for key in shapes
        if dtypes[key] != tf.variant
    }


def keras_model(directory: Path) -> Path:
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.BatchNormalization()]
    )
    model.compile("adam", "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 8)), verbose=0)
    step = tf.Variable(1234, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, step=step)
    tf.train.CheckpointManager(checkpoint, str(directory), max_to_keep=3).save()
    checkpoint.write(str(directory / "written"))
    names = {item.path for item in model.variables}
    (directory / "names.json").write_text(json.dumps(sorted(names)))
    return directory / "ckpt-1"


def all_dtypes(directory: Path) -> Path:
    tensors = []
    for name in DTYPES:
        if name == "string":
            tensors.append(tf.constant([[b"a", b""], [b"\xff" * 300, b"bcd"]]))
        elif name.startswith("q"):
            bits = tf.constant([1, 2, 3], name.removeprefix("q"))
            tensors.append(tf.bitcast(bits, name))
        else:
            tensors.append(tf.cast(tf.constant([[0.0, 1.0, 2.0]]), name))
    names = [f"t/{name}" for name in DTYPES]
    tensors += [tf.zeros([0, 7]), tf.constant(5), tf.constant([], tf.string)]
    names += ["empty", "scalar", "no strings"]
    tf.raw_ops.SaveV2(
        prefix=str(directory / "x"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=tensors,
    )
    return directory / "x"


def narrow_dtypes(directory: Path) -> Path:
    tensors = [tf.cast(tf.constant([1, 2, 3]), name) for name in ("int4", "uint4")]
    tf.raw_ops.SaveV2(
        prefix=str(directory / "x"),
        tensor_names=["int4", "uint4"],
        shape_and_slices=["", ""],
        tensors=tensors,
    )
    return directory / "x"


def variants(directory: Path) -> Path:
    lists = [
        tf.raw_ops.TensorListFromTensor(
            tensor=tf.range(size), element_shape=tf.constant([], tf.int32)
        )
        for size in (3, 40)
    ]
    tf.raw_ops.SaveV2(
        prefix=str(directory / "x"),
        tensor_names=["one", "two"],
        shape_and_slices=["", ""],
        tensors=[lists[0], tf.stack(lists)],
    )
    return directory / "x"


def slices(directory: Path) -> Path:
    names, specs, tensors = [], [], []
    for name, rows in (("part", 200), ("big", 20_000), ("odd/\x01name", 130)):
        third = rows // 3
        whole = tf.reshape(tf.range(rows * 4, dtype=tf.float32), [rows, 4])
        for start, length in ((0, third), (third, third), (2 * third, rows - 2 * third)):
            for column in (0, 2):
                names.append(name)
                specs.append(f"{rows} 4 {start},{length}:{column},2")
                tensors.append(whole[start : start + length, column : column + 2])
    names += ["rows", "rows", "full"]
    specs += ["6 2 0,3:-", "6 2 3,3:-", "6 2 0,6:-"]
    tensors += [tf.ones([3, 2]), tf.zeros([3, 2]), tf.ones([6, 2])]
    tf.raw_ops.SaveV2(
        prefix=str(directory / "x"), tensor_names=names, shape_and_slices=specs, tensors=tensors
    )
    return directory / "x"


def shards(directory: Path) -> Path:
    parts = []
    for part in range(3):
        parts.append(str(directory / f"x_temp/part-{part:05d}-of-00003"))
        tf.raw_ops.SaveV2(
            prefix=parts[-1],
            tensor_names=[f"layer/{part}/{item}" for item in "abc"] + ["part"],
            shape_and_slices=["", "", "", f"6 2 {2 * part},2:-"],
            tensors=[tf.fill([part + 1, 3], float(part))] * 3 + [tf.ones([2, 2]) * part],
        )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts, destination_prefix=str(directory / "x")
    )
    return directory / "x"


def many(directory: Path) -> Path:
    items = [tf.Variable(float(at), name=f"item_{at}") for at in range(6000)]
    return Path(tf.train.Checkpoint(items=items).write(str(directory / "x")))


def tables(directory: Path) -> Path:
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    table.insert(tf.constant(["one", "two", ""]), tf.constant([1, 2, 3], tf.int64))
    words = tf.Variable(["a", "bc"], name="words")
    return Path(tf.train.Checkpoint(table=table, words=words).write(str(directory / "x")))


def name_based(directory: Path) -> Path:
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("w", [3, 2], use_resource=False)
        step = v1.train.get_or_create_global_step()
        v1.get_variable("part", [200, 3], partitioner=v1.fixed_size_partitioner(3))
        session.run(v1.global_variables_initializer())
        session.run(v1.assign(step, 77))
        saver = v1.train.Saver(sharded=True)
        prefix = saver.save(session, str(directory / "model.ckpt"), global_step=step)
        old = v1.train.Saver(write_version=v1.train.SaverDef.V1)
        old.save(session, str(directory / "old"))
    return Path(prefix)


class Served(tf.Module):
    """A module with a table from a file, an optional rank and two signatures."""

    def __init__(self, vocabulary: str) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.ones([4, 2]), name="kernel")
        self.bias = tf.Variable(tf.zeros([2]), name="bias")
        self.initializer = tf.lookup.TextFileInitializer(
            vocabulary, tf.string, 0, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self.table = tf.lookup.StaticHashTable(self.initializer, -1)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")]
    )
    def predict(self, x: Any) -> dict[str, Any]:
        return {"y": tf.nn.relu(x @ self.kernel + self.bias)}

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec(None, tf.string, name="words")]
    )
    def look_up(self, words: Any) -> dict[str, Any]:
        return {"ids": self.table.lookup(words)}


def saved_model(directory: Path) -> Path:
    (directory / "vocabulary.txt").write_text("one\ntwo\n")
    module = Served(str(directory / "vocabulary.txt"))
    target = directory / "model"
    tf.saved_model.save(
        module, str(target), signatures={"serving_default": module.predict, "ids": module.look_up}
    )
    loaded = tf.saved_model.load(str(target))
    signatures = {
        name: {
            "inputs": {key: spec(item) for key, item in call.structured_input_signature[1].items()},
            "outputs": {key: spec(item) for key, item in call.structured_outputs.items()},
        }
        for name, call in loaded.signatures.items()
    }
    described_model = {"signatures": signatures, "tensorflow": tf.__version__}
    (directory / "model.json").write_text(json.dumps(described_model))
    return target / "variables" / "variables"


def spec(item: Any) -> dict[str, Any]:
    shape = None if item.shape.rank is None else item.shape.as_list()
    return {"dtype": item.dtype.name, "shape": shape}


MAKERS: dict[str, Callable[[Path], Path]] = {
    "keras_model": keras_model,
    "all_dtypes": all_dtypes,
    "narrow_dtypes": narrow_dtypes,
    "variants": variants,
    "slices": slices,
    "shards": shards,
    "many": many,
    "tables": tables,
    "name_based": name_based,
    "saved_model": saved_model,
}


def main() -> None:
    """Write everything below the directory given, with a list of it."""
    root = Path(sys.argv[1])
    listing = {}
    for name, make in MAKERS.items():
        (root / name).mkdir()
        prefix = make(root / name)
        tensors = {} if name == "narrow_dtypes" else described(prefix)
        listing[name] = {"prefix": str(prefix), "tensors": tensors}
    (root / "listing.json").write_text(json.dumps(listing))


if __name__ == "__main__":
    main()
