"""Run the export tests under several versions of Python and TensorFlow.

``scripts/matrix 3.10:2.16 3.12:newest`` tries those pairs; without arguments, `PAIRS`. Each gets
an environment of its own in a temporary place, with the oldest releases of mstore's other
requirements where ``:oldest`` is appended. A Python is found as ``python3.X`` on the path, or
given as ``--python 3.10=/path/to/python``. The outcome of each pair goes into docs/matrix.json,
from which scripts/readme.py makes a table.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "matrix.json"
PAIRS = (
    "3.10:2.16:oldest",
    "3.10:2.21",
    "3.11:2.16",
    "3.11:2.17",
    "3.11:2.18",
    "3.11:2.19",
    "3.11:2.20",
    "3.11:2.21",
    "3.12:2.16",
    "3.12:2.21",
    "3.13:2.20",
    "3.13:2.21",
)
TESTS = (
    "tests/tf/test_export_classic.py",
    "tests/tf/test_export_varied.py",
    "tests/tf/test_export_keras.py",
    "tests/tf/test_export_silent.py",
    "tests/tf/test_linking_varied.py",
    "tests/tf/test_tf1_export.py",
    "tests/tf/test_store_end_to_end.py",
    "tests/tf/test_formats_real.py",
)
NEEDED = ("h5py", "hypothesis", "psutil", "pytest", "pytest-xdist", "scikit-learn")
LIMIT = 1800.0
VERSIONS = """
import platform, tensorflow, keras, numpy
print(platform.python_version(), tensorflow.__version__, keras.__version__, numpy.__version__)
"""


def run(command: list[str], environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command in the checkout; return its status and all it printed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, done.stdout


def lowest() -> list[str]:
    """Return each requirement of mstore itself at its lower bound."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.partition("\ndependencies = [")[2].partition("\n]")[0]
    return [f"{name}=={bound}" for name, bound in re.findall(r'"([\w-]+)>=([\d.]+)"', block)]


def attempt(pair: str, pythons: Mapping[str, str], tests: list[str]) -> dict[str, str]:
    """Install one pair and run the tests; return versions and outcome in words."""
    python, tensorflow, *oldest = pair.split(":")
    row = {"python": python, "tensorflow": tensorflow}
    with tempfile.TemporaryDirectory(prefix="mstore-matrix-") as place:
        interpreter = Path(place, "bin", "python")
        try:
            status, said = run([pythons.get(python, f"python{python}"), "-m", "venv", place])
        except FileNotFoundError:
            return row | {"outcome": "no such Python here"}
        wanted = "tensorflow" + ("" if tensorflow == "newest" else f"=={tensorflow}.*")
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for packages in (
            ["--upgrade", "pip>=25.1"],
            ["--editable", ".", wanted, *NEEDED, *(lowest() if oldest else [])],
        ):
            status, said = run([*pip, *packages])
            if status:
                return row | {"outcome": "cannot be installed", "reason": _reason(said)}
        status, said = run([str(interpreter), "-c", VERSIONS], {"TF_CPP_MIN_LOG_LEVEL": "3"})
        if status:
            return row | {"outcome": "cannot be imported", "reason": _reason(said)}
        names = ("python", "tensorflow", "keras", "numpy")
        row |= dict(zip(names, said.strip().splitlines()[-1].split(), strict=True))
        row["requirements"] = "oldest" if oldest else "newest"
        command = [str(interpreter), "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]
        status, said = run([*command, *tests], {"TF_CPP_MIN_LOG_LEVEL": "2"})
        Path(tempfile.gettempdir(), f"matrix-{pair.replace(':', '-')}.log").write_text(said)
        row["outcome"] = said.strip().splitlines()[-1].rpartition(" in ")[0]
    return row


def _reason(said: str) -> str:
    lines = [line for line in said.splitlines() if "error" in line.lower()]
    return (lines or said.splitlines() or ["?"])[-1].strip()


def main() -> int:
    """Try each pair and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pairs", nargs="*", default=PAIRS, help="PYTHON:TENSORFLOW[:oldest]")
    parser.add_argument("--python", action="append", default=[], metavar="3.X=PATH")
    parser.add_argument("--test", action="append", default=[], help="instead of the usual ones")
    options = parser.parse_args()
    pythons = dict(item.split("=", 1) for item in options.python)
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    failed = False
    for pair in options.pairs:
        rows[pair] = attempt(pair, pythons, options.test or list(TESTS))
        print(pair, json.dumps(rows[pair]), flush=True)
        failed = failed or "failed" in rows[pair]["outcome"]
        RESULTS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
