"""What the command line was told before any command runs: store, format, terminal."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Mode = Literal["text", "json", "ids"]

STORE_VARIABLE = "MSTORE_STORE"
"""Environment variable that names the store."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that every command has.

    Attributes:
        store: directory of the store, or None to look upwards from the working directory.
        json: whether to print one JSON document.
        quiet: whether to print ids only.
    """

    store: Path | None = None
    json: bool = False
    quiet: bool = False

    @property
    def mode(self) -> Mode:
        """How results are printed; ``--json`` wins over ``--quiet``."""
        if self.json:
            return "json"
        return "ids" if self.quiet else "text"

    def merged(self, later: "Settings") -> "Settings":
        """Return these settings with what was given after the command added."""
        return Settings(
            store=later.store if later.store is not None else self.store,
            json=self.json or later.json,
            quiet=self.quiet or later.quiet,
        )

    def store_path(self) -> Path | None:
        """Return the store that the options or the environment name, or None."""
        if self.store is not None:
            return self.store
        named = os.environ.get(STORE_VARIABLE, "")
        return Path(named) if named else None
