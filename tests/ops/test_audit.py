import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from mstore.domain.progress import NoProgress
from mstore.domain.records import FileRecord, VersionAudit
from mstore.errors import InputError
from mstore.ops.hashing import STATEMENT_PATH, file_sha256, version_digest
from mstore.ops.inspect import inspect
from mstore.ops.statement import STATEMENT_TYPE, make_statement, read_statement
from mstore.store import Store, audit_without_store
from tests.ops.making import (
    DATA,
    INDEX,
    added,
    blob,
    checkpoint,
    flip,
    floats,
    saved_model,
    tree,
    weights,
)


def only(store: Store | None, path: Path) -> VersionAudit:
    report = audit_without_store(path) if store is None else store.audit(path)
    (version,) = report.versions
    return version


def kinds(version: VersionAudit) -> list[str]:
    return [finding.kind for finding in version.findings]


def subjects(version: VersionAudit, kind: str) -> list[str]:
    return [finding.subject for finding in version.findings if finding.kind == kind]


@pytest.fixture
def foreign(store: Store, tmp_path: Path) -> Path:
    """A base path with a version of a stored checkpoint that another tool has made."""
    added(store, checkpoint(tmp_path / "run" / "ckpt-5", {**weights(), "momentum": floats(7.0)}))
    saved_model(tmp_path / "base" / "1", weights())
    return tmp_path / "base"


def test_a_foreign_version_is_proven_by_its_weights(store: Store, foreign: Path) -> None:
    report = store.audit(foreign)
    (version,) = report.versions
    assert report.proven
    assert report.model == "m"
    assert report.findings == ()
    assert (version.version, version.verdict, version.basis) == (1, "proven", "catalog")
    assert version.checkpoint == store.list()[0].to_json()
    assert kinds(version) == ["foreign"]
    assert version.statement is None
    assert version.deployment is None
    assert version.live
    assert only(store, foreign / "1").verdict == "proven"


def test_an_audit_changes_nothing(store: Store, foreign: Path) -> None:
    before = tree(foreign)
    for path in (foreign, foreign / "1"):
        store.audit(path)
        audit_without_store(path)
    assert tree(foreign) == before


def test_a_flipped_byte_names_the_tensor(store: Store, foreign: Path) -> None:
    kernel = weights()["kernel"].raw
    assert isinstance(kernel, bytes)
    data = foreign / "1" / DATA
    flip(data, data.read_bytes().index(kernel) + 4)
    report = store.audit(foreign)
    (version,) = report.versions
    assert not report.proven
    assert version.verdict == "unknown"
    assert subjects(version, "tensor") == ["program/kernel"]
    assert "nearest" in version.findings[-1].detail


def test_every_flipped_byte_of_the_variables_is_seen(store: Store, foreign: Path) -> None:
    for name in (DATA, INDEX):
        path = foreign / "1" / name
        for position in range(0, path.stat().st_size, 3):
            flip(path, position)
            assert only(store, foreign).verdict != "proven", (name, position)
            flip(path, position)
    assert only(store, foreign).verdict == "proven"


def test_a_missing_index_is_no_empty_model(store: Store, foreign: Path) -> None:
    (foreign / "1" / INDEX).unlink()
    version = only(store, foreign)
    assert version.verdict == "unknown"
    assert subjects(version, "missing-file") == [INDEX]
    assert version.candidates == ()


@pytest.mark.parametrize("keep", [0, 1, 30, -1])
def test_data_cut_short_is_seen(store: Store, foreign: Path, keep: int) -> None:
    data = foreign / "1" / DATA
    data.write_bytes(data.read_bytes()[:keep])
    version = only(store, foreign)
    assert version.verdict == "unknown"
    assert "tensor" in kinds(version)


def test_missing_data_and_a_missing_graph_are_seen(store: Store, foreign: Path) -> None:
    (foreign / "1" / DATA).unlink()
    assert DATA in subjects(only(store, foreign), "missing-file")
    (foreign / "1" / "saved_model.pb").unlink()
    version = only(store, foreign)
    assert version.verdict == "unknown"
    assert "saved_model.pb" in subjects(version, "missing-file")


def test_a_damaged_graph_is_not_proven(store: Store, foreign: Path) -> None:
    graph = foreign / "1" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-3])
    version = only(store, foreign)
    assert version.verdict == "modified"
    assert subjects(version, "damaged-file") == ["saved_model.pb"]


