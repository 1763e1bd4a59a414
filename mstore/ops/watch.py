"""Check each tensor's CRC32C, or compute it, while its file goes by."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from mstore.domain.tensors import Tensor
from mstore.errors import DamagedFileError
from mstore.formats.crc import Buffer, RunningCrc, TensorCheck, mask, tensor_check


class CrcWatch:
    """Sees the bytes of one file in order, and checks or computes the CRC32C of the tensors in it.

    Where the file's format records the checksums, they are checked. Where it does not, ``computed``
    has them when the whole file has gone by.
    """

    def __init__(self, tensors: Iterable[Tensor], *, path: str, recorded: bool = True) -> None:
        """Watch for ``tensors``, which all lie in the file at ``path`` and do not overlap.

        Args:
            tensors: those of one file, in any order.
            path: names the file in an error.
            recorded: whether ``crc32c`` of each tensor is on record, to be checked.
        """
        every = sorted(tensors, key=lambda tensor: tensor.offset, reverse=True)
        self._waiting = [tensor for tensor in every if tensor.size]
        self._path = path
        self._recorded = recorded
        self._computed = {} if recorded else {t.key: mask(0) for t in every if not t.size}
        self._running = self._start()

    @property
    def computed(self) -> Mapping[bytes, int]:
        """Masked CRC32C by key, of those tensors that went by whole; none where it is recorded."""
        return MappingProxyType(self._computed)

    def __call__(self, offset: int, data: Buffer) -> None:
        """Look at the next bytes of the file, which begin at ``offset``.

        Raises:
            DamagedFileError: a tensor that ends in them does not have its CRC32C.
        """
        view = memoryview(data)
        end = offset + len(view)
        while self._running is not None and self._waiting[-1].offset < end:
            tensor = self._waiting[-1]
            start = max(tensor.offset, offset)
            stop = min(tensor.offset + tensor.size, end)
            self._running.update(view[start - offset : stop - offset])
            if stop < tensor.offset + tensor.size:
                return
            self._finish(tensor, self._running)
            self._waiting.pop()
            self._running = self._start()

    def _start(self) -> RunningCrc | TensorCheck | None:
        if not self._waiting:
            return None
        return tensor_check(self._waiting[-1]) if self._recorded else RunningCrc()

    def _finish(self, tensor: Tensor, running: RunningCrc | TensorCheck) -> None:
        if isinstance(running, RunningCrc):
            self._computed[tensor.key] = running.value()
        elif not running.matches():
            raise DamagedFileError(
                f"{self._path} is damaged: the bytes of tensor "
                f"{tensor.full_name or tensor.name} do not have the CRC32C its index records",
                path=self._path,
                hint="copy the checkpoint again from where it was trained, or use another step",
            )
