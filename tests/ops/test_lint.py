"""Lint of directories as they are found on disk; nothing here starts TensorFlow."""

import os
import random
import shutil
from pathlib import Path

import pytest

from mstore.domain.lint import LintReport
from mstore.domain.lint_graph import Limits
from mstore.errors import InputError, LintError, UsageError
from mstore.formats.saved_model import MAX_BYTES
from mstore.ops.lint import ensure_servable, known_kinds, lint
from mstore.serving.known_ops import tensorflow_ops, text_ops
from tests.formats.bundle_writer import small_values, write_bundle
from tests.formats.graph_writer import (
    meta_graph,
    node,
    signature,
    sound_graph,
    write_saved_model,
)
from tests.formats.hostile import mutate

PYTHON = meta_graph(
    [node("x", "Placeholder"), node("y", "EagerPyFunc", "x")],
    (),
    signature("serving_default", "y:0"),
)


def version(path: Path, graph: bytes | None = None, *, variables: bool = True) -> Path:
    """Write a version directory that everybody may read."""
    write_saved_model(path, sound_graph() if graph is None else graph)
    if variables:
        write_bundle(path / "variables" / "variables", small_values())
    for place in (path.parent, path, *path.rglob("*")):
        place.chmod(0o755 if place.is_dir() else 0o644)
    return path


def kinds(report: LintReport) -> list[str]:
    return [item.kind for item in report.all]


def test_sound_versions_give_no_finding(tmp_path: Path) -> None:
    for name in ("1", "2"):
        version(tmp_path / name)
    report = lint(tmp_path)
    assert kinds(report) == []
    assert [(item.version, item.live) for item in report.versions] == [(1, False), (2, True)]
    alone = lint(tmp_path / "2")
    assert kinds(alone) == []
    assert [(item.version, item.live) for item in alone.versions] == [(2, True)]


def test_a_saved_model_that_is_no_version_is_looked_at_and_told(tmp_path: Path) -> None:
    report = lint(version(tmp_path / "export", PYTHON))
    assert kinds(report) == ["saved-model-in-base", "python-op"]
    assert report.versions[0].version is None


def test_the_inside_of_a_version_is_no_base_path(tmp_path: Path) -> None:
    report = lint(version(tmp_path / "1") / "variables")
    assert kinds(report) == ["inside-version"]


def test_a_base_path_named_by_a_number_is_one(tmp_path: Path) -> None:
    version(tmp_path / "2024" / "1")
    assert [item.version for item in lint(tmp_path / "2024").versions] == [1]


def test_one_level_too_high_is_told_with_the_right_path(tmp_path: Path) -> None:
    version(tmp_path / "models" / "mnist" / "1")
    (item,) = lint(tmp_path / "models").findings
    assert item.kind == "base-too-high"
    assert f"{tmp_path}/models/mnist" in item.cure


def test_half_copied_versions_are_told_and_what_becomes_of_the_server(tmp_path: Path) -> None:
    version(tmp_path / "1")
    (tmp_path / "2" / "variables").mkdir(parents=True)
    for place in (tmp_path / "2", tmp_path / "2" / "variables"):
        place.chmod(0o755)
    report = lint(tmp_path)
    assert [item.kind for item in report.findings] == ["broken-newest"]
    assert [item.kind for item in report.versions[1].findings] == ["missing-graph"]
    assert kinds(lint(tmp_path / "2")) == ["missing-graph"]
    version(tmp_path / "3")
    assert lint(tmp_path).findings == ()


def test_a_file_with_a_number_for_a_name_is_a_version_that_fails(tmp_path: Path) -> None:
    version(tmp_path / "1")
    (tmp_path / "3").touch()
    report = lint(tmp_path)
    assert [item.kind for item in report.versions[1].findings] == ["file-as-version"]
    assert [item.kind for item in report.findings] == ["broken-newest"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("saved_model.pb", "damaged-file"),
        ("variables/variables.index", "damaged-file"),
        ("variables/variables.data-00000-of-00001", "damaged-file"),
    ],
)
def test_cut_files_are_damage(name: str, kind: str, tmp_path: Path) -> None:
    path = version(tmp_path / "1")
    os.truncate(path / name, (path / name).stat().st_size - 3)
    (item,) = lint(path).all
    assert (item.kind, item.severity) == (kind, "error")
    assert item.subject == name


def test_missing_variables_matter_where_the_graph_has_some(tmp_path: Path) -> None:
    assert kinds(lint(version(tmp_path / "1", variables=False))) == ["missing-variables"]
    graph = meta_graph(
        [node("x", "Placeholder"), node("y", "Relu", "x")], (), signature("serving_default", "y")
    )
    assert kinds(lint(version(tmp_path / "2", graph, variables=False))) == []


def test_a_graph_may_be_too_large(tmp_path: Path) -> None:
    path = version(tmp_path / "1")
    assert kinds(lint(path, limits=Limits(graph=100))) == ["big-graph"]
    os.truncate(path / "saved_model.pb", MAX_BYTES + 1)
    assert kinds(lint(path)) == ["graph-too-big"]


