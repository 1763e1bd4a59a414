"""Targets: promote, roll back, retire, and what the ledger tells of them later."""

import random
import shutil
import stat
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from mstore import disk
from mstore.domain.records import Checkpoint, Deployment
from mstore.errors import (
    ConflictError,
    InputError,
    RefusedError,
    StoreLockedError,
    SystemIOError,
    UnknownReferenceError,
    UsageError,
)
from mstore.ops import deploying
from mstore.store import Store
from tests.crash import conversion
from tests.ops.making import added, flip


@pytest.fixture
def shop(store: Store, tmp_path: Path) -> Iterator[Store]:
    """A store with versions 1 to 4 of the model m and version 1 of n, in no directory yet."""
    with conversion.installed():
        for model, count in (("m", 4), ("n", 1)):
            for step in range(1, count + 1):
                prefix = conversion.make_checkpoint(tmp_path / model / f"ckpt-{step}", step)
                added(store, prefix, model=model)
                store.export(f"{model}@{step}", builder="b.py:build")
        yield store


def there(base: Path) -> list[str]:
    return sorted(path.name for path in base.iterdir())


def live(store: Store, name: str) -> int | None:
    (state,) = [state for state in store.targets() if state.site.name == name]
    return state.placed.live


@pytest.fixture
def prod(shop: Store, tmp_path: Path) -> Path:
    """The target prod of m, with versions 1 to 3."""
    shop.add_target("prod", tmp_path / "prod", models=["m"])
    for number in (1, 2, 3):
        shop.promote(f"m:{number}", "prod", message=f"number {number}")
    return tmp_path / "prod"


def test_a_target_is_promoted_to_by_its_name(shop: Store, prod: Path) -> None:
    assert there(prod) == ["1", "2", "3"]
    assert live(shop, "prod") == 3
    (report,) = shop.audits("prod")
    assert report.proven
    assert report.target == "prod"
    assert [item.message for item in shop.deployments()] == ["number 3", "number 2", "number 1"]
    assert {item.target for item in shop.deployments()} == {"prod"}
    assert not shop.promote("m:3", "prod").new
    assert shop.promote("m:3", prod).target == "prod"  # its directory is the same


def test_a_target_of_several_models_has_a_directory_for_each(shop: Store, tmp_path: Path) -> None:
    made = shop.add_target("edge", tmp_path / "edge", models=["m", "n"])
    assert made.paths == {name: str(tmp_path / "edge" / name) for name in ("m", "n")}
    assert there(tmp_path / "edge") == ["m", "n"]  # a server must find each of them
    shop.promote("m:1", "edge")
    shop.promote("n:1", "edge")
    assert [report.proven for report in shop.audits("edge")] == [True, True]
    assert len(shop.audits()) == 2
    with pytest.raises(UsageError, match="serves m, n"):
        shop.rollback("edge")
    with pytest.raises(UnknownReferenceError, match="first version that was live"):
        shop.rollback("edge", model="n")


def test_names_and_directories_of_targets_are_their_own(
    shop: Store, prod: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConflictError, match="there is a target prod"):
        shop.add_target("prod", tmp_path / "other", models=["m"])
    with pytest.raises(ConflictError, match="belongs to the target prod"):
        shop.add_target("again", prod, models=["m"])
    with pytest.raises(UnknownReferenceError, match="no model 'x'"):
        shop.add_target("x", tmp_path / "x", models=["x"])
    assert not (tmp_path / "x").exists()
    with pytest.raises(UsageError, match="one or more models"):
        shop.add_target("none", tmp_path / "none", models=[])
    with pytest.raises(UnknownReferenceError, match="does not serve n"):
        shop.promote("n:1", "prod")
    with pytest.raises(UnknownReferenceError, match="neither a target nor a directory") as caught:
        shop.promote("m:4", "prdo")
    assert caught.value.candidates == ("prod",)
    assert shop.remove_target("prod").name == "prod"
    assert there(prod) == ["1", "2", "3"]
    assert len(shop.deployments()) == 3
    with pytest.raises(UnknownReferenceError, match="there is no target prod"):
        shop.remove_target("prod")


def test_a_rollback_makes_the_version_before_live(shop: Store, prod: Path) -> None:
    done = shop.rollback("prod", message="wrong labels")
    assert (done.version, done.before, done.removed, done.restored) == (2, 3, (3,), False)
    assert there(prod) == ["1", "2"]
    assert live(shop, "prod") == 2
    (report,) = shop.audits("prod")
    assert report.proven
    last = shop.deployments(limit=1)[0]
    assert (last.event, last.version, last.message) == ("rolled-back", 3, "wrong labels")
    with pytest.raises(RefusedError, match="was rolled back from there") as caught:
        shop.promote("m:3", "prod")
    assert caught.value.reason == "rolled-back"
    assert "--allow rolled-back" in caught.value.hint
    shop.promote("m:3", "prod", allow=["rolled-back"])
    assert live(shop, "prod") == 3
    assert shop.verify().clean


