"""A store to prune: checkpoints of two runs, versions, a target, tags."""

from pathlib import Path

from mstore.domain.records import Checkpoint
from mstore.store import Store
from tests.crash import conversion
from tests.ops.making import added


def grow(store: Store, place: Path, run: str, steps: range, **options: object) -> None:
    """Add a checkpoint for each step, whose loss is its step."""
    for step in steps:
        prefix = conversion.make_checkpoint(place / run / f"ckpt-{step}", step, hash_of(run, step))
        added(store, prefix, run=run, metrics={"loss": step}, **options)


def hash_of(run: str, step: int) -> float:
    """Return a value that no other run and step has."""
    return step + ord(run[0]) * 1000


def export(store: Store, reference: str, base: Path | None = None) -> int:
    return store.export(reference, builder="b.py:build", to=base).version


def places(items: tuple[Checkpoint, ...]) -> list[str]:
    return [f"{item.run}@{item.step}" for item in items]
