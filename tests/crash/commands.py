"""The commands under test; one line in `COMMANDS` puts another one under every fault."""

import shutil
import struct
from contextlib import suppress
from pathlib import Path
from unittest import mock

from mstore.catalog import objects
from mstore.errors import DamagedStoreError, SystemIOError
from mstore.objects.packs import CHUNK, DELTA, read_index
from mstore.store import Store
from tests.crash import conversion
from tests.crash.commands_base import (
    Command,
    count_deployments,
    export,
    one_checkpoint,
    one_version,
)
from tests.crash.commands_targets import TARGET_COMMANDS
from tests.crash.state import content, names, opened
from tests.frozen_stores import ARCHIVES, thaw
from tests.ops.catalogs import answers, lose
from tests.ops.making import flip

_HEAD_10 = struct.pack("<f", 10) * 4
"""What begins the tensor that step 10 alone has."""


def _nothing(root: Path) -> None:
    root.mkdir(exist_ok=True)


def _init(root: Path) -> None:
    Store.init(root).close()


def _init_ended(root: Path, before: int) -> None:
    assert names(root) == [".mstore"] or names(root) == [".mstore", "out"]
    with Store.init(root) as store:
        assert not store.created
        assert store.list() == ()
    assert before in {0, 1}


def _stores(root: Path) -> int:
    return len(names(root))


def _add(root: Path) -> None:
    with opened(root) as store:
        store.add(root / "ckpts" / "ckpt-20", model="m", metrics={"loss": 0.25}, tags=["good"])


def _add_ended(root: Path, before: int) -> None:
    with opened(root) as store:
        assert [checkpoint.step for checkpoint in store.list()] == [20, 10]
        assert store.show("m@good") == store.show("m@best:loss")
        assert [event.event for event in store.log()] == ["added", "added"]
    assert before in {1, 2}


def _checkpoints(root: Path) -> int:
    with opened(root) as store:
        return len(store.list())


def _one_published(root: Path) -> None:
    one_checkpoint(root)
    export(root)


def _export_ended(root: Path, before: int) -> None:
    """Check that the number is the next one, and that versions of killed runs can be published."""
    with opened(root) as store:
        made = store.versions()[0]
        assert made.version == before + 1
        assert names(root / "base")[-1] == str(made.version)
        assert store.deployments()[0].version == made.version
        for number in range(1, before + 1):
            store.promote(f"m:{number}", root / "base")
        assert len(store.deployments()) == before + 1


def _versions(root: Path) -> int:
    with opened(root) as store:
        return len(store.versions())


def _promote(root: Path) -> None:
    with opened(root) as store:
        store.promote("m:1", root / "base")


def _promote_ended(root: Path, before: int) -> None:
    assert names(root / "base") == ["1"]
    with opened(root) as store:
        assert len(store.deployments()) == 1
        assert not store.promote("m:1", root / "base").new
    assert before in {0, 1}


def _one_damaged(root: Path) -> None:
    """Damage a tensor that a served version has; nobody else has the rest of its pack."""
    _one_published(root)
    (root / "ckpts").rename(root / "kept")
    head = next((root / "kept").glob("ckpt-10.data*")).read_bytes()[: conversion.LARGE]
    for pack in (root / ".mstore" / "packs").glob("*/*.pack"):
        data = pack.read_bytes()
        if head in data:
            flip(pack, data.index(head) + 5)


def _repair(root: Path) -> None:
    with opened(root) as store:
        store.repair()


def _repairable(root: Path) -> None:
    """Check that nothing is lost: what is damaged can be told, and all else is there."""
    with opened(root) as store:
        assert len(store.list()) == 1
        assert len(store.versions()) == 1
        report = store.repair(dry_run=True)
        assert not report.lost, report.lost


def _repaired(root: Path, before: int) -> None:
    del before
    with opened(root) as store:
        report = store.verify()
        assert report.clean, report.findings
        assert not store.repair().mended
        store.checkout("m@10", root / "out")
    kept = {name: sha for name, sha in content(root / "kept").items() if name.startswith("ckpt-10")}
    assert content(root / "out") == kept
    shutil.rmtree(root / "out")


def _nothing_to_count(root: Path) -> int:
    del root
    return 0


def _one_lost(root: Path) -> None:
    """Lose a catalog; what it said is kept in a file."""
    _one_published(root)
    with opened(root) as store:
        store.tag("m@10", "first")
        (root / "told").write_text(repr(answers(store)), encoding="utf-8")
    lose(root)


def _rebuild(root: Path) -> None:
    assert Store.rebuild(root, exact=True).complete


def _lost_or_whole(root: Path) -> None:
    try:
        _rebuilt(root, 0)
    except DamagedStoreError as error:
        assert "has lost its catalog" in error.message  # noqa: PT017 - it may be whole, too


