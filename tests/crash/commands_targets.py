"""The commands about targets, under the same faults as the others."""

from contextlib import suppress
from pathlib import Path

from mstore.errors import ConflictError, RefusedError, UnknownReferenceError
from tests.crash import conversion
from tests.crash.commands_base import (
    Command,
    count_deployments,
    export,
    one_checkpoint,
    one_version,
)
from tests.crash.state import names, opened


def _three_served(root: Path) -> None:
    """Make the target prod, which had 1, 2 and 3, and has 2 and 3."""
    one_checkpoint(root)
    conversion.install()
    with opened(root) as store:
        store.add_target("prod", root / "base", models=["m"])
        for number in (1, 2, 3):
            store.export("m@10", builder="builder.py:build")
            store.promote(f"m:{number}", "prod", alias="newest")
        store.retire("prod", 1)


def _promote_to_target(root: Path) -> None:
    with opened(root) as store:
        store.promote("m:4", "prod", alias="newest")


def _four_versions(root: Path) -> None:
    _three_served(root)
    export(root, to=False)


def _promote_to_target_ended(root: Path, before: int) -> None:
    assert names(root / "base") == ["2", "3", "4"]
    with opened(root) as store:
        assert store.show("m:newest") == store.show("m:4")
        assert len(store.deployments()) == 5
    assert before in {4, 5}


def _rollback(root: Path) -> None:
    with opened(root) as store, suppress(RefusedError):  # done before the death
        store.rollback("prod", to=1, alias="newest")


def _rollback_ended(root: Path, before: int) -> None:
    assert names(root / "base") == ["1"]
    with opened(root) as store:
        events = [(item.event, item.version) for item in store.deployments(limit=3)]
        assert events == [("rolled-back", 3), ("rolled-back", 2), ("restored", 1)]
        assert store.show("m:newest") == store.show("m:1")
        assert len(store.deployments()) == 7
    assert before in {4, 7}


def _retire(root: Path) -> None:
    with opened(root) as store, suppress(UnknownReferenceError):  # done before the death
        store.retire("prod", 2)


def _retire_ended(root: Path, before: int) -> None:
    assert names(root / "base") == ["3"]
    with opened(root) as store:
        assert len(store.deployments()) == 5
    assert before in {4, 5}


def _alias(root: Path) -> None:
    with opened(root) as store:
        store.alias("m:2", "newest")


def _alias_ended(root: Path, before: int) -> None:
    with opened(root) as store:
        assert store.show("m:newest") == store.show("m:2")
    assert before == 4


def _target(root: Path) -> None:
    with opened(root) as store, suppress(ConflictError):  # done before the death
        store.add_target("prod", root / "base", models=["m"])


def _target_ended(root: Path, before: int) -> None:
    with opened(root) as store:
        assert [state.site.name for state in store.targets()] == ["prod"]
    assert (root / "base").is_dir()
    assert before == 0


TARGET_COMMANDS = {
    "target": Command(one_version, _target, _target_ended, count_deployments),
    "promote-to": Command(
        _four_versions, _promote_to_target, _promote_to_target_ended, count_deployments
    ),
    "rollback": Command(_three_served, _rollback, _rollback_ended, count_deployments),
    "retire": Command(_three_served, _retire, _retire_ended, count_deployments),
    "alias": Command(_three_served, _alias, _alias_ended, count_deployments),
}
