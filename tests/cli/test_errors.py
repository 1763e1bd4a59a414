"""What a user sees when something goes wrong: a message, the next step, an exit status."""

import sys
from pathlib import Path

import pytest

from mstore.cli.output import OutputClosedError
from mstore.cli.run import CLOSED, INTERRUPTED
from mstore.store import Store
from tests.cli.conftest import Cli


def test_no_store_is_10_with_the_command_to_make_one(cli: Cli) -> None:
    result = cli("list")
    assert (result.status, result.out) == (10, "")
    assert result.err.startswith("error: there is no store in ")
    assert result.err.endswith("hint: make one: mstore init\n")


def test_an_unknown_reference_is_12_and_lists_candidates(cli: Cli, store: Path) -> None:
    result = cli("show", "m@999", "--json")
    assert (result.status, result.out) == (12, "")
    assert result.error["code"] == "unknown-reference"
    assert any("30" in candidate for candidate in result.error["candidates"])
    assert "m/r1@30" in cli("show", "m@999").err
    assert store.is_dir()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("bogus",),
        ("add",),
        ("list", "--limit", "x"),
        ("list", "--limit", "0"),
        ("list", "--versions", "--deployed"),
        ("list", "--versions", "--programs"),
        ("export", "m", "--trace", "--program", "abc"),
        ("add", "x", "--model", "m", "--metric", "loss"),
        ("add", "x", "--model", "m", "--metric", "loss=high"),
        ("add", "x", "--model", "m", "--meta", "a=1", "--meta", "a=2"),
        ("export", "m", "--input", "x"),
        ("export", "m", "--input", "x=float99[2]"),
        ("export", "m", "--input", "x=float32[a]"),
        ("show", "m@@"),
    ],
)
def test_wrong_usage_is_2_also_as_json(cli: Cli, store: Path, arguments: tuple[str, ...]) -> None:
    assert cli(*arguments).status == 2
    result = cli("--json", *arguments)
    assert (result.status, result.out) == (2, "")
    assert (result.error["code"], result.error["exit"]) == ("usage", 2)
    assert store.is_dir()


def test_ctrl_c_is_130(cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "list", interrupt)
    result = cli("list", "--json")
    assert (result.status, result.error["code"]) == (INTERRUPTED, "interrupted")
    assert store.is_dir()


def test_a_reader_that_went_away_is_no_error(
    cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise OutputClosedError

    monkeypatch.setattr("mstore.cli.output.Output.show", closed)
    result = cli("list")
    assert (result.status, result.err) == (CLOSED, "")
    assert store.is_dir()


def test_a_full_disk_behind_standard_output_is_said(cli: Cli, store: Path) -> None:
    before = sys.stdout
    with Path("/dev/full").open("w") as full:
        sys.stdout = full
        try:
            result = cli("list")
        finally:
            sys.stdout = before
            with pytest.raises(OSError, match="No space"):
                full.close()
    assert (result.status, result.err) == (1, "error: standard output: No space left on device\n")
    assert store.is_dir()


def test_a_bug_is_called_one(cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("x")

    monkeypatch.setattr(Store, "list", broken)
    result = cli("list")
    assert result.status == 1
    assert "Traceback" in result.err
    assert result.err.endswith("hint: this is a bug in mstore; please report it\n")
    assert store.is_dir()


def test_control_characters_of_a_message_do_not_reach_the_terminal(cli: Cli, store: Path) -> None:
    result = cli("show", "m@\x1b[31m")
    assert "\x1b" not in result.err
    assert store.is_dir()
