"""What TensorFlow really saves, judged as TensorFlow Serving would."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from mstore.convert.check import check
from mstore.domain.lint import LintFinding, LintReport
from mstore.domain.lint_graph import Limits
from mstore.errors import LoadCheckError
from mstore.formats.saved_model import read_saved_model
from mstore.ops.lint import lint
from mstore.serving.known_ops import tensorflow_ops
from tests.formats.bundle_writer import message, number
from tests.tf.exporting import LIMIT, load

REFUSED = load("refused")


def save(directory: Path, module: Any, **options: Any) -> Path:
    """Save a module as version 1 below ``directory``."""
    path = directory / "1"
    tf.saved_model.save(module, str(path), signatures=module.f, **options)
    for place in (path, *path.rglob("*")):
        place.chmod(0o755 if place.is_dir() else 0o644)
    directory.chmod(0o755)
    return path


def found(report: LintReport) -> list[tuple[str, str]]:
    return [(item.severity, item.kind) for item in report.all]


def only(path: Path, **options: Any) -> LintFinding:
    (item,) = lint(path, **options).all
    assert item.detail
    assert item.cure
    return item


@pytest.mark.parametrize("name", ["clean", "unused_python"])
def test_a_sound_model_gives_no_finding(name: str, tmp_path: Path) -> None:
    path = save(tmp_path, getattr(REFUSED, name)())
    assert found(lint(path)) == []
    assert found(lint(tmp_path)) == []


@pytest.mark.parametrize(
    ("name", "severity", "kind", "subject", "words"),
    [
        ("python_code", "error", "python-op", "EagerPyFunc", "serving_default"),
        ("numpy_code", "error", "python-op", "PyFunc", "every request"),
        ("in_branches", "error", "python-op", "EagerPyFunc", "serving_default"),
        ("grouped", "error", "xla-op", "", "XLA"),
        ("compiled", "error", "xla-op", "", "jit_compile"),
        ("cudnn", "error", "gpu-only-op", "CudnnRNNV3", "graphics card"),
        ("bfloat16_head", "warning", "rest-dtype", "serving_default: y", "bfloat16"),
        ("half_input", "warning", "rest-dtype", "serving_default: x", "float16"),
        ("complex_output", "warning", "rest-dtype", "serving_default: y", "complex64"),
        ("fixed_batch", "warning", "fixed-batch", "serving_default: x", "fixed to 8"),
        ("scalar_output", "warning", "no-common-batch", "serving_default: mean", "scalar"),
        ("fixed_output", "warning", "no-common-batch", "serving_default: labels", "3 long"),
        ("scalar_input", "warning", "scalar-input", "serving_default: scale", "scalar"),
        ("writes_a_file", "warning", "file-write", "WriteFile", "'seen.bin'"),
        ("prints", "warning", "prints", "PrintV2", "log"),
        ("draws", "warning", "random-op", "random_normal", "RandomStandardNormal"),
        ("key_b64", "warning", "name-in-rest", "serving_default: b64", "b64"),
    ],
)
def test_each_rule_finds_what_it_is_for_and_nothing_else(
    name: str, severity: str, kind: str, subject: str, words: str, tmp_path: Path
) -> None:
    item = only(save(tmp_path, getattr(REFUSED, name)()))
    assert (item.severity, item.kind) == (severity, kind)
    assert subject in item.subject
    assert words in item.detail


@pytest.mark.parametrize("name", ["python_code", "numpy_code", "grouped", "compiled", "cudnn"])
def test_what_is_an_error_fails_in_the_cpp_loader_too(name: str, tmp_path: Path) -> None:
    path = save(tmp_path, getattr(REFUSED, name)())
    with pytest.raises(LoadCheckError):
        check(path, read_saved_model(path).signatures, timeout=LIMIT)


@pytest.mark.parametrize("name", ["reads_a_file", "lines_of_a_file", "table_of_a_local_file"])
def test_a_file_that_is_no_asset_is_named(name: str, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("red\nblue\n")
    item = only(save(tmp_path / "base", getattr(REFUSED, name)(str(words))))
    assert item.kind == ("table-file" if name.startswith("table") else "file-read")
    # Where a name goes through a dataset, it is lost sight of.
    assert (repr(str(words)) in item.detail) is not name.startswith("lines")


@pytest.mark.parametrize("name", ["reads_an_asset", "vocabulary_table"])
def test_a_file_that_is_an_asset_is_no_finding(name: str, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("red\nblue\n")
    path = save(tmp_path / "base", getattr(REFUSED, name)(str(words)))
    assert (path / "assets" / "words.txt").exists()
    assert found(lint(path)) == []


def test_a_file_that_the_request_names_is_told_from_others(tmp_path: Path) -> None:
    report = lint(save(tmp_path, REFUSED.reads_what_is_asked()))
    (item,) = [item for item in report.all if item.kind == "file-read"]
    assert "whatever file a request names" in item.detail


def test_constants_are_weighed_against_the_limit(tmp_path: Path) -> None:
    path = save(tmp_path, REFUSED.big_constant())
    assert found(lint(path)) == []
    assert found(lint(path, limits=Limits(constants=800_100))) == []
    item = only(path, limits=Limits(constants=799_900))
    assert item.kind == "big-constants"
    assert "Const" in item.subject
    item = only(path, limits=Limits(graph=800_000))
    assert item.kind == "big-graph"


def test_a_signature_without_inputs_is_told(tmp_path: Path) -> None:
    module = REFUSED.no_inputs()
    path = tmp_path / "1"
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.f, "g": module.g})
    kinds = {item.kind: item.subject for item in lint(path).all if item.kind != "unreadable-mode"}
    # Its output has the length of the weight, whatever is asked.
    assert kinds == {"no-inputs": "g", "no-common-batch": "g: y"}


def test_other_names_than_the_default_are_told(tmp_path: Path) -> None:
    module, bare = REFUSED.clean(), tf.Module()
    bare.w = tf.Variable(1.0)
    named, none = tmp_path / "1", tmp_path / "2"
    tf.saved_model.save(module, str(named), signatures={"classify": module.f})
    tf.saved_model.save(bare, str(none))
    assert ("warning", "no-default-signature") in found(lint(named))
    assert ("error", "no-signatures") in found(lint(none))


def test_further_tags_hide_the_graph_from_the_server(tmp_path: Path) -> None:
    options = tf.saved_model.SaveOptions(extra_tags=["prod"])
    item = only(save(tmp_path, REFUSED.clean(), options=options))
    assert (item.severity, item.kind) == ("error", "no-serve-tag")
    assert "{prod, serve}" in item.detail


def test_a_graph_without_a_saver_is_told(tmp_path: Path) -> None:
    options = tf.saved_model.SaveOptions(experimental_skip_saver=True)
    path = save(tmp_path, REFUSED.clean(), options=options)
    assert ("error", "no-restore") in found(lint(path))


def _classic(path: Path, *tag_sets: list[str]) -> Path:
    """Save a TensorFlow 1 graph with a training step, an input pipeline and Python code in it."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
        w = tf.compat.v1.get_variable("w", [4, 2], use_resource=False)
        y = tf.matmul(x, w)
        loss = tf.compat.v1.py_func(lambda v: v.mean(), [y], tf.float32, name="watch")
        tf.compat.v1.assign_sub(w, tf.zeros([4, 2]) + loss, name="train")
        tf.io.read_file("/data/training.csv", name="pipeline")
        session.run(tf.compat.v1.global_variables_initializer())
        builder = tf.compat.v1.saved_model.Builder(str(path))
        signature = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        for number_, tags in enumerate(tag_sets):
            if number_ == 0:
                builder.add_meta_graph_and_variables(session, tags, {"serving_default": signature})
            else:
                builder.add_meta_graph(tags, {"serving_default": signature})
        builder.save()
    return path