def test_a_rollback_puts_back_what_is_gone(shop: Store, prod: Path) -> None:
    shop.retire("prod", 1)
    done = shop.rollback("prod", to=1)
    assert (done.version, done.removed, done.restored) == (1, (2, 3), True)
    assert there(prod) == ["1"]
    assert [item.event for item in shop.deployments(limit=3)] == [
        "rolled-back",
        "rolled-back",
        "restored",
    ]
    assert shop.audits("prod")[0].proven


def test_the_earlier_version_is_whole_before_a_higher_one_leaves(shop: Store, prod: Path) -> None:
    shop.retire("prod", 1)
    seen: list[list[str]] = []

    def watch(action: str, path: str) -> None:
        del action, path
        seen.append([name for name in there(prod) if name.isdigit()])

    with mock.patch.object(disk, "observer", watch):
        shop.rollback("prod", to=1)
    changes = [state for at, state in enumerate(seen) if not at or seen[at - 1] != state]
    assert [*changes, ["1"]][:4] == [["2", "3"], ["1", "2", "3"], ["1", "3"], ["1"]]


def test_what_cannot_be_rolled_back_is_said(shop: Store, prod: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="is live in"):
        shop.rollback("prod", to=3)
    with pytest.raises(UnknownReferenceError, match="no version m:0"):
        shop.rollback("prod", to=0)
    (prod / "2" / "saved_model.pb").write_bytes(b"edited by hand")
    with pytest.raises(ConflictError, match="is not m:2 any more"):
        shop.rollback("prod")
    assert there(prod) == ["1", "2", "3"]
    shutil.copytree(prod / "3", prod / "7")
    with pytest.raises(ConflictError, match=r"7 in .* did not come from this store"):
        shop.rollback("prod", to=1)
    with pytest.raises(InputError, match="is not there"):
        shop.rollback(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RefusedError, match="nothing to roll back"):
        shop.rollback(tmp_path / "empty")


def test_only_what_nothing_needs_is_retired(shop: Store, prod: Path) -> None:
    shop.alias("m:2", "stable")
    for number, why in ((3, "it is live"), (2, "it has the alias stable")):
        with pytest.raises(RefusedError, match=why):
            shop.retire("prod", number)
    gone = shop.retire("prod", 1, message="old")
    assert (gone.event, gone.version, gone.message) == ("retired", 1, "old")
    assert there(prod) == ["2", "3"]
    with pytest.raises(UnknownReferenceError, match="version 1 is not in") as caught:
        shop.retire("prod", 1)
    assert caught.value.candidates == ("2", "3")
    shop.alias("m:3", "stable")
    shop.retire("prod", 2)
    with pytest.raises(RefusedError, match="the only one"):
        shop.retire("prod", 3)


def test_a_target_keeps_as_many_as_it_shall(shop: Store, tmp_path: Path) -> None:
    shop.add_target("prod", tmp_path / "prod", models=["m"], keep=2)
    shop.promote("m:1", "prod", alias="first")
    for number in (2, 3, 4):
        shop.promote(f"m:{number}", "prod")
    assert there(tmp_path / "prod") == ["1", "3", "4"]  # 1 has an alias


def test_an_alias_names_a_version_and_moves(shop: Store, prod: Path) -> None:
    shop.promote("m:4", "prod", alias="production")
    assert shop.show("m:production") == shop.show("m:4")
    assert shop.versions("m")[0].aliases == ("production",)
    shop.rollback("prod", alias="production")
    assert shop.show("m:production") == shop.show("m:3")
    assert [e.message for e in shop.log("m") if e.event == "aliased"] == ["production"] * 2
    with pytest.raises(UnknownReferenceError, match="names no version"):
        shop.show("m:staging")
    with pytest.raises(UsageError, match="reserved word"):
        shop.alias("m:1", "latest")
    assert there(prod) == ["1", "2", "3"]


def test_a_lower_number_is_no_promotion_of_a_target(shop: Store, tmp_path: Path) -> None:
    shop.add_target("prod", tmp_path / "prod", models=["m"])
    shop.promote("m:3", "prod")
    with pytest.raises(RefusedError, match="would not be served: 3 is in") as caught:
        shop.promote("m:2", "prod")
    assert "mstore rollback prod --to 2" in caught.value.hint
    shop.promote("m:2", "prod", allow=["not-live"])
    assert there(tmp_path / "prod") == ["2", "3"]


