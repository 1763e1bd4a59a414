"""Whatever happens at any step of a command, nothing is lost, and no damage goes unseen.

Every step is visited by death and by an error of the operating system; the loss of power, in its
two forms, takes every third step, and all of them where ``MSTORE_FAULTS=all`` is set.
"""

import os

import pytest

from tests.crash.children import drive
from tests.crash.commands import COMMANDS

SWEEP = "tests.crash.killing:sweep"
ALL = os.environ.get("MSTORE_FAULTS") == "all"
FEW = {"gc": 2, "target": 5}
"""Commands that have few steps."""

TESTED_ELSEWHERE = {"init", "add", "export", "promote"}
every_command = pytest.mark.parametrize("command", list(COMMANDS))


def ensure_right(command: str, faults: str, stride: int = 1) -> None:
    found = drive(SWEEP, command, faults, "", "", str(stride))
    print(f"{command}: {faults} at {len(found['steps'])} steps")  # noqa: T201
    assert found["wrong"] == []
    assert len(found["steps"]) >= (0 if faults == "short" else FEW.get(command, 8) // stride)


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - TESTED_ELSEWHERE))
def test_a_death_at_any_step_loses_nothing(command: str) -> None:
    ensure_right(command, "kill")


@every_command
@pytest.mark.parametrize("faults", ["enospc", "eio", "eintr"] if ALL else ["enospc eio eintr"])
def test_an_error_at_any_step_loses_nothing(command: str, faults: str) -> None:
    ensure_right(command, faults)


@every_command
@pytest.mark.parametrize("faults", ["names", "bytes"] if ALL else ["names bytes"])
def test_the_loss_of_power_at_any_step_loses_nothing(command: str, faults: str) -> None:
    ensure_right(command, faults, 1 if ALL else 3)


@every_command
def test_writes_that_take_only_a_part_are_gone_on_with(command: str) -> None:
    ensure_right(command, "short")


@pytest.mark.parametrize(
    ("command", "faults", "plant", "actions"),
    [
        ("add", "bytes", "no fsync", "commit remove"),
        ("promote", "bytes", "no fsync", "commit remove"),
        ("add", "names", "no fsync of directories", "commit remove"),
        ("promote", "names", "no fsync of directories", "commit remove"),
        ("repair", "kill", "put aside first", "commit append"),
        ("rebuild", "kill", "catalog first", ""),
    ],
)
def test_a_mistake_is_seen(command: str, faults: str, plant: str, actions: str) -> None:
    assert drive(SWEEP, command, faults, plant, actions)["wrong"]