def test_a_variable_too_many_is_not_proven(store: Store, foreign: Path) -> None:
    saved_model(foreign / "2", {**weights(), "extra": floats(42.0)})
    report = store.audit(foreign)
    assert [version.verdict for version in report.versions] == ["proven", "unknown"]
    assert [version.live for version in report.versions] == [False, True]
    assert "holds 2 of its 3 distinct variables" in report.versions[1].findings[-1].detail
    assert not report.proven


def test_weights_of_no_checkpoint_are_unknown(store: Store, foreign: Path) -> None:
    saved_model(foreign / "1", {"kernel": floats(8.0)})
    version = only(store, foreign)
    assert (version.verdict, version.checkpoint) == ("unknown", None)
    assert kinds(version) == ["no-source"]


def test_equal_bytes_under_another_shape_are_unknown(store: Store, foreign: Path) -> None:
    values = weights()
    kernel = values["kernel"]
    values["kernel"] = type(kernel)(kernel.dtype, (3, 1), kernel.raw)
    saved_model(foreign / "1", values)
    assert only(store, foreign).verdict == "unknown"


def test_all_checkpoints_with_equal_weights_are_named(
    store: Store, foreign: Path, tmp_path: Path
) -> None:
    added(store, tmp_path / "run" / "ckpt-5", step=6)
    added(store, checkpoint(tmp_path / "run" / "ckpt-9", {**weights(), "bias": floats(0.0)}))
    version = only(store, foreign)
    assert version.verdict == "proven"
    assert [candidate["step"] for candidate in version.candidates] == [6, 5]
    assert version.checkpoint == version.candidates[0]
    assert kinds(version) == ["equal-weights", "foreign"]


def test_a_superseded_checkpoint_is_still_recognised(
    store: Store, foreign: Path, tmp_path: Path
) -> None:
    old = store.list()[0]
    added(store, checkpoint(tmp_path / "new" / "ckpt-5", weights(9)), replace=True)
    version = only(store, foreign)
    assert version.verdict == "proven"
    assert version.checkpoint is not None
    assert (version.checkpoint["id"], version.checkpoint["superseded"]) == (old.id, True)


