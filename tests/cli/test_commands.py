"""Every command that needs no TensorFlow, on a real store."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, make_checkpoint

CHECKPOINT_FIELDS = {
    "id": str,
    "model": str,
    "run": str,
    "step": int,
    "step_source": str,
    "format": str,
    "bytes": int,
    "stored_bytes": int,
    "tensors": int,
    "metrics": dict,
    "tags": list,
    "meta": dict,
    "added_at": str,
    "source": str,
    "versions": list,
}


def test_init_says_where_and_whether_it_is_new(cli: Cli, tmp_path: Path) -> None:
    assert cli("init", "--json").json == {"path": str(tmp_path / ".mstore"), "created": True}
    again = cli("init", "--json")
    assert (again.status, again.json["created"]) == (0, False)


def test_init_in_a_directory_prints_its_path_with_quiet(cli: Cli, tmp_path: Path) -> None:
    assert cli("init", "deep/er", "-q").out == f"{tmp_path}/deep/er/.mstore\n"


def test_add_prints_an_array_that_says_what_is_new(cli: Cli, tmp_path: Path) -> None:
    cli("init")
    prefix = make_checkpoint(tmp_path / "ckpt-7", 7)
    options = ("--metric", "val_loss=0.25", "--tag", "first", "--meta", "host=a=b", "--note", "n")
    (added,) = cli("add", prefix, "--model", "m", *options, "--json").json
    assert {name: type(added[name]) for name in CHECKPOINT_FIELDS} == CHECKPOINT_FIELDS
    assert (added["step"], added["step_source"], added["new"]) == (7, "variable", True)
    assert (added["metrics"], added["tags"]) == ({"val_loss": 0.25}, ["first"])
    assert (added["meta"], added["note"]) == ({"host": "a=b"}, "n")
    (again,) = cli("add", prefix, "--model", "m", "--json").json
    assert (again["id"], again["new"]) == (added["id"], False)


def test_add_says_in_words_that_nothing_was_stored(cli: Cli, store: Path) -> None:
    result = cli("add", "ckpts/ckpt-10", "--model", "m", "--run", "r1")
    assert "is already in the store; nothing was stored" in result.out
    assert store.is_dir()


def test_add_takes_a_directory_a_file_and_the_latest(cli: Cli, store: Path) -> None:
    assert len(cli("add", "ckpts", "--model", "dir", "--json").json) == 3
    data = "ckpts/ckpt-20.data-00000-of-00001"
    assert cli("add", data, "--model", "file", "--json").json[0]["step"] == 20
    (store.parent / "ckpts" / "checkpoint").write_text('model_checkpoint_path: "ckpt-20"\n')
    (latest,) = cli("add", "ckpts", "--latest", "--model", "state", "--json").json
    assert latest["step"] == 20


def test_add_goes_on_after_a_failure_and_exits_3(cli: Cli, store: Path) -> None:
    result = cli("add", "nowhere", "ckpts/ckpt-10", "--model", "other", "--json")
    assert (result.status, len(result.json)) == (3, 1)
    assert result.error["code"] == "partial"
    assert "nowhere" in result.error["message"]
    assert store.is_dir()


def test_add_of_nothing_but_damage_exits_13(cli: Cli, store: Path) -> None:
    for step in (10, 20):
        (store.parent / f"ckpts/ckpt-{step}.data-00000-of-00001").write_bytes(b"short")
    result = cli("add", "ckpts/ckpt-10", "ckpts/ckpt-20", "--model", "other", "--json")
    assert (result.status, result.out) == (13, "")
    assert result.error["exit"] == 13


def test_list_is_an_array_newest_first(cli: Cli, store: Path) -> None:
    listed = cli("list", "--json").json
    assert [item["step"] for item in listed] == [30, 20, 10]
    assert all(
        {k: type(item[k]) for k in CHECKPOINT_FIELDS} == CHECKPOINT_FIELDS for item in listed
    )
    assert cli("ls", "m/r1", "--limit", "1", "-q").out == listed[0]["id"] + "\n"
    assert cli("list", "absent", "--json").json == []
    assert store.is_dir()


def test_a_list_for_programs_is_tab_separated_without_headings(cli: Cli, store: Path) -> None:
    lines = cli("list").out.splitlines()
    assert len(lines) == 3
    assert lines[0].split("\t")[:3] == ["m", "r1", "30"]
    assert store.is_dir()


def test_versions_and_deployments_of_a_new_store_are_none(cli: Cli, store: Path) -> None:
    assert cli("list", "--versions", "--json").json == []
    assert cli("list", "--deployed", "--json").json == []
    assert cli("list", "--versions").out == ""
    assert store.is_dir()


def test_show_tells_all_and_with_tensors_every_tensor(cli: Cli, store: Path) -> None:
    best = cli("show", "m@best:val_loss", "--tensors", "--json").json
    assert best["step"] == 20
    assert [(t["dtype"], t["shape"], t["bytes"]) for t in best["tensor_table"]] == [
        ("float32", [2], 8),
        ("int64", [], 8),
    ]
    text = cli("show", "m@20").out
    assert best["id"] in text
    assert "val_loss=0.1" in text
    assert cli("show", best["id"][:8], "-q").out == best["id"] + "\n"
    assert store.is_dir()


def test_diff_names_the_tensor_that_changed(cli: Cli, store: Path) -> None:
    result = cli("diff", "m@10", "m@20", "--json").json
    assert result["summary"]["changed"] == 2
    text = cli("diff", "m@10", "m@10").out
    assert text == "m/r1@10 -> m/r1@10: 2 unchanged\n"
    assert "=\tunchanged\t" in cli("diff", "m@10", "m@10", "--all").out
    assert store.is_dir()


def test_tag_names_a_checkpoint(cli: Cli, store: Path) -> None:
    assert cli("tag", "m@20", "good", "--json").json["tags"] == ["good"]
    assert cli("show", "m@good", "--json").json["step"] == 20
    assert store.is_dir()


def test_checkout_gives_the_files_back_bit_for_bit(cli: Cli, store: Path) -> None:
    result = cli("checkout", "m@20", "out", "--json")
    assert result.status == 0
    files = [Path(file["path"]).name for file in result.json["files"]]
    assert len(files) == 2
    for name in files:
        assert Path("out", name).read_bytes() == (store.parent / "ckpts" / name).read_bytes()
    assert cli("checkout", "m@20", "other", "-q").out.strip().endswith("ckpt-20")


@pytest.mark.usefixtures("store")
def test_export_takes_the_weights_or_their_averages(cli: Cli) -> None:
    result = cli("export", "m", "--weights", "both")
    assert (result.status, result.out) == (2, "")
    assert "'raw', 'ema'" in result.err
    assert cli("export", "m", "--weights", "ema").status == 1  # no builder is recorded


def test_log_holds_each_event_newest_first(cli: Cli, store: Path) -> None:
    events = cli("log", "--json").json
    assert [(item["event"], item["step"]) for item in events] == [
        ("added", 30),
        ("added", 20),
        ("added", 10),
    ]
    assert len(cli("log", "--limit", "2", "-q").out.split()) == 2
    assert store.is_dir()


@pytest.mark.parametrize("name", ["verify", "fsck"])
def test_verify_is_clean_and_exits_13_after_damage(cli: Cli, store: Path, name: str) -> None:
    assert cli(name, "--json").json["clean"] is True
    pack = next((store / "packs").rglob("*.pack"), None) or next((store / "packs").iterdir())
    content = bytearray(pack.read_bytes())
    content[20] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(content)
    result = cli(name, "--json")
    assert result.status == 13
    assert result.json["findings"]


def test_a_lost_catalog_is_made_again(cli: Cli, store: Path) -> None:
    before = {name: cli(name, "--json").out for name in ("list", "log")}
    for path in store.glob("catalog.db*"):
        path.unlink()
    lost = cli("list", "--json")
    assert (lost.status, lost.error["code"]) == (13, "damaged-store")
    assert "mstore fsck --rebuild" in lost.error["hint"]
    made = cli("fsck", "--rebuild", "--json")
    assert (made.status, made.json["complete"], made.json["checkpoints"]) == (0, True, 3)
    assert "3 checkpoints" in cli("fsck", "--rebuild").out
    assert {name: cli(name, "--json").out for name in ("list", "log")} == before


def test_audit_of_no_version_exits_13_and_says_so(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = cli("audit", "empty", "--json")
    assert result.status == 13
    assert result.json["versions"] == []


def test_audit_without_a_store_is_told_on_standard_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no store is here" in cli("audit", "empty").err
    assert cli("audit", "empty", "--store", "absent").status == 10


def test_the_store_is_found_upwards_named_by_option_or_environment(
    cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store.parent / "a/b").mkdir(parents=True)
    monkeypatch.chdir(store.parent / "a/b")
    assert len(cli("list", "-q").out.split()) == 3
    monkeypatch.chdir("/")
    assert cli("list").status == 10
    assert len(cli("-C", store.parent, "list", "-q").out.split()) == 3
    assert len(cli("list", "-q", "--store", store).out.split()) == 3
    monkeypatch.setenv("MSTORE_STORE", str(store.parent))
    assert len(cli("list", "-q").out.split()) == 3


def test_options_stand_before_the_command_too(cli: Cli, store: Path) -> None:
    assert json.loads(cli("--json", "list").out) == cli("list", "--json").json
    assert cli("-q", "list").out == cli("list", "-q").out
    assert store.is_dir()
