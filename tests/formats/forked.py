"""Runs the process that reads HDF5 as a fork of this one, which has h5py already.

It is the same code under the same limits in a process of its own; only the 0.2 s that Python and
h5py take to start are saved, so that thousands of files can be tried.
"""

import io
import json
import os
import signal
import sys
import threading
from types import TracebackType
from typing import Any, NoReturn

from mstore.formats import hdf5_child


class Forked:
    """What `mstore.formats.hdf5_process` uses of a ``subprocess.Popen``."""

    def __init__(self, request: dict[str, Any], descriptors: set[int]) -> None:
        answers, answer = os.pipe()
        complaints, complaint = os.pipe()
        self.returncode: int | None = None
        self._ending = threading.Lock()
        self._pid = os.fork()
        if self._pid == 0:
            _child(request, answer, complaint, descriptors)
        os.close(answer)
        os.close(complaint)
        self.stdout = os.fdopen(answers, "rb")
        self.stderr = os.fdopen(complaints, "rb")

    def wait(self) -> int:
        with self._ending:
            if self.returncode is None:
                status = os.waitpid(self._pid, 0)[1]
                self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self._pid, signal.SIGKILL)

    def __enter__(self) -> "Forked":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stdout.close()
        self.wait()


def _child(request: dict[str, Any], answer: int, complaint: int, windows: set[int]) -> NoReturn:
    status = 1
    try:
        os.dup2(answer, 1)
        os.dup2(complaint, 2)
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names, not paths
            if int(name) > 2 and int(name) not in windows:
                try:
                    os.close(int(name))
                except OSError:
                    continue
        sys.stdin = io.TextIOWrapper(io.BytesIO(json.dumps(request).encode()))
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8")
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), encoding="utf-8")
        hdf5_child.main()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    finally:
        os._exit(status)
