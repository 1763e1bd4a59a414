"""Vocabularies: the files that a trained graph fills its tables from."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

from mstore.convert.worker.meta_nodes import Nodes
from mstore.errors import InputError

_COLLECTION = "saved_model_assets"
_FROM_FILE = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})


def find_assets(
    nodes: Nodes, meta: Any, names: Iterable[str], search_path: Path
) -> dict[str, Path]:
    """Return the file for each constant among the nodes that names one.

    Args:
        nodes: the graph.
        meta: the ``MetaGraphDef``; its list of assets counts too.
        names: the nodes that are exported.
        search_path: directory for relative paths, and for files that were moved.

    Raises:
        InputError: a file is not there.
    """
    kept = set(names)
    listed = {
        tensor.rpartition(":")[0]
        for tensor in meta.collection_def["asset_filepaths"].node_list.value
        if tensor.rpartition(":")[0] in kept
    }
    found: dict[str, Path] = {}
    for name in sorted(kept | listed):
        node = nodes.by_name[name]
        tensor = node.input[1] if node.op in _FROM_FILE else f"{name}:0"
        if node.op not in _FROM_FILE and name not in listed:
            continue
        constant = nodes.constant(tensor)
        if constant is not None and constant[1].string_val:
            path = constant[1].string_val[0].decode("utf-8", "surrogateescape")
            found[constant[0]] = _existing(path, name, search_path)
    return found


def _existing(text: str, node: str, search_path: Path) -> Path:
    for path in (search_path / text, search_path / Path(text).name):
        if path.is_file():
            return path
    raise InputError(
        f"the table that {node!r} fills needs the file {text}, which is not there",
        hint=f"put {Path(text).name} into {search_path}",
    )


def point_to(graph: Any, assets: Mapping[str, Path]) -> None:
    """Let the constants of a ``GraphDef`` name the files where they are."""
    for node in graph.node:
        if node.name in assets:
            node.attr["value"].tensor.string_val[:] = [str(assets[node.name]).encode()]


def forget_places(saved_model: Path) -> None:
    """Leave only the names of the files in the graph: the loader fills in where they are.

    The builder of TensorFlow 1 lists them in a collection; readers look for them in a field of
    their own, as TensorFlow 2 writes it, first.
    """
    path = saved_model / "saved_model.pb"
    message = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta in message.meta_graphs:
        for item in meta.collection_def[_COLLECTION].any_list.value:
            asset = meta.asset_file_def.add()
            item.Unpack(asset)
        del meta.collection_def[_COLLECTION]
        names = {
            asset.tensor_info.name.rpartition(":")[0]: Path(asset.filename)
            for asset in meta.asset_file_def
        }
        point_to(meta.graph_def, names)
    path.write_bytes(message.SerializeToString(deterministic=True))
