"""The elements of string tensors as a bundle stores them.

``[varint64 length] * n``, the masked CRC32C of the lengths, then the bytes of all elements
(``WriteStringTensor`` in tensorflow/core/util/tensor_bundle/tensor_bundle.cc).
"""

from mstore.domain.tensors import Tensor
from mstore.formats.crc import element_count
from mstore.formats.files import damaged, label
from mstore.formats.sstable import varint

_CHECKSUM = 4


def decode_strings(tensor: Tensor, raw: bytes, *, path: str) -> list[bytes]:
    """Return the elements of a string tensor in row-major order.

    Args:
        tensor: the tensor; ``raw`` has passed its checksum.
        raw: its bytes as stored.
        path: the file they come from, for the error.

    Raises:
        DamagedFileError: ``raw`` does not hold that many strings.
    """
    count = element_count(tensor.shape)
    if tensor.dtype != "string" or count + _CHECKSUM > len(raw):
        raise damaged(path, f"{label(tensor)} does not hold {count} strings")
    position = 0
    lengths = []
    for _ in range(count):
        length, position = varint(raw, position, len(raw), path)
        lengths.append(length)
    position += _CHECKSUM
    if position + sum(lengths) != len(raw):
        raise damaged(path, f"the strings of {label(tensor)} do not fill its bytes")
    strings = []
    for length in lengths:
        strings.append(raw[position : position + length])
        position += length
    return strings
