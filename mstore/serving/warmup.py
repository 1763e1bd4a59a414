"""Makes warmup requests: ``tensorflow.serving.PredictionLog``.

A server replays them when it loads a version (tensorflow_serving/apis/prediction_log.proto).
"""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from mstore.serving import messages
from mstore.serving.tensors import encode

Array = npt.NDArray[Any]


def prediction_log(model: str, signature: str, inputs: Mapping[str, tuple[str, Array]]) -> bytes:
    """Return a request to predict, as a server logs and replays it.

    Args:
        model: name of the model.
        signature: name of the signature.
        inputs: input key to dtype and batch; strings as ``bytes`` objects.

    Raises:
        ServerError: a type cannot be sent.
    """
    log = messages.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = model.encode()
    request.model_spec.signature_name = signature.encode()
    for key, (dtype, batch) in sorted(inputs.items()):
        request.inputs.add(key=key.encode()).value.CopyFrom(encode(dtype, batch))
    data: bytes = log.SerializeToString(deterministic=True)
    return data
