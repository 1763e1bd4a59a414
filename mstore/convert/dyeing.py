"""Finds out by dyeing whether a program fits other checkpoints than the one it was made from."""

import filecmp
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mstore.convert.dye import Content, Dyes
from mstore.convert.fingerprint import FILE_NAME as FINGERPRINT
from mstore.convert.request import TraceRequest, TraceResult
from mstore.convert.tables import is_table_part
from mstore.convert.trace import trace
from mstore.domain.tensors import OBJECT_GRAPH_KEY, Tensor, TensorReader, TensorTable
from mstore.domain.warmup import WARMUP_PATH
from mstore.errors import Error
from mstore.formats.saved_model import variables_prefix
from mstore.formats.tensor_bundle import read_index

_VARIABLES = "variables"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Traced:
    """The export of the real checkpoint.

    Attributes:
        request: what was asked.
        result: what the conversion said.
        trained: the checkpoint's tensors.
    """

    request: TraceRequest
    result: TraceResult
    trained: TensorReader


def why_not_linkable(
    traced: Traced,
    work: Path,
    *,
    timeout: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> str | None:
    """Export the model again from dyed checkpoints and compare.

    Args:
        traced: the export of the real checkpoint, which is still in its directory.
        work: an empty directory for the dyed checkpoints and their exports.
        timeout: seconds for each export, or None.
        progress: called with a word for each stage.

    Returns:
        None if the graph and all assets are the same whatever the values, and each variable is a
        plain copy of one tensor of the checkpoint; otherwise the reason in words.
    """
    reason = _plainly_not(traced)
    if reason:
        return reason
    dyes = Dyes(traced.trained)
    landed: list[TensorTable] = [_variables(traced.request.output)]
    for turn in range(dyes.rounds):
        prefix = work / f"dyed-{turn}"
        dyes.write(prefix)
        request = replace(
            traced.request, checkpoint=prefix, output=work / f"export-{turn}", dyed=True
        )
        try:
            result = trace(request, timeout=timeout, progress=progress)
        except Error as error:
            return f"with other values the export fails: {error.message}"
        reason = _other_program(traced.request.output, request.output, traced.result, result)
        if reason:
            return reason
        landed.append(_variables(request.output))
    return _wrong_places(dyes, traced.result, landed)


def _plainly_not(traced: Traced) -> str | None:
    """Return a reason that shows without another export."""
    result = traced.result
    if result.read:
        return f"the value of {_listed(result.read)} is read while the graph is made"
    for key, source in result.sources.items():
        name = result.names.get(key, key.decode("utf-8", "replace"))
        if source is None:
            return f"{name} is not in the checkpoint"
        if is_table_part(key):
            return f"the content of the table {name} is written in an order of its own"
    used = set(result.sources.values())
    for tensor in Dyes(traced.trained).opaque:
        if tensor.sliced or tensor.key in used:
            return f"{tensor.name} is of a kind that cannot be filled with other values"
    return None


def _variables(saved_model: Path) -> TensorTable:
    return read_index(variables_prefix(saved_model))


def _other_program(first: Path, second: Path, real: TraceResult, dyed: TraceResult) -> str | None:
    """Return how the program of the second export differs from that of the first."""
    # A warmup request is written after the trace, and is no part of the program.
    files = {str(file.relative_to(first)) for file in first.rglob("*") if file.is_file()}
    files -= {WARMUP_PATH}
    others = {str(file.relative_to(second)) for file in second.rglob("*") if file.is_file()}
    for name in sorted(files | others):
        if name.startswith(f"{_VARIABLES}/") or name == FINGERPRINT:
            continue
        if not {name} <= files & others or not filecmp.cmp(
            first / name, second / name, shallow=False
        ):
            what = "the graph" if name == "saved_model.pb" else f"the file {name}"
            return f"{what} depends on values of the checkpoint"
    if dyed.read:
        return f"the value of {_listed(dyed.read)} is read while the graph is made"
    if real.sources != dyed.sources or real.names != dyed.names:
        return "which tensor a variable is restored from depends on values of the checkpoint"
    if _layout(_variables(first)) != _layout(_variables(second)):
        return "the variables depend on values of the checkpoint"
    return None


def _layout(table: TensorTable) -> list[object]:
    def shape(tensor: Tensor) -> tuple[object, ...]:
        # Strings have other lengths with other values, and so other places.
        graph = tensor.crc32c if tensor.key == OBJECT_GRAPH_KEY else None
        return tensor.key, tensor.dtype, tensor.shape, tensor.shard, graph

    order = sorted(table, key=lambda tensor: (tensor.shard, tensor.offset, tensor.key))
    return [shape(tensor) for tensor in order]


def _wrong_places(dyes: Dyes, result: TraceResult, landed: list[TensorTable]) -> str | None:
    """Return the first variable that is not, in every round, its source and no other tensor."""
    sources: Mapping[bytes, bytes | None] = result.sources
    for tensor in landed[0].values:
        source = sources[tensor.key]
        contents: list[Content] = [
            found.content for table in landed if (found := table.get(tensor.key)) is not None
        ]
        name = result.names.get(tensor.key, tensor.name)
        found_in = dyes.found(contents)
        if source is None or source not in found_in:
            return f"{name} is no plain copy of a tensor of the checkpoint"
        if tensor.size and (len(found_in) > 1 or dyes.unmarked(source)):
            return f"{name} cannot be told from other tensors of the checkpoint"
    return None


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
