"""What must hold of a store and a base path at every moment."""

import hashlib
from pathlib import Path

from mstore.catalog.engine import reading
from mstore.catalog.targets import intent
from mstore.disk import STAGING_PREFIX
from mstore.domain.records import Checkpoint, Version
from mstore.domain.targets import replay
from mstore.serving.publish import numbers
from mstore.store import Store


def content(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below ``directory``."""
    return {
        str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in directory.rglob("*")
        if not file.is_dir()
    }


def names(directory: Path) -> list[str]:
    """Return the names in ``directory`` that are no unfinished work."""
    found = [path.name for path in directory.iterdir()] if directory.exists() else []
    return sorted(name for name in found if not name.startswith(STAGING_PREFIX))


def opened(root: Path) -> Store:
    return Store.open(root, exact=True)


def only(root: Path) -> Checkpoint:
    """Return the checkpoint that was added last."""
    with opened(root) as store:
        return store.list()[0]


def ensure_sound(root: Path) -> None:
    """Check the store in ``root`` and its base path: all that is there is there wholly.

    Raises:
        AssertionError: something is half there.
    """
    base = root / "base"
    with opened(root) as store:
        report = store.verify()
        assert report.clean, f"verify: {report.findings}"
        checkpoints, versions = store.list(superseded=True), store.versions()
        assert report.checkpoints == len(checkpoints)
        assert report.versions == len(versions)
        for checkpoint in checkpoints:
            _ensure_readable(store, checkpoint, root)
        _ensure_numbered(versions)
        published = _ensure_published(base, versions)
        _ensure_deployed(store, published, base)


def _ensure_readable(store: Store, checkpoint: Checkpoint, root: Path) -> None:
    """Check that a checkpoint gives the very files that were added."""
    target = root / "out" / checkpoint.id
    store.checkout(checkpoint.id, target)
    source = Path(checkpoint.source)
    expected = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in source.parent.glob(f"{source.name}.*")
    }
    assert content(target) == expected, f"the files of {checkpoint.source} are not what they were"


def _ensure_numbered(versions: tuple[Version, ...]) -> None:
    found = sorted(version.version for version in versions)
    assert found == list(range(1, len(found) + 1)), f"the versions are numbered {found}"
    for version in versions:
        assert version.files, f"version {version.version} has no files"


def _ensure_published(base: Path, versions: tuple[Version, ...]) -> set[int]:
    expected = {v.version: {f.path: f.sha256 for f in v.files} for v in versions}
    found = numbers(base)
    for number in found:
        assert number in expected, f"{base / str(number)} is no version of the store"
        assert content(base / str(number)) == expected[number], f"version {number} is not complete"
    assert names(base) == sorted(map(str, found)), f"in {base} there are {names(base)}"
    return set(found)


def _ensure_deployed(store: Store, published: set[int], base: Path) -> None:
    """Check that what the ledger says is there is there; a server never finds nothing.

    Where a rollback or a retirement was broken off, what is missing is what was to leave.
    """
    past = list(reversed(store.deployments()))
    for deployment in past:
        assert Path(deployment.path) == base.resolve() / str(deployment.version)
    assert published or not past, f"{base} has no version any more"
    recorded = set(replay(past).present)
    with reading(store._context.engine) as connection:
        begun = intent(connection, str(base.resolve()))
    leaving = set(begun["leave"]) if begun else set()
    assert recorded - leaving <= published, f"{recorded} are recorded, and there are {published}"
