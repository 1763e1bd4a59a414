"""Rules about graphs: what a server cannot run, and what it should not have to."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mstore.domain.graphs import Graph, OpUse
from mstore.domain.lint import LintFinding, finding
from mstore.domain.lint_signatures import lint_signatures
from mstore.domain.serving_ops import (
    FILE_READS,
    FILE_WRITES,
    FOREST_PREFIX,
    GPU_RNN_PREFIX,
    PRINT_OPS,
    PYTHON_OPS,
    RANDOM_OPS,
    TABLE_FILE_OPS,
    VARIABLE_OPS,
    OpList,
)

SERVE_TAG = "serve"
"""The one tag by which a server looks for a graph; the tags must be exactly this one."""

GRAPH_FILE = "saved_model.pb"


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes above which a finding is made.

    Attributes:
        constants: of all constants together, and of a single one.
        graph: of ``saved_model.pb``; some loaders take no more than a gigabyte.
    """

    constants: int = 100_000_000
    graph: int = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Libraries:
    """The ops that servers have: TensorFlow's own, and those of TF Text."""

    tensorflow: OpList
    text: OpList


def served_graph(graphs: Sequence[Graph]) -> Graph | None:
    """Return the graph that a server loads, or None if it loads none."""
    return next((graph for graph in graphs if graph.tags == {SERVE_TAG}), None)


def needs_variables(graph: Graph) -> bool:
    """Return whether a signature reads variables."""
    return any(use.op in VARIABLE_OPS and use.reason is not None for use in graph.ops)


def lint_graphs(
    graphs: Sequence[Graph], libraries: Libraries, limits: Limits
) -> Iterator[LintFinding]:
    """Yield what speaks against serving these graphs of one SavedModel."""
    served = served_graph(graphs)
    if served is None:
        found = "; ".join(_tags(graph) for graph in graphs[:4])
        yield finding(
            "no-serve-tag",
            GRAPH_FILE,
            f"no graph has exactly the tag {{{SERVE_TAG}}} (found: {found}), so that the server "
            "does not find one",
            "save it without extra_tags, with tf.saved_model.SERVING as the only tag",
        )
    if len(graphs) > 1:
        others = "; ".join(_tags(graph) for graph in graphs if graph is not served)
        yield finding(
            "extra-graph",
            GRAPH_FILE,
            f"it holds {len(graphs)} graphs, of which the server uses at most one; the others are "
            f"{others[:200]}",
            "save the graph for serving alone",
        )
    graph = served or graphs[0]
    yield from lint_signatures(graph.signatures)
    yield from _ops(graph, libraries)
    yield from _constants(graph, limits)
    if needs_variables(graph) and not graph.restores:
        yield finding(
            "no-restore",
            GRAPH_FILE,
            "it has variables and no op that restores them: the server loads it and every request "
            "fails for want of a value",
            "save it without experimental_skip_saver",
        )


def _tags(graph: Graph) -> str:
    return "{" + ", ".join(sorted(graph.tags)) + "}"


def _ops(graph: Graph, libraries: Libraries) -> Iterator[LintFinding]:
    uses = {use.op: use for use in graph.ops}
    yield from _merged("python-op", [u for u in graph.ops if u.op in PYTHON_OPS])
    yield from _foreign(graph, uses, libraries)
    if graph.must_compile:
        place, reason = next(iter(graph.must_compile.items()))
        yield finding(
            "xla-op",
            place,
            f"{_when(reason)} a function that must be compiled by XLA, which the server has "
            "switched off: each request fails with 'XLA compilation disabled'; grouped "
            "convolutions and jit_compile=True make such functions",
            "replace the grouped convolution or jit_compile=True, or start the server with "
            "--xla_cpu_compilation_enabled",
        )
    gpu = [use for use in graph.ops if use.op.startswith(GPU_RNN_PREFIX)]
    yield from _merged("gpu-only-op", gpu)
    yield from _files(graph)
    yield from _merged("prints", [use for use in graph.ops if use.op in PRINT_OPS])
    served = [use for use in graph.ops if use.op in RANDOM_OPS and use.reason is not None]
    yield from _merged("random-op", served)


