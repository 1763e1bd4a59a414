"""Ten thousand versions and a hundred targets: what a promotion, a rollback and an audit take.

One small model is trained, exported and promoted; the other versions, and the history of the
targets, are rows that stand for the same files. What is measured is real, with `cp` beside it.
"""

import argparse
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mstore.store import Store

MAKE = """
import tensorflow as tf
class Net(tf.Module):
    def __init__(self):
        self.w = tf.Variable(tf.random.normal([64, 64]), name="w")
    def __call__(self, x):
        return {"y": tf.matmul(x, self.w)}
if __name__ == "__main__":
    tf.train.Checkpoint(model=Net()).write("ckpt-1")
def build():
    import mstore
    return mstore.Servable(Net(), inputs={"x": tf.TensorSpec([None, 64], tf.float32)})
"""

_VERSIONS = """
INSERT INTO versions (model, number, checkpoint, digest, manifest, record, body, created_at)
SELECT model, value + 2, checkpoint, digest, manifest, randomblob(32),
       json_set(body, '$.version', value + 2), created_at
FROM versions, numbers WHERE number = 1 AND value + 2 <= :versions ORDER BY value
"""
_DEPLOYMENTS = """
INSERT INTO deployments (version, target, path, event, at, by, record)
SELECT v.seq, t.name, p.path || '/' || v.number, 'promoted',
       strftime('%Y-%m-%dT%H:%M:%S.000000Z', 1735689600 + v.number * 60, 'unixepoch'), 'a@b',
       randomblob(32)
FROM versions v JOIN targets t ON t.seq = 1 + v.number % :targets JOIN target_models p
ON p.target = t.seq WHERE v.number < :versions ORDER BY v.number
"""
_LEAVING = """
INSERT INTO deployments (version, target, path, event, at, by, record)
SELECT version, target, path, 'retired', at, by, randomblob(32) FROM deployments
WHERE version NOT IN (SELECT max(version) FROM deployments GROUP BY target) ORDER BY seq
"""


def fill(path: Path, versions: int, targets: int) -> None:
    """Make versions, and the history of targets: each has had its share of them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TEMP TABLE numbers (value INTEGER PRIMARY KEY)")
        connection.executemany(
            "INSERT INTO numbers VALUES (?)", ((value,) for value in range(versions))
        )
        given = {"versions": versions, "targets": targets}
        for statement in (_VERSIONS, _DEPLOYMENTS, _LEAVING):
            connection.execute(statement, given)
        connection.execute("UPDATE models SET next_version = ?", (versions + 1,))
        connection.execute("COMMIT")


def measured(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Fill a store and print what each verb takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=10_000)
    parser.add_argument("--targets", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "net.py").write_text(MAKE)
        subprocess.run([sys.executable, "net.py"], cwd=place, check=True, capture_output=True)
        with Store.init(place) as store:
            store.add(place / "ckpt-1", model="m")
            store.export("m", builder=f"{place}/net.py:build")
            made = Path(store.promote("m:1", place / "copy").path)
            for number in range(options.targets):
                store.add_target(f"t{number}", place / "served" / f"t{number}", models=["m"])
        fill(place / ".mstore" / "catalog.db", options.versions, options.targets)
        print(f"-- {options.versions} versions, {options.targets} targets, medians in seconds")
        report(place, made, options.versions, options.targets, options.rounds)


def report(place: Path, made: Path, versions: int, targets: int, rounds: int) -> None:
    """Measure each verb at one target after the other, and print medians."""
    times: dict[str, list[float]] = {}
    with Store.open(place) as store:
        for turn in range(1, rounds + 1):
            base = place / "served" / f"t{turn}"
            # What the history says is there is there.
            highest = max(number for number in range(versions) if number % targets == turn)
            shutil.copytree(made, base / str(highest))
            for what, work in verbs(store, made, place, f"t{turn}", versions).items():
                times.setdefault(what, []).append(measured(work))
    copying = statistics.median(times["cp -r of a version"])
    for what, found in times.items():
        beyond = statistics.median(found) - copying
        goal = what in {"promote", "audit of one target", "rollback"}
        verdict = f"<= 1 beyond cp: {'met' if beyond <= 1 else 'MISSED'}" if goal else ""
        print(f"{what:30} {statistics.median(found):8.4f}  {verdict}")


def verbs(
    store: Store, made: Path, place: Path, target: str, versions: int
) -> dict[str, Callable[[], object]]:
    """Return what is measured at one target."""
    copy = ["cp", "-r", str(made), str(place / f"copy-{target}")]
    return {
        "cp -r of a version": lambda: subprocess.run(copy, check=True),
        "promote": lambda: store.promote(f"m:{versions}", target),
        "audit of one target": lambda: store.audits(target),
        "rollback": lambda: store.rollback(target),
        "target list": store.targets,
        "list --versions --limit 20": lambda: store.versions("m", limit=20),
    }


if __name__ == "__main__":
    main()
