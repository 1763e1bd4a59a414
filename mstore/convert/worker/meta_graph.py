"""From a name-based checkpoint and its ``.meta`` to a SavedModel: the order of the steps."""

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from mstore.convert.arrays import Array, difference
from mstore.convert.meta_request import MetaGraphRequest
from mstore.convert.request import Sample, TraceResult
from mstore.convert.samples import write_samples
from mstore.convert.worker.meta_assets import find_assets, forget_places, point_to
from mstore.convert.worker.meta_entries import MetaEntry, find_entries, require_fed
from mstore.convert.worker.meta_live import LiveGraph, constant, tolerance_of
from mstore.convert.worker.meta_nodes import Nodes, full
from mstore.convert.worker.meta_pruning import Part, add_saver
from mstore.convert.worker.meta_saver import Stored, require_stored, stored_variables
from mstore.errors import ProofError
from mstore.formats.graph_nodes import VARIABLES
from mstore.formats.layout import Layout
from mstore.formats.meta_graph import META
from mstore.formats.open import read_layout

v1 = tf.compat.v1


def run_meta_graph(body: Mapping[str, Any], stage: Callable[[str], None]) -> dict[str, Any]:
    """Serve one request to export; see `mstore.convert.meta_graph`."""
    return _Export(MetaGraphRequest.from_json(body), stage).run(Path(body["samples"]))


class _Export:
    """One export on its way."""

    def __init__(self, request: MetaGraphRequest, stage: Callable[[str], None]) -> None:
        self.request = request
        self.stage = stage
        stage("building")
        path = Path(f"{request.checkpoint}{META}")
        self.name = path.name
        self.layout: Layout = read_layout(request.checkpoint)
        self.meta = meta_graph_pb2.MetaGraphDef.FromString(path.read_bytes())
        self.nodes = Nodes(self.meta.graph_def)
        self.entries = find_entries(self.nodes, self.meta, request)
        self.warnings: list[str] = []

    def run(self, samples_file: Path) -> dict[str, Any]:
        names, filling = self._needed()
        assets = find_assets(self.nodes, self.meta, names, self.request.search_path)
        used = [name for name in names if self.nodes.by_name[name].op in VARIABLES]
        variables = stored_variables(self.nodes, self.meta, used)
        _require_variables(variables)
        require_stored(variables, self.layout.table, self.name)
        live = LiveGraph(self.meta, self.name)
        for entry in self.entries:
            for tensor in entry.outputs.values():
                live.spec(tensor)  # refuses what is no value before anything is restored
        self.stage("restoring")
        live.restore(self._files, filling, assets)
        point_to(self.nodes.graph, assets)
        fixed = self._fixed(live)
        tensors = {tensor for entry in self.entries for tensor in entry.inputs.values()}
        part = Part(
            self.nodes, frozenset(names), {name: live.spec(name) for name in tensors}, fixed
        )
        served = _Served(part, self.entries, variables)
        with v1.Session(graph=served.graph) as session:
            served.restore(session, self._files, filling)
            self.stage("checking")
            samples, dims = self._rehearse(live, served, session, fixed)
            self.stage("saving")
            served.save(session, self.request.output, filling, assets)
        write_samples(samples_file, samples)
        return self._result(variables, dims).to_json()

    @property
    def _files(self) -> str:
        """The checkpoint as TensorFlow's restore ops take it: a prefix, or a pattern of files."""
        prefix = str(self.request.checkpoint)
        parts = [name for name in self.layout.files if "-of-" in name and ".data" not in name]
        return f"{prefix}-?????-of-{len(parts):05d}" if parts else prefix

    def _needed(self) -> tuple[set[str], list[str]]:
        """Return the nodes that are needed, and those among them that fill tables."""
        cut = frozenset(
            full(tensor)
            for entry in self.entries
            for tensor in (*entry.inputs.values(), *self.request.constants)
        )
        names: set[str] = set()
        filling: set[str] = set()
        for entry in self.entries:
            found = self.nodes.before(entry.outputs.values(), cut)
            found, fillers = self.nodes.with_tables(found, cut)
            self.nodes.refuse(found)
            require_fed(self.nodes, entry, found)
            self._caution(entry, found)
            names |= found
            filling |= set(fillers)
        return names, sorted(filling)

    def _caution(self, entry: MetaEntry, found: set[str]) -> None:
        read = {full(text) for name in found for text in self.nodes.by_name[name].input}
        idle = [
            key
            for key, tensor in entry.inputs.items()
            if tensor not in read and tensor not in entry.outputs.values()
        ]
        if idle:
            self.warnings.append(
                f"no output of {entry.name!r} depends on its inputs {', '.join(idle)}"
            )

    def _fixed(self, live: LiveGraph) -> dict[str, Array]:
        return {
            full(tensor): constant(text, live.spec(full(tensor)), tensor)
            for tensor, text in self.request.constants.items()
        }

    def _rehearse(
        self, live: LiveGraph, served: "_Served", session: Any, fixed: Mapping[str, Array]
    ) -> tuple[dict[str, Sample], dict[str, tuple[int, ...]]]:
        samples: dict[str, Sample] = {}
        dims: dict[str, tuple[int, ...]] = {}
        for entry in self.entries:
            sample, shapes, warning = live.rehearse(entry, fixed, tolerance_of(served.graph))
            dims |= shapes
            if warning:
                self.warnings.append(warning)
            if sample is not None:
                samples[entry.name] = sample
                _require_equal(entry, sample, served.run(session, entry, sample.feeds))
        return samples, dims

    def _result(
        self, variables: Sequence[Stored], dims: Mapping[str, tuple[int, ...]]
    ) -> TraceResult:
        return TraceResult(
            sources={item.key: item.key for item in variables},
            names={item.key: item.node for item in variables},
            environment={
                "python": platform.python_version(),
                "tensorflow": str(tf.__version__),
                "numpy": importlib.metadata.version("numpy"),
            },
            dims=dims,
            warnings=tuple(dict.fromkeys(self.warnings)),
        )


