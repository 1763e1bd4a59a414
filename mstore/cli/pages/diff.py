"""The page of two checkpoints compared."""

from collections.abc import Mapping
from types import MappingProxyType

from mstore.cli.output import Block, Line, Page
from mstore.cli.pages.checkpoints import name_of
from mstore.cli.text import Table, shape, size
from mstore.domain.records import ChangeKind, Diff, TensorChange

_SIGNS: Mapping[ChangeKind, str] = MappingProxyType(
    {"added": "+", "removed": "-", "reshaped": "!", "changed": "~", "unchanged": "="}
)


def diff_page(diff: Diff, *, unchanged: bool) -> Page:
    """Return the page of ``mstore diff``; ``unchanged`` tensors are shown only if asked for."""
    shown = [change for change in diff.changes if unchanged or change.kind != "unchanged"]
    rows = tuple(
        (_SIGNS[change.kind], change.kind, change.name, _typed(change), size(change.bytes))
        for change in shown
    )
    counts = ", ".join(f"{diff.count(kind)} {kind}" for kind in _SIGNS if diff.count(kind))
    blocks: tuple[Block, ...] = (
        Line(f"{name_of(diff.a)} -> {name_of(diff.b)}: {counts or 'no tensors'}", "bold"),
        Table(("", "CHANGE", "TENSOR", "TYPE", "SIZE"), rows, frozenset({"SIZE"})),
    )
    return Page(diff.to_json(), tuple(change.key for change in shown), blocks)


def _typed(change: TensorChange) -> str:
    sides = [f"{side[0]}{shape(side[1])}" for side in (change.before, change.after) if side]
    return " -> ".join(dict.fromkeys(sides))
