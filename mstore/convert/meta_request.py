"""What the process that exports a TensorFlow 1 graph is asked. No TensorFlow here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mstore.errors import UsageError

_TENSOR = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*:[0-9]{1,9}", re.ASCII)


def is_tensor(text: str) -> bool:
    """Return whether ``text`` is the name of a tensor of a graph, such as ``dense/BiasAdd:0``."""
    return _TENSOR.fullmatch(text) is not None


def parse_tensor(option: str, text: str) -> tuple[str, str]:
    """Return the key and the tensor in ``KEY=OP:INDEX``.

    >>> parse_tensor("--output", "scores=dense/Softmax:0")
    ('scores', 'dense/Softmax:0')

    Raises:
        UsageError: it has another form.
    """
    key, _, tensor = text.partition("=")
    if not key.strip() or not is_tensor(tensor.strip()):
        raise UsageError(
            f"{option} {text!r} is not NAME=OP:INDEX",
            hint=f"write {option} 'scores=dense/Softmax:0': a name, and a tensor of the graph",
        )
    return key.strip(), tensor.strip()


@dataclass(frozen=True, slots=True)
class MetaGraphRequest:
    """One export of a name-based checkpoint by the graph in its ``.meta``.

    Attributes:
        checkpoint: prefix of the checkpoint; ``<prefix>.meta`` is beside it.
        output: directory to write the SavedModel into; must not exist or be empty.
        inputs: tensor of the graph, such as ``x:0``, by the input's key. Not only placeholders
            may be fed: of a graph with an input pipeline, what comes out of that.
        outputs: tensor by the output's key. Where there are none, the signatures in the ``.meta``
            are exported.
        constants: value, as text, of tensors that are fixed, such as ``is_training:0``.
        search_path: where vocabularies are looked for that are not where the graph says.
    """

    checkpoint: Path
    output: Path
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    search_path: Path = Path()

    def to_json(self) -> dict[str, Any]:
        """Return the request as JSON; ``from_json`` gives an equal one, with absolute paths."""
        return {
            "checkpoint": str(self.checkpoint.absolute()),
            "output": str(self.output.absolute()),
            "inputs": dict(self.inputs),
            "outputs": dict(self.outputs),
            "constants": dict(self.constants),
            "search_path": str(self.search_path.absolute()),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "MetaGraphRequest":
        """Return the request that ``to_json`` wrote."""
        return cls(
            checkpoint=Path(body["checkpoint"]),
            output=Path(body["output"]),
            inputs=dict(body["inputs"]),
            outputs=dict(body["outputs"]),
            constants=dict(body["constants"]),
            search_path=Path(body["search_path"]),
        )
