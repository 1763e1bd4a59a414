"""Tensors on their way to and from a model server."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mstore.domain.tensors import DTYPES
from mstore.errors import ServerError
from mstore.serving import messages

Array = npt.NDArray[Any]

_NUMBERS = {name: number for number, (name, _) in DTYPES.items()}
_HALF_WORD = 16
_MOST = 1 << 28
"""Elements of one tensor; the last of them may stand for all the others."""

# dtype -> the field that holds its elements where tensor_content does not, and their type there
# (tensorflow/core/framework/tensor.proto; small types share a field with wider ones)
_FIELDS = {
    "float32": ("float_val", "float32"),
    "float64": ("double_val", "float64"),
    "int32": ("int_val", "int32"),
    "int16": ("int_val", "int16"),
    "int8": ("int_val", "int8"),
    "uint16": ("int_val", "uint16"),
    "uint8": ("int_val", "uint8"),
    "int64": ("int64_val", "int64"),
    "uint32": ("uint32_val", "uint32"),
    "uint64": ("uint64_val", "uint64"),
    "bool": ("bool_val", "bool"),
    "complex64": ("scomplex_val", "float32"),
    "complex128": ("dcomplex_val", "float64"),
    "float16": ("half_val", "uint16"),
    "bfloat16": ("half_val", "uint16"),
}


def is_known(dtype: str) -> bool:
    """Return whether tensors of a type can be sent and received."""
    return dtype == "string" or dtype in _FIELDS


def encode(dtype: str, array: Array) -> Any:
    """Return a ``TensorProto``.

    Args:
        dtype: TensorFlow's name of the type.
        array: the elements; strings as ``bytes`` objects or ``str``, bfloat16 as floats.

    Raises:
        ServerError: the type cannot be sent.
    """
    proto = messages.Tensor(dtype=_NUMBERS[dtype])
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == "string":
        texts = array.ravel().tolist()
        proto.string_val.extend(t if isinstance(t, bytes) else str(t).encode() for t in texts)
    elif dtype == "bfloat16":
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> _HALF_WORD) & 1)) >> _HALF_WORD
        proto.tensor_content = rounded.astype("<u2").tobytes()
    elif dtype in _FIELDS:
        kind = np.dtype(dtype).newbyteorder("<")
        proto.tensor_content = np.ascontiguousarray(array, kind).tobytes()
    else:
        raise ServerError(f"a tensor of the type {dtype} cannot be sent to a server")
    return proto


def decode(proto: Any) -> Array:
    """Return the array that a ``TensorProto`` holds; bfloat16 as float32, strings as ``bytes``.

    Raises:
        ServerError: it is none.
    """
    dtype = DTYPES.get(proto.dtype, ("", 0))[0]
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    try:
        if min(shape, default=0) < 0 or math.prod(shape) > _MOST:
            raise ValueError(shape)  # noqa: TRY301 - the message is the same
        if dtype == "string":
            texts: Array = np.empty(math.prod(shape), object)
            texts[:] = _spread(list(proto.string_val), texts.size)
            return texts.reshape(shape)
        field, kind = _FIELDS[dtype]
        if proto.tensor_content:
            flat: Array = np.frombuffer(proto.tensor_content, np.dtype(kind).newbyteorder("<"))
        else:
            parts = 2 if dtype.startswith("complex") else 1
            values = np.array(list(getattr(proto, field))).astype(kind)
            flat = _spread_array(values, parts, math.prod(shape))
        return _typed(dtype, flat).reshape(shape)
    except (KeyError, ValueError, OverflowError) as error:
        raise ServerError(
            f"the server's answer holds no tensor: {dtype or proto.dtype}{list(shape)}"
        ) from error


def _typed(dtype: str, flat: Array) -> Array:
    if dtype == "bfloat16":
        wide: Array = (flat.astype(np.uint32) << _HALF_WORD).view(np.float32)
        return wide
    return np.ascontiguousarray(flat).view(dtype)


def _spread(values: list[bytes], count: int) -> list[bytes]:
    """Return ``count`` elements: the last one stands for all that are not written."""
    if not values:
        return [b""] * count
    return values + [values[-1]] * (count - len(values))


def _spread_array(values: Array, parts: int, count: int) -> Array:
    missing = count * parts - values.size
    if missing > 0:
        last = values[-parts:] if values.size else np.zeros(parts, values.dtype)
        return np.concatenate([values, np.tile(last, missing // parts)])
    return values
