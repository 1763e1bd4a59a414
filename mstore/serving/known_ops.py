"""The ops that TensorFlow Serving has: those of TensorFlow and those of TF Text.

The lists are made by ``scripts/tensorflow_ops.py``. The server is linked with the ops of TF Text
and of TensorFlow Decision Forests as well (``SUPPORTED_TENSORFLOW_OPS`` in
tensorflow_serving/model_servers/BUILD), but not every build of it is.
"""

from functools import cache
from importlib import resources

from mstore.domain.serving_ops import OpList


@cache
def tensorflow_ops() -> OpList:
    """Return the ops of TensorFlow."""
    return _read("tensorflow.txt")


@cache
def text_ops() -> OpList:
    """Return the ops of TF Text, SentencePiece among them."""
    return _read("text.txt")


def _read(name: str) -> OpList:
    file = resources.files("mstore.serving").joinpath("ops").joinpath(name)
    source, *names = file.read_text(encoding="ascii").split("\n")
    return OpList(source, frozenset(filter(None, names)))
