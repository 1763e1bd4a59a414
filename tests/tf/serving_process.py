"""Starts a model server: the real one where it is on PATH, else the stand-in."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REAL = shutil.which("tensorflow_model_server")
_PATIENCE = 120


@dataclass
class Running:
    """A model server that answers."""

    process: "subprocess.Popen[bytes]"
    rest: int
    grpc: int

    def pause(self) -> None:
        """Keep it from doing anything."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it do things again."""
        self.process.send_signal(signal.SIGCONT)


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def model_server(log: Path, **flags: Any) -> Iterator[Running]:
    """Run a model server with these flags until it answers; end it afterwards."""
    rest, port = _free(), _free()
    command = [REAL] if REAL else [sys.executable, "-m", "tests.tf.stand_in"]
    every = {
        "port": port,
        "rest_api_port": rest,
        "file_system_poll_wait_seconds": 1 if REAL else 0.1,
        **flags,
    }
    if REAL:
        every |= {"max_num_load_retries": 0}
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in every.items())],
            stdout=output,
            stderr=output,
            env=environment,
        )
    running = Running(process, rest, port)
    try:
        _wait(running, log)
        yield running
    finally:
        process.kill()
        process.wait()


def _wait(running: Running, log: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        assert running.process.poll() is None, log.read_text()
        connection = http.client.HTTPConnection("127.0.0.1", running.rest, timeout=5)
        try:
            connection.request("GET", "/v1/models/none")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()
    raise AssertionError(f"the server does not start: {log.read_text()}")
