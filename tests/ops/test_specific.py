"""Targets whose server is told by a config file what to serve, without a server to ask."""

import stat
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from mstore import disk
from mstore.domain.records import Deployment
from mstore.domain.targets import choices
from mstore.errors import (
    ConflictError,
    InputError,
    PartialError,
    RefusedError,
    SystemIOError,
    UnknownReferenceError,
    UsageError,
)
from mstore.ops import returning
from mstore.ops.configuring import ConfigFile
from mstore.serving.model_config import read
from mstore.store import Store
from tests.crash import conversion
from tests.ops.making import added, flip

OTHERS = """\
# by hand
model_config_list {
  config { name: "other" base_path: "/other" model_platform: "tensorflow" }
}
"""


@pytest.fixture
def shop(store: Store, tmp_path: Path) -> Iterator[Store]:
    """A store with versions 1 to 3 of the model m, and the target prod with a config file."""
    with conversion.installed():
        for step in (1, 2, 3):
            prefix = conversion.make_checkpoint(tmp_path / "m" / f"ckpt-{step}", step)
            added(store, prefix, model="m")
            store.export(f"m@{step}", builder="b.py:build")
        (tmp_path / "models.config").write_text(OTHERS)
        store.add_target(
            "prod",
            tmp_path / "base",
            models=["m"],
            policy="specific",
            config=tmp_path / "models.config",
        )
        yield store


def named(place: Path) -> tuple[tuple[int, ...], dict[str, int]]:
    """Return the versions and labels that the config file names."""
    text = (place / "models.config").read_text()
    assert text.startswith(OTHERS[: OTHERS.index("}\n}") + 2])
    entry = read(text)["m"]
    return entry.versions, dict(entry.labels)


def there(place: Path) -> list[str]:
    return sorted(path.name for path in (place / "base").iterdir())


def live(store: Store) -> int | None:
    (state,) = store.targets()
    return state.placed.live


def test_the_file_names_what_is_promoted_and_what_is_gone_back_to(
    shop: Store, tmp_path: Path
) -> None:
    assert (tmp_path / "models.config").read_text() == OTHERS
    shop.promote("m:1", "prod")
    assert named(tmp_path) == ((1,), {})
    shop.promote("m:2", "prod")
    assert named(tmp_path) == ((2,), {})
    assert there(tmp_path) == ["1", "2"]
    back = shop.rollback("prod", message="wrong")
    assert (back.version, back.way, back.before, back.removed) == (1, "config", 2, ())
    assert (named(tmp_path), live(shop)) == (((1,), {}), 1)
    # A lower number is a promotion like any other where the file decides.
    shop.promote("m:3", "prod")
    assert shop.rollback("prod", to=2).version == 2
    assert (named(tmp_path), live(shop)) == (((2,), {}), 2)
    # Not to 3, which was left.
    assert shop.rollback("prod").version == 1
    shop.promote("m:3", "prod")
    with pytest.raises(RefusedError, match="is live"):
        shop.rollback("prod", to=3)
    events = [(d.event, d.version) for d in shop.deployments("m")]
    assert events[:3] == [("promoted", 3), ("restored", 1), ("restored", 2)]
    shop.retire("prod", 1)
    with pytest.raises(RefusedError, match="names it"):
        shop.retire("prod", 3)
    assert shop.rollback("prod", to=1).restored
    assert there(tmp_path) == ["1", "2", "3"]
    (report,) = shop.audits("prod")
    assert [item.version for item in report.versions if item.live] == [1]


def test_a_rollback_that_died_behind_its_file_is_not_turned_round(
    shop: Store, tmp_path: Path
) -> None:
    shop.promote("m:1", "prod")
    shop.promote("m:2", "prod")
    for number in (3, 2):  # of the three calls the last one lives
        dead = mock.patch.object(returning, "record_moves", side_effect=KeyboardInterrupt)
        with dead, pytest.raises(KeyboardInterrupt):
            shop.rollback("prod", message="wrong")
        assert named(tmp_path) == ((1,), {}), number
        if number == 3:  # another command finishes it as well
            with pytest.raises(RefusedError, match="names it"):
                shop.retire("prod", 1)
            assert live(shop) == 1
            shop.promote("m:2", "prod")
    done = shop.rollback("prod")
    assert (done.version, done.before, done.message) == (1, 2, "wrong")
    assert (named(tmp_path), live(shop)) == (((1,), {}), 1)
    events = [(d.event, d.version) for d in shop.deployments("m", limit=3)]
    assert events == [("restored", 1), ("promoted", 2), ("restored", 1)]