def test_what_a_classic_graph_does_beside_serving_is_no_matter(tmp_path: Path) -> None:
    path = _classic(tmp_path / "1", ["serve"])
    assert {item.kind for item in lint(path).all} <= {"unreadable-mode"}
    (path / "variables" / "variables.index").unlink()
    assert ("error", "missing-variables") in found(lint(path))


def test_a_second_graph_is_told(tmp_path: Path) -> None:
    path = _classic(tmp_path / "1", ["serve"], ["serve", "gpu"])
    items = {item.kind: item for item in lint(path).all if item.kind != "unreadable-mode"}
    assert set(items) == {"extra-graph"}
    assert "{gpu, serve}" in items["extra-graph"].detail
    path = _classic(tmp_path / "2", ["train"], ["serve", "gpu"])
    assert ("error", "no-serve-tag") in found(lint(path))


def _with_ops_renamed(path: Path, rename: Callable[[str], str]) -> Path:
    file = path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    graph = model.meta_graphs[0].graph_def
    for node in [*graph.node, *(n for f in graph.library.function for n in f.node_def)]:
        node.op = rename(node.op)
    file.write_bytes(model.SerializeToString())
    return path


def test_ops_of_other_libraries_are_told_apart(tmp_path: Path) -> None:
    path = save(tmp_path, REFUSED.clean())
    own = _with_ops_renamed(path, lambda op: "ZeroOut" if op == "MatMul" else op)
    item = only(own)
    assert (item.severity, item.kind) == ("error", "custom-op")
    assert "ZeroOut is no op of tensorflow 2." in item.detail
    text = _with_ops_renamed(path, lambda op: "SentencepieceOp" if op == "ZeroOut" else op)
    assert (only(text).severity, only(text).kind) == ("warning", "text-op")
    forest = _with_ops_renamed(
        path, lambda op: "SimpleMLInferenceOpWithHandle" if op == "SentencepieceOp" else op
    )
    assert "Decision Forests" in only(forest).detail


