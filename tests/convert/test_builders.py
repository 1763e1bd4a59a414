"""What is recorded of a builder is found without running it."""

import ast
import hashlib
import subprocess
from pathlib import Path

import pytest

from mstore.convert.builders import describe
from mstore.errors import InputError, UsageError

SOURCE = "import os\nos.abort()\ndef build():\n    pass\n"


def write(path: Path, text: str = SOURCE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_is_described_by_its_digest(tmp_path: Path) -> None:
    file = write(tmp_path / "model.py")
    info = describe("model.py:build", tmp_path)
    assert info.file == file
    assert info.source_sha256 == hashlib.sha256(SOURCE.encode()).hexdigest()
    assert (info.git_commit, info.git_dirty) == (None, None)


def test_a_module_is_found_without_importing_its_packages(tmp_path: Path) -> None:
    write(tmp_path / "pkg" / "__init__.py", "raise SystemExit")
    write(tmp_path / "pkg" / "sub" / "__init__.py", "raise SystemExit")
    file = write(tmp_path / "pkg" / "sub" / "model.py")
    assert describe("pkg.sub.model:build", tmp_path).file == file


def test_a_package_may_hold_the_builder(tmp_path: Path) -> None:
    file = write(tmp_path / "pkg" / "__init__.py")
    assert describe("pkg:build", tmp_path).file == file


@pytest.mark.parametrize(
    "text",
    [
        "build = lambda: None",
        "from other import make as build",
        "from other import *",
        "class build: pass",
        "try:\n    import x\nexcept ImportError:\n    def build(): pass",
        "if True:\n    build = 1",
        "def __getattr__(name): return 1",
        "a, build = 1, 2",
    ],
)
def test_names_are_found_however_they_are_bound(text: str, tmp_path: Path) -> None:
    write(tmp_path / "m.py", text)
    describe("m.py:build", tmp_path)


@pytest.mark.parametrize(
    ("builder", "words"),
    [
        ("absent.py:build", "absent.py"),
        ("model.py:bild", "bild"),
        ("nowhere.at.all:build", "nowhere"),
        ("sys:build", "sys"),
        ("broken.py:build", "broken.py:1"),
    ],
)
def test_what_is_not_there_is_named(builder: str, words: str, tmp_path: Path) -> None:
    write(tmp_path / "model.py")
    write(tmp_path / "broken.py", "def build(:")
    with pytest.raises(InputError) as caught:
        describe(builder, tmp_path)
    assert words in caught.value.message


def test_a_wrong_name_lists_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path / "model.py")
    with pytest.raises(InputError) as caught:
        describe("model.py:bild", tmp_path)
    assert "build" in caught.value.hint


@pytest.mark.parametrize("builder", ["", "model.py", ":build", "model.py:", "a b:c", "m.py:a.b"])
def test_another_form_is_a_usage_error(builder: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the builder"):
        describe(builder, tmp_path)


def test_a_parser_that_another_thread_disturbs_is_not_the_builders_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*_: object, **__: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    write(tmp_path / "model.py")
    monkeypatch.setattr(ast, "parse", parse)
    assert describe("model.py:build", tmp_path).file == tmp_path / "model.py"


def _git(directory: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)  # noqa: S607 - the git of the path, as the code under test


def test_the_commit_and_whether_it_is_the_truth_are_recorded(tmp_path: Path) -> None:
    file = write(tmp_path / "model.py")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "model.py")
    _git(tmp_path, "commit", "-qm", "one")
    clean = describe("model.py:build", tmp_path)
    assert clean.git_commit is not None
    assert len(clean.git_commit) == 40
    assert clean.git_dirty is False
    write(tmp_path / "new.py")
    assert describe("model.py:build", tmp_path).git_dirty is False
    assert describe("new.py:build", tmp_path).git_dirty is True
    file.write_text(SOURCE + "\n")
    assert describe("model.py:build", tmp_path).git_dirty is True
