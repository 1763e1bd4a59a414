"""The commands about targets, as they are typed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.crash import conversion


@pytest.fixture
def shop(cli: Cli, store: Path, tmp_path: Path) -> Iterator[Cli]:
    """The target prod of the model s, whose versions 1 and 2 are not served yet."""
    assert store.is_dir()
    with conversion.installed():
        for step in (1, 2):
            prefix = conversion.make_checkpoint(tmp_path / f"s/ckpt-{step}", step)
            assert cli("add", prefix, "--model", "s").status == 0
            assert cli("export", f"s@{step}", "--builder", "b.py:build").status == 0
        assert cli("target", "add", "prod", "serving/s", "--model", "s").status == 0
        yield cli


def test_ship_undo_and_look_back(shop: Cli, tmp_path: Path) -> None:
    base = tmp_path / "serving" / "s"
    first = shop("promote", "s:1", "prod", "--alias", "stable", "-m", "first", "--json").json
    assert (first["target"], first["path"]) == ("prod", str(base / "1"))
    assert (first["event"], first["version"], first["message"]) == ("promoted", 1, "first")
    assert "s:2  promoted to" in shop("promote", "s:2", "prod").out
    assert shop("show", "s:stable", "--json").json["aliases"] == ["stable"]
    done = shop("rollback", "prod", "-m", "bad")
    assert done.status == 0
    assert "s:1  is live again in prod" in done.out
    assert "loads 1, then unloads 2" in done.out
    assert sorted(path.name for path in base.iterdir()) == ["1"]
    events = shop("log", "--deployed", "--json").json
    assert [(item["event"], item["version"]) for item in events] == [
        ("rolled-back", 2),
        ("promoted", 2),
        ("promoted", 1),
    ]
    (now,) = shop("list", "--deployed", "--json").json
    assert (now["target"], now["version"], now["live"]) == ("prod", 1, True)
    then = shop("audit", "prod", "--at", events[1]["at"], "--json").json
    assert [(item["version"], item["live"]) for item in then["versions"]] == [(1, False), (2, True)]
    assert "s:2" not in shop("audit", "prod").out
    assert "2  s/default@2  checkpoint" in shop("audit", "prod", "--at", events[1]["at"]).out


def test_all_targets_are_audited_and_a_changed_byte_is_seen(shop: Cli, tmp_path: Path) -> None:
    shop("promote", "s:1", "prod")
    (report,) = shop("audit", "--json").json
    assert (report["target"], report["versions"][0]["verdict"]) == ("prod", "proven")
    (tmp_path / "serving/s/1/saved_model.pb").write_bytes(b"x")
    assert shop("audit").status == 13


def test_targets_are_listed_and_forgotten(shop: Cli) -> None:
    (target,) = shop("target", "list", "--json").json
    assert (target["target"], target["policy"], list(target["models"])) == ("prod", "latest", ["s"])
    assert shop("target", "list", "-q").out == "prod\n"
    assert "would be forgotten" in shop("target", "remove", "prod", "-n").out
    assert shop("target", "remove", "prod", "--json").json["target"] == "prod"
    assert shop("target", "list", "--json").json == []
    missing = shop("target", "remove", "prod", "--json")
    assert (missing.status, missing.error["code"]) == (12, "unknown-reference")


def test_what_is_refused_says_how_to_insist(shop: Cli) -> None:
    shop("promote", "s:2", "prod")
    refused = shop("promote", "s:1", "prod", "--json")
    assert (refused.status, refused.error["code"]) == (1, "refused")
    assert refused.error["reason"] == "not-live"
    assert "--allow not-live" in refused.error["hint"]
    assert shop("promote", "s:1", "prod", "--allow", "not-live").status == 0
    assert shop("promote", "s:1", "prod", "--allow", "nothing").status == 2
    assert shop("retire", "prod", "2", "--json").error["code"] == "refused"
    assert shop("retire", "prod", "1", "-q").status == 0
    assert shop("target").status == 2
    assert shop("target", "add", "x", "x", "--model", "nobody").status == 12
    assert shop("tag", "s:1", "champion").out == "s:champion  is s:1\n"
    assert shop("audit", "prod", "--at", "nonsense").status == 2
    assert shop("audit", "prod", "--at", "2001-01-01").status == 12
