"""Decides whether an export is linked, and with which program."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mstore.catalog import programs as queries
from mstore.catalog.engine import reading
from mstore.catalog.programs import ProgramRow
from mstore.convert.builders import source_digest
from mstore.domain.programs import Program
from mstore.domain.records import Checkpoint
from mstore.domain.structure import differences, structure_of
from mstore.domain.tensors import TensorTable
from mstore.errors import InputError, UnknownReferenceError, UsageError
from mstore.ops.context import Context
from mstore.ops.programs import Recorded, function_name, read_program, structure_id

_SHOWN = 8
_DIGITS = 12
_AMBIGUOUS = "several programs fit this checkpoint, and no builder says which one"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an export was asked for, as far as it decides on the program.

    Attributes:
        builder: the builder that was named, or None.
        search_path: directory for relative builder files and builder modules.
        parameters: what was given with it, as programs record it.
        program: beginning of the id of the program to link with, or None.
    """

    builder: str | None
    search_path: Path
    parameters: Mapping[str, object]
    program: str | None

    @property
    def has_parameters(self) -> bool:
        """Whether anything was given that says how the model is built."""
        return any(_building(self.parameters).values())

    @property
    def weights(self) -> object:
        """Which of the weights and their averages are exported, None where nothing was said."""
        return self.parameters.get("weights")


def choose(
    context: Context, checkpoint: Checkpoint, trained: TensorTable, wanted: Wanted
) -> Recorded | None:
    """Return the program to link a checkpoint with; None if the model has to be traced.

    The newest linkable program of the model is taken that has the checkpoint's structure and was
    made by the same code with the same arguments: of a builder that is here, by the digests of its
    file and of what it imported; of one that is not here, by its function's name.

    Raises:
        InputError: nothing is here to trace with, and no program fits.
        UnknownReferenceError: there is no such program.
        UsageError: the program that was named is not linkable, or more than one would do.
    """
    with reading(context.engine) as connection:
        rows = queries.find_programs(connection, model=checkpoint.model)
    if wanted.program is not None:
        return _named(context, rows, wanted, checkpoint, trained)
    structure = structure_id(structure_of(trained)) if rows else ""
    fitting = [row for row in rows if row.program.structure == structure]
    linkable = [row for row in fitting if row.program.linkable]
    spec = wanted.builder or checkpoint.builder
    digest = None if spec is None else source_digest(spec, wanted.search_path)
    if digest is not None and spec is not None:
        same = [row for row in linkable if _is_same(row.program, spec, digest, wanted)]
        return read_program(context, same[0]) if same else None
    if wanted.builder is not None:
        return None  # tracing says what is the matter with it
    # Weights and their averages are both in the checkpoint: which one is exported is never guessed.
    same_weights = [row for row in linkable if _weights(row.program) == wanted.weights]
    if linkable and not same_weights:
        raise _other_weights(linkable[0].program)
    linkable = same_weights
    if wanted.has_parameters:
        given = _building(wanted.parameters)
        linkable = [row for row in linkable if _building(row.program.parameters) == given]
    if spec is not None:
        called = [row for row in linkable if _function(row.program) == function_name(spec)]
        linkable = called or linkable
    if not linkable:
        _refuse(context, checkpoint, trained, rows, fitting)
        return None
    if len({row.program.id for row in linkable}) > 1:
        raise UsageError(
            _AMBIGUOUS + ": " + ", ".join(_shown(row.program) for row in linkable),
            hint="choose one with --program ID, or name the builder with --builder",
        )
    return read_program(context, linkable[0])


def _building(parameters: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in parameters.items() if name != "weights"}


def _weights(program: Program) -> object:
    return program.parameters.get("weights")


def _other_weights(program: Program) -> UsageError:
    made = _weights(program)
    return UsageError(
        f"program {_shown(program)} was made "
        + (f"with --weights {made}" if made else "without --weights"),
        hint=f"say the same: --weights {made}" if made else "leave --weights out",
    )


def _is_same(program: Program, spec: str, digest: str, wanted: Wanted) -> bool:
    """Return whether the code that is here would make this program again."""
    return (
        program.builder.get("source_sha256") == digest
        and _function(program) == function_name(spec)
        and program.parameters == wanted.parameters
        and all(_unchanged(Path(path), sha256) for path, sha256 in program.code.items())
    )


def _unchanged(path: Path, sha256: str) -> bool:
    """Return whether a file is as it was; one that is not here cannot be run either."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return True


def _function(program: Program) -> str:
    return function_name(str(program.builder.get("spec")))


def _named(
    context: Context,
    rows: Sequence[ProgramRow],
    wanted: Wanted,
    checkpoint: Checkpoint,
    trained: TensorTable,
) -> Recorded:
    prefix = wanted.program or ""
    found = [row for row in rows if row.program.id.startswith(prefix)]
    ids = list(dict.fromkeys(row.program.id for row in found))
    if len(ids) != 1:
        known = list(dict.fromkeys(_shown(row.program) for row in rows))
        raise UnknownReferenceError(
            f"{prefix} begins the id of {'no program' if not ids else 'several programs'} of "
            f"{checkpoint.model}",
            reference=prefix,
            candidates=known,
            hint=f"programs: {', '.join(known)}" if known else "there is none yet; export once",
        )
    linkable = [row for row in found if row.program.linkable]
    if not linkable:
        raise UsageError(
            f"program {_shown(found[0].program)} cannot be linked: {found[0].program.reason}",
            hint="export without --program, which traces the model",
        )
    recorded = read_program(context, linkable[0])
    if wanted.weights not in {None, _weights(recorded.program)}:
        raise _other_weights(recorded.program)
    lines = differences(recorded.structure, structure_of(trained))
    if lines:
        raise _other_structure(checkpoint, recorded.program, lines)
    return recorded


def _refuse(
    context: Context,
    checkpoint: Checkpoint,
    trained: TensorTable,
    rows: Sequence[ProgramRow],
    fitting: Sequence[ProgramRow],
) -> None:
    """Say why no program fits, where there are programs; return where there are none.

    Raises:
        InputError: there are programs.
    """
    if fitting:
        program = fitting[0].program
        reason = program.reason or "it was made with other arguments"
        raise InputError(
            f"program {_shown(program)} of {checkpoint.model} cannot be linked: {reason}",
            hint="give the builder, which is run for each export: --builder FILE.py:FUNCTION",
        )
    linkable = [row for row in rows if row.program.linkable]
    if linkable:
        recorded = read_program(context, linkable[0])
        lines = differences(recorded.structure, structure_of(trained))
        raise _other_structure(checkpoint, recorded.program, lines)


def _other_structure(checkpoint: Checkpoint, program: Program, lines: list[str]) -> InputError:
    shown = "".join(f"\n  {line}" for line in lines[:_SHOWN])
    more = f"\n  and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    name = f"{checkpoint.model}/{checkpoint.run}@{checkpoint.step}"
    return InputError(
        f"{name} has another structure than program {_shown(program)}:{shown}{more}",
        hint="the model has changed; give what builds it now: --builder FILE.py:FUNCTION",
    )


def _shown(program: Program) -> str:
    return program.id[:_DIGITS]
