"""Check each tensor's CRC32C while its file goes by."""

from collections.abc import Iterable

from mstore.domain.tensors import Tensor
from mstore.errors import DamagedFileError
from mstore.formats.tensor_bundle import Buffer, tensor_check


class CrcWatch:
    """Sees the bytes of one data file in order and checks the tensors in it."""

    def __init__(self, tensors: Iterable[Tensor], *, path: str) -> None:
        """Watch for ``tensors``, which all lie in the file at ``path`` and do not overlap."""
        filled = (tensor for tensor in tensors if tensor.size)
        self._waiting = sorted(filled, key=lambda tensor: tensor.offset, reverse=True)
        self._path = path
        self._check = tensor_check(self._waiting[-1]) if self._waiting else None

    def __call__(self, offset: int, data: Buffer) -> None:
        """Look at the next bytes of the file, which begin at ``offset``.

        Raises:
            DamagedFileError: a tensor that ends in them does not have its CRC32C.
        """
        view = memoryview(data)
        end = offset + len(data)
        while self._check is not None and self._waiting[-1].offset < end:
            tensor = self._waiting[-1]
            start = max(tensor.offset, offset)
            stop = min(tensor.offset + tensor.size, end)
            self._check.update(view[start - offset : stop - offset])
            if stop < tensor.offset + tensor.size:
                return
            if not self._check.matches():
                raise self._damaged(tensor)
            self._waiting.pop()
            self._check = tensor_check(self._waiting[-1]) if self._waiting else None

    def _damaged(self, tensor: Tensor) -> DamagedFileError:
        return DamagedFileError(
            f"{self._path} is damaged: the bytes of tensor "
            f"{tensor.full_name or tensor.name} do not have the CRC32C its index records",
            path=self._path,
            hint="copy the checkpoint again from where it was trained, or use another step",
        )
