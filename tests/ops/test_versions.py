"""Export, promotion and audit of versions, with stand-ins for the parts that need TensorFlow."""

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mstore.convert.builders import BuilderInfo
from mstore.convert.proof import ProvenVariable
from mstore.convert.request import TraceRequest, TraceResult
from mstore.domain.records import Version, VersionAudit
from mstore.errors import (
    ConflictError,
    InputError,
    LoadCheckError,
    ProofError,
    UnknownReferenceError,
)
from mstore.ops import conversion as conversion_module
from mstore.ops.hashing import STATEMENT_PATH
from mstore.store import Store, audit_without_store
from tests.formats.bundle_writer import FLOAT32, INT64, Value, write_bundle
from tests.ops.making import (
    DATA,
    INDEX,
    added,
    blob,
    checkpoint,
    copy,
    flip,
    floats,
    key,
    pack_bytes,
    packs,
    saved_model,
    tree,
)


@dataclass
class Conversion:
    """What the stand-in for the conversion writes."""

    values: Mapping[str, Value]
    extra: Mapping[str, Value] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    def trace(self, request: TraceRequest, *, timeout: float | None = None) -> TraceResult:
        del timeout
        saved_model(request.output, {**self.values, **self.extra})
        for name, data in self.files.items():
            path = request.output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        sources: dict[bytes, bytes | None] = {key(name): key(name) for name in self.values}
        return TraceResult(
            sources=sources | {key(name): None for name in self.extra},
            root="model",
            environment={"tensorflow": "2.21.0"},
            dims={"x": (1, 4)},
            warnings=("one thing",),
        )


def describe(spec: str, _search_path: Path, **_: object) -> BuilderInfo:
    return BuilderInfo(spec, Path("/models.py"), "ab" * 32, None, None)


@pytest.fixture
def conversion(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Conversion]:
    """Checkpoint 5 of the model m and a conversion that serves its weights."""
    values = {"kernel": blob(1, 200_000), "bias": floats(1.0, 2.0)}
    momentum = {"momentum": floats(3.0)}
    added(store, checkpoint(tmp_path / "run" / "ckpt-5", {**values, **momentum}), builder="a.b:c")
    stand_in = Conversion(values)
    monkeypatch.setattr(conversion_module, "trace", stand_in.trace)
    monkeypatch.setattr(conversion_module, "check", lambda *_, **__: {})
    monkeypatch.setattr(conversion_module, "describe", describe)
    monkeypatch.setattr(conversion_module, "learn", lambda *_, **__: None)
    yield stand_in
    assert not list(store.path.glob("tmp/*"))


def only(store: Store | None, path: Path) -> VersionAudit:
    report = audit_without_store(path) if store is None else store.audit(path)
    (version,) = report.versions
    return version


def kinds(version: VersionAudit) -> list[str]:
    return [finding.kind for finding in version.findings]