_WHAT = {
    "python-op": (
        "calls Python code of the process that made it: a server loads it and fails every request",
        "write it in TensorFlow ops, since Python code is not saved, or leave it to clients",
    ),
    "gpu-only-op": (
        "needs a graphics card: a server without one loads it and fails every request",
        "export it with CUDA_VISIBLE_DEVICES='' in the environment, or with use_cudnn=False",
    ),
    "prints": (
        "writes to the server's log at each request",
        "leave tf.print out of what is served",
    ),
    "random-op": (
        "draws random numbers: equal requests get different answers",
        "call the model with training=False, or leave it if it is meant to sample",
    ),
}


def _merged(kind: str, uses: Sequence[OpUse]) -> Iterator[LintFinding]:
    """Yield one finding for all the ops of a kind."""
    if uses:
        detail, cure = _WHAT[kind]
        names = ", ".join(sorted({use.op for use in uses}))
        count = sum(use.count for use in uses)
        more = f" ({count} nodes)" if count > 1 else ""
        yield finding(
            kind, uses[0].node, f"{_when(uses[0].reason)} {names}{more}, which {detail}", cure
        )


def _when(reason: str | None) -> str:
    return "loading the version runs" if reason is None else f"the signature {reason} runs"


def _foreign(graph: Graph, uses: dict[str, OpUse], libraries: Libraries) -> Iterator[LintFinding]:
    """Yield findings about ops of which TensorFlow has none."""
    # The loader looks up every op of the main graph, run or not.
    places = {**graph.declared, **{op: use.node for op, use in uses.items()}}
    foreign = {op: node for op, node in places.items() if op not in libraries.tensorflow.names}
    text = sorted(op for op in foreign if op in libraries.text.names)
    if text:
        yield finding(
            "text-op",
            foreign[text[0]],
            f"it uses ops of TF Text ({_names(text)}): only a server that is built with them loads "
            "it, as the official images are",
            "make sure that the server is one of them, and not older than the TF Text used",
        )
    for op in sorted(set(foreign) - set(text))[:20]:
        if op.startswith(FOREST_PREFIX):
            what = "it is an op of TensorFlow Decision Forests, which servers have from 2.11 on"
            yield finding("text-op", foreign[op], f"{op}: {what}", "use a server of 2.11 or later")
            continue
        yield finding(
            "custom-op",
            foreign[op],
            f"{op or 'a node without an op'} is no op of {libraries.tensorflow.source}: a server "
            "that is not built with it cannot load the version",
            "write it in TensorFlow's own ops, or build a server with this op",
        )


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")  # noqa: PLR2004


def _files(graph: Graph) -> Iterator[LintFinding]:
    for use in graph.ops:
        if use.origin == "asset":
            continue
        if use.op in TABLE_FILE_OPS and use.origin == "constant":
            yield finding(
                "table-file",
                use.node,
                f"{_when(use.reason)} {use.op} on the file {use.file!r}, which is no asset of the "
                "SavedModel: on a machine without this file the version does not load",
                "keep the table as an attribute of the saved object, so that its file becomes an "
                "asset",
            )
        elif use.op in FILE_READS:
            yield finding(
                "file-read",
                use.node,
                f"{_when(use.reason)} {use.op}, which reads {_file(use)}",
                "pass the contents in the request instead, or make the file an asset "
                "(tf.saved_model.Asset)",
            )
        elif use.op in FILE_WRITES:
            yield finding(
                "file-write",
                use.node,
                f"{_when(use.reason)} {use.op}, which writes {_file(use)} on the server",
                "remove it from what is served",
            )


def _file(use: OpUse) -> str:
    if use.origin == "constant":
        return f"the file {use.file!r}, which need not be there"
    if use.origin == "request":
        return "whatever file a request names"
    return "files"


def _constants(graph: Graph, limits: Limits) -> Iterator[LintFinding]:
    if graph.constant_bytes <= limits.constants:
        return
    first = graph.constants[0]
    listed = ", ".join(f"{c.node} of {c.size} bytes" for c in graph.constants[:3])
    yield finding(
        "big-constants",
        first.node,
        f"the graph holds constants of {graph.constant_bytes} bytes (the largest: {listed}): they "
        "make it slow to load, and a graph cannot be larger than 2 GB",
        "keep them in variables or assets: tf.Variable(..., trainable=False)",
    )
