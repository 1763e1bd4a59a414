"""``mstore lint`` as people and programs see it."""

from pathlib import Path

from tests.cli.conftest import Cli
from tests.formats.graph_writer import meta_graph, node, signature
from tests.ops.test_lint import PYTHON, version

PRINTS = meta_graph(
    [node("x", "Placeholder"), node("y", "PrintV2", "x")],
    (),
    signature("serving_default", "y:0"),
)


def test_a_sound_base_path_exits_0_and_says_so(cli: Cli, tmp_path: Path) -> None:
    version(tmp_path / "base" / "1")
    result = cli("lint", "base")
    assert result.status == 0
    assert result.out.splitlines() == ["base", "base/1  live", "nothing found"]
    document = cli("lint", "base", "--json").json
    assert document == {
        "path": "base",
        "versions": [{"version": 1, "path": "base/1", "findings": [], "live": True}],
        "findings": [],
    }


def test_an_error_exits_13_with_kind_subject_sentence_and_cure(cli: Cli, tmp_path: Path) -> None:
    version(tmp_path / "base" / "1", PYTHON)
    result = cli("lint", "base")
    assert result.status == 13
    assert "  error: python-op: y\n" in result.out
    assert "\n      cure: " in result.out
    assert result.out.endswith("1 error, 0 warnings\n")
    answer = cli("lint", "base/1", "--json")
    assert answer.status == 13
    (item,) = answer.json["versions"][0]["findings"]
    assert set(item) == {"severity", "kind", "subject", "detail", "cure"}
    assert (item["severity"], item["kind"]) == ("error", "python-op")
    assert cli("lint", "base/1", "-q").out == "python-op\n"


def test_warnings_count_with_strict_alone(cli: Cli, tmp_path: Path) -> None:
    version(tmp_path / "base" / "1", PRINTS)
    result = cli("lint", "base/1")
    assert result.status == 0
    assert "warning: prints: y" in result.out
    assert cli("lint", "base/1", "--strict").status == 13


def test_it_needs_no_store_and_asks_none(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0o755)
    result = cli("lint", "empty", "--store", "absent")
    assert result.status == 13
    assert "no-versions" in result.out
    assert result.err == ""


def test_what_is_no_directory_is_an_error_in_words(cli: Cli) -> None:
    result = cli("lint", "missing", "--json")
    assert (result.status, result.error["code"]) == (1, "bad-input")


def test_a_name_on_disk_cannot_steer_the_terminal(cli: Cli, tmp_path: Path) -> None:
    version(tmp_path / "base" / "1")
    (tmp_path / "base" / "1" / "a\x1b[31mb").touch()
    assert "\x1b" not in cli("lint", "base").out


def test_an_unknown_kind_to_allow_is_wrong_usage(cli: Cli, store: Path) -> None:
    result = cli("export", "m@20", "--builder", "x.py:y", "--allow-lint", "everything", "--json")
    assert (result.status, result.error["code"]) == (2, "usage")
    assert store.is_dir()