def test_another_signature_is_refused_tensor_by_tensor(shop: Store, tmp_path: Path) -> None:
    shop.add_target("prod", tmp_path / "prod", models=["m"])
    shop.promote("m:1", "prod")
    plain = conversion.saved_model()
    other = plain.replace(b"x:0", b"y:0").replace(b"\x0a\x01x\x12", b"\x0a\x01z\x12")
    assert other != plain
    with mock.patch.object(conversion, "saved_model", return_value=other):
        version = shop.export("m@2", builder="b.py:build").version
    with pytest.raises(RefusedError) as caught:
        shop.promote(f"m:{version}", "prod")
    assert caught.value.reason == "signature"
    assert "serving_default: the input x is gone: it was float32[?,4]" in caught.value.message
    assert "serving_default: the input z is new: float32[?,4]" in caught.value.message
    assert "serving_default: the output x is gone" in caught.value.message
    assert there(tmp_path / "prod") == ["1"]
    shop.promote(f"m:{version}", "prod", allow=["signature"])
    with pytest.raises(UsageError, match="no reason to refuse"):
        shop.promote(f"m:{version}", "prod", allow=["sgnature"])


def test_the_live_signature_is_read_from_a_directory_that_is_not_ours(
    shop: Store, tmp_path: Path
) -> None:
    shop.promote("m:1", tmp_path / "elsewhere")
    base = tmp_path / "base"
    shutil.copytree(tmp_path / "elsewhere" / "1", base / "1")
    pb = base / "1" / "saved_model.pb"
    pb.write_bytes(pb.read_bytes().replace(b"\x0a\x01x\x12", b"\x0a\x01z\x12"))
    with pytest.raises(RefusedError, match="the input z is gone"):
        shop.promote("m:2", base)


def test_a_base_path_that_is_gone_is_not_made_again(shop: Store, prod: Path) -> None:
    shutil.rmtree(prod)
    with pytest.raises(InputError, match=r"base path .* of the target prod is not there") as caught:
        shop.promote("m:4", "prod")
    assert "mounted" in caught.value.hint
    with pytest.raises(InputError):
        shop.rollback("prod")
    assert not prod.exists()


def test_a_full_disk_and_a_lock_change_nothing(shop: Store, prod: Path) -> None:
    def full(action: str, _path: str) -> None:
        if action == "rename":
            raise OSError(28, "No space left on device")

    with mock.patch.object(disk, "observer", full), pytest.raises(SystemIOError, match="No space"):
        shop.promote("m:4", "prod")
    assert [name for name in there(prod) if name.isdigit()] == ["1", "2", "3"]
    impatient = partial(disk.locked, timeout=0.05)
    with (
        disk.locked(prod),
        mock.patch.object(disk, "locked", impatient),
        pytest.raises(StoreLockedError, match="another process has held"),
    ):
        shop.promote("m:4", "prod")
    shop.promote("m:4", "prod")
    assert shop.audits("prod")[0].proven


@pytest.mark.parametrize("at", ["mkdir", "create", "fsync", "rename"])
def test_without_permission_nothing_is_changed(shop: Store, prod: Path, at: str) -> None:
    def refused(action: str, path: str) -> None:
        if action == at and str(prod) in path:
            raise PermissionError(13, "Permission denied", path)

    before = (there(prod), len(shop.deployments()))
    with (
        mock.patch.object(disk, "observer", refused),
        pytest.raises(SystemIOError, match="Permission denied") as caught,
    ):
        shop.promote("m:4", "prod")
    assert caught.value.exit_status == 1
    assert "permissions" in caught.value.hint
    assert (there(prod), len(shop.deployments())) == before
    shop.promote("m:4", "prod")
    assert live(shop, "prod") == 4


def test_a_broken_off_rollback_is_finished_by_the_next_command(shop: Store, prod: Path) -> None:
    def broken(action: str, path: str) -> None:
        if action == "rename" and Path(path).name == "was-3":
            raise OSError(5, "Input/output error")

    with mock.patch.object(disk, "observer", broken), pytest.raises(SystemIOError):
        shop.rollback("prod", to=1, message="once")
    # 2 has left, 3 has not; what was meant is done when anything comes next.
    assert [name for name in there(prod) if name.isdigit()] == ["1", "3"]
    shop.promote("m:4", "prod")
    events = [(item.event, item.version, item.message) for item in shop.deployments(limit=3)]
    assert events == [
        ("promoted", 4, None),
        ("rolled-back", 3, "once"),
        ("rolled-back", 2, "once"),
    ]
    assert there(prod) == ["1", "4"]


def test_a_broken_off_rollback_is_not_done_twice(shop: Store, prod: Path) -> None:
    def broken(action: str, _path: str) -> None:
        if action == "fsync-directory" and "3" not in there(prod):
            raise OSError(5, "Input/output error")

    with mock.patch.object(disk, "observer", broken), pytest.raises(SystemIOError):
        shop.rollback("prod")
    done = shop.rollback("prod")
    assert (done.version, done.before) == (2, 3)
    assert [name for name in there(prod) if name.isdigit()] == ["1", "2"]