def test_a_rollback_that_died_before_its_file_was_none(shop: Store, tmp_path: Path) -> None:
    shop.promote("m:1", "prod")
    shop.promote("m:2", "prod")
    dead = mock.patch.object(ConfigFile, "choose", side_effect=KeyboardInterrupt)
    with dead, pytest.raises(KeyboardInterrupt):
        shop.rollback("prod", message="wrong")
    shop.promote("m:3", "prod")
    assert (named(tmp_path), live(shop)) == (((3,), {}), 3)
    assert [d.event for d in shop.deployments("m")] == ["promoted"] * 3


def test_an_audit_says_what_is_wrong_with_the_file(shop: Store, tmp_path: Path) -> None:
    config = tmp_path / "models.config"

    def kinds() -> list[str]:
        (report,) = shop.audits("prod")
        return [finding.kind for finding in report.findings if finding.kind.startswith("config")]

    shop.promote("m:1", "prod")
    shop.promote("m:2", "prod")
    assert kinds() == []
    good = config.read_text()
    config.write_text(good.replace("versions: 2", "versions: 1"))
    assert kinds() == ["config-changed"]
    config.write_text(good.replace("versions: 2", "versions: [2, 9]"))
    assert kinds() == ["config-absent-version"]
    config.write_text("model_config_list {")
    assert kinds() == ["config-unreadable"]


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ("promoted 1, promoted 2, promoted 3", [1, 2, 3]),
        ("promoted 1, promoted 2, restored 1", [1]),
        ("promoted 1, promoted 2, promoted 3, restored 2, restored 1", [1]),
        ("promoted 1, promoted 3, restored 2", [1, 2]),
        ("promoted 1, promoted 2, restored 1, promoted 2", [1, 2]),
        ("promoted 1, promoted 2, failed 2", [1]),
        ("promoted 1, promoted 2, retired 1", [1, 2]),
        ("restored 4", [4]),
        ("", []),
    ],
)
def test_going_back_twice_does_not_lead_to_what_was_left(events: str, found: list[int]) -> None:
    past = [
        Deployment("t", f"/b/{number}", "m", int(number), event, "", "", None)
        for event, number in (part.split() for part in events.split(", ") if part)
    ]
    assert choices(past) == found


def test_labels_move_in_two_calls_where_no_server_can_be_asked(shop: Store, tmp_path: Path) -> None:
    with pytest.raises(PartialError, match="names 1 of m now"):
        shop.promote("m:1", "prod", labels=["stable"])
    assert named(tmp_path) == ((1,), {})
    shop.promote("m:1", "prod", labels=["stable"])
    assert named(tmp_path) == ((1,), {"stable": 1})
    shop.promote("m:2", "prod")
    assert named(tmp_path) == ((1, 2), {"stable": 1})
    shop.promote("m:2", "prod", labels=["stable"])
    assert named(tmp_path) == ((2,), {"stable": 2})
    with pytest.raises(PartialError, match="names m:1 now"):
        shop.rollback("prod")
    assert named(tmp_path) == ((1, 2), {"stable": 2})
    assert shop.rollback("prod", to=1).version == 1
    assert named(tmp_path) == ((1,), {"stable": 1})
    with pytest.raises(UsageError, match="cannot be a label"):
        shop.promote("m:2", "prod", labels=["a-b"])
    with pytest.raises(UsageError, match="no config file"):
        shop.promote("m:2", tmp_path / "plain", labels=["stable"])


