"""The cells of the README's table of formats and kinds of models, as a test run finds them.

A cell is a file of its own under ``build/cells``, so that processes need not wait for each other;
``scripts/cells.py`` holds them against the table that is committed.
"""

import json
from pathlib import Path

CELLS = Path(__file__).parents[2] / "build" / "cells"


def record(kind: str, form: str, cell: str) -> None:
    """Keep one cell: ``proven`` with a difference, or ``refused`` with the reason."""
    CELLS.mkdir(parents=True, exist_ok=True)
    name = f"{kind}--{form}".replace("/", "-").replace(" ", "_")
    (CELLS / f"{name}.json").write_text(json.dumps([kind, form, cell]), encoding="utf-8")
