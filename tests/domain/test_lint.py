"""The rules of the lint on plain descriptions."""

import stat
from dataclasses import replace

import pytest

from mstore.domain.graphs import Constant, Graph, OpUse
from mstore.domain.lint import KINDS, LintFinding, LintReport, VersionLint, finding
from mstore.domain.lint_base import Child, broken_newest, lint_base
from mstore.domain.lint_files import Entry, lint_files, lint_modes, lint_warmup
from mstore.domain.lint_graph import Libraries, Limits, lint_graphs, needs_variables
from mstore.domain.lint_signatures import lint_signatures
from mstore.domain.serving_ops import OpList
from mstore.domain.signatures import Signature, TensorSpec
from mstore.domain.warmup import WarmupRequest

FLOATS = TensorSpec("float32", (None, 4))
SOUND = {"serving_default": Signature({"x": FLOATS}, {"y": FLOATS})}
GRAPH = Graph(
    tags=frozenset({"serve"}),
    tensorflow_version="2.21.0",
    signatures=SOUND,
    ops=(OpUse("MatMul", "f/y", "serving_default"), OpUse("VarHandleOp", "w", "serving_default")),
    declared={"VarHandleOp": "w"},
    must_compile={},
    constants=(),
    constant_bytes=0,
    restores=True,
)
LIBRARIES = Libraries(
    OpList("tensorflow 9", frozenset({"MatMul", "VarHandleOp", "PyFunc", "CudnnRNN", "PrintV2"})),
    OpList("text 9", frozenset({"CaseFoldUTF8"})),
)


def kinds(findings: object) -> list[str]:
    assert hasattr(findings, "__iter__")
    return [item.kind for item in findings]


def graphs(*changed: Graph) -> list[str]:
    return kinds(lint_graphs(changed, LIBRARIES, Limits(constants=100)))


def with_ops(*uses: OpUse) -> Graph:
    return replace(GRAPH, ops=(*GRAPH.ops, *uses))


def signature(inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec]) -> list[str]:
    return kinds(lint_signatures({"serving_default": Signature(inputs, outputs)}))


def test_every_kind_has_a_severity_and_a_finding_has_that_of_its_kind() -> None:
    assert set(KINDS.values()) == {"error", "warning"}
    assert all(kind == kind.lower() and " " not in kind for kind in KINDS)
    item = finding("python-op", "n", "calls Python", "do not")
    assert item.to_json() == {
        "severity": "error",
        "kind": "python-op",
        "subject": "n",
        "detail": "calls Python",
        "cure": "do not",
    }
    assert item.sentence() == "python-op: n: calls Python; do not"


def test_only_errors_fail_a_report_unless_it_is_strict() -> None:
    warning = finding("prints", "n", "d", "c")
    report = LintReport("p", (VersionLint(1, "p/1", (warning,)),))
    assert (report.failed(), report.failed(strict=True)) == (False, True)
    assert not LintReport("p", ()).failed(strict=True)
    assert replace(report, findings=(finding("no-versions", "p", "d", "c"),)).failed()


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        ({"x": FLOATS}, {"y": FLOATS}, []),
        ({"x": TensorSpec("string", None)}, {"y": TensorSpec("bool", None)}, []),
        ({"x": TensorSpec("half", (None,))}, {"y": FLOATS}, ["rest-dtype"]),
        ({"x": FLOATS}, {"y": TensorSpec("bfloat16", (None,))}, ["rest-dtype"]),
        ({"x": FLOATS}, {"y": TensorSpec("complex64", (None,))}, ["rest-dtype"]),
        ({"x": TensorSpec("int32", (8,))}, {"y": TensorSpec("int32", (8,))}, ["fixed-batch"]),
        ({"x": TensorSpec("int32", ())}, {"y": FLOATS}, ["scalar-input"]),
        ({"x": FLOATS}, {"y": TensorSpec("float32", ())}, ["no-common-batch"]),
        ({"x": FLOATS}, {"y": FLOATS, "z": TensorSpec("int64", (3,))}, ["no-common-batch"]),
        ({}, {"y": FLOATS}, ["no-inputs"]),
        ({"b64": FLOATS}, {"y": FLOATS}, ["name-in-rest"]),
        ({"": FLOATS}, {"y": FLOATS}, ["name-in-rest"]),
        ({"a\n": FLOATS}, {"y": FLOATS}, ["name-in-rest"]),
        ({"größe": FLOATS}, {"y_bytes": FLOATS}, []),
    ],
)
def test_signatures_are_held_against_what_rest_can_carry(
    inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec], expected: list[str]
) -> None:
    assert signature(inputs, outputs) == expected


