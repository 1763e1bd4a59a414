"""Starts the conversion process, waits for it, and turns its end into a value or an error.

The process gets its request as JSON on standard input and answers with lines of JSON on a pipe of
its own, because standard output belongs to whatever the user's code prints. It runs in a new
session, so that it and everything it started can be killed together.
"""

import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mstore.errors import (
    BuilderError,
    DamagedFileError,
    Error,
    InputError,
    LoadCheckError,
    MissingExtraError,
    ProofError,
    SystemIOError,
    UsageError,
    WorkerError,
    WorkerTimeoutError,
)

WORKER = "mstore.convert.worker"
_KEPT_OUTPUT = 64 * 1024
_SHOWN_LINES = 12
_KINDS: Mapping[str, type[Error]] = {
    kind.code: kind
    for kind in (BuilderError, InputError, LoadCheckError, MissingExtraError, UsageError)
} | {SystemIOError.code: SystemIOError, WorkerError.code: WorkerError}


def require_tensorflow() -> Path:
    """Return TensorFlow's installation directory without importing it.

    Raises:
        MissingExtraError: if there is none.
    """
    spec = importlib.util.find_spec("tensorflow")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places:
        raise MissingExtraError(
            "TensorFlow is needed to make and check SavedModels, and is not installed",
            hint="pip install 'mstore[tf]'",
        )
    return Path(places[0])


def has_tensorflow() -> bool:
    """Return whether TensorFlow is installed; it is not imported."""
    try:
        require_tensorflow()
    except MissingExtraError:
        return False
    return True


def run_worker(
    mode: str,
    request: Mapping[str, Any],
    *,
    timeout: float | None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run one request in a fresh process and return its answer.

    Args:
        mode: ``trace``, ``meta-graph`` or ``check``.
        request: what to do, as JSON.
        timeout: seconds until the process and its children are killed; None waits for ever.
        progress: called with each stage the process reports.

    Raises:
        Error: the error that the process reports.
        WorkerTimeoutError: if it takes longer than ``timeout``.
        WorkerError: if it ends without an answer.
    """
    read_end, write_end = os.pipe()
    try:
        process = _start(mode, request, write_end)
    except OSError as exc:
        os.close(read_end)
        raise WorkerError(f"cannot start the conversion process: {exc}") from exc
    finally:
        os.close(write_end)
    channel = _Channel(progress)
    try:
        with process:
            try:
                _listen(process, channel, read_end, timeout)
            finally:
                _kill_group(process.pid)
    finally:
        os.close(read_end)
    return _conclude(channel, process.returncode)


def _start(mode: str, request: Mapping[str, Any], write_end: int) -> subprocess.Popen[bytes]:
    # The request is a file and not a pipe: nobody has to feed it while the process talks.
    with tempfile.TemporaryFile() as body:
        body.write(json.dumps(request).encode())
        body.seek(0)
        return subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", WORKER, mode, str(write_end), str(os.getpid())],
            stdin=body,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(),
            pass_fds=(write_end,),
            start_new_session=True,
        )


def _environment() -> dict[str, str]:
    # The process inherits the user's variables; these few are set so that what it writes depends
    # on nothing else: no GPU in the graph (CudnnRNN cannot run on a server without one), one hash
    # seed, and the very package that is asking. What it prints must be out before it can crash.
    package_root = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONHASHSEED": "0",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": package_root + (os.pathsep + inherited if inherited else ""),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "KERAS_BACKEND": "tensorflow",
    }


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class _Channel:
    """Collects what the process says on its two pipes."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        self.answer: dict[str, Any] | None = None
        self.talk = b""
        self._partial = b""
        self._progress = progress

    def hear(self, data: bytes, *, is_talk: bool) -> None:
        if is_talk:
            self.talk = (self.talk + data)[-_KEPT_OUTPUT:]
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            with suppress(ValueError):  # a line that the user's code wrote there
                self._take(json.loads(line))

    def _take(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        if "stage" in message:
            if self._progress is not None:
                self._progress(str(message["stage"]))
        elif "result" in message or "error" in message:
            self.answer = message


def _listen(
    process: subprocess.Popen[bytes],
    channel: _Channel,
    answers: int,
    timeout: float | None,
) -> None:
    talk = process.stderr
    if talk is None:
        raise WorkerError("the conversion process has no pipe for what it prints")
    deadline = None if timeout is None else time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for stream in (answers, talk.fileno()):
            os.set_blocking(stream, False)
            selector.register(stream, selectors.EVENT_READ)
        while True:
            # A child of the process may hold the pipes open, so their end is not waited for.
            ended = process.poll() is not None
            ready = selector.select(0 if ended else 0.05)
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                if data:
                    channel.hear(data, is_talk=key.fd == talk.fileno())
                else:
                    selector.unregister(key.fd)
            if ended and not ready:
                return
            if deadline is not None and time.monotonic() > deadline:
                _kill_group(process.pid)
                process.wait()
                raise WorkerTimeoutError(
                    f"the conversion process was killed after {timeout:g} s{_quoted(channel.talk)}",
                    hint="give it longer with --timeout, or look for what the builder waits for",
                )


def _conclude(channel: _Channel, status: int) -> dict[str, Any]:
    answer = channel.answer
    if answer is None:
        raise WorkerError(
            f"the conversion process {_end_in_words(status)} without an answer"
            f"{_quoted(channel.talk)}",
            hint="run the builder by itself in Python to see whether it does the same",
        )
    error = answer.get("error")
    if error is None:
        return answer
    raise _error(error, channel.talk)


def _error(body: Mapping[str, Any], talk: bytes) -> Error:
    code, message, hint = str(body["code"]), str(body["message"]), str(body["hint"])
    if code == ProofError.code:
        return ProofError(message, subjects=[str(name) for name in body["subjects"]], hint=hint)
    if code == DamagedFileError.code:
        return DamagedFileError(message, path=str(body["path"]), hint=hint)
    kind = _KINDS.get(code, WorkerError)
    if kind in {BuilderError, WorkerError}:
        message += _quoted(talk)
    return kind(message, hint=hint)


def _end_in_words(status: int) -> str:
    if status < 0:
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-status).name}"
        return f"was killed by signal {-status}"
    return f"ended with status {status}"


# What TensorFlow prints at every start and says nothing about what went wrong.
_NOISE = (
    b"WARNING: All log messages before absl",
    b"oneDNN custom operations",
    b"cudart_stub.cc",
    b"failed call to cuInit",
    b"This TensorFlow binary is optimized",
    b"To enable the following instructions",
)


def _quoted(talk: bytes) -> str:
    lines = [
        line.decode("utf-8", "replace").rstrip()
        for line in talk.splitlines()
        if line.strip() and not any(noise in line for noise in _NOISE)
    ]
    if not lines:
        return ""
    return "; its last output:\n  " + "\n  ".join(lines[-_SHOWN_LINES:])
