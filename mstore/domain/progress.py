"""Progress of long work, reported to whoever wants to show it."""

from typing import Protocol


class Progress(Protocol):
    """Receiver of progress; the command line draws a bar, tests collect, others ignore it."""

    def start(self, label: str, total_bytes: int | None) -> None:
        """Begin a piece of work of ``total_bytes``, or of unknown size."""

    def advance(self, count: int) -> None:
        """Say that ``count`` more bytes are done."""

    def finish(self) -> None:
        """End the piece of work."""


class NoProgress:
    """Ignores all progress."""

    def start(self, label: str, total_bytes: int | None) -> None:
        """Ignore the beginning."""

    def advance(self, count: int) -> None:
        """Ignore the advance."""

    def finish(self) -> None:
        """Ignore the end."""