def test_signatures_need_names() -> None:
    assert kinds(lint_signatures({})) == ["no-signatures"]
    assert kinds(lint_signatures({"embed": SOUND["serving_default"]})) == ["no-default-signature"]
    both = {**SOUND, "": SOUND["serving_default"]}
    assert kinds(lint_signatures(both)) == ["name-in-rest"]


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (GRAPH, []),
        (replace(GRAPH, tags=frozenset({"serve", "gpu"})), ["no-serve-tag"]),
        (replace(GRAPH, restores=False), ["no-restore"]),
        (replace(GRAPH, must_compile={"f": "serving_default"}), ["xla-op"]),
        (replace(GRAPH, declared={"ZeroOut": "n"}), ["custom-op"]),
        (replace(GRAPH, declared={"CaseFoldUTF8": "n"}), ["text-op"]),
        (replace(GRAPH, constants=(Constant("c", 101),), constant_bytes=101), ["big-constants"]),
        (replace(GRAPH, constants=(Constant("c", 100),), constant_bytes=100), []),
        (with_ops(OpUse("PyFunc", "n", "serving_default")), ["python-op"]),
        (with_ops(OpUse("CudnnRNN", "n", "serving_default")), ["gpu-only-op"]),
        (with_ops(OpUse("PrintV2", "n", "serving_default")), ["prints"]),
        (with_ops(OpUse("SimpleMLX", "n", "serving_default")), ["text-op"]),
    ],
)
def test_graphs_are_held_against_what_a_server_runs(graph: Graph, expected: list[str]) -> None:
    assert graphs(graph) == expected


def test_the_graph_for_serving_is_judged_where_there_are_several() -> None:
    training = replace(
        GRAPH, tags=frozenset({"train"}), ops=(OpUse("PyFunc", "n", "serving_default"),)
    )
    assert graphs(training, GRAPH) == ["extra-graph"]
    assert graphs(training) == ["no-serve-tag", "python-op"]


@pytest.mark.parametrize(
    ("use", "expected", "words"),
    [
        (OpUse("ReadFile", "n", "s", origin="asset"), [], ""),
        (OpUse("ReadFile", "n", "s", origin="request"), ["file-read"], "a request names"),
        (OpUse("ReadFile", "n", "s", origin="constant", file="/x"), ["file-read"], "'/x'"),
        (OpUse("TextLineReaderV2", "n", None, origin="unknown"), ["file-read"], "loading"),
        (OpUse("WriteFile", "n", "s", origin="unknown"), ["file-write"], "on the server"),
        (
            OpUse("InitializeTableFromTextFileV2", "n", None, origin="constant", file="/x"),
            ["table-file"],
            "'/x'",
        ),
        (OpUse("InitializeTableFromTextFileV2", "n", None, origin="unknown"), [], ""),
    ],
)
def test_files_are_judged_by_where_their_names_come_from(
    use: OpUse, expected: list[str], words: str
) -> None:
    known = Libraries(OpList("tensorflow 9", frozenset({use.op})), LIBRARIES.text)
    found = list(lint_graphs([replace(GRAPH, ops=(use,), declared={})], known, Limits()))
    assert kinds(found) == expected
    assert all(words in item.detail for item in found)


def test_random_numbers_matter_where_requests_see_them() -> None:
    known = Libraries(OpList("tensorflow 9", frozenset({"RandomUniform"})), LIBRARIES.text)
    for reason, expected in (("serving_default", ["random-op"]), (None, [])):
        graph = replace(GRAPH, ops=(OpUse("RandomUniform", "n", reason),), declared={})
        assert kinds(lint_graphs([graph], known, Limits())) == expected


def test_variables_are_needed_where_a_signature_reads_them() -> None:
    assert needs_variables(GRAPH)
    assert not needs_variables(replace(GRAPH, ops=(OpUse("VarHandleOp", "path", None),)))


def file(path: str, mode: int = 0o644, size: int = 5) -> Entry:
    return Entry(path, size, stat.S_IFREG | mode)


def folder(path: str, mode: int = 0o755) -> Entry:
    return Entry(path, 0, stat.S_IFDIR | mode)


@pytest.mark.parametrize(
    ("path", "shards", "junk"),
    [
        ("saved_model.pb", 1, False),
        ("fingerprint.pb", 1, False),
        ("keras_metadata.pb", 1, False),
        ("assets/vocab.txt", 1, False),
        ("assets.extra/mstore.json", 1, False),
        ("variables/variables.index", 1, False),
        ("variables/variables.data-00000-of-00001", 1, False),
        ("variables/variables.data-00000-of-00001", None, False),
        ("variables/variables.data-00000-of-00009", 1, True),
        ("variables/variables.data-00002-of-00002", 2, True),
        ("variables/variables.data-00000-of-00001.tempstate123", 1, True),
        ("variables/checkpoint", 1, True),
        ("saved_model.pb.bak", 1, True),
        (".DS_Store", 1, True),
        ("notes/readme.md", 1, True),
    ],
)
def test_files_that_are_no_part_of_a_saved_model_are_junk(
    path: str, shards: int | None, junk: bool
) -> None:
    found = list(lint_files([folder("."), file(path)], shards))
    assert kinds(found) == ["junk-file"] * junk


