"""What the commands under test share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mstore.store import Store
from tests.crash import conversion
from tests.crash.state import ensure_sound, opened


@dataclass(frozen=True)
class Command:
    """A command under test.

    Attributes:
        prepare: makes what it needs.
        run: runs it.
        end: what must be true at its end, given what was counted before it was run to the end.
        count: counts what it makes.
        check: what must be true whenever it was stopped.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path], None]
    end: Callable[[Path, int], None]
    count: Callable[[Path], int]
    check: Callable[[Path], None] = ensure_sound


def one_checkpoint(root: Path) -> None:
    with Store.init(root) as store:
        prefix = conversion.make_checkpoint(root / "ckpts" / "ckpt-10", 10)
        store.add(prefix, model="m", metrics={"loss": 0.5})
    conversion.make_checkpoint(root / "ckpts" / "ckpt-20", 20)


def export(root: Path, *, to: bool = True) -> None:
    conversion.install()
    with opened(root) as store:
        store.export("m@10", builder="builder.py:build", to=root / "base" if to else None)


def one_version(root: Path) -> None:
    one_checkpoint(root)
    export(root, to=False)


def count_deployments(root: Path) -> int:
    with opened(root) as store:
        return len(store.deployments())
