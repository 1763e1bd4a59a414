"""Queries about programs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from mstore.catalog.tables import models, programs
from mstore.domain.programs import Program


@dataclass(frozen=True, slots=True)
class ProgramRow:
    """A program with the keys that only the store needs.

    Attributes:
        builder: id of builder, its parameters and all code that made it; see `insert_program`.
        manifest: id of its manifest object.
        record: id of its record object.
        program: what people see.
    """

    builder: str
    manifest: bytes
    record: bytes
    program: Program


def insert_program(
    connection: sa.Connection, program: Program, *, builder: str, manifest: bytes, record: bytes
) -> None:
    """Insert a program; one that the model has from the same builder already stays as it is.

    Args:
        connection: in a transaction.
        program: the program.
        builder: 64 hex digits, equal for programs that the same code made with the same arguments.
        manifest: id of its manifest object.
        record: id of its record object.
    """
    model = connection.scalar(sa.select(models.c.seq).where(models.c.name == program.model))
    known = sa.select(programs.c.seq).where(
        programs.c.model == model, programs.c.id == program.id, programs.c.builder == builder
    )
    if connection.scalar(known) is not None:
        return
    connection.execute(
        sa.insert(programs).values(
            id=program.id,
            model=model,
            structure=program.structure,
            builder=builder,
            linkable=program.linkable,
            manifest=manifest,
            record=record,
            body=json.dumps(program.to_json(), sort_keys=True),
            recorded_at=program.recorded_at,
        )
    )


def find_programs(
    connection: sa.Connection,
    *,
    model: str | None = None,
    structure: str | None = None,
    prefix: str | None = None,
    limit: int | None = None,
) -> list[ProgramRow]:
    """Return the programs that fit all conditions given, the last recorded first."""
    columns = (programs.c.builder, programs.c.manifest, programs.c.record, programs.c.body)
    query = sa.select(*columns).join(models, models.c.seq == programs.c.model)
    if model is not None:
        query = query.where(models.c.name == model)
    if structure is not None:
        query = query.where(programs.c.structure == structure)
    if prefix is not None:
        query = query.where(programs.c.id >= prefix, programs.c.id < prefix + "g")
    query = query.order_by(programs.c.seq.desc()).limit(limit)
    return [
        ProgramRow(row.builder, row.manifest, row.record, Program.from_json(json.loads(row.body)))
        for row in connection.execute(query)
    ]


def drop_programs(connection: sa.Connection, ids: Iterable[str]) -> None:
    """Take programs out of the catalog; the next export of their architecture records them anew."""
    for id_ in ids:
        connection.execute(sa.delete(programs).where(programs.c.id == id_))
