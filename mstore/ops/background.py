"""Add a checkpoint beside the training loop."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mstore.domain.progress import NoProgress
from mstore.domain.records import Checkpoint
from mstore.ops.add import AddOptions, add
from mstore.ops.context import Context
from mstore.ops.live import ensure_saved
from mstore.ops.opened import OpenCheckpoint

_POOL = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mstore-add")


class PendingAdd:
    """An add that is under way in another thread.

    The interpreter waits for it at its end, so nothing is lost when the training script just stops.
    """

    def __init__(
        self, context: Context, opened: OpenCheckpoint, options: AddOptions, live: Any
    ) -> None:
        """Begin to add; the live model is looked at now, before training goes on."""
        try:
            if live is not None:
                ensure_saved(live, opened.table())
        except BaseException:
            opened.close()
            raise
        quiet = Context(context.root, context.engine, NoProgress())
        self._future = _POOL.submit(_run, quiet, opened, options)

    def done(self) -> bool:
        """Return whether it has ended, well or not."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> Checkpoint:
        """Wait for the end and return the checkpoint, or raise what `Store.add` raises.

        Args:
            timeout: seconds to wait, or None for as long as it takes.

        Raises:
            TimeoutError: it has not ended in that time.
        """
        return self._future.result(timeout)


def _run(context: Context, opened: OpenCheckpoint, options: AddOptions) -> Checkpoint:
    with opened:
        return add(context, opened, options, may_vanish=True)
