"""Name-based checkpoints of TensorFlow 1 in the V2 format, as ``tf.compat.v1.train.Saver`` writes.

Such a checkpoint is a TensorBundle without an object graph, whose keys are the variables' names.
The ``.meta`` beside it holds the graph that was trained, which is enough to export from.
"""

import os
from dataclasses import replace
from pathlib import Path

from mstore.domain.tensors import Tensor, TensorTable
from mstore.formats.layout import Architecture, Layout
from mstore.formats.meta_graph import META, read_meta_graph
from mstore.formats.slices import parse_slice_key, slice_label
from mstore.formats.steps import find_step
from mstore.formats.tensor_bundle import read_table

__all__ = ["architecture_of", "meta_suffix", "name_slices", "read_tf1_bundle"]


def read_tf1_bundle(prefix: Path) -> Layout:
    """Return the files and tensors of the name-based checkpoint at ``prefix``.

    Partitioned variables stand in the table as TensorFlow stores them: an entry under the name
    that is marked ``sliced``, and one for each slice, named like ``embedding[0:4,0:8]``.

    Raises:
        InputError: there is no index.
        DamagedFileError: the index or the ``.meta`` is damaged, a data file is missing or shorter
            than the index says.
        SystemIOError: the operating system refused.
    """
    table = name_slices(read_table(prefix))
    return Layout(
        format="tf1-bundle",
        prefix=prefix,
        files=(*table.files, *meta_suffix(prefix), ".index"),
        table=table,
        step=find_step(prefix, table),
        architecture=architecture_of(prefix),
    )


def meta_suffix(prefix: Path) -> tuple[str, ...]:
    """Return the suffix of the ``.meta`` of a checkpoint, nothing where there is none."""
    # Unlike Path.exists, this does not raise for names that are too long to exist.
    return (META,) if os.path.lexists(f"{prefix}{META}") else ()


def architecture_of(prefix: Path) -> Architecture | None:
    """Return ``meta-graph`` where there is a sound ``.meta``, None where there is none.

    Raises:
        InputError: it is a directory or a device.
        DamagedFileError: it is damaged.
        SystemIOError: the operating system refused.
    """
    for suffix in meta_suffix(prefix):
        read_meta_graph(Path(f"{prefix}{suffix}"))
        return "meta-graph"
    return None


def name_slices(table: TensorTable) -> TensorTable:
    """Return the table with names for people on the slices of partitioned variables."""
    return replace(table, tensors=tuple(_named(tensor) for tensor in table))


def _named(tensor: Tensor) -> Tensor:
    parsed = parse_slice_key(tensor.key)
    if parsed is None:
        return tensor
    name, extents = parsed
    label = slice_label(name.decode("utf-8", "backslashreplace"), extents)
    return replace(tensor, full_name=label)
