"""What the conversion process is asked, and what it answers. No TensorFlow here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mstore.domain.signatures import TensorSpec
from mstore.domain.tensors import DTYPES
from mstore.errors import UsageError

_INPUT = re.compile(r"(?P<key>[^=]+)=(?P<dtype>[a-z0-9_]+)(\[(?P<dims>[^\]]*)\])?", re.ASCII)
_DTYPE_NAMES = frozenset(name for name, _ in DTYPES.values()) - {"resource", "variant"}

SELF_DESCRIBING = frozenset({"keras", "keras-directory", "legacy-h5"})
"""Formats of files that may hold their model's architecture, so that a builder is optional."""

KERAS_FORMATS = SELF_DESCRIBING | {"weights-h5", "weights-json"}
"""Formats that Keras writes."""

_ALIASES = {"float": "float32", "double": "float64", "half": "float16", "str": "string"}


def parse_input(text: str) -> tuple[str, TensorSpec]:
    """Return the key and the specification in ``text``.

    >>> parse_input("x=float32[?,10]")
    ('x', TensorSpec(dtype='float32', shape=(None, 10)))

    Raises:
        UsageError: if ``text`` is not ``KEY=DTYPE[DIM,DIM,...]``, each DIM a number or ``?``.
    """
    match = _INPUT.fullmatch(text.strip())
    hint = "write it as KEY=DTYPE[DIM,...], such as --input 'x=float32[?,10]'"
    if match is None:
        raise UsageError(f"cannot read the input {text!r}", hint=hint)
    dtype = _ALIASES.get(match["dtype"], match["dtype"])
    if dtype not in _DTYPE_NAMES:
        raise UsageError(f"the input {text!r} has the unknown dtype {dtype!r}", hint=hint)
    return match["key"].strip(), TensorSpec(dtype, _parse_dims(text, match["dims"], hint))


