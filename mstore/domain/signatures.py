"""Signatures of a SavedModel: which named tensors go in and come out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Dtype and shape of one input or output.

    Attributes:
        dtype: TensorFlow's name of the element type.
        shape: length of each dimension, None where it is open; None when even the rank is open.
    """

    dtype: str
    shape: tuple[int | None, ...] | None

    def to_json(self) -> dict[str, object]:
        """Return ``{"dtype", "shape"}``; an open dimension is ``null``."""
        return {"dtype": self.dtype, "shape": None if self.shape is None else list(self.shape)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "TensorSpec":
        """Return the specification that `to_json` wrote."""
        shape = body["shape"]
        return cls(str(body["dtype"]), tuple(shape) if isinstance(shape, list) else None)


@dataclass(frozen=True, slots=True)
class Signature:
    """One entry point of a SavedModel.

    Attributes:
        inputs: key to dtype and shape.
        outputs: the same for what comes out.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    def to_json(self) -> dict[str, object]:
        """Return ``{"inputs": {key: spec}, "outputs": {key: spec}}`` with sorted keys."""
        return {
            "inputs": {key: self.inputs[key].to_json() for key in sorted(self.inputs)},
            "outputs": {key: self.outputs[key].to_json() for key in sorted(self.outputs)},
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> "Signature":
        """Return the signature that `to_json` wrote."""
        inputs, outputs = (
            {key: TensorSpec.from_json(spec) for key, spec in body[side].items()}
            for side in ("inputs", "outputs")
        )
        return cls(inputs, outputs)
