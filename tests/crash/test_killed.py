"""A process may die at any of its steps, and nothing is ever half there.

Each command is killed at its first step, at its second one and so on. After each death the store
is absent or whole, the base path shows only complete versions, and the command run again succeeds.
The conversion inside ``export`` is a stand-in that writes a small SavedModel without TensorFlow;
the real one is tested in tests/tf.
"""

import pytest

from tests.crash.children import drive

KILL = "tests.crash.killing:kill_everywhere"


@pytest.mark.parametrize(
    ("command", "least"),
    [
        ("init", 12),
        ("add", 12),
        ("export", 40),
        ("promote", 30),
    ],
)
def test_a_death_at_any_step_leaves_nothing_half_done(command: str, least: int) -> None:
    found = drive(KILL, command)
    print(f"{command}: killed at each of {len(found['steps'])} steps")  # noqa: T201
    assert found["wrong"] == []
    assert len(found["steps"]) >= least


@pytest.mark.parametrize("command", ["add", "export", "promote"])
def test_a_pack_that_is_never_published_is_seen(command: str) -> None:
    found = drive(KILL, command, "never publish", "commit")
    assert any("verify:" in how for _, _, how in found["wrong"])


@pytest.mark.parametrize("command", ["add", "export", "promote"])
def test_a_pack_that_is_published_after_the_commit_is_seen(command: str) -> None:
    found = drive(KILL, command, "publish late", "commit replace remove")
    at = [where.split()[0] for _, where, how in found["wrong"] if "verify:" in how]
    assert "replace" in at
    assert "end" not in at, "only a death shows it"


def test_a_version_that_is_written_in_sight_is_seen() -> None:
    found = drive(KILL, "promote", "place in sight", "write fsync")
    at = [where.split()[0] for _, where, how in found["wrong"] if "is not complete" in how]
    assert "write" in at
    assert "end" not in at, "only a death shows it"
