"""Builders that fail in every way, or do odd things before they succeed."""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import classic  # beside this file


def raises():
    raise ValueError("no vocabulary in Überordner")


def raises_interrupt():
    raise KeyboardInterrupt


def exits():
    sys.exit(3)


def exits_at_once():
    os._exit(7)


def kills_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def crashes():
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(marker: str = ""):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    if marker:
        Path(marker).write_text(f"{os.getpid()} {child.pid}")
    print("waiting for the cluster", flush=True)
    time.sleep(600)


def hangs_deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        time.sleep(1)


def chatters():
    print('{"result": {"sources": {}}}')
    print("x" * 1_000_000)
    os.write(1, b'{"error": {"code": "x"}}\n')
    sys.stdout.write("no newline at the end")
    sys.stdout.close()
    return classic.sequential()


def reads_input():
    try:
        print("got", input("Continue? "))
    except EOFError:
        return classic.sequential()
    raise AssertionError("somebody answered")


def leaves_threads_and_children():
    threading.Thread(target=time.sleep, args=(600,)).start()
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()
    atexit.register(time.sleep, 600)
    return classic.sequential()


def changes_directory():
    os.chdir("/")
    return classic.sequential()


class Failing(classic.Net):
    def call(self, x):
        raise RuntimeError("call is broken")


def raises_in_call():
    return classic.Servable(Failing(), classic.INPUTS)
