"""Proves that the variables of a SavedModel are tensors of a checkpoint. No TensorFlow here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path


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
    checkpoint: Path,
    saved_model: Path,
    sources: Mapping[bytes, bytes | None],
    *,
    names: Mapping[bytes, str] | None = None,
    allow_unrestored: Collection[str] = (),
) -> list[ProvenVariable]:
    """Compare each variable of the SavedModel with the checkpoint's tensor it claims to be.

    Args:
        checkpoint: prefix of the checkpoint.
        saved_model: the SavedModel's directory.
        sources: ``TraceResult.sources``.
        names: ``TraceResult.names``; the names in messages.
        allow_unrestored: names (or keys) of variables that need no source.

    Raises:
        ProofError: naming every variable that is not, byte for byte, the tensor its source names,
            or has no source; or saying how the SavedModel stores a weight other than once.
        DamagedFileError: if one of the two cannot be read.
    """
    raise NotImplementedError