class _Served:
    """The graph that is exported."""

    def __init__(
        self, part: Part, entries: Sequence[MetaEntry], variables: Sequence[Stored]
    ) -> None:
        self.graph, replaced = part.build()
        self.saver_def = add_saver(self.graph, variables)
        self._tensors: dict[str, Any] = dict(replaced)
        self._entries = entries
        with self.graph.as_default():
            for entry in entries:
                for tensor in entry.outputs.values():
                    self._tensors.setdefault(tensor, self._output(tensor))

    def _output(self, tensor: str) -> Any:
        found = self.graph.get_tensor_by_name(tensor)
        # A variable itself is no value that a server can give out.
        return tf.identity(found) if found.dtype.base_dtype != found.dtype else found

    def restore(self, session: Any, checkpoint: str, filling: Sequence[str]) -> None:
        feed = {self.saver_def.filename_tensor_name: checkpoint}
        session.run(self.saver_def.restore_op_name, feed)
        for name in filling:
            session.run(self.graph.get_operation_by_name(name))

    def run(self, session: Any, entry: MetaEntry, feed: Mapping[str, Array]) -> dict[str, Array]:
        feeds = {self._tensors[entry.inputs[key]]: value for key, value in feed.items()}
        outputs = {key: self._tensors[tensor] for key, tensor in entry.outputs.items()}
        found = session.run(outputs, feeds)
        return {
            key: value.astype("float32") if value.dtype.name == "bfloat16" else value
            for key, value in found.items()
        }

    def save(
        self, session: Any, directory: Path, filling: Sequence[str], assets: Mapping[str, Path]
    ) -> None:
        builder = v1.saved_model.builder.SavedModelBuilder(str(directory))
        with self.graph.as_default():
            fillers = [self.graph.get_operation_by_name(name) for name in filling]
            builder.add_meta_graph_and_variables(
                session,
                [tf.saved_model.SERVING],
                signature_def_map={entry.name: self._signature(entry) for entry in self._entries},
                assets_collection=[
                    self.graph.get_tensor_by_name(f"{name}:0") for name in sorted(assets)
                ],
                main_op=tf.group(*fillers, name="fill_tables") if fillers else None,
                strip_default_attrs=True,
                saver=v1.train.Saver(saver_def=self.saver_def),
            )
        builder.save()
        forget_places(directory)

    def _signature(self, entry: MetaEntry) -> Any:
        def infos(tensors: Mapping[str, str]) -> dict[str, Any]:
            return {
                key: v1.saved_model.build_tensor_info(self._tensors[tensor])
                for key, tensor in tensors.items()
            }

        return v1.saved_model.build_signature_def(
            infos(entry.inputs), infos(entry.outputs), tf.saved_model.PREDICT_METHOD_NAME
        )


def _require_variables(variables: Sequence[Stored]) -> None:
    if not variables:
        raise ProofError(
            "the outputs use no variables: nothing of the checkpoint would be exported",
            subjects=[],
            hint="name outputs that are computed from the weights",
        )


def _require_equal(entry: MetaEntry, sample: Sample, served: Mapping[str, Array]) -> None:
    how = difference(sample.outputs, served, sample.tolerance)
    if how:
        raise ProofError(
            f"what is cut out for the signature {entry.name!r} does not compute what the trained "
            f"graph does: {how}",
            subjects=[entry.name],
            hint="nothing was published; this is an error of mstore, please report it",
        )
