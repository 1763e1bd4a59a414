"""A catalog of a million checkpoints: how long one look takes, and the plan of each query.

The rows are made inside SQLite; the packs behind them are not there. One real checkpoint is added
before, so that the ledger has begun, and some after, which are measured.
"""

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from mstore.catalog import checkpoints
from mstore.catalog.engine import reading
from mstore.formats.bundle_writer import BundleWriter
from mstore.store import Store

MODELS = 20
"""Models of the made catalog; the first has half of all checkpoints."""

RUN_LENGTH = 5000
"""Checkpoints of one run."""

TENSORS = 8
"""Tensors of each checkpoint; half of them are the same in all checkpoints of a model."""

_ID = "lower(hex(randomblob(32)))"
_MODEL = f"CASE WHEN value % 2 THEN 2 ELSE 2 + (value / 2) % {MODELS} END"  # key 1 is taken

_FILL = (
    (
        "INSERT INTO models (seq, name, next_version) "
        f"SELECT value + 2, 'model' || value, 1 FROM numbers WHERE value < {MODELS} ORDER BY value"
    ),
    # Which model and run each checkpoint belongs to, and its place in that run.
    (
        "CREATE TEMP TABLE made AS "
        f"SELECT n, model, at / {RUN_LENGTH} AS turn, at % {RUN_LENGTH} AS k "
        "FROM (SELECT n, model, row_number() OVER (PARTITION BY model ORDER BY n) - 1 AS at "
        f"FROM (SELECT value AS n, {_MODEL} AS model FROM numbers))"
    ),
    (
        "INSERT INTO runs (model, name, created_at) "
        "SELECT model, 'run' || turn, '2025-01-01T00:00:00.000000Z' FROM made "
        "GROUP BY model, turn ORDER BY min(n)"
    ),
    (
        "INSERT INTO packs (seq, name, bytes, created_at) "
        f"SELECT n + 2, {_ID}, 200000, '2025-01-01T00:00:00.000000Z' FROM made"
    ),
    (
        'INSERT INTO objects (id, pack, kind, codec, "offset", stored, raw) '
        "SELECT randomblob(32), n + 2, part, 0, 0, 1000, 1000 FROM made, "
        "(SELECT 1 AS part UNION ALL SELECT 2 UNION ALL SELECT 3)"
    ),
    (
        "INSERT INTO checkpoints (id, model, run, step, step_source, format, bytes, stored_bytes, "
        "tensors, content, manifest, record, meta, source, added_at, superseded) "
        f"SELECT {_ID}, m.model, r.seq, k * 100, 'variable', 'tensor_bundle', 200000, 200000, "
        f"{TENSORS}, {_ID}, randomblob(32), randomblob(32), '{{}}', "
        "'/training/' || r.name || '/ckpt-' || (k * 100), "
        "strftime('%Y-%m-%dT%H:%M:%S.000000Z', 1735689600 + n * 60, 'unixepoch'), 0 "
        "FROM made m JOIN runs r ON r.model = m.model AND r.name = 'run' || turn ORDER BY n"
    ),
    (
        "INSERT INTO events (id, event, model, checkpoint, at, by, path) "
        "SELECT id, 'added', model, seq, added_at, 'trainer@host', source FROM checkpoints "
        "WHERE source LIKE '/training/%' ORDER BY seq"
    ),
)
"""Statements that fill a catalog from a table ``numbers``, without metrics and tensors."""