@pytest.mark.usefixtures("prod")
def test_times_never_go_back_in_a_base_path(shop: Store) -> None:
    early = "2020-01-01T00:00:00.000000Z"
    with mock.patch.object(deploying, "now", return_value=early):
        shop.promote("m:4", "prod")
    times = [item.at for item in shop.deployments()]
    assert times == sorted(times, reverse=True)
    (report,) = shop.audits("prod", at=times[0])
    assert [version.version for version in report.versions if version.live] == [4]


def test_the_past_of_200_events_is_what_a_replay_gives(shop: Store, tmp_path: Path) -> None:
    """Random promotions, rollbacks and retirements; each moment is asked for afterwards."""
    choice = random.Random(5)  # noqa: S311 - a test
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    clock = [start]
    bases = {"a": tmp_path / "a", "b": tmp_path / "b"}
    for name, base in bases.items():
        shop.add_target(name, base, models=["m"])
    moments: list[tuple[str, dict[str, list[str]]]] = []

    def tick() -> str:
        clock[0] += timedelta(minutes=1)
        return clock[0].isoformat(timespec="microseconds").replace("+00:00", "Z")

    with mock.patch.object(deploying, "now", tick):
        while len(shop.deployments()) < 200:
            _something(shop, choice.choice("ab"), choice)
            content = {name: there(base) for name, base in bases.items()}
            moments.append((tick(), content))
    for at, content in moments:
        for name in bases:
            _ensure_told(shop, name, at, content[name])
    with pytest.raises(UnknownReferenceError, match="nothing was in a at"):
        shop.audits("a", at="2025-01-01")


def _something(store: Store, target: str, choice: random.Random) -> None:
    number = choice.randint(1, 4)
    verb: Any = choice.choice(["promote", "promote", "rollback", "retire"])
    try:
        if verb == "promote":
            store.promote(f"m:{number}", target, allow=["rolled-back", "not-live"])
        elif verb == "rollback":
            store.rollback(target, to=choice.choice([None, number]))
        else:
            store.retire(target, number)
    except (RefusedError, UnknownReferenceError):
        pass


def _ensure_told(store: Store, name: str, at: str, content: list[str]) -> None:
    if not content:
        return
    (report,) = store.audits(name, at=at)
    assert [str(version.version) for version in report.versions] == content
    assert [v.version for v in report.versions if v.live] == [max(map(int, content))]
    for version in report.versions:
        assert version.checkpoint is not None
        assert version.checkpoint["step"] == version.version
        assert isinstance(version.deployment, Deployment)
        assert version.deployment.at <= at


@pytest.mark.usefixtures("prod")
def test_a_time_is_read_as_people_write_it(shop: Store) -> None:
    assert shop.audits("prod", at="2099-01-01")[0].versions[-1].live
    with pytest.raises(UsageError, match="is no time"):
        shop.audits("prod", at="last Tuesday")


def test_the_files_can_be_read_by_a_server_of_another_user(shop: Store, prod: Path) -> None:
    assert isinstance(shop.list()[0], Checkpoint)
    assert stat.S_IMODE((prod / "3").stat().st_mode) == 0o755
    assert stat.S_IMODE((prod / "3" / "saved_model.pb").stat().st_mode) == 0o644


def test_targets_on_one_file_system_share_what_they_serve(shop: Store, tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    other = Path("/dev/shm")  # noqa: S108 - another file system, where there is one
    shop.promote("m:1", first)
    shop.promote("m:1", second)
    data = "1/variables/variables.data-00000-of-00001"
    assert (first / data).stat().st_nlink in {1, 2}  # 1 where blocks are shared
    if (first / data).stat().st_nlink == 2:
        assert (second / data).samefile(first / data)
    assert (first / "1" / "saved_model.pb").stat().st_nlink == 1
    if other.is_dir() and other.stat().st_dev != first.stat().st_dev:
        with tempfile.TemporaryDirectory(dir=other) as place:
            shop.promote("m:1", place)
            assert (Path(place) / data).stat().st_nlink == 1
            assert shop.audit(place).proven
    shop.promote("m:2", second)
    shop.retire(second, 1)
    assert (first / data).stat().st_nlink == 1
    assert shop.audit(first).proven


def test_a_sibling_that_was_changed_by_hand_is_not_shared(shop: Store, tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    shop.promote("m:1", first)
    flip(first / "1" / "variables" / "variables.data-00000-of-00001", 100)
    shop.promote("m:1", second)
    assert not shop.audit(first).proven
    assert shop.audit(second).proven
