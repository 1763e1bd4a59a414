"""One run of one command: its settings, its output, its store."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mstore.cli.output import Output, Page
from mstore.cli.progress import SilentProgress, TerminalProgress
from mstore.cli.settings import Settings
from mstore.errors import Error, IntegrityError, PartialError, StoreNotFoundError, UsageError

if TYPE_CHECKING:
    from mstore.domain.lint import LintReport
    from mstore.domain.records import AuditReport
    from mstore.domain.upkeep import RebuildReport
    from mstore.store import Store


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with.

    Attributes:
        settings: the options that every command has.
        output: where results go.
        progress: where progress goes.
    """

    settings: Settings
    output: Output
    progress: TerminalProgress | SilentProgress

    def store(self) -> "Store":
        """Open the store that the options, the environment or the working directory name.

        Raises:
            StoreNotFoundError: there is none.
        """
        # SQLAlchemy alone takes 0.15 s to import; `--help` does not need it.
        from mstore.store import Store  # noqa: PLC0415

        named = self.settings.store_path()
        return Store.open(
            named if named is not None else Path.cwd(),
            exact=named is not None,
            progress=self.progress,
        )

    def rebuild(self) -> "RebuildReport":
        """Make the catalog again of the store that would be opened, which may be past opening.

        Raises:
            StoreNotFoundError: there is none.
        """
        from mstore.store import Store  # noqa: PLC0415 - loads SQLAlchemy

        named = self.settings.store_path()
        return Store.rebuild(
            named if named is not None else Path.cwd(),
            exact=named is not None,
            progress=self.progress,
        )

    def audits(
        self, where: str | None, *, at: str | None = None, model: str | None = None
    ) -> "tuple[AuditReport, ...]":
        """Audit with the store, or a directory by its own statement where there is no store.

        Raises:
            StoreNotFoundError: a store is needed or named, and is not there.
            InputError: the path is not there.
        """
        from mstore.store import audit_without_store  # noqa: PLC0415 - loads SQLAlchemy

        try:
            store = self.store()
        except StoreNotFoundError:
            if self.settings.store_path() is not None or where is None or at is not None:
                raise
            self.output.talk("no store is here: auditing by what the directory says of itself")
            return (audit_without_store(Path(where), self.progress),)
        with store:
            return store.audits(where, at=at, model=model)

    def doctor(self, where: str, config: Path | None) -> "tuple[LintReport, ...]":
        """Look at a target or a directory, with the store where there is one.

        Raises:
            StoreNotFoundError: the store that is named is not there.
            InputError: the directory is not there.
        """
        from mstore.store import doctor_without_store  # noqa: PLC0415 - loads SQLAlchemy

        try:
            store = self.store()
        except StoreNotFoundError:
            if self.settings.store_path() is not None:
                raise
            self.output.talk("no store is here: looking at what the directory says of itself")
            return doctor_without_store(where, config=config, progress=self.progress)
        with store:
            return store.doctor(where, config=config)

    def lint(self, path: Path) -> "LintReport":
        """Lint a directory; no store is asked.

        Raises:
            InputError: the path is no directory.
        """
        from mstore.store import lint  # noqa: PLC0415 - loads SQLAlchemy

        return lint(path, self.progress)

    def show(self, page: Page) -> None:
        """Print a page, after the progress line is gone."""
        self.progress.finish()
        self.output.show(page)

    def ensure_asked(self, *, yes: bool) -> None:
        """Check that people can be asked, or said yes beforehand.

        Raises:
            UsageError: neither.
        """
        if not yes and (self.settings.mode != "text" or not sys.stdin.isatty()):
            raise UsageError(
                "something would be removed, and nobody can be asked here",
                hint="look first with --dry-run, then give --yes",
            )

    def confirm(self, question: str) -> None:
        """Ask people whether to go on.

        Raises:
            Error: the answer is not yes.
        """
        self.progress.finish()
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise Error("nothing was removed: the answer was not yes")

    def fail_for(self, failures: Sequence[tuple[str, Error]], *, done: int) -> None:
        """Raise for things that could not be done beside ``done`` that were; nothing if all were.

        Raises:
            PartialError: some things were done.
            IntegrityError: nothing was done, and something is damaged.
            Error: nothing was done; a single failure is raised as it is.
        """
        if not failures:
            return
        if len(failures) == 1 and done == 0:
            raise failures[0][1]
        listing = "\n".join(f"  {path}: {error.message}" for path, error in failures)
        total = done + len(failures)
        message = f"{len(failures)} of {total} could not be done:\n{listing}"
        hint = failures[0][1].hint
        if done:
            raise PartialError(message, hint=hint)
        damaged = any(isinstance(error, IntegrityError) for _, error in failures)
        raise (IntegrityError if damaged else Error)(message, hint=hint)


def open_session(settings: Settings) -> Session:
    """Return a session on this process's streams."""
    terminal = sys.stdout.isatty()
    talking = sys.stderr.isatty() and settings.mode == "text"
    return Session(
        settings,
        Output(
            settings.mode,
            sys.stdout,
            sys.stderr,
            terminal=terminal,
            color=has_color(sys.stdout),
        ),
        TerminalProgress(sys.stderr) if talking else SilentProgress(),
    )


def has_color(stream: TextIO) -> bool:
    """Return whether to colour a stream: a terminal, and neither NO_COLOR nor TERM=dumb is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
