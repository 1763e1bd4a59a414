"""Proves that the variables of a SavedModel are tensors of a checkpoint. No TensorFlow here."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mstore.convert.tables import content, is_table_part
from mstore.disk import os_errors
from mstore.domain.tensors import Tensor, TensorReader
from mstore.errors import ProofError
from mstore.formats.saved_model import SavedModelInfo, read_saved_model, variables_prefix
from mstore.formats.tensor_bundle import BundleFiles, shard_paths, tensor_check

# What the object graph of the variables may cost: a percent, or what its parts need. A variable
# takes about 66 bytes of it (its key, and the same few words each time).
_SLACK = 0.01
_EACH, _FIXED = 80, 4096
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class ProvenVariable:
    """One variable of a SavedModel and the checkpoint's tensor it equals.

    Attributes:
        key: its key in the SavedModel's ``variables.index``.
        source_key: key of the checkpoint's tensor; None for one that was allowed not to have any.
        name: its name in the program.
        size: bytes.
    """

    key: bytes
    source_key: bytes | None
    name: str
    size: int


def prove(
    trained: TensorReader,
    saved_model: Path,
    sources: Mapping[bytes, bytes | None],
    *,
    names: Mapping[bytes, str] | None = None,
    allow_unrestored: Collection[str] = (),
    traced: bool = True,
) -> list[ProvenVariable]:
    """Compare each variable of the SavedModel with the checkpoint's tensor it claims to be.

    A variable must have a source and equal it. Content alone proves nothing: biases that are all
    zero equal each other wherever they come from.

    Args:
        trained: the checkpoint's tensors.
        saved_model: the SavedModel's directory.
        sources: ``TraceResult.sources``.
        names: ``TraceResult.names``; the names in messages.
        allow_unrestored: names (or keys) of variables that need no source.
        traced: whether the SavedModel was written by our own conversion, which keeps each weight
            once behind one handle; others are taken as they are.

    Raises:
        ProofError: naming every variable that is not, byte for byte, the tensor its source names,
            or has no source; or saying how the SavedModel stores a weight other than once.
        InputError: if one of the two is not there.
        DamagedFileError: if one of the two cannot be read.
    """
    info = read_saved_model(saved_model)
    served = BundleFiles(variables_prefix(saved_model))
    table = served.table
    known = names or {}

    def name_of(key: bytes) -> str:
        return known.get(key) or info.variable_names.get(key) or key.decode("utf-8", "replace")

    faults = dict(_faults(served, trained, sources, frozenset(allow_unrestored), name_of))
    if faults:
        raise ProofError(
            "the SavedModel is not proven to hold the checkpoint's weights:"
            + _listed([f"{name_of(key)} {fault}" for key, fault in faults.items()]),
            subjects=[name_of(key) for key in faults],
            hint="nothing was published; export again, and report it if it stays",
        )
    if traced:
        _refuse_shape(saved_model, info, served, sources)
    return [
        ProvenVariable(tensor.key, sources[tensor.key], name_of(tensor.key), tensor.size)
        for tensor in table.values
    ]


def _faults(
    served: TensorReader,
    trained: TensorReader,
    sources: Mapping[bytes, bytes | None],
    allowed: frozenset[str],
    name_of: Callable[[bytes], str],
) -> Iterator[tuple[bytes, str]]:
    for tensor in served.table.values:
        source = sources.get(tensor.key)
        if source is None:
            if not allowed & {name_of(tensor.key), tensor.name}:
                yield tensor.key, "was not restored from the checkpoint"
            continue
        fault = _difference(served, tensor, trained, trained.table.get(source))
        if fault:
            yield tensor.key, fault
    for key in sources:
        if served.table.get(key) is None:
            yield key, "is not in the SavedModel's variables"
    uses = Counter(source for source in sources.values() if source is not None)
    for key, source in sources.items():
        if source is not None and uses[source] > 1:
            yield key, f"shares the checkpoint's {source.decode('utf-8', 'replace')} with another"


def _difference(
    served: TensorReader,
    tensor: Tensor,
    trained: TensorReader,
    original: Tensor | None,
) -> str:
    """Return how the tensor differs from its source, the empty string if it does not."""
    if original is None or original.sliced:
        return "has a source that is no tensor of the checkpoint"
    if is_table_part(tensor.key):
        # A hash table is written in an order of its own; its pairs are compared instead.
        ours = content(served, tensor.key)
        theirs = content(trained, original.key)
        return "" if ours is not None and ours == theirs else f"differs from {original.name}"
    if (tensor.dtype, tensor.shape, tensor.size) != (original.dtype, original.shape, original.size):
        return (
            f"is {tensor.dtype}{list(tensor.shape)}, and {original.name} is "
            f"{original.dtype}{list(original.shape)}"
        )
    if tensor.crc32c != original.crc32c or not _equal(served, tensor, trained, original):
        return f"differs from {original.name}"
    return ""


def _equal(served: TensorReader, tensor: Tensor, trained: TensorReader, original: Tensor) -> bool:
    """Compare the bytes themselves, and check that they are those of the recorded checksum."""
    check = tensor_check(tensor)
    theirs = _Stream(trained.pieces(original))
    read = 0
    for piece in served.pieces(tensor):
        if not theirs.continues_with(memoryview(piece)):
            return False
        check.update(piece)
        read += len(piece)
    return read == tensor.size and check.matches()


class _Stream:
    """Bytes that come in pieces of any length, compared with others."""

    def __init__(self, pieces: Iterator[bytes | memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def continues_with(self, data: memoryview) -> bool:
        """Return whether the next bytes are ``data``, and go past them."""
        while data:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    return False
                self._rest = memoryview(piece)
                continue
            length = min(len(data), len(self._rest))
            if data[:length] != self._rest[:length]:
                return False
            data, self._rest = data[length:], self._rest[length:]
        return True


def _refuse_shape(
    saved_model: Path,
    info: SavedModelInfo,
    served: BundleFiles,
    sources: Mapping[bytes, bytes | None],
) -> None:
    """Refuse SavedModels that a server loads and then fails on, or that waste memory."""
    if info.tag_sets != [frozenset({"serve"})]:
        tags = "; ".join(",".join(sorted(tags)) for tags in info.tag_sets)
        raise _misshapen(f"has the tags {tags or 'none'}, and servers look for 'serve' alone", [])
    if "serving_default" not in info.signatures:
        raise _misshapen("has no signature 'serving_default'", [])
    doubled = [name for name, count in info.handles.items() if count != 1]
    if doubled:
        raise _misshapen("reads other variables than those that are restored", doubled)
    variables = [key for key in sources if not is_table_part(key)]
    # The path of each asset file (a vocabulary) is a variable too, which the loader itself fills.
    if len(info.handles) != len(variables) + len(info.assets):
        raise _misshapen(
            f"has {len(info.handles)} variable handles for {len(variables)} variables",
            sorted(info.handles),
        )
    weights = served.table.nbytes
    paths = shard_paths(served.prefix, served.table.num_shards) if len(served.table) else []
    with os_errors(f"cannot read {saved_model}"):
        stored = sum(path.stat().st_size for path in paths)
    if stored > weights + max(weights * _SLACK, _FIXED + _EACH * len(served.table)):
        raise _misshapen(f"stores {stored} bytes for {weights} bytes of weights", [])


def _misshapen(what: str, subjects: list[str]) -> ProofError:
    return ProofError(
        f"the SavedModel {what}" + _listed(subjects),
        subjects=subjects,
        hint="nothing was published; this is an error of mstore, please report it",
    )


def _listed(lines: list[str]) -> str:
    shown = "".join(f"\n  {line}" for line in lines[:_SHOWN])
    left = len(lines) - _SHOWN
    return shown + (f"\n  and {left} more" if left > 0 else "")