def _rebuilt(root: Path, before: int) -> None:
    del before
    with opened(root) as store:
        assert (root / "told").read_text(encoding="utf-8") == repr(answers(store))
        report = store.verify()
        assert report.clean, report.findings


def _one_old(root: Path) -> None:
    thaw(ARCHIVES[0], root)


def _migrate(root: Path) -> None:
    with opened(root) as store:
        store.tag("m@10", "migrated")


def _migrated(root: Path, before: int) -> None:
    assert before in {0, 1}
    with opened(root) as store:
        assert store.show("m@migrated") == store.show("m@10")
        assert len(store.list()) == len(store.versions()) == 2
        assert store.verify().clean


def _migrated_tags(root: Path) -> int:
    with opened(root) as store:
        return sum("migrated" in checkpoint.tags for checkpoint in store.list())


def _old_or_new(root: Path) -> None:
    with opened(root) as store:
        assert len(store.list()) == len(store.versions()) == 2
        report = store.verify()
        assert report.clean, report.findings


def _one_orphan(root: Path) -> None:
    one_checkpoint(root)
    broken = mock.patch.object(objects, "add_pack", side_effect=OSError(5, "Input/output error"))
    with opened(root) as store, broken, suppress(SystemIOError):
        store.add(root / "ckpts" / "ckpt-20", model="m")


def _gc(root: Path) -> None:
    with opened(root) as store:
        store.gc(grace=0)


def _gc_ended(root: Path, before: int) -> None:
    assert before == 1
    with opened(root) as store:
        assert store.gc(grace=0).removed == ()
        assert len(list(store.path.glob("packs/*/*.pack"))) == 1


def _two_checkpoints(root: Path) -> None:
    one_checkpoint(root)
    _add(root)


def _prune(root: Path) -> None:
    with opened(root) as store:
        store.prune("m", keep_last=1, message="full disk")


def _prune_ended(root: Path, before: int) -> None:
    assert before in {1, 2}
    with opened(root) as store:
        assert [checkpoint.step for checkpoint in store.list(superseded=True)] == [20]
        assert [event.event for event in store.log()] == ["pruned", "added", "added"]
        assert [event.event for event in store.log("m@10")] == ["pruned", "added"]


def _three_steps(root: Path) -> None:
    """Add three steps that differ little, and publish the first; the second is in two runs."""
    _one_published(root)
    with opened(root) as store:
        for step in (20, 30):
            prefix = conversion.make_checkpoint(root / "ckpts" / f"ckpt-{step}", step, 10 + step)
            store.add(prefix, model="m")
        store.add(root / "ckpts" / "ckpt-20", model="m", run="other")


def _packed(root: Path, before: int) -> None:
    assert before == 4
    with opened(root) as store:
        found = [read_index(pack) for pack in store.path.glob("packs/*/*.pack")]
        codecs = [entry.codec for entries in found for entry in entries]
        assert codecs.count(DELTA) >= 2
        assert store.gc(grace=0).rewritten == 0
        for number in range(1, len(store.versions()) + 1):
            store.promote(f"m:{number}", root / "base")


def _one_pruned(root: Path) -> None:
    _two_checkpoints(root)
    _prune(root)


def _reclaimed(root: Path, before: int) -> None:
    assert before == 1
    with opened(root) as store:
        report = store.gc(grace=0)
        assert (report.removed, report.reclaimed) == ((), ())
        packs = store.path.glob("packs/*/*.pack")
        chunks = {entry.id for pack in packs for entry in read_index(pack) if entry.kind == CHUNK}
        with store._context.reader() as reader:
            assert not any(reader.read(chunk).startswith(_HEAD_10) for chunk in chunks)
        assert [event.event for event in store.log("m@10")] == ["pruned", "added"]
        store.add(root / "ckpts" / "ckpt-10", model="m")
        assert [checkpoint.step for checkpoint in store.list()] == [20, 10]


COMMANDS = {
    "init": Command(_nothing, _init, _init_ended, _stores),
    "add": Command(one_checkpoint, _add, _add_ended, _checkpoints),
    "export": Command(_one_published, export, _export_ended, _versions),
    "promote": Command(one_version, _promote, _promote_ended, count_deployments),
    "repair": Command(_one_damaged, _repair, _repaired, _nothing_to_count, _repairable),
    "rebuild": Command(_one_lost, _rebuild, _rebuilt, _nothing_to_count, _lost_or_whole),
    "migrate": Command(_one_old, _migrate, _migrated, _migrated_tags, _old_or_new),
    "prune": Command(_two_checkpoints, _prune, _prune_ended, _checkpoints),
    "gc": Command(_one_orphan, _gc, _gc_ended, _checkpoints),
    "gc of steps": Command(_three_steps, _gc, _packed, _checkpoints),
    "reclaim": Command(_one_pruned, _gc, _reclaimed, _checkpoints),
    **TARGET_COMMANDS,
}
