"""Questions about a catalog of any size are answered from indexes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from mstore.catalog import checkpoints
from mstore.catalog.engine import reading
from mstore.store import Store
from tests.ops.making import added, checkpoint, weights

LARGE = ("checkpoints", "metrics", "tensors", "events", "objects", "packs", "deployments")


@contextmanager
def plans(engine: sa.Engine) -> Iterator[list[tuple[str, list[str]]]]:
    """Give a list that receives each query run meanwhile with the steps of its plan."""
    found: list[tuple[str, list[str]]] = []

    def explain(_: Any, cursor: Any, sql: str, values: Any, *_rest: Any) -> None:
        if sql.startswith(("SELECT", "WITH")):
            rows = cursor.connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
            found.append((sql, [row[3] for row in rows]))

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", explain)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    place = tmp_path_factory.mktemp("plans")
    with Store.init(place) as made:
        for run in ("one", "two"):
            for step in (1, 2, 3):
                prefix = checkpoint(place / run / f"ckpt-{step}", weights(step))
                added(made, prefix, run=run, metrics={"loss": step})
        prefix = checkpoint(place / "three" / "ckpt-9", weights(9))
        added(made, prefix, run="three", metrics={"loss": -1})
        added(made, checkpoint(place / "three" / "ckpt-8", weights(8)), run="three")
        made.prune("m/three", keep_tagged=True)
        yield made


def holding(store: Store) -> object:
    with reading(store._context.engine) as connection:
        return checkpoints.holding(connection, [1, 2, 3])


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.list("m", limit=2),
        lambda store: store.list("m", run="one", limit=2),
        lambda store: store.show("m@latest"),
        lambda store: store.show("m/one@latest"),
        lambda store: store.show("m@best:loss"),
        lambda store: store.show("m@best:+loss"),
        lambda store: store.show("m/one@3"),
        lambda store: store.show(store.list("m", limit=1)[0].id[:12]),
        lambda store: store.show(f"m@{store.list('m', limit=1)[0].id[:12]}"),
        lambda store: store.show("m/three@9"),
        lambda store: store.show(f"m@{store.log('m', limit=1)[0].pruned[0][:12]}"),
        lambda store: store.log("m/three@9"),
        lambda store: store.log("m", limit=2),
        holding,
    ],
    ids=[
        *("list", "list-run", "latest", "latest-run", "best", "best-highest"),
        *("step", "prefix", "prefix-of-model", "step-pruned", "prefix-pruned"),
        *("log-of-one", "log", "content"),
    ],
)
def test_no_question_reads_a_whole_table_or_sorts_it(
    store: Store, ask: Callable[[Store], object]
) -> None:
    with plans(store._context.engine) as found:
        ask(store)
    assert found
    for sql, steps in found:
        for step in steps:
            # In the order of the primary key and with a limit, a scan ends after a few rows.
            is_whole = step.startswith("SCAN") and step.split()[1] in LARGE and "LIMIT" not in sql
            assert not is_whole, (step, sql)
            assert "TEMP B-TREE" not in step or "LIMIT" not in sql, (step, sql)


def test_the_check_sees_a_whole_table_being_read(store: Store) -> None:
    with plans(store._context.engine) as found, reading(store._context.engine) as connection:
        connection.execute(sa.text("SELECT id FROM checkpoints WHERE source = 'x'")).all()
    assert any(step.startswith("SCAN checkpoints") for _, steps in found for step in steps)


def test_the_latest_of_very_many_equals_is_found(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_EQUALS", 1)
    found = store.show("m@best:loss")
    assert (found.run, found.step) == ("two", 1)  # type: ignore[union-attr]