def _parse_dims(text: str, dims: str | None, hint: str) -> tuple[int | None, ...]:
    parts = [part.strip() for part in dims.split(",")] if dims and dims.strip() else []
    if not all(part in {"?", "None", "-1"} or part.isdecimal() for part in parts):
        raise UsageError(f"cannot read the shape of the input {text!r}", hint=hint)
    return tuple(int(part) if part.isdecimal() else None for part in parts)


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One conversion of a checkpoint into a SavedModel.

    Attributes:
        checkpoint: of a TensorBundle, its prefix, such as ``ckpts/ckpt-7``; of a format that Keras
            writes, the file itself (``model.keras``, ``model.weights.h5``, the ``.weights.json``
            beside its shards), or the directory of an unzipped archive.
        output: directory to write the SavedModel into; must not exist or be empty.
        builder: ``FILE.py:NAME`` or ``package.module:NAME``. Of a file that holds its own
            architecture it may be None; or ``FILE.py`` or ``package.module``, whose classes and
            functions are then the custom objects of the file.
        builder_args: keyword arguments for the builder; converted where its annotations say
            int, float, bool or Path.
        inputs: specification of each input, where neither the model nor the builder says.
        root: dotted path of the model in the checkpoint's object graph; None finds it.
        allow_unrestored: names of variables that need not come from the checkpoint.
        search_path: directory for relative builder files, and for the import of builder modules.
        format: how the checkpoint's files are laid out (`mstore.formats.layout.Format`).
        trust: whether code in the file itself (the lambdas of ``Lambda`` layers) may be run.
        weights: ``raw`` for the weights, ``ema`` for the moving averages that an optimizer keeps
            of them; None is refused where a checkpoint has both and they differ.
        dyed: whether the checkpoint holds dyes (`mstore.convert.dye`): the conversion then ends
            when the SavedModel is written, without running it.
    """

    checkpoint: Path
    output: Path
    builder: str | None = None
    builder_args: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    root: str | None = None
    allow_unrestored: tuple[str, ...] = ()
    search_path: Path = Path()
    format: str = "tensor-bundle"
    trust: bool = False
    weights: str | None = None
    dyed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the request as JSON; ``from_json`` gives an equal one, with absolute paths."""
        return {
            "checkpoint": str(self.checkpoint.absolute()),
            "output": str(self.output.absolute()),
            "builder": self.builder,
            "builder_args": dict(self.builder_args),
            "inputs": {key: spec.to_json() for key, spec in self.inputs.items()},
            "root": self.root,
            "allow_unrestored": list(self.allow_unrestored),
            "search_path": str(self.search_path.absolute()),
            "format": self.format,
            "trust": self.trust,
            "weights": self.weights,
            "dyed": self.dyed,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "TraceRequest":
        """Return the request that ``to_json`` wrote."""
        return cls(
            checkpoint=Path(body["checkpoint"]),
            output=Path(body["output"]),
            builder=body["builder"],
            builder_args=dict(body["builder_args"]),
            inputs={key: TensorSpec.from_json(spec) for key, spec in body["inputs"].items()},
            root=body["root"],
            allow_unrestored=tuple(body["allow_unrestored"]),
            search_path=Path(body["search_path"]),
            format=body["format"],
            trust=body["trust"],
            weights=body.get("weights"),
            dyed=body["dyed"],
        )


@dataclass(frozen=True, eq=False)
class Sample:
    """A made-up batch and what the live model gave for it.

    Attributes:
        feeds: input key to array.
        outputs: output key to array.
        tolerance: how far a floating-point output may be off, relative to its largest value.
    """

    feeds: Mapping[str, npt.NDArray[Any]]
    outputs: Mapping[str, npt.NDArray[Any]]
    tolerance: float


@dataclass(frozen=True, slots=True)
class TraceResult:
    """What the conversion process says it did. ``proof.prove`` checks it; do not trust it alone.

    Attributes:
        sources: key in the SavedModel's ``variables.index`` to the key in the checkpoint it was
            restored from, None where it was not.
        names: the same keys to the variable's name in the program, for messages.
        root: dotted path of the node of the checkpoint that the model was restored from;
            ``""`` is the checkpoint's root.
        environment: versions of python, tensorflow, keras and numpy.
        dims: input key to a concrete shape that the model was run with, for the load check.
        warnings: one sentence each; things that a careful user wants to know.
        unused: checkpoint keys below no optimizer that the model does not have.
        code: file to SHA-256 of each file that the model was made from: the user's own Python
            modules, vocabularies, whatever was opened on the way and is not installed.
        read: names of the variables whose values Python code read between the restore and the end
            of tracing: the graph may depend on them.
        samples: signature name to a batch with the live model's outputs; not part of the JSON.
    """

    sources: Mapping[bytes, bytes | None]
    names: Mapping[bytes, str] = field(default_factory=dict)
    root: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    dims: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    unused: tuple[bytes, ...] = ()
    code: Mapping[str, str] = field(default_factory=dict)
    read: tuple[str, ...] = ()
    samples: Mapping[str, Sample] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON; keys that are not UTF-8 survive as surrogates."""
        return {
            "sources": {_text(k): None if v is None else _text(v) for k, v in self.sources.items()},
            "names": {_text(key): name for key, name in self.names.items()},
            "root": self.root,
            "environment": dict(self.environment),
            "dims": {key: list(shape) for key, shape in self.dims.items()},
            "warnings": list(self.warnings),
            "unused": [_text(key) for key in self.unused],
            "code": dict(self.code),
            "read": list(self.read),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "TraceResult":
        """Return the result that ``to_json`` wrote."""
        return cls(
            sources={_key(k): None if v is None else _key(v) for k, v in body["sources"].items()},
            names={_key(key): name for key, name in body["names"].items()},
            root=body["root"],
            environment=dict(body["environment"]),
            dims={key: tuple(shape) for key, shape in body["dims"].items()},
            warnings=tuple(body["warnings"]),
            unused=tuple(_key(text) for text in body["unused"]),
            code=dict(body["code"]),
            read=tuple(body["read"]),
        )


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def _key(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
