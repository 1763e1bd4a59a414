"""The content of mutable hash tables in a bundle.

TensorFlow stores such a table as two tensors, ``<key>-keys`` and ``<key>-values``, in the order of
its buckets (tensorflow/python/ops/lookup_ops.py, ``_MutableHashTableSaveable``).
"""

import math
from pathlib import Path

from mstore.domain.tensors import Tensor, TensorTable
from mstore.formats.tensor_bundle import decode_strings, read_tensor

_KEYS = b"-keys"
_VALUES = b"-values"
_ATTRIBUTES = b"/.ATTRIBUTES/"


def is_table_part(key: bytes) -> bool:
    """Return whether the tensor under this key is the keys or the values of a table."""
    _, found, name = key.rpartition(_ATTRIBUTES)
    return bool(found) and name.endswith((_KEYS, _VALUES))


def content(
    prefix: Path, table: TensorTable, key: bytes
) -> tuple[object, list[tuple[object, object]]] | None:
    """Return types and sorted pairs of the table that ``key`` belongs to; None if it is torn.

    Raises:
        DamagedFileError: if its bytes are damaged.
    """
    stem = key.removesuffix(_KEYS).removesuffix(_VALUES)
    keys, values = table.get(stem + _KEYS), table.get(stem + _VALUES)
    if keys is None or values is None or keys.shape[:1] != values.shape[:1]:
        return None
    kind = (keys.dtype, keys.shape[1:], values.dtype, values.shape[1:])
    pairs = zip(_rows(prefix, table, keys), _rows(prefix, table, values), strict=True)
    return kind, sorted(pairs)


def _rows(prefix: Path, table: TensorTable, tensor: Tensor) -> list[object]:
    raw = read_tensor(prefix, table, tensor)
    count = tensor.shape[0] if tensor.shape else 1
    if tensor.dtype == "string":
        strings = decode_strings(tensor, raw, path=str(prefix))
        width = math.prod(tensor.shape[1:])
        return [tuple(strings[row * width : (row + 1) * width]) for row in range(count)]
    width = len(raw) // count if count else 0
    return [raw[row * width : (row + 1) * width] for row in range(count)]
