"""What the graph of a SavedModel does, as far as serving is concerned."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mstore.domain.signatures import Signature

Origin = Literal["asset", "constant", "request", "unknown"]
"""Where the name of a file comes from."""


@dataclass(frozen=True, slots=True)
class OpUse:
    """An op that a server runs.

    Attributes:
        op: its name.
        node: the first node that is one, ``function/node`` where it is in a function.
        reason: the signature that runs it, or None where loading the version does.
        count: number of such nodes.
        origin: of an op that opens a file: where the file's name comes from.
        file: the name itself, where it is a constant.
    """

    op: str
    node: str
    reason: str | None
    count: int = 1
    origin: Origin | None = None
    file: str = ""


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant in the graph: its node and the size of its value in bytes."""

    node: str
    size: int


@dataclass(frozen=True, slots=True)
class Graph:
    """One meta graph of a SavedModel.

    Attributes:
        tags: its tags.
        tensorflow_version: what wrote it; empty if unknown.
        signatures: its entry points.
        ops: what a server runs, each op and each file it opens once; the saver's own work is left
            out.
        declared: ops of the main graph by name with the first node that is one, run or not: the
            loader must know all of them.
        must_compile: nodes or functions that are only to be run compiled by XLA, with the
            signature that does, or None where loading does.
        constants: the largest constants, the largest first.
        constant_bytes: bytes of all constants of more than a kilobyte.
        restores: whether it says how its variables are restored.
    """

    tags: frozenset[str]
    tensorflow_version: str
    signatures: Mapping[str, Signature]
    ops: tuple[OpUse, ...]
    declared: Mapping[str, str]
    must_compile: Mapping[str, str | None]
    constants: tuple[Constant, ...]
    constant_bytes: int
    restores: bool
