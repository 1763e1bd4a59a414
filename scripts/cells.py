"""Hold the table of kinds of models and formats against what the tests just found.

`python scripts/cells.py --check` compares ``build/cells`` with ``docs/models.json``, verdict by
verdict; without `--check` the file is written anew, and scripts/readme.py puts it into README.md.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CELLS = ROOT / "build" / "cells"
TABLE = ROOT / "docs" / "models.json"

Table = dict[str, dict[str, str]]


def found() -> Table:
    """Return what the last run of the tests found: kind to format to cell."""
    table: Table = {}
    for path in sorted(CELLS.glob("*.json")):
        kind, form, cell = json.loads(path.read_text(encoding="utf-8"))
        table.setdefault(kind, {})[form] = cell
    return table


def committed() -> Table:
    """Return the table that is committed."""
    table: Table = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def verdicts(table: Table) -> dict[tuple[str, str], str]:
    """Return each cell without its difference, which depends on the processor."""
    return {
        (kind, form): cell.partition(",")[0]
        for kind, cells in table.items()
        for form, cell in cells.items()
    }


def main() -> None:
    """Compare or write."""
    if "--check" not in sys.argv[1:]:
        text = json.dumps(found(), indent=1, sort_keys=True) + "\n"
        TABLE.write_text(text, encoding="utf-8")
        return
    now, before = verdicts(found()), verdicts(committed())
    differ = [key for key in sorted(now.keys() | before.keys()) if now.get(key) != before.get(key)]
    for key in differ:
        print(f"{key[0]} in {key[1]}: {before.get(key)} in docs/models.json, {now.get(key)} now")
    if differ:
        raise SystemExit("the table of models is out of date: python scripts/cells.py")
    print(f"{len(now)} cells as in docs/models.json")


if __name__ == "__main__":
    main()