def test_an_unknown_op_that_is_never_run_fails_in_the_main_graph_alone(tmp_path: Path) -> None:
    module = REFUSED.clean()
    module.debug = tf.function(lambda x: tf.sin(x) * 1.0, input_signature=[REFUSED.X])
    path = save(tmp_path, module)
    _with_ops_renamed(path, lambda op: "ZeroOut" if op == "Sin" else op)
    assert found(lint(path)) == []
    check(path, read_saved_model(path).signatures, timeout=LIMIT)
    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    model.meta_graphs[0].graph_def.node.add(name="idle", op="ZeroOut")
    (path / "saved_model.pb").write_bytes(model.SerializeToString())
    assert [kind for _, kind in found(lint(path))] == ["custom-op"]
    with pytest.raises(LoadCheckError):
        check(path, read_saved_model(path).signatures, timeout=LIMIT)


def _request(dtype: tf.DType, key: str = "x", signature: str = "") -> bytes:
    """Return a PredictionLog with a PredictRequest, as its protos are defined."""
    tensor = tf.make_tensor_proto([[1, 2, 3, 4]], dtype).SerializeToString()
    spec = message(1, b"model") + message(3, signature.encode())
    request = message(1, spec) + message(2, message(1, key.encode()) + message(2, tensor))
    return message(6, message(1, request))


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([_request(tf.float32), _request(tf.float32, signature="serving_default")], ""),
        ([_request(tf.float32)] * 1000, ""),
        ([_request(tf.float32)] * 1001, "more than 1000"),
        ([_request(tf.float64)], "as float64"),
        ([_request(tf.float32, "inputs")], "gives the inputs ['inputs']"),
        ([_request(tf.float32, signature="classify")], "names the signature 'classify'"),
        ([message(5, b"")], "of a kind that servers do not replay"),
        ([b""], "no PredictionLog"),
        ([b"\x12"], "cut short"),
        ([number(2, 1)], "a number"),
        ([], "no request"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else f"{len(value)}",
)
def test_warmup_requests_must_fit_the_signatures(
    records: list[bytes], expected: str, tmp_path: Path
) -> None:
    path = save(tmp_path, REFUSED.clean())
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir()
    file.parent.chmod(0o755)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)
    file.chmod(0o644)
    if not expected:
        assert found(lint(path)) == []
        return
    item = only(path)
    assert item.kind in {"warmup", "warmup-empty"}
    assert expected in item.detail


def test_a_damaged_warmup_file_is_told(tmp_path: Path) -> None:
    path = save(tmp_path, REFUSED.clean())
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(_request(tf.float32))
    sound = file.read_bytes()
    for data in (sound[:-1], sound[:7], sound[:20] + b"\xff" + sound[21:], b"\0" * 40):
        file.write_bytes(data)
        assert ("error", "warmup") in found(lint(path))


def test_the_list_of_ops_is_that_of_the_tensorflow_it_names() -> None:
    from tensorflow.core.framework import op_def_pb2  # noqa: PLC0415
    from tensorflow.python.client import pywrap_tf_session  # noqa: PLC0415

    known = tensorflow_ops()
    if known.source != f"tensorflow {tf.__version__}":
        pytest.skip(f"the list is of {known.source}")
    ops = op_def_pb2.OpList()
    ops.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    assert {op.name for op in ops.op} == known.names, "run scripts/tensorflow_ops.py"


def test_damage_of_a_version_is_found_by_its_file(tmp_path: Path) -> None:
    whole = save(tmp_path, REFUSED.clean())
    for name, kind in (
        ("saved_model.pb", "missing-graph"),
        ("variables/variables.index", "missing-variables"),
        ("variables/variables.data-00000-of-00001", "damaged-file"),
    ):
        copy = tmp_path / "2"
        shutil.copytree(whole, copy)
        (copy / name).unlink()
        report = lint(tmp_path)
        assert [item.kind for item in report.versions[1].findings] == [kind]
        assert [item.kind for item in report.findings] == ["broken-newest"]
        assert report.versions[1].live
        shutil.rmtree(copy)
