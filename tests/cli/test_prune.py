"""``mstore prune``, as it is typed."""

import io
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, make_checkpoint


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_plan_tells_why_each_stays_or_goes(cli: Cli, store: Path) -> None:
    assert store.is_dir()
    cli("tag", "m@10", "first")
    result = cli("prune", "--model", "m", "--keep-last", "1", "-n")
    assert result.status == 0
    lines = [line.split("\t") for line in result.out.splitlines()]
    assert [line[-2:] for line in lines[:3]] == [
        ["stays", "--keep-last 1"],
        ["would go", "no rule keeps it"],
        ["stays", "tag first"],
    ]
    assert lines[3][0].startswith("would prune 1 of 3 checkpoints of m, files of ")
    assert len(cli("list", "--json").json) == 3


def test_yes_does_it_and_json_tells_all(cli: Cli, store: Path) -> None:
    assert store.is_dir()
    given = ("prune", "--model", "m/r1", "--keep-best", "1:val_loss", "-m", "full disk")
    planned = cli(*given, "--dry-run", "--json").json
    done = cli(*given, "--yes", "--json").json
    assert done["dry_run"] is False
    assert (done["model"], done["run"], done["rules"]) == ("m", "r1", ["--keep-best 1:val_loss"])
    assert done["pruned"] == planned["pruned"]
    assert [(i["step"], i["prune"], i["reasons"]) for i in done["checkpoints"]] == [
        (30, True, []),
        (20, False, ["--keep-best 1:val_loss"]),
        (10, True, []),
    ]
    assert [item["step"] for item in cli("list", "--json").json] == [20]
    everything = cli("list", "--all").out.splitlines()
    assert [line.split("\t")[-1] for line in everything] == ["pruned", "", "pruned"]
    event = cli("log", "--json", "--limit", "1").json[0]
    assert (event["id"], event["pruned"]) == (done["event"], done["pruned"][::-1])
    assert event["message"] == "full disk (--keep-best 1:val_loss)"
    assert "2 checkpoints" in cli("log", "m", "--limit", "1").out
    assert "pruned" in cli("show", "m@10").out
    assert cli("checkout", "m@10", "out", "--json").error["code"] == "unknown-reference"


def test_quiet_prints_the_ids_of_those_that_go(cli: Cli, store: Path) -> None:
    assert store.is_dir()
    would = cli("prune", "--model", "m", "--keep-last", "2", "-n", "-q").out.split()
    assert would == [cli("list", "--json").json[2]["id"]]
    assert cli("prune", "--model", "m", "--keep-last", "2", "-y", "-q").out.split() == would
    again = cli("prune", "--model", "m", "--keep-last", "2", "-y")
    assert "nothing to prune: all 2 checkpoints of m stay" in again.out


@pytest.mark.parametrize("option", ["--json", "-q", "--store=."])
def test_nobody_to_ask_means_no(cli: Cli, store: Path, option: str) -> None:
    assert store.is_dir()
    result = cli("prune", "--model", "m", "--keep-last", "1", option)
    assert result.status == 2
    assert "--dry-run" in result.err
    assert len(cli("list", "--json").json) == 3


@pytest.mark.parametrize(("answer", "left"), [("y\n", 1), ("n\n", 3), ("", 3)])
def test_people_are_asked(
    cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    assert store.is_dir()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    result = cli("prune", "--model", "m", "--keep-last", "1")
    assert "Prune 2 of 3 checkpoints? [y/N]" in result.err
    assert result.out.count("would go") == 2
    assert len(cli("list", "--json").json) == left
    assert result.status == (0 if left == 1 else 1)
    assert ("pruned 2 of 3" in result.out) == (left == 1)


def test_the_lowest_accuracy_is_asked_about(cli: Cli, store: Path, tmp_path: Path) -> None:
    assert store.is_dir()
    prefix = make_checkpoint(tmp_path / "ckpt-40", 40, (4.0, 2.0))
    cli("add", prefix, "--model", "m", "--run", "r1", "--metric", "accuracy=0.5")
    result = cli("prune", "--model", "m", "--keep-best", "1:accuracy", "-n")
    assert result.err.startswith("warning: --keep-best 1:accuracy keeps the lowest accuracy")
    assert "3:+f1" not in cli("prune", "--model", "m", "--keep-best", "1:+accuracy", "-n").err


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--model", "m"), 2, "no rule says what to keep"),
        (("--keep-last", "1"), 2, "--model"),
        (("--model", "m", "--keep-last", "0"), 2, "keeps nothing"),
        (("--model", "m", "--keep-best", "loss"), 2, "how many and by which metric"),
        (("--model", "m/r1", "--run", "r1", "--keep-last", "1"), 2, "given twice"),
        (("--model", "x", "--keep-last", "1"), 12, "no model 'x'"),
        (("--model", "m/x", "--keep-last", "1"), 12, "no run 'x' of m"),
    ],
)
def test_what_cannot_be_done_is_said(
    cli: Cli, store: Path, options: tuple[str, ...], status: int, said: str
) -> None:
    assert store.is_dir()
    result = cli("prune", *options, "--yes")
    assert result.status == status
    assert said in result.err