def test_a_graph_in_another_form_is_not_looked_into(tmp_path: Path) -> None:
    path = version(tmp_path / "1")
    (path / "saved_model.pb").rename(path / "saved_model.pbtxt")
    assert kinds(lint(path)) == ["unchecked-graph"]


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    path = version(tmp_path / "1")
    (path / "saved_model.pb").unlink()
    os.mkfifo(path / "saved_model.pb")
    (path / "saved_model.pb").chmod(0o644)
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "tf_serving_warmup_requests").mkdir()
    for place in (path / "assets.extra").rglob("*"):
        place.chmod(0o755)
    (path / "assets.extra").chmod(0o755)
    assert sorted(kinds(lint(path))) == ["unreadable-file", "warmup"]


def test_junk_is_told(tmp_path: Path) -> None:
    path = version(tmp_path / "1")
    (path / "variables" / "variables.data-00000-of-00009").write_bytes(bytes(7))
    (path / "variables" / "variables.data-00000-of-00009").chmod(0o644)
    (item,) = lint(path).all
    assert (item.kind, item.subject) == (
        "junk-file",
        "variables/variables.data-00000-of-00009",
    )


def test_modes_of_the_base_and_of_versions_are_told(tmp_path: Path) -> None:
    path = version(tmp_path / "base" / "1")
    path.chmod(0o700)
    (path / "saved_model.pb").chmod(0o600)
    (item,) = lint(tmp_path / "base").all
    assert (item.kind, item.subject) == ("unreadable-mode", ".")
    assert "0700" in item.detail
    assert "1 more" in item.detail
    path.chmod(0o755)
    (path / "saved_model.pb").chmod(0o644)
    (tmp_path / "base").chmod(0o700)
    assert [item.kind for item in lint(tmp_path / "base").findings] == ["unreadable-mode"]


def test_links_out_of_the_base_path_are_told(tmp_path: Path) -> None:
    version(tmp_path / "elsewhere" / "1")
    base = tmp_path / "base"
    version(base / "1")
    (base / "2").symlink_to(base / "1")
    assert kinds(lint(base)) == []
    (base / "3").symlink_to(tmp_path / "elsewhere" / "1")
    (base / "1" / "assets").symlink_to(tmp_path / "nowhere")
    report = lint(base)
    assert [item.kind for item in report.versions[2].findings] == ["link-outside"]
    assert [item.kind for item in report.versions[0].findings] == ["broken-link"]
    (base / "4").symlink_to(base)
    assert lint(base).versions[3].findings


def test_paths_that_are_no_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "missing"):
        with pytest.raises(InputError) as caught:
            lint(tmp_path / name)
        assert caught.value.hint


def test_an_export_is_stopped_by_errors_alone_and_they_can_be_allowed(tmp_path: Path) -> None:
    path = version(tmp_path / "saved_model")
    path.chmod(0o700)
    assert ensure_servable(path) == ()
    fixed = meta_graph(
        [node("x", "Placeholder"), node("y", "PrintV2", "x")], (), signature("embed", "y:0")
    )
    warnings = ensure_servable(version(tmp_path / "warned", fixed))
    assert [text.partition(":")[0] for text in warnings] == ["no-default-signature", "prints"]
    path = version(tmp_path / "refused", PYTHON)
    with pytest.raises(LintError) as caught:
        ensure_servable(path)
    assert caught.value.exit_status == 13
    assert "python-op: y: " in caught.value.message
    assert "--allow-lint python-op" in caught.value.hint
    (item,) = caught.value.to_json()["error"]["findings"]  # type: ignore[index]
    assert item["kind"] == "python-op"
    (allowed,) = ensure_servable(path, ["python-op"])
    assert allowed.startswith("python-op: y: ")


def test_only_kinds_that_there_are_can_be_allowed() -> None:
    assert known_kinds(["xla-op", "table-file"]) == ("xla-op", "table-file")
    with pytest.raises(UsageError, match="'python'") as caught:
        known_kinds(["python"])
    assert "python-op" in caught.value.hint


def test_the_lists_of_ops_are_there() -> None:
    assert tensorflow_ops().source.startswith("tensorflow 2.")
    assert len(tensorflow_ops().names) > 1500
    assert {"MatMul", "RestoreV2", "EagerPyFunc"} <= tensorflow_ops().names
    assert "SentencepieceOp" in text_ops().names
    assert not text_ops().names & tensorflow_ops().names


def test_a_thousand_mutants_end_in_findings(tmp_path: Path) -> None:
    path = version(tmp_path / "1")
    sound = (path / "saved_model.pb").read_bytes()
    random_ = random.Random(7)  # noqa: S311 - repeatable, not secret
    seen: set[str] = set()
    for _ in range(1000):
        (path / "saved_model.pb").write_bytes(mutate(random_, sound))
        seen |= set(kinds(lint(path)))
    assert {"damaged-file", "custom-op", "no-serve-tag", "no-default-signature"} <= seen
    shutil.rmtree(path)
