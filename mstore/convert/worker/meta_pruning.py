"""Builds the graph that is served: the part of the trained one that the signatures need."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import saver_pb2

from mstore.convert.arrays import Array
from mstore.convert.worker.meta_nodes import PLACEHOLDERS, Nodes, full, split
from mstore.convert.worker.meta_saver import Stored
from mstore.domain.signatures import TensorSpec

v1 = tf.compat.v1
_RESOURCE = "VarHandleOp"


@dataclass(frozen=True)
class Part:
    """What of a trained graph is served.

    Attributes:
        nodes: the trained graph.
        names: the nodes that are kept.
        inputs: dtype and shape of the tensors that are fed.
        constants: values of the tensors that are fixed.
    """

    nodes: Nodes
    names: frozenset[str]
    inputs: Mapping[str, TensorSpec]
    constants: Mapping[str, Array]

    def build(self) -> tuple[tf.Graph, dict[str, Any]]:
        """Return the graph, and its tensor for each that is fed or fixed."""
        graph = tf.Graph()
        with graph.as_default():
            replaced = {name: self._placeholder(name) for name in sorted(self.inputs)}
            for name in sorted(self.constants):
                value = tf.constant(self.constants[name], name=self._free(name))
                replaced[name] = value
            definition = self._definition()
            used = {
                full(text)
                for node in definition.node
                for text in node.input
                if not text.startswith("^")
            }
            mapped = {name: tensor for name, tensor in replaced.items() if name in used}
            tf.graph_util.import_graph_def(definition, input_map=mapped, name="")
        return graph, replaced

    def _placeholder(self, tensor: str) -> Any:
        spec = self.inputs[tensor]
        return v1.placeholder(spec.dtype, spec.shape, name=self._free(tensor))

    def _free(self, tensor: str) -> str:
        """Return a name for what stands in for a tensor: its own, unless its node stays."""
        name, index = split(tensor)
        is_placeholder = self.nodes.by_name[name].op in PLACEHOLDERS
        if name not in self.names and (is_placeholder or index == 0):
            return name
        return f"{name}_fed_{index}"

    def _definition(self) -> Any:
        source = self.nodes.graph
        definition = graph_pb2.GraphDef()
        definition.versions.CopyFrom(source.versions)
        for node in source.node:
            if node.name not in self.names:
                continue
            copy = definition.node.add()
            copy.CopyFrom(node)
            copy.device = ""
            # They speak of nodes and shapes that may be others here, and there is one device.
            copy.attr.pop("_class", None)
            copy.attr.pop("_output_shapes", None)
            kept = [
                text for text in copy.input if not text.startswith("^") or text[1:] in self.names
            ]
            del copy.input[:]
            copy.input.extend(kept)
        _add_functions(source, definition)
        return definition


def _add_functions(source: Any, definition: Any) -> None:
    """Keep the functions that the nodes call, and those that these call."""
    known = {function.signature.name: function for function in source.library.function}
    queue = [name for node in definition.node for name in _called(node, known)]
    needed: set[str] = set()
    while queue:
        name = queue.pop()
        if name not in needed:
            needed.add(name)
            queue += [other for node in known[name].node_def for other in _called(node, known)]
    definition.library.function.extend(known[name] for name in sorted(needed))
    for gradient in source.library.gradient:
        if gradient.function_name in needed and gradient.gradient_func in needed:
            definition.library.gradient.add().CopyFrom(gradient)


def _called(node: Any, known: Mapping[str, Any]) -> Iterable[str]:
    names = [node.op]
    for value in node.attr.values():
        names.append(value.func.name)
        names += [function.name for function in value.list.func]
    return [name for name in names if name in known]


def add_saver(graph: tf.Graph, variables: Sequence[Stored]) -> Any:
    """Add the nodes that save and restore exactly these variables, and return the ``SaverDef``."""
    names = [item.name for item in variables]
    specs = [item.spec for item in variables]
    with graph.as_default(), tf.name_scope("save"):
        operations = [graph.get_operation_by_name(item.node) for item in variables]
        path = v1.placeholder_with_default("model", (), name="Const")
        values = [_value(operation) for operation in operations]
        written = tf.raw_ops.SaveV2(
            prefix=path, tensor_names=names, shape_and_slices=specs, tensors=values
        )
        with tf.control_dependencies([written]):
            saved = tf.identity(path, name="saved")
        restored = tf.raw_ops.RestoreV2(
            prefix=path,
            tensor_names=names,
            shape_and_slices=specs,
            dtypes=[value.dtype.base_dtype for value in values],
        )
        assigned = [
            _assign(operation, value) for operation, value in zip(operations, restored, strict=True)
        ]
        restore = tf.group(*assigned, name="restore_all")
    return saver_pb2.SaverDef(
        filename_tensor_name=path.name,
        save_tensor_name=saved.name,
        restore_op_name=restore.name,
        version=saver_pb2.SaverDef.V2,
    )


def _value(variable: Any) -> Any:
    if variable.type != _RESOURCE:
        return tf.identity(variable.outputs[0])
    value = tf.raw_ops.ReadVariableOp(
        resource=variable.outputs[0], dtype=variable.get_attr("dtype")
    )
    value.set_shape(tf.TensorShape(variable.get_attr("shape")))
    return value


def _assign(variable: Any, value: Any) -> Any:
    if variable.type == _RESOURCE:
        return tf.raw_ops.AssignVariableOp(
            resource=variable.outputs[0], value=tf.identity(value), validate_shape=False
        )
    return tf.raw_ops.Assign(ref=variable.outputs[0], value=value, validate_shape=True).op