def test_much_junk_is_counted_and_not_listed_to_the_end() -> None:
    found = list(lint_files([file(f"junk{at}") for at in range(500)], None))
    assert len(found) == 10
    assert "500 such files have 2500 bytes" in found[0].detail


def test_links_are_told_by_where_they_lead() -> None:
    entry = file("saved_model.pb")
    assert kinds(lint_files([replace(entry, link="inside")], 1)) == []
    assert kinds(lint_files([replace(entry, link="outside")], 1)) == ["link-outside"]
    assert kinds(lint_files([replace(entry, link="broken")], 1)) == ["broken-link"]


@pytest.mark.parametrize(
    ("entries", "shut"),
    [
        ([folder("."), file("saved_model.pb")], False),
        ([folder(".", 0o700)], True),
        ([folder(".", 0o754)], True),
        ([folder("."), file("a", 0o600)], True),
        ([folder("."), file("a", 0o640), file("b", 0o640)], True),
    ],
)
def test_modes_must_let_everybody_read(entries: list[Entry], shut: bool) -> None:
    found = list(lint_modes(entries))
    assert kinds(found) == ["unreadable-mode"] * shut


def test_warmup_requests_are_held_against_the_signatures() -> None:
    good = WarmupRequest("predict", "", {"x": "float32"})
    assert kinds(lint_warmup([good, WarmupRequest("classify")], SOUND)) == []
    assert kinds(lint_warmup([good] * 1000, SOUND)) == []
    assert kinds(lint_warmup([good] * 1001, SOUND)) == ["warmup"]
    assert kinds(lint_warmup([], SOUND)) == ["warmup-empty"]
    for bad in (
        WarmupRequest("none"),
        WarmupRequest("predict"),
        WarmupRequest("unsupported"),
        WarmupRequest("predict", "other", {"x": "float32"}),
        WarmupRequest("predict", "", {"x": "float64"}),
        WarmupRequest("predict", "", {"x": "float32", "z": "float32"}),
    ):
        assert kinds(lint_warmup([good, bad, bad], SOUND)) == ["warmup"], bad


def model(name: str) -> Child:
    return Child(name, is_directory=True, is_saved_model=True)


def base(*children: Child) -> dict[str, str]:
    found = list(lint_base("/models/m", children, ".mstore-tmp-"))
    return {item.kind: item.subject for item in found}


@pytest.mark.parametrize(
    ("children", "expected"),
    [
        ([model("1"), model("12")], {}),
        ([model("1"), Child("README.md", False), Child("logs", True)], {}),
        ([], {"no-versions": "/models/m"}),
        ([Child("logs", True)], {"no-versions": "/models/m"}),
        ([Child("3", False)], {"no-versions": "/models/m"}),
        ([model("v1")], {"no-versions": "/models/m", "name-not-number": "v1"}),
        ([model("1.0")], {"no-versions": "/models/m", "name-not-number": "1.0"}),
        ([model("0.1")], {"no-versions": "/models/m", "name-not-number": "0.1"}),
        ([model("1"), model("2-tmp")], {"name-not-number": "2-tmp"}),
        ([model("007")], {"odd-name": "007"}),
        ([model("+5")], {"odd-name": "+5"}),
        ([model(" 7")], {"odd-name": " 7"}),
        ([model("0")], {"odd-name": "0"}),
        ([model("-1")], {"unservable-number": "-1"}),
        ([model("1"), model("001")], {"odd-name": "001", "duplicate-number": "001"}),
        ([model("1"), Child(".mstore-tmp-x", True, True)], {"leftover": ".mstore-tmp-x"}),
        ([model("1"), Child("saved_model.pb", False)], {"saved-model-in-base": "saved_model.pb"}),
        ([Child("mnist", True, versions=("1", "2"))], {"base-too-high": "/models/m"}),
    ],
)
def test_a_base_path_is_read_as_the_server_reads_it(
    children: list[Child], expected: dict[str, str]
) -> None:
    assert base(*children) == expected


def test_a_name_that_is_no_number_gets_one() -> None:
    found = list(lint_base("p", [model("1"), model("v12")], "."))
    assert "such as 12" in found[0].cure


def version(*found: LintFinding) -> VersionLint:
    return VersionLint(3, "p/3", found)


def test_a_broken_newest_version_is_told_by_what_a_server_does() -> None:
    assert broken_newest(version()) is None
    assert broken_newest(version(finding("python-op", "n", "d", "c"))) is None
    unloadable = broken_newest(version(finding("missing-graph", "n", "d", "c")))
    assert unloadable is not None
    assert "restarted ends" in unloadable.detail
    empty = broken_newest(version(finding("missing-variables", "n", "d", "c")))
    assert empty is not None
    assert "fails every request" in empty.detail
