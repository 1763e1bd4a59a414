"""Mistakes that a program like this could have; the harness must see each of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

from mstore.objects.packs import PackWriter
from mstore.ops import deploying
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


MISTAKES: dict[str, Callable[[], None]] = {
    "never publish": never_publish,
    "publish late": publish_late,
    "place in sight": place_in_sight,
}
