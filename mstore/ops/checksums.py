"""Compute each tensor's CRC32C while its file goes by, where the file does not record it."""

from collections.abc import Iterable

from mstore.domain.tensors import Tensor
from mstore.formats.crc import Buffer, tensor_check


class CrcCollector:
    """Sees the bytes of one file in order and computes the masked CRC32C of the tensors in it.

    Attributes:
        values: what was computed so far, by the tensor's key.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        """Watch for ``tensors``, which all lie in the file and do not overlap."""
        self._waiting = sorted(tensors, key=lambda tensor: tensor.offset, reverse=True)
        self._check = tensor_check(self._waiting[-1]) if self._waiting else None
        self.values: dict[bytes, int] = {}
        self._close(0)

    def __call__(self, offset: int, data: Buffer) -> None:
        """Look at the next bytes of the file, which begin at ``offset``."""
        view = memoryview(data)
        end = offset + len(data)
        while self._check is not None and self._waiting[-1].offset < end:
            tensor = self._waiting[-1]
            start = max(tensor.offset, offset)
            self._check.update(view[start - offset : tensor.offset + tensor.size - offset])
            if tensor.offset + tensor.size > end:
                return
            self._close(tensor.offset + tensor.size)

    def _close(self, position: int) -> None:
        """Take the tensors that end at or before ``position``, empty ones too."""
        while self._check is not None:
            tensor = self._waiting[-1]
            if tensor.size and tensor.offset + tensor.size > position:
                return
            # Not the checksum of all its bytes if it is of strings, see `tensor_check`.
            self.values[tensor.key] = self._check.value()
            self._waiting.pop()
            self._check = tensor_check(self._waiting[-1]) if self._waiting else None
