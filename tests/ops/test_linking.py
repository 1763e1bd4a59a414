"""Versions that are linked with a recorded program; a stand-in writes what TensorFlow would."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mstore.catalog.engine import writing
from mstore.catalog.programs import insert_program
from mstore.convert.request import TraceRequest, TraceResult
from mstore.domain.programs import Program
from mstore.domain.records import Version
from mstore.errors import (
    AmbiguousReferenceError,
    DamagedStoreError,
    InputError,
    LintError,
    UnknownReferenceError,
    UsageError,
)
from mstore.formats.farmhash import fingerprint64
from mstore.ops import conversion as conversion_module
from mstore.ops import learning as learning_module
from mstore.ops import relinking as relinking_module
from mstore.store import Store
from tests.formats.bundle_writer import Value, number, write_bundle
from tests.ops.making import (
    DATA,
    GRAPH_KEY,
    INDEX,
    added,
    blob,
    flip,
    floats,
    integer,
    key,
    pack_bytes,
    packs,
    saved_model_pb,
    with_graph,
)

SERVED = ("bias", "kernel")


def values(seed: int) -> dict[str, Value]:
    """Return what training at that step holds; the kernel is large."""
    return {
        "bias": floats(seed, 2.0),
        "kernel": blob(seed, 200_000),
        "momentum": floats(seed * 3.0),
        "step": integer(seed),
    }


@dataclass
class Training:
    """A store, what training writes, and the stand-in for the conversion."""

    store: Store
    directory: Path
    reason: str | None = None
    traced: list[Path] = field(default_factory=list)
    learned: int = 0

    def add(self, step: int, tensors: Mapping[str, Value] | None = None, **options: str) -> None:
        tensors = values(step) if tensors is None else tensors
        prefix = self.directory / f"run-{step}" / f"ckpt-{step}"
        added(self.store, write_bundle(prefix, with_graph(tensors)), **options)

    def builder(self, text: str = "", name: str = "build") -> str:
        file = self.directory / "model.py"
        file.write_text(f"def {name}(): '{text}'\n")
        return f"{file}:{name}"

    def trace(self, request: TraceRequest, *, timeout: float | None = None) -> TraceResult:
        del timeout
        self.traced.append(request.checkpoint)
        step = int(request.checkpoint.name.partition("-")[2])
        served = {name: values(step)[name] for name in SERVED}
        tensors = with_graph(served)
        tensors[GRAPH_KEY] = with_graph(dict.fromkeys(SERVED, floats(0)))[GRAPH_KEY]
        write_bundle(request.output / "variables" / "variables", tensors)
        index = (request.output / INDEX).read_bytes()
        (request.output / "saved_model.pb").write_bytes(saved_model_pb(sorted(SERVED)))
        fields = b"".join(number(n, 77 * n) for n in (1, 2, 3, 4))
        fields += number(5, fingerprint64(index)) + b"\x32\x02\x08\x04" + b"\x3a\x0212"
        (request.output / "fingerprint.pb").write_bytes(fields)
        return TraceResult(
            {key(name): key(name) for name in SERVED},
            root="model",
            environment={"tensorflow": "2.21.0"},
            warnings=("one thing",),
        )

    def judge(self, *_: object, **__: object) -> str | None:
        self.learned += 1
        return self.reason


@pytest.fixture
def training(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Training:
    made = Training(store, tmp_path)
    monkeypatch.setattr(conversion_module, "trace", made.trace)
    monkeypatch.setattr(conversion_module, "check", lambda *_, **__: {})
    monkeypatch.setattr(relinking_module, "has_tensorflow", lambda: False)
    monkeypatch.setattr(learning_module, "why_not_linkable", made.judge)
    for step in (5, 6):
        made.add(step)
    return made


def files(version: Version) -> dict[str, tuple[int, str]]:
    return {file.path: (file.size, file.sha256) for file in version.files}


def test_the_second_checkpoint_is_linked_and_equals_its_trace(training: Training) -> None:
    store, builder = training.store, training.builder()
    first = store.export("m@5", builder=builder)
    linked = store.export("m@6", builder=builder)
    traced = store.export("m@6", builder=builder, trace=True)
    assert [version.method for version in (first, linked, traced)] == ["trace", "link", "trace"]
    assert files(linked) == files(traced)
    assert files(linked)[DATA] != files(first)[DATA]
    assert linked.digest == traced.digest
    assert linked.program == first.program
    assert linked.checks == {"weights": "proven", "load": "skipped", "parity": "skipped"}
    assert (linked.warnings, linked.environment) == (traced.warnings, traced.environment)
    assert len(training.traced) == 2
    assert training.learned == 1
    assert store.verify().clean


def test_a_linked_version_is_published_and_audited(training: Training, tmp_path: Path) -> None:
    store = training.store
    store.export("m@5", builder=training.builder())
    version = store.export("m@6", to=tmp_path / "base")
    (found,) = store.audit(tmp_path / "base").versions
    assert found.verdict == "proven"
    assert found.checkpoint is not None
    assert found.checkpoint["id"] == version.checkpoint
    assert (tmp_path / "base" / "2" / DATA).stat().st_size > 800_000


def test_linking_stores_no_tensor_again(training: Training) -> None:
    training.store.export("m@5", builder=training.builder())
    before = pack_bytes(training.store)
    training.store.export("m@6")
    assert pack_bytes(training.store) - before < 12_000


def test_the_builder_need_not_be_there_any_more(training: Training) -> None:
    builder = training.builder()
    training.add(7, builder=builder)
    training.store.export("m@5", builder=builder)
    Path(builder.partition(":")[0]).unlink()
    assert training.store.export("m@6").method == "link"
    assert training.store.export("m@7").method == "link"


def test_other_code_is_traced_again(training: Training) -> None:
    store = training.store
    store.export("m@5", builder=training.builder())
    assert store.export("m@6", builder=training.builder("changed")).method == "trace"
    assert store.export("m@5", builder=training.builder("changed")).method == "link"
    assert store.export("m@5", builder=training.builder(name="other")).method == "trace"
    assert training.learned == 3


def test_other_arguments_are_traced_again(training: Training) -> None:
    store, builder = training.store, training.builder()
    store.export("m@5", builder=builder)
    assert store.export("m@5", builder=builder, builder_args={"units": "3"}).method == "trace"
    assert store.export("m@6", builder=builder, builder_args={"units": "3"}).method == "link"
    assert store.export("m@6", builder=builder).method == "link"


def test_averages_are_linked_only_where_they_are_asked_for(training: Training) -> None:
    store, builder = training.store, training.builder()
    assert store.export("m@5", builder=builder, weights="ema").method == "trace"
    assert store.export("m@6", builder=builder, weights="ema").method == "link"
    assert store.export("m@6", builder=builder).method == "trace"
    assert store.export("m@6", builder=builder, weights="raw").method == "trace"
    Path(builder.partition(":")[0]).unlink()
    for weights in ("ema", "raw", None):
        version = store.export("m@5", weights=weights)
        assert (version.method, version.program) == ("link", store.programs()[0].id)


def test_without_a_builder_nothing_is_guessed_about_averages(training: Training) -> None:
    store = training.store
    program = store.export("m@5", builder=training.builder(), weights="ema").program
    for weights in ("raw", None):
        with pytest.raises(UsageError, match="made with --weights ema"):
            store.export("m@6", weights=weights)
    with pytest.raises(UsageError, match="made with --weights ema"):
        store.export("m@6", program=program, weights="raw")
    assert store.export("m@6", program=program).method == "link"
    assert store.export("m@6", weights="ema").method == "link"


def test_what_a_server_could_not_serve_is_not_linked(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = training.trace

    def with_script(request: TraceRequest, **options: float | None) -> TraceResult:
        result = plain(request, **options)
        (request.output / "saved_model.pb").write_bytes(saved_model_pb(sorted(SERVED), "PyFunc"))
        return result

    monkeypatch.setattr(conversion_module, "trace", with_script)
    store = training.store
    kinds = ["python-op"]
    store.export("m@5", builder=training.builder(), allow_lint=kinds)
    with pytest.raises(LintError) as caught:
        store.export("m@6")
    assert "python-op" in caught.value.message
    version = store.export("m@6", allow_lint=kinds)
    assert version.method == "link"
    assert any("PyFunc" in text for text in version.warnings)


def test_a_checkpoint_of_another_format_is_not_linked(training: Training, tmp_path: Path) -> None:
    store = training.store
    program = store.export("m@5", builder=training.builder()).program
    tensors = {name.encode(): value for name, value in values(9).items()}
    found = added(store, write_bundle(tmp_path / "old" / "ckpt-9", tensors))
    assert found.format == "tf1-bundle"
    with pytest.raises(UsageError, match="tf1-bundle is not linked"):
        store.export("m@9", program=program)


def test_a_file_that_the_model_was_made_from_must_be_the_same(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = training.directory / "words.txt"
    words.write_text("one\n")
    plain = training.trace

    def with_file(request: TraceRequest, **options: float | None) -> TraceResult:
        result = plain(request, **options)
        digest = hashlib.sha256(words.read_bytes()).hexdigest()
        return TraceResult(result.sources, root="model", code={str(words): digest})

    monkeypatch.setattr(conversion_module, "trace", with_file)
    store, builder = training.store, training.builder()
    store.export("m@5", builder=builder)
    assert store.export("m@6", builder=builder).method == "link"
    words.write_text("two\n")
    assert store.export("m@6", builder=builder).method == "trace"
    words.unlink()
    assert store.export("m@6", builder=builder).method == "link"


def test_a_new_layer_is_named_and_the_builder_asked_for(training: Training) -> None:
    training.store.export("m@5", builder=training.builder())
    tensors = {**values(8), "extra": floats(1.0, 2.0, 3.0), "bias": floats(1.0, 2.0, 3.0)}
    del tensors["momentum"]
    training.add(8, tensors)
    with pytest.raises(InputError) as caught:
        training.store.export("m@8")
    message = caught.value.message
    assert "program/extra float32[3] is new" in message
    assert "program/bias float32[3] was program/bias float32[2]" in message
    assert "program/momentum float32[1] is gone" in message
    assert "--builder" in caught.value.hint
    assert len(training.store.versions("m")) == 1


def test_a_program_that_is_not_linkable_is_traced_each_time(training: Training) -> None:
    training.reason = "the graph depends on values of the checkpoint"
    store, builder = training.store, training.builder()
    methods = [store.export(f"m@{step}", builder=builder).method for step in (5, 6)]
    assert methods == ["trace", "trace"]
    assert training.learned == 1
    (program,) = store.programs("m")
    assert (program.linkable, program.reason) == (False, training.reason)
    with pytest.raises(InputError, match="depends on values"):
        store.export("m@6")
    with pytest.raises(UsageError, match="depends on values"):
        store.export("m@6", program=program.id[:8])
    assert store.verify().clean


def test_a_layout_that_is_not_understood_is_not_linkable(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning_module, "encode_index", lambda _: b"another index")
    training.store.export("m@5", builder=training.builder())
    (program,) = training.store.programs()
    assert program.reason is not None
    assert "laid out" in program.reason


def test_programs_are_named_listed_and_shown(training: Training) -> None:
    store = training.store
    version = store.export("m@5", builder=training.builder())
    (program,) = store.programs()
    assert isinstance(program, Program)
    assert program.id == version.program
    assert program.linkable
    assert program.signatures == version.signatures
    assert store.show(program.id[:10]) == program
    assert store.export("m@6", program=program.id[:6]).program == program.id
    with pytest.raises(UnknownReferenceError, match="no program"):
        store.export("m@6", program="0000000")


def test_two_programs_that_would_do_are_not_guessed_between(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = training.store
    store.export("m@5", builder=training.builder())
    plain = training.trace

    def other_graph(request: TraceRequest, **options: float | None) -> TraceResult:
        result = plain(request, **options)
        (request.output / "assets").mkdir()
        (request.output / "assets" / "words").write_text("one")
        return result

    monkeypatch.setattr(conversion_module, "trace", other_graph)
    store.export("m@5", builder=training.builder("changed"))
    newest, oldest = store.programs("m")
    with pytest.raises(UsageError, match="several programs") as caught:
        store.export("m@6")
    assert newest.id[:12] in caught.value.message
    assert "--program" in caught.value.hint
    assert store.export("m@6", program=oldest.id).program == oldest.id
    assert "assets/words" in files(store.export("m@6", program=newest.id))


def test_without_learning_nothing_is_recorded(training: Training) -> None:
    training.store.export("m@5", builder=training.builder(), learn=False)
    assert training.store.programs() == ()
    with pytest.raises(InputError, match="architecture"):
        training.store.export("m@6")


def test_damage_in_the_store_stops_a_link(training: Training) -> None:
    training.store.export("m@5", builder=training.builder())
    raw = values(6)["kernel"].raw
    assert isinstance(raw, bytes)
    (pack,) = [path for path in packs(training.store) if raw in path.read_bytes()]
    flip(pack, pack.read_bytes().index(raw) + 1000)
    with pytest.raises(DamagedStoreError):
        training.store.export("m@6")
    assert len(training.store.versions("m")) == 1


def test_a_hash_that_begins_a_program_and_a_checkpoint_is_ambiguous(training: Training) -> None:
    store = training.store
    store.export("m@5", builder=training.builder())
    (program,) = store.programs()
    found = store.list()[0]
    twin = replace(program, id=found.id[:20] + program.id[20:])
    with writing(store._context.engine) as connection:
        insert_program(connection, twin, builder="0" * 64, manifest=b"", record=b"")
    with pytest.raises(AmbiguousReferenceError):
        store.show(found.id[:8])
    assert store.show(found.id) == found
    assert store.show(program.id[:8]) == program