def test_a_file_that_cannot_be_worked_with_changes_nothing(shop: Store, tmp_path: Path) -> None:
    shop.promote("m:1", "prod")
    config = tmp_path / "models.config"
    good = config.read_text()
    config.write_text(good.replace("specific {", "specific "))
    with pytest.raises(InputError, match=r"models\.config: line \d+"):
        shop.promote("m:2", "prod")
    assert there(tmp_path) == ["1"]
    label = '  version_labels { key: "x" value: 9 }\n'
    config.write_text(good.replace("    model_version_policy", label + "    model_version_policy"))
    with pytest.raises(ConflictError, match="would name 9 of m"):
        shop.promote("m:2", "prod")
    assert there(tmp_path) == ["1"]
    config.write_text(good)
    with pytest.raises(InputError, match="is not there"):
        shop.add_target(
            "x", tmp_path / "x", models=["m"], policy="specific", config=tmp_path / "no" / "c"
        )
    with pytest.raises(UsageError, match="needs the server's config"):
        shop.add_target("x", tmp_path / "x", models=["m"], policy="specific")


def test_the_file_is_replaced_as_a_whole_with_its_mode_and_its_link(
    shop: Store, tmp_path: Path
) -> None:
    config, real = tmp_path / "models.config", tmp_path / "deep" / "real.config"
    real.parent.mkdir()
    config.rename(real)
    config.symlink_to(real)
    real.chmod(0o640)
    texts: list[str] = []

    def look(*_: str) -> None:
        texts.append(real.read_text())

    with mock.patch.object(disk, "observer", look):
        shop.promote("m:1", "prod")
    assert config.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert {*texts, real.read_text()} == {OTHERS, real.read_text()}
    assert sorted(path.name for path in real.parent.iterdir()) == ["real.config"]


def test_a_full_disk_leaves_the_file(shop: Store, tmp_path: Path) -> None:
    shop.promote("m:1", "prod")
    before = (tmp_path / "models.config").read_text()

    def full(action: str, path: str) -> None:
        if action == "write" and path.endswith("models.config"):
            raise OSError(28, "No space left on device", path)

    with mock.patch.object(disk, "observer", full), pytest.raises(SystemIOError, match="config"):
        shop.promote("m:2", "prod")
    assert (tmp_path / "models.config").read_text() == before
    assert (live(shop), there(tmp_path)) == (1, ["1"])
    shop.promote("m:2", "prod")
    assert (named(tmp_path), live(shop)) == (((2,), {}), 2)


def test_what_was_changed_by_hand_is_not_gone_back_to(shop: Store, tmp_path: Path) -> None:
    shop.promote("m:1", "prod")
    with pytest.raises(UnknownReferenceError, match="the first version"):
        shop.rollback("prod")
    shop.promote("m:2", "prod")
    flip(tmp_path / "base" / "1" / "variables" / "variables.data-00000-of-00001", 9)
    with pytest.raises(ConflictError, match="not m:1 any more"):
        shop.rollback("prod")
    assert named(tmp_path) == ((2,), {})


def test_several_models_share_a_file(shop: Store, tmp_path: Path) -> None:
    added(shop, conversion.make_checkpoint(tmp_path / "n" / "ckpt-1", 9), model="n")
    shop.export("n", builder="b.py:build")
    config = tmp_path / "models.config"
    shop.add_target("two", tmp_path / "two", models=["m", "n"], policy="specific", config=config)
    shop.promote("n:1", "two")
    shop.promote("m:2", "two")
    shop.promote("m:3", "two")
    found = read(config.read_text())
    assert list(found) == ["other", "n", "m"]
    assert (found["n"].versions, found["m"].versions) == ((1,), (3,))
    assert shop.rollback("two", model="m").version == 2
    assert read(config.read_text())["n"] == found["n"]


def test_old_versions_that_no_one_needs_leave(shop: Store, tmp_path: Path) -> None:
    shop.remove_target("prod")
    shop.add_target(
        "small",
        tmp_path / "base",
        models=["m"],
        keep=1,
        policy="specific",
        config=tmp_path / "models.config",
    )
    for number in (1, 2, 3):
        shop.promote(f"m:{number}", "small")
    assert there(tmp_path) == ["3"]
    assert live(shop) == 3
