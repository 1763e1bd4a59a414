import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mstore.errors import ConflictError, StoreNotFoundError
from mstore.store import Store
from tests.ops.making import added, checkpoint, weights


def test_a_store_is_made_once_and_opened_after_that(tmp_path: Path) -> None:
    with Store.init(tmp_path / "new" / "place") as store:
        assert store.created
        added(store, checkpoint(tmp_path / "ckpt-1"))
    with Store.init(tmp_path / "new" / "place") as store:
        assert not store.created
        assert len(store.list()) == 1
    assert [path.name for path in (tmp_path / "new" / "place").iterdir()] == [".mstore"]


def test_a_store_is_found_from_below_unless_that_is_ruled_out(tmp_path: Path) -> None:
    Store.init(tmp_path).close()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    for path in (below, tmp_path, tmp_path / ".mstore"):
        with Store.open(path) as store:
            assert store.path == tmp_path / ".mstore"
    with Store.open(tmp_path, exact=True) as store:
        assert not store.created
    with pytest.raises(StoreNotFoundError) as caught:
        Store.open(below, exact=True)
    assert "mstore init" in caught.value.hint


def test_a_directory_that_only_has_the_name_is_no_store(tmp_path: Path) -> None:
    (tmp_path / ".mstore").mkdir()
    with pytest.raises(StoreNotFoundError):
        Store.open(tmp_path, exact=True)


def test_many_processes_may_make_the_same_store_at_once(tmp_path: Path) -> None:
    script = "import sys; from mstore.store import Store; print(Store.init(sys.argv[1]).created)"
    command = [sys.executable, "-c", script, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    answers = [process.communicate(timeout=60)[0].strip() for process in running]
    assert sorted(answers) == ["False"] * 4 + ["True"]
    assert [path.name for path in tmp_path.iterdir()] == [".mstore"]


def test_many_may_add_to_one_store_at_once(store: Store, tmp_path: Path) -> None:
    """Equal content is stored once, and of two contents for one step one is refused."""
    same = checkpoint(tmp_path / "same-1")
    others = [checkpoint(tmp_path / str(at) / "other-2", weights(at)) for at in range(4)]

    def add(prefix: Path) -> str:
        with Store.open(store.path) as opened:
            try:
                return "new" if added(opened, prefix).new else "known"
            except ConflictError:
                return "conflict"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(add, [same, *others, same, same]))
    assert sorted(answers[:1] + answers[5:]) == ["known", "known", "new"]
    assert sorted(answers[1:5]) == ["conflict", "conflict", "conflict", "new"]
    assert len(store.list()) == 2
    assert store.verify().clean
