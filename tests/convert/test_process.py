"""However the conversion process ends, the caller gets an answer or an error."""

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from mstore.convert import process
from mstore.convert.process import run_worker
from mstore.convert.request import TraceRequest
from mstore.convert.trace import trace
from mstore.errors import (
    InputError,
    MissingExtraError,
    ProofError,
    WorkerError,
    WorkerTimeoutError,
)


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace the conversion process by a script; returns a function that sets it."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(process, "WORKER", "fake_worker")

    def use(body: str) -> None:
        head = "import json, os, sys, time\nfd = int(sys.argv[2])\n"
        (tmp_path / "fake_worker.py").write_text(head + textwrap.dedent(body))

    return use


def test_the_answer_is_returned_and_stages_are_reported(worker: Any) -> None:
    worker("""
        asked = json.load(sys.stdin)
        os.write(fd, b'{"stage": "one"}\\n{"sta')
        time.sleep(0.2)
        os.write(fd, b'ge": "two"}\\nnot json\\n[1]\\n')
        os.write(fd, json.dumps({"result": asked}).encode() + b"\\n")
        print("talk")
    """)
    stages: list[str] = []
    answer = run_worker("trace", {"x": "ü"}, timeout=20, progress=stages.append)
    assert answer["result"] == {"x": "ü"}
    assert stages == ["one", "two"]


def test_a_large_request_and_answer_do_not_block(worker: Any) -> None:
    worker("""
        sys.stderr.write("z" * 3_000_000)
        asked = json.load(sys.stdin)
        data = json.dumps({"result": asked}).encode() + b"\\n"
        while data:
            data = data[os.write(fd, data):]
    """)
    big = {"x": "y" * 3_000_000}
    assert run_worker("trace", big, timeout=60)["result"] == big


def test_errors_come_back_as_what_they_were(worker: Any) -> None:
    worker("""
        error = {"code": "proof-failed", "message": "m", "hint": "h", "subjects": ["a", "b"]}
        os.write(fd, json.dumps({"error": error}).encode() + b"\\n")
    """)
    with pytest.raises(ProofError, match=r"^m$") as caught:
        run_worker("trace", {}, timeout=20)
    assert (caught.value.subjects, caught.value.hint) == (("a", "b"), "h")


def test_an_error_of_unknown_kind_is_a_worker_error(worker: Any) -> None:
    worker("""
        os.write(fd, b'{"error": {"code": "new", "message": "m", "hint": ""}}\\n')
        sys.stderr.write("last words\\n")
    """)
    with pytest.raises(WorkerError, match=r"m.*\n.*last words"):
        run_worker("trace", {}, timeout=20)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("pass", "ended with status 0 without an answer"),
        ("os._exit(9)", "ended with status 9"),
        ("os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("sys.stderr.write('tail of talk'); os.abort()", "tail of talk"),
        ("os.write(fd, b'{\"result\": ')", "without an answer"),
        ("os.write(fd, b'{}\\n')", "without an answer"),
        ("os.close(fd); sys.exit(2)", "ended with status 2"),
    ],
)
def test_an_end_without_answer_is_told_in_words(body: str, words: str, worker: Any) -> None:
    worker(body)
    with pytest.raises(WorkerError) as caught:
        run_worker("trace", {}, timeout=20)
    assert words in caught.value.message


def test_a_hang_is_ended_with_all_its_children(worker: Any, tmp_path: Path) -> None:
    worker(f"""
        import subprocess
        child = subprocess.Popen(["sleep", "600"])
        open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
        time.sleep(600)
    """)
    started = time.monotonic()
    with pytest.raises(WorkerTimeoutError, match=r"after 1\.5 s"):
        run_worker("trace", {}, timeout=1.5)
    assert time.monotonic() - started < 60
    _wait_gone(int((tmp_path / "pid").read_text()))


def test_a_child_that_outlives_the_answer_is_ended(worker: Any, tmp_path: Path) -> None:
    worker(f"""
        import subprocess
        child = subprocess.Popen(["sleep", "600"], pass_fds=(fd,))
        open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
        os.write(fd, b'{{"result": 1}}\\n')
    """)
    started = time.monotonic()
    assert run_worker("trace", {}, timeout=300)["result"] == 1
    assert time.monotonic() - started < 60
    _wait_gone(int((tmp_path / "pid").read_text()))


def _wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} is still there")


def test_the_process_dies_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "from mstore.convert import process\n"
        "process.WORKER = 'dying'\n"
        "process.run_worker('trace', {}, timeout=None)\n"
    )
    (tmp_path / "dying.py").write_text(
        "import os, sys, time\n"
        "from mstore.convert.worker.__main__ import _die_with\n"
        "_die_with(int(sys.argv[3]))\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    path = os.pathsep.join([str(Path(process.__file__).parents[2]), str(tmp_path)])
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _wait_gone(int((tmp_path / "pid").read_text()))


def test_without_tensorflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError) as caught:
        process.require_tensorflow()
    assert "mstore[tf]" in caught.value.hint


def test_the_callers_side_imports_no_tensorflow() -> None:
    code = (
        "import sys\n"
        "import mstore.convert.trace, mstore.convert.check, mstore.convert.proof\n"
        "import mstore.convert.builders, mstore.convert.fingerprint, mstore.servable\n"
        "from mstore.convert.process import require_tensorflow; require_tensorflow()\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_checkpoint_that_is_not_there_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text("def build(): pass")
    request = TraceRequest(tmp_path / "no", tmp_path / "out", "b.py:build", search_path=tmp_path)
    with pytest.raises(InputError, match=r"no\.index"):
        trace(request)
