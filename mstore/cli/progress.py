"""Progress on standard error: bytes and rate, once work has gone on for half a second."""

import threading
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from mstore.domain.progress import NoProgress, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

DELAY = 0.5
"""Seconds before anything is shown."""


class TerminalProgress:
    """Draws one line that is gone when the work is done.

    A timer starts the drawing, so that work without any byte done yet, such as tracing a model,
    shows as well.
    """

    def __init__(self, stream: TextIO, *, delay: float = DELAY) -> None:
        """Draw on ``stream`` after ``delay`` seconds."""
        self._stream = stream
        self._delay = delay
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._label = ""
        self._total: int | None = None
        self._done = 0

    def start(self, label: str, total_bytes: int | None) -> None:
        """Begin a piece of work, which ends the one before."""
        self.finish()
        self._label, self._total, self._done = label, total_bytes, 0
        self._timer = threading.Timer(self._delay, self._draw)
        self._timer.daemon = True
        self._timer.start()

    def advance(self, count: int) -> None:
        """Say that ``count`` more bytes are done."""
        with self._lock:
            self._done += count
            if self._bars is not None and self._task is not None:
                self._bars.update(self._task, completed=self._done)

    def finish(self) -> None:
        """End the piece of work and clear the line."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            self._timer = None
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
            self._bars = self._task = None

    def __enter__(self) -> Progress:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Clear the line, also when the work failed."""
        self.finish()

    def _draw(self) -> None:
        # rich costs 45 ms to import; short commands never get here.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bars  # noqa: PLC0415

        console = Console(file=self._stream, force_terminal=True)
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        if self._total is not None:
            columns += [BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn()]
        bars = Bars(*columns, TimeElapsedColumn(), console=console, transient=True)
        with self._lock:
            self._task = bars.add_task(self._label, total=self._total, completed=self._done)
            self._bars = bars
            bars.start()


class SilentProgress(NoProgress):
    """Shows nothing: standard error is no terminal, or the output is for a program."""

    def __enter__(self) -> Progress:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing."""