def published(store: Store, tmp_path: Path) -> Path:
    store.export("m", to=tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.usefixtures("conversion")
def test_an_export_is_a_numbered_version_with_its_facts(store: Store) -> None:
    first, second = store.export("m"), store.export("m@5", message="again")
    assert (first.version, second.version) == (1, 2)
    assert first.digest == second.digest
    assert first.program == second.program
    assert [file.path for file in first.files] == sorted(
        [STATEMENT_PATH, "saved_model.pb", DATA, INDEX]
    )
    assert first.checks == {"weights": "proven", "load": "passed", "parity": "skipped"}
    assert first.builder["spec"] == "a.b:c"
    assert first.warnings == ("one thing",)
    assert first.published is None
    assert store.list()[0].versions == (1, 2)
    assert store.show("m:latest") == second
    assert store.show("m:1") == first
    assert store.versions("m", limit=1) == (second,)
    assert [event.event for event in store.log("m:2")] == ["exported"]
    assert [event.message for event in store.log("m")] == ["again", None, None]
    assert store.verify().versions == 2


@pytest.mark.usefixtures("conversion")
def test_the_weights_of_a_version_are_not_stored_again(store: Store) -> None:
    before = pack_bytes(store)
    store.export("m")
    assert pack_bytes(store) - before < 10_000


@pytest.mark.usefixtures("conversion")
def test_a_version_names_its_checkpoint_where_one_is_meant(store: Store, tmp_path: Path) -> None:
    store.export("m")
    assert store.diff("m:1", "m@5").count("changed") == 0
    assert store.tag("m:1", "served").step == 5
    assert store.checkout("m:1", tmp_path / "out").checkpoint.tags == ("served",)


@pytest.mark.usefixtures("conversion")
def test_a_published_version_is_proven_with_its_deployment(store: Store, tmp_path: Path) -> None:
    made = store.export("m", to=tmp_path / "base", message="go")
    assert made.published == str(tmp_path / "base" / "1")
    version = only(store, tmp_path / "base")
    assert version.verdict == "proven"
    assert kinds(version) == []
    assert version.deployment is not None
    assert version.deployment.version == 1
    assert version.deployment.message == "go"
    assert version.statement is not None
    assert version.statement["id"] == store.list()[0].id
    assert store.deployments() == (version.deployment,)
    assert only(None, tmp_path / "base").verdict == "proven"


@pytest.mark.usefixtures("conversion")
def test_a_promotion_is_recorded_once(store: Store, tmp_path: Path) -> None:
    store.export("m")
    first = store.promote("m:1", tmp_path / "base", message="go")
    before = tree(tmp_path / "base" / "1")
    again = store.promote("m:1", tmp_path / "base")
    assert first.new
    assert not again.new
    assert tree(tmp_path / "base" / "1") == before
    assert len(store.deployments()) == 1
    assert store.promote("m:1", tmp_path / "other").new
    assert len(store.deployments("m")) == 2
    assert store.verify().clean
    with pytest.raises(UnknownReferenceError, match="a version is needed") as caught:
        store.promote("m@5", tmp_path / "base")
    assert caught.value.candidates == ("m:1",)


@pytest.mark.usefixtures("conversion")
def test_audits_and_promotions_meet_whatever_the_path_looks_like(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.export("m")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    store.promote("m:1", tmp_path / "link")
    monkeypatch.chdir(tmp_path)
    for path in (Path("real"), tmp_path / "link", Path("real/../link/1")):
        assert only(store, path).deployment is not None


@pytest.mark.usefixtures("conversion")
@pytest.mark.parametrize("name", ["saved_model.pb", DATA, INDEX, STATEMENT_PATH])
def test_a_changed_byte_of_a_published_version_names_the_file(
    store: Store, tmp_path: Path, name: str
) -> None:
    base = published(store, tmp_path)
    flip(base / "1" / name, (base / "1" / name).stat().st_size // 2)
    version = only(store, base)
    assert version.verdict == "modified"
    assert name in [f.subject for f in version.findings if f.kind == "modified-file"]
    assert version.checkpoint is not None
    assert version.checkpoint["step"] == 5
    assert only(None, base).verdict != "proven"


@pytest.mark.usefixtures("conversion")
def test_a_file_too_many_and_a_file_too_few_are_named(store: Store, tmp_path: Path) -> None:
    base = published(store, tmp_path)
    (base / "1" / "assets").mkdir()
    (base / "1" / "assets" / "new.txt").touch()
    version = only(store, base)
    assert version.verdict == "modified"
    assert [(f.kind, f.subject) for f in version.findings] == [("extra-file", "assets/new.txt")]
    (base / "1" / "assets" / "new.txt").unlink()
    (base / "1" / INDEX).unlink()
    version = only(store, base)
    assert version.verdict == "modified"
    assert INDEX in [f.subject for f in version.findings if f.kind == "missing-file"]


@pytest.mark.usefixtures("conversion")
def test_a_version_without_its_statement_is_still_proven(store: Store, tmp_path: Path) -> None:
    base = published(store, tmp_path)
    (base / "1" / STATEMENT_PATH).unlink()
    version = only(store, base)
    assert version.verdict == "proven"
    assert kinds(version) == ["no-statement"]
    moved = copy(base / "1", tmp_path / "elsewhere" / "77")
    assert only(store, moved).verdict == "proven"


@pytest.mark.usefixtures("conversion")
def test_a_copy_elsewhere_is_proven_and_no_deployment(store: Store, tmp_path: Path) -> None:
    base = published(store, tmp_path)
    moved = copy(base / "1", tmp_path / "elsewhere" / "model")
    version = only(store, moved)
    assert version.verdict == "proven"
    assert version.deployment is None
    assert kinds(version) == []
    flip(moved / "saved_model.pb", 40)
    version = only(store, moved)
    assert version.verdict == "modified"
    assert "saved_model.pb" in [f.subject for f in version.findings if f.kind == "modified-file"]


@pytest.mark.usefixtures("conversion")
def test_an_audit_of_a_published_version_changes_nothing(store: Store, tmp_path: Path) -> None:
    base = published(store, tmp_path)
    before = tree(base), tree(store.path / "packs"), store.log()
    store.audit(base)
    assert (tree(base), tree(store.path / "packs"), store.log()) == before


def test_another_checkpoint_in_the_place_of_a_version_is_seen(
    store: Store, conversion: Conversion, tmp_path: Path
) -> None:
    base = published(store, tmp_path)
    other = {**conversion.values, "bias": floats(5.0, 6.0)}
    added(store, checkpoint(tmp_path / "run" / "ckpt-6", other))
    saved_model(base / "1", other)
    version = only(store, base)
    assert version.verdict == "modified"
    assert version.checkpoint is not None
    assert version.checkpoint["step"] == 6
    assert DATA in [f.subject for f in version.findings if f.kind == "modified-file"]


def test_what_was_exported_without_a_source_is_proven_as_exported(
    store: Store, conversion: Conversion, tmp_path: Path
) -> None:
    conversion.extra = {"seed": floats(4.0)}
    with pytest.raises(ProofError) as caught:
        store.export("m", to=tmp_path / "base")
    assert len(caught.value.subjects) == 1
    assert not (tmp_path / "base").exists()
    store.export("m", to=tmp_path / "base", allow_unrestored=["program/seed"])
    version = only(store, tmp_path / "base")
    assert version.verdict == "proven"
    assert kinds(version) == ["as-exported"]
    assert version.findings[0].subject == "program/seed"
    flip(tmp_path / "base" / "1" / DATA, 50)
    version = only(store, tmp_path / "base")
    assert version.verdict == "modified"


def test_weights_that_differ_are_never_a_version(
    store: Store, conversion: Conversion, tmp_path: Path
) -> None:
    conversion.values = {**conversion.values, "bias": floats(1.0, 2.5)}
    with pytest.raises(ProofError):
        store.export("m", to=tmp_path / "base")
    assert store.versions() == ()
    assert len(packs(store)) == 1


@pytest.mark.usefixtures("conversion")
def test_what_the_loader_refuses_is_never_a_version(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise LoadCheckError("it does not load")

    monkeypatch.setattr(conversion_module, "check", refuse)
    with pytest.raises(LoadCheckError):
        store.export("m", to=tmp_path / "base")
    assert store.versions() == ()
    monkeypatch.undo()


def test_a_proof_that_claims_too_much_is_caught_when_it_is_stored(
    store: Store, conversion: Conversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversion.values = {**conversion.values, "bias": floats(9.0, 9.0)}

    def claim(*_: object, **__: object) -> list[ProvenVariable]:
        return [ProvenVariable(key(n), key(n), n, len(v.raw)) for n, v in conversion.values.items()]

    monkeypatch.setattr(conversion_module, "prove", claim)
    with pytest.raises(Exception, match="differ from the export"):
        store.export("m")
    assert store.versions() == ()


def test_assets_travel_with_a_version(store: Store, conversion: Conversion, tmp_path: Path) -> None:
    conversion.files = {"assets/words.txt": b"a\nb\n", "assets/deep/empty": b""}
    base = published(store, tmp_path)
    assert (base / "1" / "assets" / "words.txt").read_bytes() == b"a\nb\n"
    assert (base / "1" / "assets" / "deep" / "empty").read_bytes() == b""
    assert only(store, base).verdict == "proven"


@pytest.mark.usefixtures("conversion")
def test_the_number_is_above_everything_in_the_base_path(store: Store, tmp_path: Path) -> None:
    for name in ("7", "0012", "v99", "x"):
        (tmp_path / "base" / name).mkdir(parents=True)
    made = store.export("m", to=tmp_path / "base")
    assert made.version == 13
    assert store.export("m").version == 14


@pytest.mark.usefixtures("conversion")
def test_a_number_is_never_given_to_other_content(store: Store, tmp_path: Path) -> None:
    store.export("m")
    (tmp_path / "base" / "1").mkdir(parents=True)
    with pytest.raises(ConflictError, match="already has '1'"):
        store.promote("m:1", tmp_path / "base")
    assert store.deployments() == ()
    assert list((tmp_path / "base").iterdir()) == [tmp_path / "base" / "1"]


@pytest.mark.usefixtures("conversion")
def test_the_highest_number_there_can_be_is_not_passed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "base" / str(2**63 - 1)).mkdir(parents=True)
    with pytest.raises(ConflictError, match="highest"):
        store.export("m", to=tmp_path / "base")
    assert store.versions() == ()


@pytest.mark.usefixtures("conversion")
def test_a_promoted_version_can_be_read_by_a_server_of_another_user(
    store: Store, tmp_path: Path
) -> None:
    old = os.umask(0o077)
    try:
        base = published(store, tmp_path)
    finally:
        os.umask(old)
    for path in [base / "1", *(base / "1").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


def test_without_a_builder_the_next_step_is_named(store: Store, tmp_path: Path) -> None:
    added(store, checkpoint(tmp_path / "ckpt-1"))
    with pytest.raises(InputError, match="no builder") as caught:
        store.export("m")
    assert "--builder" in caught.value.hint


@pytest.mark.usefixtures("conversion")
def test_versions_are_read_back_as_they_were_written(store: Store) -> None:
    made = store.export("m")
    shown = store.show("m:1")
    assert isinstance(shown, Version)
    assert shown == made
    assert shown.to_json() == made.to_json()
    assert shown.signatures["serving_default"].inputs["x"].shape == (None, 4)


def table(*pairs: tuple[int, float]) -> dict[bytes, Value]:
    """Return a hash table as TensorFlow saves it, in the order of its buckets."""
    stem = b"words/.ATTRIBUTES/table"
    keys = struct.pack(f"<{len(pairs)}q", *(pair[0] for pair in pairs))
    values = struct.pack(f"<{len(pairs)}f", *(pair[1] for pair in pairs))
    return {
        stem + b"-keys": Value(INT64, (len(pairs),), keys),
        stem + b"-values": Value(FLOAT32, (len(pairs),), values),
    }


def test_a_hash_table_in_another_order_is_proven_as_exported(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = table((1, 0.5), (2, 1.5), (3, 2.5)), table((3, 2.5), (1, 0.5), (2, 1.5))
    weight = {key("kernel"): floats(1.0, 2.0)}
    prefix = write_bundle(tmp_path / "ckpt-5", {**weight, **one})
    added(store, prefix, builder="a.b:c")

    def trace(request: TraceRequest, *, timeout: float | None = None) -> TraceResult:
        del timeout
        saved_model(request.output, {"kernel": floats(1.0, 2.0)})
        write_bundle(request.output / "variables" / "variables", {**weight, **other})
        return TraceResult(sources={name: name for name in {**weight, **other}})

    monkeypatch.setattr(conversion_module, "trace", trace)
    monkeypatch.setattr(conversion_module, "check", lambda *_, **__: {})
    monkeypatch.setattr(conversion_module, "describe", describe)
    monkeypatch.setattr(conversion_module, "learn", lambda *_, **__: None)
    store.export("m", to=tmp_path / "base")
    version = only(store, tmp_path / "base")
    assert version.verdict == "proven"
    assert set(kinds(version)) == {"as-exported"}
    assert store.verify().clean
