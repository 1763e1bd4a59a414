"""Programs: what is the same in all versions of one architecture."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from mstore.domain.records import Json
from mstore.domain.signatures import Signature


@dataclass(frozen=True, slots=True)
class Program:
    """The graph of an architecture, and the map from its variables to a checkpoint's tensors.

    Attributes:
        id: content id of graph, assets and map; a version names it.
        model: name of the model.
        checkpoint: id of the checkpoint that it was first made from.
        linkable: whether versions of other checkpoints can be made of it without running anything.
        reason: why not, None where it is linkable.
        signatures: entry points by name.
        tensors: number of variables.
        structure: content id of the checkpoint's structure: keys, types, shapes and names.
        root: where the model is in the checkpoint.
        builder: the builder that made it, as versions record it.
        parameters: what was given with the builder: ``builder_args``, ``inputs``, ``root``,
            ``allow_unrestored`` and ``weights``, which are ``raw``, ``ema`` or None.
        code: file to SHA-256 of the user's files that it was made from: code, vocabularies.
        environment: versions of what made it.
        warnings: what the conversion wanted to be known.
        recorded_at: time, ISO 8601 in UTC.
    """

    id: str
    model: str
    checkpoint: str
    linkable: bool
    reason: str | None
    signatures: Mapping[str, Signature]
    tensors: int
    structure: str
    root: str
    builder: Mapping[str, object]
    parameters: Mapping[str, object]
    code: Mapping[str, str]
    environment: Mapping[str, str]
    warnings: tuple[str, ...]
    recorded_at: str

    def to_json(self) -> Json:
        """Return the JSON object; `from_json` gives an equal program."""
        return {
            "id": self.id,
            "model": self.model,
            "checkpoint": self.checkpoint,
            "linkable": self.linkable,
            "reason": self.reason,
            "signatures": {name: sig.to_json() for name, sig in sorted(self.signatures.items())},
            "tensors": self.tensors,
            "structure": self.structure,
            "root": self.root,
            "builder": dict(self.builder),
            "parameters": dict(self.parameters),
            "code": dict(self.code),
            "environment": dict(self.environment),
            "warnings": list(self.warnings),
            "recorded_at": self.recorded_at,
        }

    @classmethod
    def from_json(cls, body: Json) -> "Program":
        """Return the program that `to_json` wrote; names it does not know are passed over.

        Raises:
            TypeError: a name is missing.
        """
        known = {name: body[name] for name in {field.name for field in fields(cls)} & set(body)}
        signatures = known.get("signatures", {})
        assert isinstance(signatures, dict)  # noqa: S101 - written by to_json
        known["signatures"] = {name: Signature.from_json(sig) for name, sig in signatures.items()}
        warnings = known.get("warnings", ())
        assert isinstance(warnings, list)  # noqa: S101 - written by to_json
        known["warnings"] = tuple(warnings)
        return cls(**known)  # type: ignore[arg-type]  # as to_json wrote them
