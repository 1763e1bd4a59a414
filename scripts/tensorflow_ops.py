"""Write the lists of op names that `mstore lint` knows, from the libraries that are installed.

`python scripts/tensorflow_ops.py` writes mstore/serving/ops/tensorflow.txt. With the path of an
unpacked wheel of tensorflow-text it writes mstore/serving/ops/text.txt as well. The first line of
each file names the library and the version that the list is of.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session

TARGET = Path(__file__).parents[1] / "mstore" / "serving" / "ops"


def registered() -> set[str]:
    """Return the names of all ops that are registered in this process."""
    ops = op_def_pb2.OpList()
    ops.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return {op.name for op in ops.op}


def write(name: str, title: str, names: Iterable[str]) -> None:
    """Write one list: a title, then one name a line, sorted."""
    TARGET.mkdir(exist_ok=True)
    (TARGET / name).write_text("\n".join([title, *sorted(names)]) + "\n", encoding="ascii")


def main() -> None:
    """Write the lists."""
    own = registered()
    write("tensorflow.txt", f"tensorflow {tf.__version__}", own)
    if len(sys.argv) > 1:
        wheel = Path(sys.argv[1])
        for library in sorted((wheel / "tensorflow_text").rglob("_*.so")):
            tf.load_op_library(str(library))
        (info,) = wheel.glob("tensorflow_text-*.dist-info")
        version = info.name.removeprefix("tensorflow_text-").removesuffix(".dist-info")
        write("text.txt", f"tensorflow-text {version}", registered() - own)


if __name__ == "__main__":
    main()
