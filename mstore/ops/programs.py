"""Programs in the store: learned with the first export of an architecture, recorded, read again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mstore.catalog import programs as queries
from mstore.catalog.engine import reading
from mstore.catalog.programs import ProgramRow
from mstore.convert.builders import split
from mstore.convert.fingerprint import FILE_NAME as FINGERPRINT
from mstore.convert.template import Template
from mstore.domain.canonical import canonical
from mstore.domain.programs import Program
from mstore.domain.structure import Part
from mstore.errors import DamagedStoreError
from mstore.objects.manifest import Manifest, ManifestFile, Piece
from mstore.objects.packs import CHUNK, MANIFEST, RECORD, PackWriter, object_id
from mstore.ops.context import Context, whoami

LINKABLE = "tensor-bundle"
"""The format of the checkpoints that programs are learned from, and that are linked with them."""

OBJECT_GRAPH = "object-graph"
"""Path in a program's manifest of the object graph's bytes, as they stand in the variables."""

_TYPE = "mstore/program/1"


@dataclass(frozen=True, slots=True)
class Learned:
    """A program on its way into the store.

    Attributes:
        program: what people see.
        builder: id of the code and the arguments that made it.
        structure: the structure of the checkpoints that it fits.
        template: how its variables are laid out; None where it is not linkable.
        graph: the object graph of its variables, as their bundle stores it.
        names: key of each variable to its name in the program.
        dims: input key to a shape that the model is known to run with.
    """

    program: Program
    builder: str
    structure: tuple[Part, ...]
    template: Template | None
    graph: bytes
    names: Mapping[bytes, str]
    dims: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A linkable program, read back.

    Attributes:
        program: what people see.
        structure: the structure of the checkpoints that it fits.
        template: how its variables are laid out.
        names: key of each variable to its name in the program.
        dims: input key to a shape that the model is known to run with.
        manifest: its files: graph, assets, fingerprint, and the object graph of its variables.
    """

    program: Program
    structure: tuple[Part, ...]
    template: Template
    names: Mapping[bytes, str]
    dims: Mapping[str, tuple[int, ...]]
    manifest: Manifest


def program_id(graph: Mapping[str, str], sources: Mapping[bytes, bytes | None]) -> str:
    """Return the id of a graph with the map from its variables to tensors of a checkpoint.

    Args:
        graph: path and SHA-256 of each file of the graph: no variables, no fingerprint.
        sources: key of each variable to the key of its tensor.
    """
    pairs = {key.hex(): None if source is None else source.hex() for key, source in sources.items()}
    return object_id(canonical({"graph": sorted(map(list, graph.items())), "sources": pairs})).hex()


def is_graph(path: str) -> bool:
    """Return whether a file of a version belongs to its program."""
    return not path.startswith(("variables/", "assets.extra/")) and path != FINGERPRINT


def structure_id(structure: tuple[Part, ...]) -> str:
    """Return the content id of a structure."""
    return object_id(canonical([part.to_json() for part in structure])).hex()


def builder_id(
    builder: Mapping[str, object], parameters: Mapping[str, object], code: Mapping[str, str]
) -> str:
    """Return an id of the code that makes a program and of what it is given.

    Where the files are does not matter, what is in them does.
    """
    body = {
        "name": function_name(str(builder.get("spec"))),
        "source": builder.get("source_sha256"),
        "parameters": dict(parameters),
        "code": sorted(set(code.values())),
    }
    return object_id(canonical(body)).hex()


def function_name(spec: str) -> str:
    """Return the part of a builder after the colon."""
    return split(spec)[1] if ":" in spec else spec


def is_known(context: Context, model: str, program: str, builder: str) -> bool:
    """Return whether the model has that program from the same code and arguments."""
    with reading(context.engine) as connection:
        rows = queries.find_programs(connection, model=model, prefix=program)
    return any(row.builder == builder for row in rows)


def record_program(
    connection: sa.Connection, writer: PackWriter, learned: Learned, version: Manifest
) -> None:
    """Write a program into the pack of the version that it was learned from, and into the catalog.

    Args:
        connection: in the transaction that makes the pack visible.
        writer: the pack.
        learned: the program.
        version: the version's files; those of the program are among them.
    """
    files = [file for file in version.files if is_graph(file.path) or file.path == FINGERPRINT]
    if learned.template is not None:
        files.append(_object_graph(writer, learned.graph))
    manifest = Manifest(tuple(sorted(files, key=lambda file: file.path)))
    key = writer.add(MANIFEST, manifest.to_bytes()).id
    body = {
        "type": _TYPE,
        "program": learned.program.to_json(),
        "builder": learned.builder,
        "manifest": key.hex(),
        "structure": [part.to_json() for part in learned.structure],
        "template": None if learned.template is None else learned.template.to_json(),
        "names": {name.hex(): text for name, text in learned.names.items()},
        "dims": {key: list(shape) for key, shape in learned.dims.items()},
        "by": whoami(),
    }
    record = writer.add(RECORD, canonical(body)).id
    queries.insert_program(
        connection, learned.program, builder=learned.builder, manifest=key, record=record
    )


def _object_graph(writer: PackWriter, graph: bytes) -> ManifestFile:
    piece = Piece(writer.add(CHUNK, graph).id, 0, len(graph))
    return ManifestFile(OBJECT_GRAPH, len(graph), hashlib.sha256(graph).hexdigest(), (piece,))


def read_program(context: Context, row: ProgramRow) -> Recorded:
    """Read a linkable program.

    Raises:
        DamagedStoreError: its record or its manifest is missing or damaged.
    """
    with context.reader() as reader:
        data = reader.read(row.record)
    try:
        body: Mapping[str, Any] = json.loads(data)
        structure = tuple(Part.from_json(part) for part in body["structure"])
        template = Template.from_json(body["template"])
        names = {bytes.fromhex(key): str(name) for key, name in body["names"].items()}
        dims = {str(key): tuple(map(int, shape)) for key, shape in body["dims"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedStoreError(f"a program's record cannot be read: {error}") from error
    return Recorded(row.program, structure, template, names, dims, context.manifest(row.manifest))
