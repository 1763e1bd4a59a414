"""Several processes at one store and one base path at once."""

from functools import partial
from pathlib import Path
from typing import Any

from mstore.store import Store
from tests.crash import conversion
from tests.crash.children import call, scratch, together
from tests.crash.state import ensure_sound, names, opened

PROCESSES = 8


def _results(*actions: Any) -> list[Any]:
    ends = together(*actions)
    failed = [end.said for end in ends if end.status]
    assert not failed, "\n".join(failed)
    return [end.said for end in ends]


def different_checkpoints() -> dict[str, Any]:
    """Add a checkpoint and export it into one base path, in each process another one."""
    with scratch() as directory:
        root = Path(directory)
        call(partial(_init, root))
        numbers = _results(*(partial(_add_and_export, root, at) for at in range(PROCESSES)))
        call(partial(ensure_sound, root))
        found: dict[str, Any] = call(partial(_found, root))
        return {**found, "numbers": numbers}


def _init(root: Path) -> bool:
    with Store.init(root) as store:
        return store.created


def _add_and_export(root: Path, at: int) -> int:
    conversion.install()
    prefix = conversion.make_checkpoint(root / f"run{at}" / f"ckpt-{at}", at)
    with opened(root) as store:
        store.add(prefix, model="m")
        return store.export(f"m@{at}", builder="b.py:build", to=root / "base").version


def _found(root: Path) -> dict[str, Any]:
    with opened(root) as store:
        return {
            "steps": sorted(checkpoint.step for checkpoint in store.list()),
            "versions": sorted(version.version for version in store.versions()),
            "deployments": sorted(deployment.version for deployment in store.deployments()),
            "base": names(root / "base"),
            "events": len(store.log()),
            "tmp": names(root / ".mstore" / "tmp"),
        }


def same_checkpoint() -> dict[str, Any]:
    """Add the same checkpoint in each process."""
    with scratch() as directory:
        root = Path(directory)
        call(partial(_init, root))
        conversion.make_checkpoint(root / "ckpts" / "ckpt-5", 5)
        new = _results(*[partial(_add, root)] * PROCESSES)
        call(partial(ensure_sound, root))
        found: dict[str, Any] = call(partial(_found, root))
        return {**found, "new": new}


def _add(root: Path) -> bool:
    with opened(root) as store:
        added = store.add(root / "ckpts" / "ckpt-5", model="m")
        return bool(getattr(added, "new", None))


def same_version() -> dict[str, Any]:
    """Promote the same version to one base path in each process."""
    with scratch() as directory:
        root = Path(directory)
        call(partial(_init, root))
        call(partial(_one_version, root))
        new = _results(*[partial(_promote, root)] * PROCESSES)
        call(partial(ensure_sound, root))
        found: dict[str, Any] = call(partial(_found, root))
        return {**found, "new": new}


def _one_version(root: Path) -> None:
    conversion.install()
    with opened(root) as store:
        store.add(conversion.make_checkpoint(root / "ckpts" / "ckpt-5", 5), model="m")
        store.export("m@5", builder="b.py:build")


def _promote(root: Path) -> bool:
    with opened(root) as store:
        return store.promote("m:1", root / "base").new


def same_directory() -> dict[str, Any]:
    """Make a store in the same directory in each process."""
    with scratch() as directory:
        root = Path(directory)
        created = _results(*[partial(_init, root)] * PROCESSES)
        call(partial(ensure_sound, root))
        return {"created": created, "there": sorted(path.name for path in root.iterdir())}
