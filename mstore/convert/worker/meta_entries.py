"""The entry points of a trained graph: those that were asked for, or its own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mstore.convert.meta_request import MetaGraphRequest
from mstore.convert.worker.meta_nodes import PLACEHOLDERS, Nodes, full, split
from mstore.domain.tensors import DTYPES
from mstore.errors import InputError

DEFAULT = "serving_default"
_INTERNAL = frozenset({"__saved_model_init_op", "__saved_model_train_op"})


@dataclass(frozen=True, slots=True)
class MetaEntry:
    """One entry point.

    Attributes:
        name: of the signature.
        inputs: tensor of the trained graph by key.
        outputs: the same for what comes out.
    """

    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def find_entries(nodes: Nodes, meta: Any, request: MetaGraphRequest) -> list[MetaEntry]:
    """Return the entry points; one is called ``serving_default``.

    Raises:
        InputError: a tensor is not in the graph, is fed twice or is both fed and fixed, a
            signature is of sparse tensors, or several leave open which one is meant.
    """
    if request.outputs:
        entries = [MetaEntry(DEFAULT, _full(request.inputs), _full(request.outputs))]
    else:
        entries = [_own(name, meta) for name in sorted(meta.signature_def)]
        entries = [entry for entry in entries if entry.name not in _INTERNAL]
    names = [entry.name for entry in entries]
    if DEFAULT not in names and len(entries) == 1:
        entries.append(MetaEntry(DEFAULT, entries[0].inputs, entries[0].outputs))
    elif DEFAULT not in names:
        raise InputError(
            f"the graph has the signatures {', '.join(names) or '(none)'}, and none is {DEFAULT}",
            hint="say what to export: --input NAME=OP:0 --output NAME=OP:0",
        )
    for entry in entries:
        for tensor in (*entry.inputs.values(), *entry.outputs.values()):
            nodes.require(tensor)
        if len(set(entry.inputs.values())) != len(entry.inputs):
            raise InputError(f"the signature {entry.name!r} feeds one tensor under two names")
    fed = {tensor for entry in entries for tensor in entry.inputs.values()}
    for tensor in request.constants:
        nodes.require(tensor)
        if full(tensor) in fed:
            raise InputError(
                f"{tensor!r} is an input and is also given a fixed value",
                hint="leave out one of the two --input",
            )
    return entries


def require_fed(nodes: Nodes, entry: MetaEntry, found: Iterable[str]) -> None:
    """Check that every placeholder that the outputs need is an input.

    Raises:
        InputError: naming the first one that is not.
    """
    fed = {full(tensor) for tensor in entry.inputs.values()}
    for name in sorted(found):
        node = nodes.by_name[name]
        if node.op not in PLACEHOLDERS or f"{name}:0" in fed:
            continue
        dtype = DTYPES.get(node.attr["dtype"].type, ("", 0))[0]
        cure = f"--input {name.rpartition('/')[2]}={name}:0"
        if not node.attr["shape"].shape.dim:
            value = "false" if dtype == "bool" else "1"
            cure += f", or fix its value: --input {name}:0={value}"
        raise InputError(
            f"the outputs of {entry.name!r} need the placeholder {name!r} ({dtype}), which is no "
            "input",
            hint=f"make it one: {cure}",
        )


def _full(tensors: Mapping[str, str]) -> dict[str, str]:
    return {key: full(tensor) for key, tensor in tensors.items()}


def _own(name: str, meta: Any) -> MetaEntry:
    signature = meta.signature_def[name]
    return MetaEntry(name, _tensors(name, signature.inputs), _tensors(name, signature.outputs))


def _tensors(name: str, infos: Mapping[str, Any]) -> dict[str, str]:
    for key, info in infos.items():
        if not info.name or not split(info.name)[0]:
            raise InputError(
                f"{key!r} of the signature {name!r} is no dense tensor",
                hint="name dense tensors: --input NAME=OP:0 --output NAME=OP:0",
            )
    return {key: full(infos[key].name) for key in sorted(infos)}
