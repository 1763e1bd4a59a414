"""Children of a process that has no threads and no store of its own open.

Tests do not fork themselves: a library may have threads there. They start this module in a fresh
interpreter with `drive`, and it forks one child for everything that touches a store.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KILLED = 137
FAILED = 1


@dataclass(frozen=True)
class End:
    """How a child ended: its status, and what it said as JSON, if anything."""

    status: int
    said: Any


class Child:
    """A forked child that runs ``action`` and sends back what it returns."""

    def __init__(self, action: Callable[[], Any]) -> None:
        """Fork."""
        self._read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._read)
            _run(action, write)
        os.close(write)

    def wait(self) -> End:
        """Wait for its end."""
        with os.fdopen(self._read, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        return End(os.waitstatus_to_exitcode(status), json.loads(said) if said else None)


def _run(action: Callable[[], Any], write: int) -> None:
    status = FAILED
    try:
        said = action()
        status = 0
    except BaseException:  # noqa: BLE001 - a forked child must not go on as its parent
        said = traceback.format_exc()
    with os.fdopen(write, "wb") as pipe:
        pipe.write(json.dumps(said).encode())
    os._exit(status)


def call(action: Callable[[], Any]) -> Any:
    """Run ``action`` in a child and return what it returned."""
    end = Child(action).wait()
    if end.status:
        raise RuntimeError(f"a child ended with {end.status}:\n{end.said}")
    return end.said


def together(*actions: Callable[[], Any]) -> list[End]:
    """Run the actions at once, each in a child that waits until all are there."""
    gate, opened = os.pipe()

    def behind(action: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            os.close(opened)
            os.read(gate, 1)  # end of file comes when the parent lets go
            return action()

        return run

    children = [Child(behind(action)) for action in actions]
    os.close(opened)
    os.close(gate)
    return [child.wait() for child in children]


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """Return a directory in memory where there is one: what is tested needs no real disk."""
    memory = Path("/dev/shm")  # noqa: S108 - only the place; the directory in it is our own
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    return tempfile.TemporaryDirectory(dir=memory if usable else None)


def drive(function: str, *arguments: str | Path) -> Any:
    """Call ``module:name`` in a fresh interpreter and return what it returns, through JSON."""
    # numpy's threads would be there before the first fork.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-m", "tests.crash.children", function]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


if __name__ == "__main__":
    module, _, name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(module), name)
    json.dump(function(*sys.argv[2:]), sys.stdout)
