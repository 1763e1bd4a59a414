"""Mistakes that a program like this could have; the harness must see each of them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from mstore import disk
from mstore.catalog.engine import connect, reading
from mstore.catalog.schema import ensure_current
from mstore.catalog.targets import find_targets
from mstore.catalog.versions import VersionRow, find_versions
from mstore.domain.model_configs import ModelEntry, Selection, selections
from mstore.domain.targets import Site, Target
from mstore.objects.packs import PackWriter, pack_path
from mstore.ops import (
    configuring,
    deploying,
    promote,
    rebuild,
    repair,
    returning,
    unfinished,
    withdrawing,
)
from mstore.ops.context import CATALOG, Context
from mstore.ops.gc_pack import PackRewriter
from mstore.serving import publish
from mstore.serving.publish import FileToPlace


def _never(_writer: PackWriter, _packs: Path) -> None:
    """Publish nothing."""


def never_publish() -> None:
    """The catalog refers to a pack that is never given its name."""
    mock.patch.object(PackWriter, "publish", _never).start()


def publish_late() -> None:
    """The pack is given its name after the catalog was committed; at the end all is well."""
    real_publish, real_close = PackWriter.publish, PackWriter.close
    waiting: list[tuple[PackWriter, Path]] = []

    def later(writer: PackWriter, packs: Path) -> None:
        waiting.append((writer, packs))

    def close(writer: PackWriter) -> None:
        real_close(writer)
        while waiting:
            real_publish(*waiting.pop())

    mock.patch.multiple(PackWriter, publish=later, close=close).start()


def place_in_sight() -> None:
    """The files of a version are written where a server looks for them."""

    def place(
        base: Path,
        number: int,
        files: Sequence[FileToPlace],
        same: Callable[[Path], bool],
        advance: Callable[[int], None],
    ) -> bool:
        target = base / str(number)
        if target.exists() and same(target):
            return False
        publish._make(target)
        for file in files:
            publish._write(target, file, advance)
        return True

    mock.patch.object(deploying, "place_locked", place).start()


def no_fsync() -> None:
    """Files are said to be durable and are not."""
    mock.patch.object(disk.NewFile, "sync", return_value=None).start()


def no_fsync_of_directories() -> None:
    """Names are said to be durable and are not."""
    mock.patch.object(disk, "sync_directory", return_value=None).start()


def put_aside_first() -> None:
    """A repair takes damaged packs away before the new one is in their place."""
    real = repair._Repair._commit

    def commit(self: repair._Repair, packs: Sequence[str]) -> None:
        real_reader = self.context.reader
        kept = {pack_path(self.context.packs, name) for name in packs}
        copies = {path: path.read_bytes() for path in kept}
        self._quarantine(packs)

        class Reader:
            """Reads what was taken away from memory, so that all is well at the end."""

            def __enter__(self) -> Any:
                for path, data in copies.items():
                    path.write_bytes(data)
                return real_reader().__enter__()

            def __exit__(self, *_: object) -> None:
                for path in copies:
                    path.unlink()

        with mock.patch.object(type(self.context), "reader", return_value=Reader()):
            real(self, packs)

    mock.patch.object(repair._Repair, "_commit", commit).start()


def catalog_first() -> None:
    """A new catalog takes its name before it is filled."""
    real = rebuild._fill

    def fill(context: Context, *others: Any, **options: Any) -> None:
        made = Path(str(context.engine.url.database))
        engine = connect(context.root / CATALOG)
        ensure_current(engine)
        engine.dispose()
        assert made.parent.is_dir()
        real(context, *others, **options)

    mock.patch.object(rebuild, "_fill", fill).start()


def withdraw_first() -> None:
    """A rollback takes the higher versions away before the lower one is there."""
    real = unfinished._carry_out

    def carry_out(context: Context, site: Site, plan: unfinished.Plan) -> unfinished.Done:
        publish.withdraw(site.base, plan.leave)
        return real(context, site, plan)

    mock.patch.object(unfinished, "_carry_out", carry_out).start()


def spare_nothing() -> None:
    """A retirement takes what is needed: the last version, and the live one."""
    mock.patch.object(withdrawing, "_needed", return_value=None).start()


def reuse_numbers() -> None:
    """What a rollback puts back under a number is the content of the next one."""
    real = deploying.put

    def put(context: Context, row: VersionRow, base: Path) -> bool:
        number = row.version.version
        with reading(context.engine) as connection:
            rows = find_versions(connection, model=row.version.model)
        by_number = {other.version.version: other for other in rows}
        other = by_number.get(number + 1) or by_number[1]
        renamed = replace(other, version=replace(other.version, version=number))
        return real(context, renamed, base)

    mock.patch.object(unfinished, "put", put).start()


def name_too_early() -> None:
    """The config file names a version before it is in the base path."""
    real = deploying.put

    def put(context: Context, row: VersionRow, base: Path) -> bool:
        for target in _targets(context):
            if target.config is not None and Path(target.base) == base:
                file = configuring.ConfigFile(Path(target.config), base, row.version.model)
                (step, *_) = selections(file.entry(), row.version.version)
                file._write(file.changed(step, row.version.version))
        return real(context, row, base)

    mock.patch.object(promote, "put", put).start()


def _targets(context: Context) -> list[Target]:
    with reading(context.engine) as connection:
        return find_targets(connection)


def move_labels_at_once() -> None:
    """A label goes to a version in the step that names the version for the first time."""

    def all_at_once(
        entry: ModelEntry, version: int, labels: Collection[str] = ()
    ) -> tuple[Selection, ...]:
        return real(entry, version, labels)[-1:]

    real = selections
    mock.patch.object(promote, "selections", all_at_once).start()
    mock.patch.object(returning, "selections", all_at_once).start()


def write_in_place() -> None:
    """The config file is emptied and written anew."""

    def write(self: configuring.ConfigFile, text: str) -> None:
        self.path.write_text("", encoding="utf-8")
        disk.step("write", self.path)
        self.path.write_text(text, encoding="utf-8")

    mock.patch.object(configuring.ConfigFile, "_write", write).start()


def remove_first() -> None:
    """gc removes an old pack before the new one is in its place; at the end all is well."""
    real = PackRewriter._finish

    def finish(self: PackRewriter, name: str, *others: Any) -> None:
        path = pack_path(self._context.packs, name)
        data = path.read_bytes()
        disk.remove_file(path)
        try:
            disk.step("planted", path)
        finally:
            path.write_bytes(data)
        real(self, name, *others)

    mock.patch.object(PackRewriter, "_finish", finish).start()


MISTAKES: dict[str, Callable[[], None]] = {
    "never publish": never_publish,
    "publish late": publish_late,
    "place in sight": place_in_sight,
    "no fsync": no_fsync,
    "no fsync of directories": no_fsync_of_directories,
    "put aside first": put_aside_first,
    "catalog first": catalog_first,
    "withdraw first": withdraw_first,
    "spare nothing": spare_nothing,
    "reuse numbers": reuse_numbers,
    "name too early": name_too_early,
    "move labels at once": move_labels_at_once,
    "write in place": write_in_place,
    "remove first": remove_first,
}