def fill(path: Path, count: int) -> None:
    """Put ``count`` checkpoints into the catalog at ``path``, which has one checkpoint already."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("synchronous = OFF", "cache_size = -2000000", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        columns = [row[1] for row in connection.execute("PRAGMA table_info(metrics)")]
        derived = [name for name in ("run", "step", "superseded") if name in columns]
        connection.execute("BEGIN")
        connection.execute("CREATE TEMP TABLE numbers (value INTEGER PRIMARY KEY)")
        connection.execute(
            "WITH RECURSIVE up(value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM up "
            "WHERE value + 1 < ?) INSERT INTO numbers SELECT value FROM up",
            (count,),
        )
        for statement in _FILL:
            connection.execute(statement)
        names = ", ".join(["checkpoint", "name", "model", "value", *derived])
        for name, value in (
            ("val_loss", "abs(random() % 1000000) / 1000.0"),
            ("accuracy", "min(1.0, abs(random() % 100) / 90.0)"),  # many are equal, and the best
        ):
            picked = ", ".join(["seq", f"'{name}'", "model", value, *derived])
            connection.execute(
                f"INSERT INTO metrics ({names}) SELECT {picked} FROM checkpoints "
                "WHERE source LIKE '/training/%'"
            )
        connection.execute(
            "INSERT INTO tensors (fingerprint, checkpoint) "
            f"SELECT CASE WHEN value < {TENSORS // 2} THEN model * 1000 + value "
            f"ELSE seq * 1000003 + value * 7919 END, seq FROM checkpoints, numbers "
            f"WHERE value < {TENSORS} AND source LIKE '/training/%' ORDER BY 1, 2"
        )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def plans(engine: sa.Engine) -> Iterator[list[tuple[str, list[str]]]]:
    """Give a list that receives each SELECT run meanwhile with the steps of its plan."""
    found: list[tuple[str, list[str]]] = []

    def explain(
        _: object, cursor: sqlite3.Cursor, sql: str, values: object, *_rest: object
    ) -> None:
        if sql.startswith(("SELECT", "WITH")):
            steps = cursor.connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
            found.append((sql, [step[3] for step in steps]))

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", explain)


def checkpoint(place: Path, number: int) -> Path:
    """Write a small checkpoint: one tensor that no other has."""
    prefix = place / f"ckpt-{number}"
    with BundleWriter(prefix) as writer:
        writer.add(b"w", "float32", (2,), [number.to_bytes(8, "little")], crc32c=None)
        writer.finish()
    return prefix


@contextmanager
def transactions(engine: sa.Engine) -> Iterator[list[float]]:
    """Give a list that receives the seconds of each transaction that writes, to its commit."""
    found: list[float] = []
    begun = [0.0]

    def begin(_: object, __: object, sql: str, *_rest: object) -> None:
        if sql.startswith("BEGIN"):
            begun[0] = time.perf_counter()

    def commit(_: object) -> None:
        if begun[0]:
            found.append(time.perf_counter() - begun[0])
        begun[0] = 0.0

    event.listen(engine, "before_cursor_execute", begin)
    event.listen(engine, "commit", commit)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", begin)
        event.remove(engine, "commit", commit)


def questions(store: Store, engine: sa.Engine) -> dict[str, tuple[Callable[[], object], float]]:
    """Return what is measured: name to call, and the goal in milliseconds, 0 for none."""
    some = store.list("model0", limit=1)[0]
    with reading(engine) as connection:
        query = sa.text(
            "SELECT fingerprint FROM tensors NOT INDEXED JOIN checkpoints "
            "ON checkpoints.seq = checkpoint WHERE id = :id"
        )
        marks = list(connection.scalars(query, {"id": some.id}))

    def holding() -> object:
        with reading(engine) as connection:
            return checkpoints.holding(connection, marks)

    return {
        "list --model model0 --limit 20": (lambda: store.list("model0", limit=20), 50),
        "list of one run, 20": (lambda: store.list("model0", run="run0", limit=20), 0),
        "model0@latest": (lambda: store.show("model0@latest"), 50),
        "model0@best:val_loss": (lambda: store.show("model0@best:val_loss"), 50),
        "model0@best:+accuracy": (lambda: store.show("model0@best:+accuracy"), 50),
        "model0/run0@best:val_loss": (lambda: store.show("model0/run0@best:val_loss"), 50),
        "model0/run0@1200": (lambda: store.show("model0/run0@1200"), 0),
        "first 10 digits of an id": (lambda: store.show(some.id[:10]), 0),
        "model0@ and 10 digits": (lambda: store.show(f"model0@{some.id[:10]}"), 0),
        "log --limit 20": (lambda: store.log(limit=20), 0),
        "which hold these 8 tensors": (holding, 0),
    }


def main() -> None:
    """Fill a catalog and print what each question takes, and what its plan is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="checkpoints")
    options = parser.parse_args()
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mstore-catalog-", dir="build") as name:
        place = Path(name)
        with Store.init(place) as store:
            store.add(checkpoint(place, 0), model="first", step=0)
        catalog = place / ".mstore" / "catalog.db"
        fill(catalog, options.count)
        megabytes = catalog.stat().st_size / 1e6
        print(f"{options.count} checkpoints, catalog of {megabytes:.0f} MB")
        with Store.open(place) as store:
            measure(store, place)


def measure(store: Store, place: Path) -> None:
    """Print medians in milliseconds and the steps of plans that look at more than they need."""
    engine = store._context.engine  # noqa: SLF001 - what is measured is inside
    print(f"{'':<34} {'ms':>9} goal")
    for name, (ask, goal) in questions(store, engine).items():
        with plans(engine) as found:
            ask()
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            ask()
            taken.append((time.perf_counter() - start) * 1000)
        _print(name, statistics.median(taken), goal)
        for sql, steps in found:
            for step in steps:
                if step.startswith("SCAN") and "USING" not in step and "LIMIT" not in sql:
                    print(f"    {step} in {' '.join(sql.split())[:100]}")
    alone, whole = [], []
    for number in range(1, 8):
        prefix = checkpoint(place, number)
        with transactions(engine) as spent:
            start = time.perf_counter()
            store.add(prefix, model="model0", run="run0", step=10**9 + number)
            whole.append((time.perf_counter() - start) * 1000)
        alone.append(max(spent) * 1000)
    _print("add of a small checkpoint", statistics.median(whole), 0)
    _print("  its transaction, with the flush", statistics.median(alone), 5)


def _print(name: str, value: float, goal: float) -> None:
    said = f"<= {goal:g}: {'met' if value <= goal else 'MISSED'}" if goal else ""
    print(f"{name:<34} {value:>9.2f} {said}", flush=True)


if __name__ == "__main__":
    main()
