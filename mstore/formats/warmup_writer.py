"""Writes warmup requests: a TFRecord file of ``tensorflow.serving.PredictionLog``.

The counterpart of `mstore.formats.warmup`, where the sources of the format are named; TensorProto:
tensorflow/core/framework/tensor.proto.
"""

import struct
from collections.abc import Mapping
from typing import Protocol

from mstore.domain.tensors import DTYPES
from mstore.formats import protos
from mstore.formats.crc import masked_crc

_NUMBERS = {name: number for number, (name, _) in DTYPES.items()}


class Batch(Protocol):
    """What is written of an input: a shape, and its elements."""

    shape: tuple[int, ...]

    def tobytes(self) -> bytes:
        """Return the elements, little-endian, row by row."""
        ...

    def ravel(self) -> "Batch":
        """Return the elements in one row."""
        ...

    def tolist(self) -> list[object]:
        """Return the elements as Python's values."""
        ...


def predict_request(model: str, signature: str, inputs: Mapping[str, tuple[str, Batch]]) -> bytes:
    """Return a warmup file with one request, which a server replays when it loads the version.

    Args:
        model: name of the model.
        signature: name of the signature.
        inputs: input key to dtype and batch; strings as ``bytes`` objects.
    """
    log = protos.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = model.encode()
    request.model_spec.signature_name = signature.encode()
    for key, (dtype, batch) in sorted(inputs.items()):
        entry = request.inputs.add(key=key.encode())
        entry.value.dtype = _NUMBERS[dtype]
        entry.value.tensor_shape.dim.extend(protos.Dim(size=size) for size in batch.shape)
        if dtype == "string":
            entry.value.string_val.extend(batch.ravel().tolist())
        else:
            entry.value.tensor_content = batch.tobytes()
    data = log.SerializeToString(deterministic=True)
    head = struct.pack("<Q", len(data))
    return b"".join(
        [head, struct.pack("<I", masked_crc(head)), data, struct.pack("<I", masked_crc(data))]
    )
