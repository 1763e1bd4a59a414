"""What is written twice is checked: tables, names, examples, the tree of errors."""

import ast
import importlib
import pkgutil
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import mstore
from mstore import errors
from mstore.cli.app import app
from mstore.domain.lint import KINDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GROUP = typer.main.get_command(app)


def sources() -> Iterator[Path]:
    yield from sorted((ROOT / "mstore").rglob("*.py"))


def test_the_tables_of_the_readme_are_current() -> None:
    updated = runpy.run_path(str(ROOT / "scripts" / "readme.py"))["updated"]
    assert updated(README) == README, "run: .venv/bin/python scripts/readme.py"


def test_every_kind_of_finding_is_documented_with_its_severity() -> None:
    text = (ROOT / "docs" / "LINT.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", text, re.MULTILINE)) == KINDS


def test_public_names_are_sorted_and_there() -> None:
    assert mstore.__all__ == sorted(mstore.__all__)
    assert all(getattr(mstore, name).__doc__ for name in mstore.__all__)
    with pytest.raises(AttributeError):
        mstore.absent  # noqa: B018 - the look-up is what is tested


def test_every_all_is_sorted_and_there() -> None:
    for found in pkgutil.walk_packages(mstore.__path__, "mstore."):
        if not re.search(r"keras|worker|__main__", found.name):
            module = importlib.import_module(found.name)
            names = getattr(module, "__all__", [])
            assert list(names) == sorted(names), found.name
            assert all(hasattr(module, name) for name in names), found.name


def test_the_version_is_written_the_same_everywhere() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{mstore.__version__}"\n' in project
    assert f"## {mstore.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_tree_in_errors_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"(\w+Error|Error)\s+(\d+)\s+(\S+)", errors.__doc__ or "")
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.Error)
    }
    assert {name for name, _, _ in drawn} == set(kinds)
    for name, status, code in drawn:
        assert kinds[name].exit_status == int(status), name
        if name != "ResolveError":
            assert kinds[name].code == code, name


def commands_in(text: str) -> set[str]:
    """Return the lines of a text's code blocks that begin with ``mstore``."""
    blocks = re.findall(r"```(?:sh|console|text)\n(.*?)```", text, re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return {line for line in lines if line.startswith("mstore ")}


def examples() -> set[str]:
    found = commands_in(README)
    for command in every_command(GROUP):
        listing = command.help.split("Examples:\n")[1]
        found |= {line.strip() for line in listing.splitlines()}
    return found


def every_command(group: Any) -> Iterator[Any]:
    for command in group.commands.values():
        if hasattr(command, "commands"):
            yield from every_command(command)
        else:
            yield command


@pytest.mark.parametrize("line", sorted(examples()))
def test_every_documented_command_parses(line: str) -> None:
    words = shlex.split(re.split(r"\s{3,}|\s+#", line)[0])
    context = GROUP.make_context("mstore", words[1:], resilient_parsing=False)
    name, command, rest = GROUP.resolve_command(context, words[1:])  # type: ignore[attr-defined]
    command.make_context(name, rest)


def test_only_the_command_line_reads_the_environment_and_prints() -> None:
    # A process's environment is made from this one's; its own argv is its protocol.
    allowed = {"convert/process.py", "convert/worker/__main__.py"}
    allowed |= {"formats/hdf5_process.py", "formats/hdf5_child.py"}
    pattern = re.compile(
        r"\bos\.(environ|getenv)|\bsys\.argv|\bisatty|\.cwd\(\)|^\s*(print|input)\("
    )
    for path in sources():
        name = path.relative_to(ROOT / "mstore").as_posix()
        if not name.startswith("cli/") and name not in allowed:
            for line in path.read_text(encoding="utf-8").splitlines():
                assert not pattern.search(line), f"{name}: {line}"


def test_nothing_is_caught_wholesale_but_at_the_top() -> None:
    # The worker reports what a builder raised, whatever it is, as its answer; the thread of a
    # background add hands what it met to whoever waits for it, and the process that reads HDF5
    # says what the library raised, which may be anything.
    for path in sources():
        name = path.relative_to(ROOT / "mstore").as_posix()
        if name in {"cli/run.py", "ops/background.py", "formats/hdf5_child.py"} or name.startswith(
            "convert/worker/"
        ):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                assert caught not in {"everything", "Exception", "BaseException"}, (
                    f"{name}:{node.lineno}"
                )
