"""Checkpoints of TensorFlow 1 with their graphs become SavedModels that give the same outputs."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mstore.convert.check import check
from mstore.convert.meta_graph import trace_meta_graph
from mstore.convert.meta_request import MetaGraphRequest
from mstore.convert.proof import prove
from mstore.convert.request import TraceResult
from mstore.convert.restore_plan import refuse_unrestored
from mstore.domain.tensors import Tensor
from mstore.errors import DamagedFileError, Error, InputError, ProofError
from mstore.formats.open import read_layout
from mstore.formats.saved_model import read_saved_model
from mstore.store import Store
from tests.tf.cells import record
from tests.tf.graphs import V1, V2, WORDS, Live, example, save, text_graph, train

v1 = tf.compat.v1

INPUTS = {"words": "words:0", "numbers": "numbers:0"}
LIMIT = 180.0


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "words.txt"
    path.write_text("\n".join(WORDS) + "\n")
    return path


class Trained:
    """A graph trained once, saved in both formats."""

    def __init__(self, directory: Path, vocabulary: Path, *, resource: bool, flag: str) -> None:
        graph = tf.Graph()
        with graph.as_default():
            v1.set_random_seed(7)
            self.outputs = text_graph(vocabulary, resource=resource, flag=flag)
            self.session = v1.Session(graph=graph)
            train(self.session)
            self.v2 = save(self.session, directory / "v2" / "model.ckpt", V2)
            self.v1 = save(self.session, directory / "v1" / "model.ckpt", V1)
            self.sharded = save(self.session, directory / "sharded" / "m", V1, sharded=True)

    def live(self, prefix: Path) -> Live:
        return Live(prefix, self.session)


@pytest.fixture(scope="module", params=["reference", "resource"])
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, vocabulary: Path
) -> Iterator[Trained]:
    resource = request.param == "resource"
    directory = tmp_path_factory.mktemp(request.param)
    trained = Trained(directory, vocabulary, resource=resource, flag="default")
    yield trained
    trained.session.close()


@pytest.fixture(scope="module")
def flagged(tmp_path_factory: pytest.TempPathFactory, vocabulary: Path) -> Iterator[Trained]:
    trained = Trained(
        tmp_path_factory.mktemp("flagged"), vocabulary, resource=False, flag="required"
    )
    yield trained
    trained.session.close()


class Files:
    """The tensors of a checkpoint, straight from its files."""

    def __init__(self, prefix: Path, scratch: Path) -> None:
        self.layout = read_layout(prefix)
        self.table = self.layout.table
        self.decoded = scratch / f"{prefix.name}.decoded"
        with ExitStack() as stack, self.decoded.open("wb") as out:
            opened = {
                suffix: stack.enter_context(self.layout.path(suffix).open("rb", buffering=0))
                for suffix in self.layout.files
            }
            if self.layout.decode is not None:
                self.layout.decode(opened, out)

    def pieces(self, tensor: Tensor) -> Iterator[bytes]:
        suffix = self.table.files[tensor.shard]
        path = self.layout.path(suffix) if suffix in self.layout.files else self.decoded
        yield path.read_bytes()[tensor.offset : tensor.offset + tensor.size]


def export(prefix: Path, output: Path, **options: Any) -> TraceResult:
    options.setdefault("inputs", INPUTS)
    result = trace_meta_graph(MetaGraphRequest(prefix, output, **options), timeout=LIMIT)
    refuse_unrestored(output)
    return result


def serve(saved_model: Path, feeds: dict[str, Any], result: TraceResult) -> dict[str, Any]:
    signatures = read_saved_model(saved_model).signatures
    check(saved_model, signatures, dims=result.dims, samples=result.samples, timeout=LIMIT)
    found = check(saved_model, signatures, feeds={"serving_default": feeds}, timeout=LIMIT)
    return found["serving_default"]


def same(expected: dict[str, Any], got: dict[str, Any]) -> None:
    assert set(expected) == set(got)
    for key, value in expected.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(got[key], value, rtol=0, atol=1e-6)
        else:
            assert got[key].tolist() == value.tolist()


FORMS = {"v2": "TF1 V2 + .meta", "v1": "TF1 V1 + .meta"}


@pytest.mark.parametrize("form", ["v2", "v1", "sharded"])
def test_the_loader_gives_what_the_session_gave(
    trained: Trained, form: str, tmp_path: Path
) -> None:
    prefix = getattr(trained, form)
    result = export(prefix, tmp_path / "out", outputs=trained.outputs)
    assert result.warnings == ()
    assert set(result.samples) == {"serving_default"}
    worst = 0.0
    for batch in (1, 3):
        feeds = example(batch)
        expected = trained.session.run(
            trained.outputs, {INPUTS[key]: value for key, value in feeds.items()}
        )
        got = serve(tmp_path / "out", feeds, result)
        same(expected, got)
        floats = [key for key, value in expected.items() if value.dtype.kind == "f"]
        worst = max(worst, *(float(np.abs(got[key] - expected[key]).max()) for key in floats))
    if form in FORMS:
        record(
            "graph_with_slices_and_table",
            FORMS[form],
            f"proven, {worst:.0e}" if worst else "proven, 0",
        )


def test_only_what_the_outputs_need_is_exported_under_its_name(
    trained: Trained, tmp_path: Path
) -> None:
    result = export(trained.v2, tmp_path / "out", outputs=trained.outputs)
    assert all(key == source for key, source in result.sources.items())
    info = read_saved_model(tmp_path / "out")
    assert info.variables is not None
    assert {tensor.key for tensor in info.variables.values} == set(result.sources)
    assert sorted(name.partition("/part_")[0] for name in result.names.values()) == [
        *["embedding"] * 3,
        "hidden/bias",
        "hidden/kernel",
        "logits/bias",
        "logits/kernel",
        "norm/moving_mean",
        "norm/scale",
    ]
    assert info.assets == ("words.txt",)
    assert (tmp_path / "out" / "assets" / "words.txt").read_text().split() == list(WORDS)
    assert not any(op.startswith(("Apply", "ResourceApply", "ScalarSummary")) for op in info.ops)
    graph = (tmp_path / "out" / "saved_model.pb").read_bytes()
    assert str(trained.v2.parent).encode() not in graph
    assert b"/words.txt" not in graph


@pytest.mark.parametrize("form", ["v2", "v1"])
def test_every_variable_is_proven_slice_by_slice(
    trained: Trained, form: str, tmp_path: Path
) -> None:
    from mstore.ops.checksums import CrcCollector  # noqa: PLC0415, F401

    prefix = getattr(trained, form)
    result = export(prefix, tmp_path / "out", outputs={"best": "best:0"})
    files = Files(trained.v2, tmp_path)
    proven = prove(files, tmp_path / "out", result.sources, names=result.names, traced=False)
    assert len(proven) == len(result.sources) == 9


def test_the_same_export_twice_is_the_same_to_the_byte(trained: Trained, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export(trained.v2, tmp_path / name, outputs=trained.outputs)
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file() and path.name != "fingerprint.pb":
            assert (
                path.read_bytes()
                == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
            )


def test_a_tensor_inside_the_graph_may_be_an_input(trained: Trained, tmp_path: Path) -> None:
    ids = trained.outputs["ids"]
    inputs = {"ids": ids, "numbers": "numbers:0"}
    result = export(trained.v2, tmp_path / "out", inputs=inputs, outputs={"best": "best:0"})
    feeds = {"ids": np.array([[1, 2, 5]], np.int64), "numbers": np.ones((1, 4), np.float32)}
    expected = trained.session.run(
        {"best": "best:0"}, {inputs[key]: value for key, value in feeds.items()}
    )
    same(expected, serve(tmp_path / "out", feeds, result))
    assert read_saved_model(tmp_path / "out").assets == ()


def test_the_signatures_of_the_graph_are_used_where_it_has_some(
    trained: Trained, tmp_path: Path
) -> None:
    graph = trained.session.graph
    with graph.as_default():
        signature = v1.saved_model.predict_signature_def(
            {
                "numbers": graph.get_tensor_by_name("numbers:0"),
                "words": graph.get_tensor_by_name("words:0"),
            },
            {"scores": graph.get_tensor_by_name("scores:0")},
        )
        prefix = tmp_path / "in" / "model"
        prefix.parent.mkdir()
        v1.train.Saver().save(trained.session, str(prefix), write_meta_graph=False)
        meta = v1.train.export_meta_graph(graph=graph)
        meta.signature_def["classify"].CopyFrom(signature)
        Path(f"{prefix}.meta").write_bytes(meta.SerializeToString())
    result = export(prefix, tmp_path / "out", inputs={})
    assert set(read_saved_model(tmp_path / "out").signatures) == {"classify", "serving_default"}
    feeds = example()
    expected = trained.session.run(
        {"scores": "scores:0"}, {INPUTS[key]: value for key, value in feeds.items()}
    )
    same(expected, serve(tmp_path / "out", feeds, result))


class TestPlaceholderThatMustBeFed:
    def test_it_is_named_with_both_cures(self, flagged: Trained, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="placeholder 'is_training'") as caught:
            export(flagged.v2, tmp_path / "out", outputs={"best": "best:0"})
        assert "--input is_training=is_training:0" in caught.value.hint
        assert "--input is_training:0=false" in caught.value.hint

    def test_its_value_can_be_fixed(self, flagged: Trained, tmp_path: Path) -> None:
        result = export(
            flagged.v2,
            tmp_path / "out",
            outputs=flagged.outputs,
            constants={"is_training:0": "false"},
        )
        assert set(read_saved_model(tmp_path / "out").signatures["serving_default"].inputs) == {
            "words",
            "numbers",
        }
        feeds = example()
        named = {INPUTS[key]: value for key, value in feeds.items()}
        expected = flagged.session.run(flagged.outputs, named | {"is_training:0": False})
        same(expected, serve(tmp_path / "out", feeds, result))

    def test_it_can_be_an_input(self, flagged: Trained, tmp_path: Path) -> None:
        inputs = INPUTS | {"flag": "is_training:0"}
        result = export(flagged.v2, tmp_path / "out", inputs=inputs, outputs=flagged.outputs)
        feeds = example() | {"flag": np.array(True)}
        expected = flagged.session.run(
            flagged.outputs, {inputs[key]: value for key, value in feeds.items()}
        )
        same(expected, serve(tmp_path / "out", feeds, result))

    @pytest.mark.parametrize(
        ("constants", "words"),
        [({"is_training:0": "maybe"}, "no bool"), ({"numbers:0": "1"}, "fixed value")],
    )
    def test_values_that_do_not_fit_are_refused(
        self, flagged: Trained, tmp_path: Path, constants: dict[str, str], words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            export(
                flagged.v2,
                tmp_path / "out",
                outputs={"best": "best:0"},
                constants={"is_training:0": "false"} | constants,
            )


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        ({"outputs": {"y": "scorse:0"}}, "no tensor 'scorse:0'", "scores:0"),
        ({"inputs": {"x": "wrods:0"}, "outputs": {"y": "best:0"}}, "'wrods:0'", "words:0"),
        ({"outputs": {"y": "best:7"}}, "best:7", ""),
        ({"inputs": {"w": "words:0"}, "outputs": {"y": "best:0"}}, "'numbers'", "numbers:0"),
        ({"inputs": {}, "outputs": {}}, "no signatures", "--output"),
        ({"outputs": {"y": "train:0"}}, "change variables", "inference"),
        (
            {"inputs": INPUTS | {"again": "words:0"}, "outputs": {"y": "best:0"}},
            "under two names",
            "",
        ),
    ],
)
def test_wrong_tensors_are_named(
    flagged: Trained, tmp_path: Path, options: dict[str, Any], words: str, hint: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        export(flagged.v2, tmp_path / "out", constants={"is_training:0": "false"}, **options)
    assert hint in caught.value.hint


def test_outputs_without_variables_are_refused(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ProofError, match="no variables"):
        export(trained.v2, tmp_path / "out", outputs={"ids": trained.outputs["ids"]})


def copied(prefix: Path, directory: Path) -> Path:
    directory.mkdir()
    for path in prefix.parent.glob(f"{prefix.name}.*"):
        (directory / path.name).write_bytes(path.read_bytes())
    return directory / prefix.name


def small(directory: Path, shape: tuple[int, int], name: str = "w", version: int = V2) -> Path:
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, shape[0]], name="words")
        w = v1.get_variable(name, shape, use_resource=False)
        tf.identity(tf.matmul(x, w), name="best")
        session.run(v1.global_variables_initializer())
        directory.mkdir(parents=True, exist_ok=True)
        return Path(v1.train.Saver(write_version=version).save(session, str(directory / "m")))


@pytest.mark.parametrize(
    ("shape", "name", "words"),
    [
        ((3, 2), "w", r"w is float32\[3, 2\], and the checkpoint has float32\[4, 2\]"),
        ((4, 2), "other", "other is not in the checkpoint"),
    ],
)
def test_the_graph_of_another_model_is_refused(
    tmp_path: Path, shape: tuple[int, int], name: str, words: str
) -> None:
    prefix = small(tmp_path / "mine", (4, 2))
    other = small(tmp_path / "other", shape, name)
    Path(f"{prefix}.meta").write_bytes(Path(f"{other}.meta").read_bytes())
    with pytest.raises(ProofError, match=words):
        export(prefix, tmp_path / "out", inputs={"x": "words:0"}, outputs={"y": "best:0"})


def test_a_variable_that_training_did_not_save_is_named(tmp_path: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        kept = v1.get_variable("kept", [2], use_resource=False)
        lost = v1.get_variable("lost", [2], use_resource=False)
        tf.identity(x * kept + lost, name="y")
        session.run(v1.global_variables_initializer())
        prefix = Path(v1.train.Saver([kept]).save(session, str(tmp_path / "m")))
    with pytest.raises(ProofError, match="did not save") as caught:
        export(prefix, tmp_path / "out", inputs={"x": "x:0"}, outputs={"y": "y:0"})
    assert caught.value.subjects == ("lost",)


def test_averages_that_the_saver_restores_are_what_is_exported(tmp_path: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        w = v1.get_variable("w", [2], use_resource=False)
        y = tf.identity(x * w, name="y")
        session.run(v1.global_variables_initializer())
        prefix = Path(v1.train.Saver({"average/w": w}).save(session, str(tmp_path / "m")))
        expected = session.run({"y": y}, {x: [[1.0, 2.0]]})
    result = export(prefix, tmp_path / "out", inputs={"x": "x:0"}, outputs={"y": "y:0"})
    assert dict(result.sources) == {b"average/w": b"average/w"}
    same(expected, serve(tmp_path / "out", {"x": np.array([[1, 2]], np.float32)}, result))


def test_a_damaged_graph_is_an_error_in_words(trained: Trained, tmp_path: Path) -> None:
    prefix = copied(trained.v2, tmp_path / "in")
    meta = Path(f"{prefix}.meta")
    meta.write_bytes(meta.read_bytes()[:-1000])
    with pytest.raises(DamagedFileError, match=r"\.meta is damaged"):
        export(prefix, tmp_path / "out", outputs=trained.outputs)


def test_ops_that_tensorflow_does_not_have_are_an_error_in_words(tmp_path: Path) -> None:
    prefix = small(tmp_path / "in", (4, 2))
    meta = Path(f"{prefix}.meta")
    meta.write_bytes(meta.read_bytes().replace(b"MatMul", b"MatMu1"))
    with pytest.raises(InputError, match="cannot use the graph") as caught:
        export(prefix, tmp_path / "out", inputs={"x": "words:0"}, outputs={"y": "best:0"})
    assert "--builder" in caught.value.hint


def test_the_input_pipeline_of_an_estimator_is_replaced_by_inputs(tmp_path: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        data = tf.data.Dataset.from_tensors(np.ones((5, 2), np.float32)).repeat()
        x = v1.data.make_one_shot_iterator(data).get_next()
        w = v1.get_variable("w", [2, 3])
        tf.identity(tf.matmul(x, w), name="y")
        session.run(v1.global_variables_initializer())
        prefix = Path(v1.train.Saver().save(session, str(tmp_path / "model.ckpt"), 1200))
        (tmp_path / "graph.pbtxt").write_text("node {}")
        (tmp_path / "eval").mkdir()
        weights = session.run(w)
    with pytest.raises(InputError, match="input pipeline") as caught:
        export(prefix, tmp_path / "out", inputs={}, outputs={"y": "y:0"})
    assert "IteratorGetNext:0" in caught.value.hint
    inputs = {"x": "IteratorGetNext:0"}
    result = export(prefix, tmp_path / "out", inputs=inputs, outputs={"y": "y:0"})
    got = serve(tmp_path / "out", {"x": np.ones((5, 2), np.float32)}, result)
    np.testing.assert_allclose(got["y"], np.ones((5, 2)) @ weights, atol=1e-6)


def test_a_vocabulary_that_was_moved_is_found_or_named(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    (gone / "words.txt").write_text("\n".join(WORDS) + "\n")
    made = Trained(tmp_path / "in", gone / "words.txt", resource=False, flag="default")
    made.session.close()
    (gone / "words.txt").rename(tmp_path / "words.txt")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    options: dict[str, Any] = {"outputs": made.outputs, "search_path": elsewhere}
    with pytest.raises(InputError, match=r"needs the file .*words\.txt") as caught:
        export(made.v2, tmp_path / "a", **options)
    assert str(elsewhere) in caught.value.hint
    export(made.v2, tmp_path / "b", **options | {"search_path": tmp_path})
    assert (tmp_path / "b" / "assets" / "words.txt").is_file()


def test_from_the_store_to_a_published_version(trained: Trained, tmp_path: Path) -> None:
    with Store.init(tmp_path / "work") as store:
        store.add(trained.v1, model="old")
        version = store.export("old", inputs=INPUTS, outputs=trained.outputs, to=tmp_path / "serve")
        assert version.checks["weights"] == "proven"
        assert version.tensors == 9
        report = store.audit(tmp_path / "serve")
        assert report.proven
        with pytest.raises(Error, match="no signatures"):
            store.export("old")
