"""Starts `mstore.formats.hdf5_child`, and turns how it ends into an answer or an error."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from mstore.disk import os_errors
from mstore.errors import DamagedFileError, InputError, MissingExtraError
from mstore.formats.files import COPY_AGAIN, damaged
from mstore.formats.windows import Window

MEMORY = 160 << 20
"""Bytes that the process may take beyond those it starts with."""

SECONDS = 6
"""Processor time to look through the files; decoding may take longer, by the bytes it gives."""

MAX_ANSWER = 32 << 20
"""Bytes of JSON that describe the largest files that are read."""

_FREE = 256 << 20
_EXPANSION = 100
_WAITING = 60  # seconds beyond the processor time: the file may be on a slow disk
_DECODED_A_SECOND = 10 << 20
_PIECE = 1 << 20
_MAX_COMPLAINT = 1 << 16
# Without the empty entry of its path, which is where the user is and may hold another h5py.py.
_START = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "from mstore.formats.hdf5_child import main; main()"
)


def allowance(stored: int) -> int:
    """Return how many bytes ``stored`` packed ones may unfold to; more is taken for a bomb.

    Weights hardly shrink. What does is zeros, which are the whole of a fresh optimizer's slots.
    """
    return _FREE + _EXPANSION * stored


def examine(windows: Sequence[Window]) -> list[dict[str, Any]]:
    """Return what the HDF5 file in each window holds, see `mstore.formats.hdf5_child.examine`.

    Raises:
        DamagedFileError: one cannot be read.
        InputError: one has something that is not accepted.
        MissingExtraError: h5py is not installed.
    """
    answer = bytearray()

    def reached() -> str:
        return windows[min(answer.count(b"\n"), len(windows) - 1)].path

    for piece in _run(windows, reached, decode=False, seconds=SECONDS):
        answer += piece
        if len(answer) > MAX_ANSWER:
            raise damaged(reached(), f"what it holds takes more than {MAX_ANSWER} bytes to list")
    try:
        found = [json.loads(line) for line in answer.splitlines()]
    except ValueError as error:
        raise unsound_answer(reached()) from error
    if len(found) != len(windows) or not all(isinstance(item, dict) for item in found):
        raise unsound_answer(reached())
    return found


def unsound_answer(path: str) -> DamagedFileError:
    """Return the error for a file that made the process answer something that cannot be."""
    return damaged(path, "the process that read it gave no sound answer")


def decode(window: Window, size: int) -> Iterator[bytes]:
    """Yield the ``size`` bytes of the datasets that cannot be taken where they stand, in order.

    Raises:
        DamagedFileError: they cannot be read, or are not so many.
        MissingExtraError: h5py is not installed.
    """
    done = 0
    seconds = SECONDS + size // _DECODED_A_SECOND
    for piece in _run([window], lambda: window.path, decode=True, seconds=seconds):
        done += len(piece)
        if done > size:
            break
        yield piece
    if done != size:
        raise damaged(window.path, f"its packed data does not unfold to {size} bytes")


def _run(
    windows: Sequence[Window], path: Callable[[], str], *, decode: bool, seconds: int
) -> Iterator[bytes]:
    """Yield what the process writes; ``path`` tells which file it is at, for its complaint."""
    _require_h5py()
    request = {
        "windows": [(window.descriptor, window.start, window.size) for window in windows],
        "allowance": allowance(max(window.size for window in windows)),
        "decode": decode,
        "memory": MEMORY,
        "seconds": seconds,
    }
    with os_errors("cannot start a process to read HDF5"):
        process = _start(request, {window.descriptor for window in windows})
    killer = threading.Timer(seconds + _WAITING, process.kill)
    complaint: list[bytes] = []
    # Read beside, or a process that talks much would wait for ever.
    listener = threading.Thread(target=_listen, args=(process.stderr, complaint), daemon=True)
    killer.start()
    listener.start()
    try:
        assert process.stdout is not None  # noqa: S101 - asked for above
        while piece := process.stdout.read(_PIECE):
            yield piece
        process.wait()
        listener.join()
        _check_end(path(), process.returncode, b"".join(complaint))
    finally:
        killer.cancel()
        process.kill()
        with process:
            listener.join()


def _start(request: dict[str, Any], descriptors: set[int]) -> "subprocess.Popen[bytes]":
    # The request is a file and not a pipe: nobody has to feed it.
    with tempfile.TemporaryFile() as body:
        body.write(json.dumps(request).encode())
        body.seek(0)
        return subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-c", _START],
            stdin=body,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            pass_fds=tuple(descriptors),
        )


def _environment() -> dict[str, str]:
    package_root = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HDF5_")}
    return {
        **kept,
        "HDF5_PLUGIN_PRELOAD": "::",  # libhdf5's word for: load none
        "OPENBLAS_NUM_THREADS": "1",  # a thread takes memory, and none is needed
        "PYTHONPATH": package_root + (os.pathsep + inherited if inherited else ""),
    }


def _listen(stream: IO[bytes] | None, heard: list[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while stream is not None and (piece := stream.read(_PIECE)):
            if sum(map(len, heard)) < _MAX_COMPLAINT:
                heard.append(piece)


def _check_end(path: str, status: int, complaint: bytes) -> None:
    if status == 0:
        return
    if status < 0:
        raise damaged(path, f"the HDF5 library cannot read it (ended by signal {-status})")
    try:
        found = json.loads(complaint)
        kind, text = next(iter(found.items()))
    except (ValueError, AttributeError, StopIteration):
        raise damaged(
            path,
            f"the HDF5 library cannot read it (ended with status {status})",
            hint=f"{COPY_AGAIN}; python -c 'import h5py' shows whether h5py itself works",
        ) from None
    text = ascii(str(text))[1:-1]
    if kind == "refused":
        raise InputError(
            f"{path} cannot be taken: {text}",
            hint="save the model again with Keras, which writes no such files",
        )
    raise damaged(path, f"the HDF5 library says: {text}")


def _require_h5py() -> None:
    if importlib.util.find_spec("h5py") is None:
        raise MissingExtraError(
            "h5py is needed to read Keras files, and is not installed",
            hint="pip install 'mstore[keras-files]'",
        )
