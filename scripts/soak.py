"""Let processes add, export, promote, tag, verify and mend one store, and kill them at random.

`PYTHONPATH=. .venv/bin/python scripts/soak.py --minutes 5 --processes 8` prints what was done. It
fails when anything that a process was told is done is not there at the end, when a number is there
twice, when `verify` is not clean at any time, or when the catalog made again differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mstore.errors import ConflictError, StoreLockedError
from mstore.store import Store
from tests.crash import conversion
from tests.crash.state import content
from tests.ops.catalogs import answers, lose, rows


class Worker:
    """One process: does this and that, and writes down what it was told is done."""

    def __init__(self, root: Path, number: int) -> None:
        """Go on where the last process of this number was killed."""
        self.root = root
        self.number = number
        self.random = random.Random()  # noqa: S311 - no secret
        self.done = root / "done" / str(number)

    def run(self) -> None:
        """Work until killed."""
        conversion.install()
        with Store.open(self.root, exact=True) as store:
            choices: list[tuple[Callable[[Store], object], int]] = [
                (self.add, 8),
                (self.export, 4),
                (self.tag, 2),
                (self.promote, 2),
                (self.verify, 1),
            ]
            choices += [(self.collect, 1)] if hasattr(store, "gc") else []
            verbs, weights = zip(*choices, strict=True)
            while True:
                (verb,) = self.random.choices(verbs, weights)
                try:
                    verb(store)
                except (ConflictError, StoreLockedError) as error:
                    self.say("refused", error.code)

    def say(self, kind: str, what: object) -> None:
        """Write down what is done; a kill may come before, never after, it is so."""
        with self.done.open("a", encoding="utf-8") as file:
            file.write(json.dumps([kind, what]) + "\n")

    def add(self, store: Store) -> None:
        """Add a checkpoint of a run of its own."""
        step = int(time.monotonic() * 1e6)
        prefix = self.root / "ckpts" / f"{self.number}" / f"ckpt-{step}"
        conversion.make_checkpoint(prefix, step % 997)
        added = store.add(prefix, model="m", run=f"r{self.number}", step=step)
        self.say("added", getattr(added, "id", None))

    def export(self, store: Store) -> None:
        """Export one of the newest checkpoints."""
        found = store.list("m", limit=8)
        if found:
            made = store.export(self.random.choice(found).id, builder="builder.py:build")
            self.say("exported", [made.version, made.digest])

    def tag(self, store: Store) -> None:
        """Tag one of the newest checkpoints."""
        found = store.list("m", limit=8)
        if found:
            name = f"tag-{self.number}-{int(time.monotonic() * 1e6)}"
            store.tag(self.random.choice(found).id, name)
            self.say("tagged", name)

    def promote(self, store: Store) -> None:
        """Publish the newest version."""
        made = store.versions("m", limit=1)
        if made:
            placed = store.promote(f"m:{made[0].version}", self.root / "base")
            self.say("promoted", placed.version)

    def verify(self, store: Store) -> None:
        """Read a part of all, while the others write."""
        report = store.verify(subset=(self.random.randrange(8) + 1, 8))
        self.say("verified" if report.clean else "damaged", [str(f) for f in report.findings])

    def collect(self, store: Store) -> None:
        """Collect what nobody needs, where this mstore can."""
        getattr(store, "gc")()  # noqa: B009 - it may not be there
        self.say("collected", None)


def soak(root: Path, minutes: float, processes: int) -> Counter[str]:
    """Start the processes, kill one about every second, and start it again."""
    Store.init(root).close()
    (root / "done").mkdir()
    command = [sys.executable, __file__, "--worker", str(root)]
    logs = {n: (root / f"log-{n}").open("ab") for n in range(processes)}

    def start(number: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*command, str(number)], stderr=logs[number])

    workers = {number: start(number) for number in range(processes)}
    counts: Counter[str] = Counter()
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        time.sleep(random.uniform(0.2, 1.5))  # noqa: S311 - no secret
        number = random.choice(list(workers))  # noqa: S311 - the same
        if workers[number].poll() is None:
            workers[number].send_signal(signal.SIGKILL)
            counts["killed"] += 1
        else:
            counts["ended by itself"] += 1
        workers[number].wait()
        workers[number] = start(number)
    for worker in workers.values():
        worker.kill()
        worker.wait()
    for log in logs.values():
        log.close()
    return counts


def judge(root: Path, counts: Counter[str]) -> list[str]:
    """Hold what the processes were told against what is there; return what is wrong."""
    told: dict[str, list[object]] = {}
    for path in (root / "done").iterdir():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                kind, what = json.loads(line)
            except ValueError:  # killed while it wrote
                continue
            told.setdefault(kind, []).append(what)
            counts[kind] += 1
    wrong = [f"damaged while others wrote: {what}" for what in told.get("damaged", [])]
    with Store.open(root, exact=True) as store:
        report = store.verify()
        wrong += [str(finding) for finding in report.findings]
        there = {item.id: item for item in store.list(superseded=True)}
        wrong += [f"lost: {id_}" for id_ in told.get("added", []) if id_ not in there]
        versions = {item.version: item.digest for item in store.versions()}
        there_now = [[number, digest] for number, digest in versions.items()]
        wrong += [f"lost version: {v}" for v in told.get("exported", []) if v not in there_now]
        tags = {name for item in there.values() for name in item.tags}
        wrong += [f"lost tag: {name}" for name in told.get("tagged", []) if name not in tags]
        placed = {item.version for item in store.deployments()}
        wrong += [f"lost: {n} promoted" for n in told.get("promoted", []) if n not in placed]
        for item in list(there.values())[:: max(1, len(there) // 50)]:
            store.checkout(item.id, root / "out" / item.id)
            source = Path(item.source)
            found = {p.name: p.read_bytes() for p in source.parent.glob(f"{source.name}.*")}
            if {n: (root / "out" / item.id / n).read_bytes() for n in found} != found:
                wrong.append(f"{item.id} is not what was added")
        for number in content(root / "base"):
            counts["published files"] += bool(number)
        before, said = rows(root), answers(store)
    lose(root)
    Store.rebuild(root, exact=True)
    with Store.open(root, exact=True) as store:
        if answers(store) != said:
            wrong.append("the store made again says something else")
    after = rows(root)
    wrong += [f"made again, {name} differs" for name in before if after[name] != before[name]]
    return wrong


def main() -> int:
    """Soak, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--worker", nargs=2, metavar=("ROOT", "NUMBER"))
    given = parser.parse_args()
    if given.worker:
        Worker(Path(given.worker[0]), int(given.worker[1])).run()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        counts = soak(root, given.minutes, given.processes)
        wrong = judge(root, counts)
        for log in sorted(root.glob("log-*")):
            text = log.read_text(encoding="utf-8").strip()
            wrong += [f"{log.name}: {text[-600:]}"] if text else []
    print(json.dumps(counts, indent=1))
    print("\n".join(wrong) or "nothing lost, verify clean")
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
