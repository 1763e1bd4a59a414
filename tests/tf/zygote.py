"""Worker processes that are forks of one that has imported what they need.

Most of the time of a conversion of a small model goes into starting Python and importing
TensorFlow. What runs in the fork is the worker's own ``__main__`` with its own arguments,
descriptors, variables and directory; only how its process came about differs. `test_zygote.py`
holds both ways against each other, and what is about the process itself is tested with a process
that was started.
"""

import array
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn

ROOT = Path(__file__).parents[2]
PRELOADED = {
    "check": "mstore.convert.worker.load_check",
    "trace": "mstore.convert.worker.conversion",
    "meta-graph": "mstore.convert.worker.meta_graph",
}
"""Mode of the worker to the module that its process imports before it forks."""

_MOST = 1 << 20
_DESCRIPTORS = 4


class Fork:
    """What `mstore.convert.process` uses of a ``subprocess.Popen``."""

    def __init__(self, pid: int, stderr: IO[bytes], status: int) -> None:
        self.pid = pid
        self.stderr = stderr
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Return how it ended, or None while it runs."""
        if self.returncode is None:
            os.set_blocking(self._status, False)
            with suppress(BlockingIOError):
                self._read()
        return self.returncode

    def wait(self) -> int:
        """Wait for its end."""
        if self.returncode is None:
            os.set_blocking(self._status, True)
            self._read()
        assert self.returncode is not None
        return self.returncode

    def _read(self) -> None:
        text = os.read(self._status, 64)
        assert text, "the process that forks has died"
        self.returncode = int(text)

    def __enter__(self) -> "Fork":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stderr.close()
        self.wait()
        os.close(self._status)


class Zygote:
    """A process that forks workers of one mode."""

    def __init__(self, mode: str, environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-W", "ignore", "-m", "tests.tf.zygote", mode]
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                cwd=ROOT,
                env={**environment, "PYTHONPATH": str(ROOT)},
                pass_fds=(theirs.fileno(),),
            )

    def start(self, request: Mapping[str, Any], answer: int, environment: dict[str, str]) -> Fork:
        """Fork a worker, as `mstore.convert.process._start` starts one."""
        talk, theirs = os.pipe()
        status, ours = os.pipe()
        header = {"environment": environment, "directory": str(Path.cwd())}
        with tempfile.TemporaryFile() as body, tempfile.TemporaryFile() as head, self._lock:
            body.write(json.dumps(request).encode())
            body.seek(0)
            head.write(json.dumps(header).encode())
            head.seek(0)
            descriptors = [head.fileno(), body.fileno(), theirs, answer, ours]
            packed = array.array("i", descriptors).tobytes()
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)
            self._socket.sendmsg([b"fork"], [rights])
            pid = int(self._socket.recv(64))
        os.close(theirs)
        os.close(ours)
        return Fork(pid, os.fdopen(talk, "rb"), status)

    def close(self) -> None:
        """End it and all its forks."""
        self._socket.close()
        self._process.wait()


class Zygotes:
    """One for each mode, made when it is first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, Zygote] = {}

    def start(self, mode: str, request: Mapping[str, Any], write_end: int) -> Fork:
        """Stand in for `mstore.convert.process._start`."""
        from mstore.convert.process import _environment  # noqa: PLC0415 - not in the zygote

        environment = _environment()
        with self._lock:
            if mode not in self._made:
                self._made[mode] = Zygote(mode, environment)
        return self._made[mode].start(request, write_end, environment)

    def close(self) -> None:
        """End them all."""
        for zygote in self._made.values():
            zygote.close()


def serve(mode: str, control: socket.socket) -> None:
    """Fork a worker for each request until nobody can ask any more."""
    importlib.import_module(PRELOADED[mode])
    if mode == "check":
        _open_library()
    statuses: dict[int, int] = {}
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if wake in ready:
                os.read(wake, 1 << 10)
                _bury(statuses)
            if control.fileno() in ready and not _fork(mode, control, statuses, [wake, woken]):
                return


def _open_library() -> None:
    from mstore.convert.process import require_tensorflow  # noqa: PLC0415 - for one mode
    from mstore.convert.worker.capi import Library  # noqa: PLC0415 - for one mode

    Library(require_tensorflow())


def _bury(statuses: dict[int, int]) -> None:
    while statuses:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        descriptor = statuses.pop(pid)
        with suppress(BrokenPipeError):
            os.write(descriptor, b"%d" % os.waitstatus_to_exitcode(status))
        os.close(descriptor)


def _fork(mode: str, control: socket.socket, statuses: dict[int, int], own: list[int]) -> bool:
    space = socket.CMSG_SPACE((_DESCRIPTORS + 1) * array.array("i").itemsize)
    data, ancillary, _, _ = control.recvmsg(64, space)
    if not data:
        return False
    descriptors = array.array("i")
    descriptors.frombytes(ancillary[0][2])
    *given, status = descriptors
    pid = os.fork()
    if not pid:
        for descriptor in [*own, *statuses.values(), status, control.fileno()]:
            os.close(descriptor)
        _become_worker(mode, *given)
    for descriptor in given:
        os.close(descriptor)
    statuses[pid] = status
    control.send(b"%d" % pid)
    return True


def _become_worker(mode: str, head: int, body: int, talk: int, answer: int) -> NoReturn:
    """Go on as ``python -m mstore.convert.worker`` would."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    header = json.loads(os.pread(head, _MOST, 0))
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(header["environment"])
    os.chdir(header["directory"])
    asked = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*asked, *(path for path in sys.path if path not in {*before, *asked})]
    null = os.open(os.devnull, os.O_WRONLY)
    for source, target in ((body, 0), (null, 1), (talk, 2)):
        os.dup2(source, target)
    for descriptor in (head, body, talk, null):
        os.close(descriptor)
    sys.argv[1:] = [mode, str(answer), str(os.getppid())]
    try:
        runpy.run_module("mstore.convert.worker", run_name="__main__", alter_sys=True)
    except BaseException:  # noqa: BLE001 - the fork must not go on as its parent
        traceback.print_exc()
    os._exit(1)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[2])) as asked:
        serve(sys.argv[1], asked)