def test_no_versions_are_nothing_proven(store: Store, tmp_path: Path) -> None:
    (tmp_path / "base" / "not-a-version").mkdir(parents=True)
    report = store.audit(tmp_path / "base")
    assert not report.proven
    assert report.versions == ()
    assert [finding.kind for finding in report.findings] == ["no-versions"]
    for path in (tmp_path / "gone", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(InputError):
            store.audit(path)


def test_names_that_only_the_server_reads_as_numbers_are_told(store: Store, foreign: Path) -> None:
    saved_model(foreign / "007", weights())
    (foreign / "9").touch()
    saved_model(foreign / "v8", weights())
    report = store.audit(foreign)
    assert [version.version for version in report.versions] == [1, 7, 9]
    assert [version.verdict for version in report.versions] == ["proven", "proven", "unknown"]
    assert [version.live for version in report.versions] == [False, False, True]
    assert [(f.kind, f.subject) for f in report.findings] == [("odd-name", "007")]
    assert kinds(report.versions[2]) == ["not-a-directory"]


def test_links_and_pipes_are_told_and_not_waited_for(store: Store, foreign: Path) -> None:
    version = foreign / "1"
    os.mkfifo(version / "pipe")
    (version / "link").symlink_to("/etc/passwd")
    found = only(store, foreign)
    assert found.verdict == "modified"
    assert sorted(subjects(found, "irregular-file")) == ["link", "pipe"]
    for name in (INDEX, DATA, "saved_model.pb", STATEMENT_PATH):
        path = version / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        assert only(store, foreign).verdict != "proven"
        assert only(None, foreign).verdict != "proven"


def stated(store: Store, directory: Path) -> Path:
    """Put a statement into a version directory, as an export does."""
    found = inspect(directory, NoProgress())
    files = tuple(found.files.values())
    body = make_statement(
        store.list()[0],
        files,
        program="p",
        digest=version_digest(files),
        builder={"spec": "models.py:build", "source_sha256": "0", "git_commit": "1"},
        parameters={},
        environment={},
    )
    path = directory / STATEMENT_PATH
    path.parent.mkdir()
    path.write_bytes(body)
    return path


def test_without_a_store_and_a_statement_nothing_is_known(foreign: Path) -> None:
    version = only(None, foreign)
    assert (version.verdict, version.basis, version.checkpoint) == ("unknown", None, None)
    assert kinds(version) == ["no-statement"]


def test_without_a_store_the_statement_is_believed_and_said_to_be(
    store: Store, foreign: Path
) -> None:
    stated(store, foreign / "1")
    version = only(None, foreign)
    assert (version.verdict, version.basis) == ("proven", "statement")
    assert kinds(version) == ["self-attested"]
    assert version.checkpoint is not None
    assert version.checkpoint["id"] == store.list()[0].id
    assert audit_without_store(foreign).model == "m"


def test_without_a_store_every_change_is_seen_against_the_statement(
    store: Store, foreign: Path
) -> None:
    stated(store, foreign / "1")
    for name in ("saved_model.pb", DATA, INDEX):
        path = foreign / "1" / name
        flip(path, path.stat().st_size - 1)
        version = only(None, foreign)
        assert version.verdict == "modified"
        assert subjects(version, "modified-file") == [name]
        flip(path, path.stat().st_size - 1)
    (foreign / "1" / "extra").touch()
    assert subjects(only(None, foreign), "extra-file") == ["extra"]


def test_a_statement_is_no_proof_where_a_store_is_asked(store: Store, foreign: Path) -> None:
    """Whoever changes the weights can write a statement that fits."""
    saved_model(foreign / "1", {**weights(), "kernel": floats(1.0, 2.0, 3.5)})
    stated(store, foreign / "1")
    assert only(None, foreign).verdict == "proven"
    version = only(store, foreign)
    assert version.verdict == "modified"
    assert subjects(version, "tensor") == ["program/kernel"]


def change(path: Path, where: str, value: object) -> None:
    body: Any = json.loads(path.read_bytes())
    definition = body["predicate"]["buildDefinition"]
    checkpoint = definition["externalParameters"]["checkpoint"]
    places = {
        "type": (body, "_type"),
        "subject": (body, "subject"),
        "predicate": (body, "predicate"),
        "size": (body["subject"][0]["annotations"], "size"),
        "digest": (definition["internalParameters"], "digest"),
        "internal": (definition, "internalParameters"),
        "checkpoint": (definition["externalParameters"], "checkpoint"),
        "id": (checkpoint, "id"),
        "model": (checkpoint, "model"),
    }
    holder, name = places[where]
    if value is None:
        del holder[name]
    else:
        holder[name] = value
    path.write_text(json.dumps(body))


@pytest.mark.parametrize(
    "where",
    ["type", "subject", "predicate", "size", "digest", "internal", "checkpoint", "id", "model"],
)
def test_no_statement_upsets_an_audit(store: Store, foreign: Path, where: str) -> None:
    path = stated(store, foreign / "1")
    sound = path.read_bytes()
    values: list[object] = [None, [], {}, "x", -1, "\ud800", [[]], 10**30]
    for value in [*values, float("inf"), float("nan")]:
        change(path, where, value)
        for version in (only(None, foreign), only(store, foreign)):
            json.dumps(version.to_json(), ensure_ascii=False).encode()
        path.write_bytes(sound)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b"null", b"1" * 5000])
def test_a_statement_that_cannot_be_read_is_told(store: Store, foreign: Path, data: bytes) -> None:
    path = stated(store, foreign / "1")
    path.write_bytes(data)
    assert kinds(only(None, foreign)) == ["statement", "no-statement"]
    assert only(store, foreign).verdict == "modified"


def test_a_statement_says_the_same_for_the_same_facts(store: Store, foreign: Path) -> None:
    path = stated(store, foreign / "1")
    first = path.read_bytes()
    shutil.rmtree(path.parent)
    assert stated(store, foreign / "1").read_bytes() == first
    body = json.loads(first)
    assert body["_type"] == STATEMENT_TYPE
    assert [subject["name"] for subject in body["subject"]] == ["saved_model.pb", DATA, INDEX]
    statement = read_statement(foreign / "1")
    assert statement is not None
    record = FileRecord(
        DATA, (foreign / "1" / DATA).stat().st_size, file_sha256(foreign / "1" / DATA)
    )
    assert record in statement.files


def test_large_variables_are_compared_across_chunks(store: Store, tmp_path: Path) -> None:
    values = {"a": blob(1, 700_000), "b": floats(1.0), "c": blob(2, 300_000)}
    added(store, checkpoint(tmp_path / "ckpt-1", values))
    moved = {"c": values["c"], "z": values["a"], "bb": values["b"]}
    saved_model(tmp_path / "base" / "1", moved)
    assert only(store, tmp_path / "base").verdict == "proven"
    saved_model(
        tmp_path / "base" / "1", {**moved, "b": floats(struct.unpack("<f", b"\1\0\0\0")[0])}
    )
    assert only(store, tmp_path / "base").verdict == "unknown"
