"""The content of mutable hash tables in a bundle.

TensorFlow stores such a table as two tensors, ``<key>-keys`` and ``<key>-values``, in the order of
its buckets (tensorflow/python/ops/lookup_ops.py, ``_MutableHashTableSaveable``).
"""

import math

from mstore.domain.tensors import Tensor, TensorReader
from mstore.formats.files import damaged
from mstore.formats.tensor_bundle import check_crc, decode_strings

_KEYS = b"-keys"
_VALUES = b"-values"
_ATTRIBUTES = b"/.ATTRIBUTES/"


def is_table_part(key: bytes) -> bool:
    """Return whether the tensor under this key is the keys or the values of a table."""
    _, found, name = key.rpartition(_ATTRIBUTES)
    return bool(found) and name.endswith((_KEYS, _VALUES))


def content(reader: TensorReader, key: bytes) -> tuple[object, list[tuple[object, object]]] | None:
    """Return types and sorted pairs of the table that ``key`` belongs to; None if it is torn.

    Raises:
        DamagedFileError: if its bytes are damaged.
    """
    stem = key.removesuffix(_KEYS).removesuffix(_VALUES)
    keys, values = reader.table.get(stem + _KEYS), reader.table.get(stem + _VALUES)
    if keys is None or values is None or keys.shape[:1] != values.shape[:1]:
        return None
    kind = (keys.dtype, keys.shape[1:], values.dtype, values.shape[1:])
    pairs = zip(_rows(reader, keys), _rows(reader, values), strict=True)
    return kind, sorted(pairs)


def _rows(reader: TensorReader, tensor: Tensor) -> list[object]:
    raw = b"".join(reader.pieces(tensor))
    if not check_crc(tensor, raw):
        raise damaged(tensor.name, "its bytes do not have the recorded checksum")
    count = tensor.shape[0] if tensor.shape else 1
    if tensor.dtype == "string":
        strings = decode_strings(tensor, raw, path=tensor.name)
        width = math.prod(tensor.shape[1:])
        return [tuple(strings[row * width : (row + 1) * width]) for row in range(count)]
    width = len(raw) // count if count else 0
    return [raw[row * width : (row + 1) * width] for row in range(count)]
