"""How fast mstore is, beside `cp` and `b3sum` of the same files, as medians of one run.

Ratios are taken side by side: each round runs the yardstick and then mstore. The last column has
the goals. TensorFlow writes the checkpoints.
"""

import argparse
import importlib.util
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000


@dataclass(frozen=True)
class Sample:
    """Wall seconds, CPU seconds of this process and its children, peak memory in MB if known."""

    wall: float
    cpu: float
    peak: float = 0.0


def warm() -> None:
    """Write a file and delete it, so that the page cache has pages ready.

    In a virtual machine the first use of a page may cost ten times what filling it costs, and
    whoever came first would pay for the others. Everyone who writes does this just before.
    """
    with tempfile.TemporaryFile(dir="build") as file:
        for _ in range(_WARM):
            file.write(bytes(MB))


def timed(work: Callable[[], object]) -> Sample:
    """Run `work` and return what it took."""
    warm()
    before, start = os.times(), time.perf_counter()
    work()
    wall, after = time.perf_counter() - start, os.times()
    return Sample(wall, sum(after[:4]) - sum(before[:4]))


def process(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> Sample:
    """Run a process to its end and return what it took; what it says is shown if it fails."""
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        child = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            env=os.environ | (env or {}),
            stdout=said,
            stderr=said,
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise SystemExit(f"{command} failed:\n{said.read().decode(errors='replace')}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def python(code: str, *arguments: str | Path, cwd: Path) -> Sample:
    """Run code in a fresh interpreter and return what its call of `measure` took."""
    command = [sys.executable, "-c", _HARNESS + code, *map(str, arguments)]
    out = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout
    wall, cpu, peak = map(float, out.split())
    return Sample(wall, cpu, peak)


_WARM = 256
"""Megabytes to write; more than any one step does."""

_HARNESS = """
import resource, sys, tempfile, time
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
bare = peak()
from blake3 import blake3
from mstore.ops import add, checkout, opened, verify
from mstore.store import Store
def warm():
    with tempfile.TemporaryFile(dir=".") as file:
        for _ in range(256):
            file.write(bytes(1 << 20))
def measure(work):
    warm()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    print(time.perf_counter() - wall, time.process_time() - cpu, peak() - bare)
store = Store.open(".")
def b3sum(names):
    for name in names:
        digest = blake3(max_threads=blake3.AUTO)
        with open(name, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
"""
ADD = "measure(lambda: store.add(sys.argv[1], model='m', run=sys.argv[2]))"
MANY = """
from pathlib import Path
prefixes = sorted(p.with_suffix("") for p in Path(sys.argv[1]).glob("*.index"))
measure(lambda: [store.add(p, model='many', run='r') for p in prefixes])
"""
CHECKOUT = "measure(lambda: store.checkout('m@0', sys.argv[1]))"
VERIFY = "measure(store.verify)"
B3SUM = "measure(lambda: b3sum(sys.argv[1:]))"
MAKE = """
import sys
import tensorflow as tf
prefix, tensors, rows, count, change = sys.argv[1], *map(int, sys.argv[2:])
generator = tf.random.Generator.from_seed(1)
class Weights(tf.Module):
    def __init__(self):
        self.w = [tf.Variable(generator.normal([rows, 1000]), name=f"w{i}") for i in range(tensors)]
    @tf.function
    def __call__(self, x):
        return tf.add_n([tf.matmul(x, w) for w in self.w])
model, step = Weights(), tf.Variable(0, dtype=tf.int64, name="step")
checkpoint = tf.train.Checkpoint(model=model, step=step)
for i in range(count):
    step.assign(i)
    for weight in model.w[:change]:
        weight.assign(generator.normal([rows, 1000]))
    checkpoint.write(f"{prefix}-{i}")
"""
BUILDER = """
import tensorflow as tf
import mstore
class Weights(tf.Module):
    def __init__(self):
        self.w = [tf.Variable(tf.zeros([ROWS, 1000]), name=f"w{i}") for i in range(TENSORS)]
    def __call__(self, x):
        return {"y": tf.add_n([tf.matmul(x, w) for w in self.w])}
def build():
    return mstore.Servable(Weights(), inputs={"x": tf.TensorSpec([None, ROWS], tf.float32)})
"""

NAIVE = """
import sys
import tensorflow as tf
from builder import Weights
model = Weights()
rows = int(sys.argv[2])
tf.train.Checkpoint(model=model).read("big-1").expect_partial()
serve = tf.function(lambda x: model(x), input_signature=[tf.TensorSpec([None, rows], tf.float32)])
tf.saved_model.save(model, sys.argv[1], signatures=serve)
"""


def copy(files: list[Path], target: Path) -> None:
    """Copy files as `cp` does, and fsync them and their directory."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    subprocess.run(["cp", *map(str, files), str(target)], check=True)
    subprocess.run(["sync", *(str(target / file.name) for file in files), str(target)], check=True)


def row(
    name: str, samples: list[Sample], goal: str = "", against: list[Sample] | None = None
) -> None:
    """Print medians, the median ratio to `against` round by round, and the goal."""
    wall = statistics.median(sample.wall for sample in samples)
    cpu = statistics.median(sample.cpu for sample in samples)
    peak = max(sample.peak for sample in samples)
    pairs = zip(samples, against or [], strict=False)
    ratios = [mine.wall / other.wall for mine, other in pairs]
    ratio = statistics.median(ratios) if ratios else 0.0
    print(
        f"{name:<34} {wall:>8.3f} {cpu:>8.3f} {_number(peak, 0):>8} {_number(ratio, 2):>6} {goal}",
        flush=True,
    )


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if value else ""


def met(value: float, limit: float) -> str:
    """Return whether a goal is met, in words."""
    return f"<= {limit:g}: {'met' if value <= limit else 'MISSED'}"


def starts(mstore: Path, place: Path, rounds: int) -> None:
    """Measure cold starts of whole processes."""
    for name, limit in (("--help", 0.20), ("list", 0.35)):
        samples = [process(mstore, name, cwd=place) for _ in range(rounds)]
        goal = met(statistics.median(sample.wall for sample in samples), limit)
        row(f"mstore {name}", samples, f"wall {goal}")


def big(place: Path, rounds: int) -> None:
    """Measure add, checkout and verify of one large checkpoint against cp and b3sum."""
    files, later = sorted(place.glob("big-0.*")), sorted(place.glob("big-1.*"))
    megabytes = sum(file.stat().st_size for file in files) / MB
    print(f"-- one checkpoint of {megabytes:.0f} MB")
    cp, add, out, b3, check, again, frozen = [], [], [], [], [], [], []
    for number in range(rounds):
        shutil.rmtree(place / ".mstore", ignore_errors=True)
        process(sys.executable, "-m", "mstore", "init", cwd=place)
        cp.append(timed(lambda: copy(files, place / "copy")))
        add.append(python(ADD, "big-0", "r", cwd=place))
        out.append(python(CHECKOUT, f"out-{number}", cwd=place))
        shutil.rmtree(place / f"out-{number}")
        packs = [path for path in (place / ".mstore" / "packs").rglob("*") if path.is_file()]
        b3.append(b3sum(packs, place))
        check.append(python(VERIFY, cwd=place))
        again.append(timed(lambda: copy(later, place / "copy")))
        frozen.append(python(ADD, "big-1", "r", cwd=place))
    row("cp + fsync", cp)
    row("b3sum of the packs", b3)
    for name, samples, against, limit in (
        ("add, all new, / cp", add, cp, 1.3),
        ("add, 60 % frozen, / cp", frozen, again, 0.8),
        ("checkout / cp", out, cp, 1.3),
        ("verify / b3sum", check, b3, 1.5),
    ):
        ratios = [mine.wall / other.wall for mine, other in zip(samples, against, strict=True)]
        row(name, samples, f"ratio {met(statistics.median(ratios), limit)}", against)
    cpu = statistics.median(sample.cpu for sample in add)
    print(f"   CPU of add {cpu:.3f} s {met(cpu, 0.20)}")
    peak = max(sample.peak for sample in add + out)
    print(f"   peak memory over the interpreter {peak:.0f} MB {met(peak, 200)}")


def b3sum(paths: list[Path], place: Path) -> Sample:
    """Hash files with b3sum where it is installed, else with the blake3 package."""
    tool = shutil.which("b3sum")
    if tool:
        return process(tool, *paths, cwd=place)
    return python(B3SUM, *paths, cwd=place)


def many(place: Path) -> None:
    """Measure adding many small checkpoints in one process."""
    count = len(list((place / "small").glob("*.index")))
    print(f"-- {count} checkpoints of 0.2 MB in one process")
    sample = python(MANY, "small", cwd=place)
    each = sample.wall / count * 1000
    row("add of all", [sample], f"{each:.1f} ms each {met(each, 8)}")


def exports(mstore: Path, place: Path, rounds: int, tensors: int, rows: int) -> None:
    """Measure exports, whole processes: a script as it is copied, traced, linked; and cp."""
    print("-- export of the large checkpoint, whole process")
    text = BUILDER.replace("ROWS", str(rows)).replace("TENSORS", str(tensors))
    (place / "builder.py").write_text(text)
    learn = (mstore, "export", "m@0", "--builder", "builder.py:build", "-q")
    traces = (*learn, "--trace", "--no-learn")
    first = process(*learn, cwd=place)
    naive, traced, linked, cp = [], [], [], []
    for number in range(rounds):
        to = ("--to", f"served-{number}")
        naive.append(process(sys.executable, "-c", NAIVE, f"naive-{number}", str(rows), cwd=place))
        traced.append(process(*traces, "--to", f"traced-{number}", cwd=place))
        variables = sorted((place / f"naive-{number}" / "variables").iterdir())
        cp.append(timed(lambda files=variables: copy(files, place / "copy")))  # type: ignore[misc]
        linked.append(process(mstore, "export", "m@1", "-q", *to, cwd=place))
        for name in ("naive", "traced", "served"):
            shutil.rmtree(place / f"{name}-{number}")
    wall = statistics.median(sample.wall for sample in linked)
    limit = 0.5 + 1.3 * statistics.median(sample.wall for sample in cp)
    faster = statistics.median(
        one.wall / other.wall for one, other in zip(naive, linked, strict=True)
    )
    row("cp + fsync of the variables", cp)
    row("naive script: build, restore, save", naive)
    row("mstore export, first, learns", [first])
    row("mstore export, traced, published", traced, "", naive)
    row("mstore export, linked, published", linked, f"wall {met(round(wall, 3), round(limit, 3))}")
    print(f"   linked is {faster:.1f} x faster than naive >= 10: {_reached(faster, 10)}")


def _reached(value: float, limit: float) -> str:
    return "met" if value >= limit else "MISSED"


def peaks(mstore: Path, place: Path, megabytes: int) -> None:
    """Measure the memory that a checkpoint takes which is far larger than the limit."""
    print(f"-- one checkpoint of {megabytes} MB, peak memory over the bare interpreter")
    tensors, rows = 20, megabytes * MB // (4 * 1000 * 20)
    where = place / "huge"
    where.mkdir()
    make = (sys.executable, "-c", MAKE, "huge", str(tensors), str(rows), "2", "2")
    process(*make, cwd=where, env={"TF_CPP_MIN_LOG_LEVEL": "3"})
    text = BUILDER.replace("ROWS", str(rows)).replace("TENSORS", str(tensors))
    (where / "builder.py").write_text(text)
    process(mstore, "init", cwd=where)
    bare = process(sys.executable, "-c", "pass", cwd=where).peak
    process(mstore, "add", "huge-0", "--model", "m", "--builder", "builder.py:build", cwd=where)
    process(mstore, "export", "m@0", cwd=where)
    for name, command in (
        ("add", ("add", "huge-1", "--model", "m", "--builder", "builder.py:build")),
        ("linked export, published", ("export", "m@1", "--to", "served")),
        ("checkout", ("checkout", "m@1", "out")),
        ("verify", ("verify",)),
        ("audit", ("audit", "served")),
    ):
        sample = process(mstore, *command, cwd=where)
        over = Sample(sample.wall, sample.cpu, sample.peak - bare)
        row(name, [over], f"peak MB {met(round(over.peak), 200)}")
    shutil.rmtree(where)


def main() -> None:
    """Make the data and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each; medians are shown")
    parser.add_argument("--megabytes", type=int, default=150, help="size of the large checkpoint")
    parser.add_argument("--small", type=int, default=500, help="number of small checkpoints")
    parser.add_argument("--huge", type=int, default=2000, help="megabytes, for memory; 0: none")
    options = parser.parse_args()
    if importlib.util.find_spec("tensorflow") is None:
        raise SystemExit("scripts/bench needs TensorFlow to write checkpoints: install mstore[tf]")
    mstore = Path(sys.executable).with_name("mstore")
    tensors, rows = 10, options.megabytes * MB // (4 * 1000 * 10)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory(prefix="mstore-bench-", dir=Path.cwd() / "build") as name:
        place = Path(name)
        (place / "small").mkdir()
        make = (sys.executable, "-c", MAKE)
        process(*make, "big", str(tensors), str(rows), "2", "4", cwd=place, env=quiet)
        process(*make, "small/s", "2", "25", str(options.small), "1", cwd=place, env=quiet)
        process(mstore, "init", cwd=place)
        print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {options.rounds} rounds")
        tool = "b3sum" if shutil.which("b3sum") else "the blake3 package (no b3sum here)"
        print(f"hashing yardstick: {tool}")
        print(f"{'':<34} {'wall s':>8} {'CPU s':>8} {'peak MB':>8} {'ratio':>6} goal")
        starts(mstore, place, max(options.rounds, 7))
        big(place, options.rounds)
        many(place)
        exports(mstore, place, options.rounds, tensors, rows)
        if options.huge:
            peaks(mstore, place, options.huge)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Path("build").mkdir(exist_ok=True)
    main()
