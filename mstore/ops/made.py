"""What an export is asked for, and what it makes on the way to a version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mstore.convert.proof import ProvenVariable
from mstore.domain.records import FileRecord
from mstore.domain.signatures import Signature, TensorSpec
from mstore.ops.linking import Linked
from mstore.ops.programs import Learned, is_graph, program_id


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export.

    Attributes:
        builder: ``FILE.py:NAME`` or ``package.module:NAME``; None takes the recorded one. For a
            model that Keras saved whole, also ``FILE.py``, which defines its custom classes.
        builder_args: keyword arguments for it.
        inputs: dtype and shape by input key, where the model does not say. Of a graph of
            TensorFlow 1, the tensor by input key, and the value, as text, by fixed tensor.
        outputs: tensor of such a graph by output key.
        root: where the model is in the checkpoint; None finds it.
        to: base path to publish in as well, or None.
        trust: whether code that a Keras file carries itself may be run.
        allow_unrestored: variables that need not come from the checkpoint.
        allow_lint: kinds of lint errors to put up with.
        timeout: seconds for each of the two processes, or None for no limit.
        message: why, for the ledger.
        search_path: directory for relative builder files and builder modules.
        weights: ``raw`` or ``ema``, where an optimizer keeps moving averages; None asks.
        trace: run the builder even where a program could be linked.
        program: beginning of the id of the program to link with; None chooses.
        learn: whether a traced model's program is recorded for later exports.
        example: a golden example in a ``.npz`` file; None takes the one recorded, if there is one.
        atol: how far an output of the example may be off.
        rtol: the same, relative to what is expected.
        warmup: whether the example becomes the version's warmup request.
        check: whether TensorFlow's C++ loader also runs what was linked.
    """

    builder: str | None = None
    builder_args: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, TensorSpec | str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    root: str | None = None
    to: Path | None = None
    trust: bool = False
    allow_unrestored: tuple[str, ...] = ()
    allow_lint: tuple[str, ...] = ()
    timeout: float | None = None
    message: str | None = None
    search_path: Path = Path()
    weights: str | None = None
    trace: bool = False
    program: str | None = None
    learn: bool = True
    example: Path | None = None
    atol: float = 1e-5
    rtol: float = 1e-5
    warmup: bool = True
    check: bool = False

    @property
    def parameters(self) -> dict[str, object]:
        """What is given with the builder, as programs and statements record it."""
        return {
            "builder_args": dict(self.builder_args),
            "inputs": {
                key: value if isinstance(value, str) else value.to_json()
                for key, value in self.inputs.items()
            },
            # Versions of other checkpoints keep the bytes that they always had.
            **({"outputs": dict(self.outputs)} if self.outputs else {}),
            "root": self.root,
            "allow_unrestored": list(self.allow_unrestored),
            **({"trust": True} if self.trust else {}),
            "weights": self.weights,
        }


@dataclass(frozen=True, slots=True)
class Made:
    """The files of a version that has passed every check, not yet in the store.

    Attributes:
        method: ``trace``, or ``link`` where no program was run.
        contents: the files: a working directory, or slices of what is stored.
        proven: its variables and the checkpoint's tensors they equal.
        signatures: its entry points.
        files: its files.
        builder: what is recorded of the builder.
        parameters: what it was given.
        root: where the model is in the checkpoint.
        environment: versions of what made it.
        warnings: what the conversion wants to be known.
        checks: outcome of each check, for `Version.checks`.
        learned: its program, where that is new to the store.
        parity: figures of its golden example, for `Version.parity`.
    """

    method: Literal["trace", "link"]
    contents: "Directory | Linked"
    proven: Sequence[ProvenVariable]
    signatures: Mapping[str, Signature]
    files: tuple[FileRecord, ...]
    builder: Mapping[str, object] = field(default_factory=dict)
    parameters: Mapping[str, object] = field(default_factory=dict)
    root: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)
    learned: Learned | None = None
    parity: Mapping[str, object] = field(default_factory=dict)

    @property
    def program(self) -> str:
        """Id of the graph and of the map from its variables to checkpoint tensors."""
        graph = {file.path: file.sha256 for file in self.files if is_graph(file.path)}
        return program_id(graph, {v.key: v.source_key for v in self.proven})


@dataclass(frozen=True, slots=True)
class Directory:
    """Files of a version in a working directory; ``path`` is that directory."""

    path: Path
