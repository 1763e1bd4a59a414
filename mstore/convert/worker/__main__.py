"""``python -m mstore.convert.worker MODE ANSWER_FD PARENT_PID``: one request, one answer.

The request is JSON on standard input. The answer is a line of JSON on the given descriptor:
``{"result": ...}`` or ``{"error": {"code", "message", "hint", "subjects"?}}``; lines of
``{"stage": ...}`` may come before it.
"""

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mstore.errors import Error, WorkerError

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Serve one request and leave the process, whatever threads the user's code left running."""
    mode, answer_fd, parent = arguments[0], int(arguments[1]), int(arguments[2])
    _die_with(parent)
    request = json.load(sys.stdin.buffer)
    _give_away_standard_streams()

    def send(message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(answer_fd, data) :]

    answer: dict[str, Any]
    try:
        answer = {"result": _serve(mode, request, lambda stage: send({"stage": stage}))}
    except Error as exc:
        answer = exc.to_json()
    except BaseException as exc:  # noqa: BLE001 - the border of the process: all else is our fault
        traceback.print_exc()
        answer = WorkerError(
            f"the conversion failed inside: {type(exc).__name__}: {exc}",
            hint="this is an error of mstore or of TensorFlow; please report it",
        ).to_json()
    send(answer)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


def _serve(mode: str, request: dict[str, Any], stage: Callable[[str], None]) -> dict[str, Any]:
    if mode == "check":
        from mstore.convert.worker.load_check import run_check  # noqa: PLC0415 - without TensorFlow

        return run_check(request)
    stage("starting")
    if mode == "meta-graph":
        from mstore.convert.worker.meta_graph import run_meta_graph  # noqa: PLC0415 - without Keras

        return run_meta_graph(request, stage)
    from mstore.convert.worker.conversion import run_trace  # noqa: PLC0415 - imports TensorFlow

    return run_trace(request, stage)


def _die_with(parent: int) -> None:
    # A parent that is killed cannot kill us; the kernel can (prctl(2)). If it died before the
    # call, we have another parent by now.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def _give_away_standard_streams() -> None:
    # What the user's code prints is talk, and it has nobody to ask.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)


if __name__ == "__main__":
    main(sys.argv[1:])
