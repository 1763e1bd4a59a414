"""Many processes use one store at once: all succeed, and nothing is counted twice or left out.

The conversion inside ``export`` is a stand-in; the real one is tested in tests/tf.
"""

from tests.crash.children import drive
from tests.crash.racing import PROCESSES

NUMBERS = list(range(1, PROCESSES + 1))


def test_different_checkpoints_get_all_numbers_without_gap_or_repeat() -> None:
    found = drive("tests.crash.racing:different_checkpoints")
    assert found["steps"] == list(range(PROCESSES))
    assert sorted(found["numbers"]) == found["versions"] == found["deployments"] == NUMBERS
    assert found["base"] == [str(number) for number in NUMBERS]
    assert found["events"] == 3 * PROCESSES
    assert found["tmp"] == []


def test_the_same_checkpoint_is_new_once() -> None:
    found = drive("tests.crash.racing:same_checkpoint")
    assert sorted(found["new"]) == [False] * (PROCESSES - 1) + [True]
    assert (found["steps"], found["events"]) == ([5], 1)


def test_the_same_version_is_promoted_once() -> None:
    found = drive("tests.crash.racing:same_version")
    assert sorted(found["new"]) == [False] * (PROCESSES - 1) + [True]
    assert (found["base"], found["deployments"]) == (["1"], [1])


def test_one_store_is_made_in_one_directory() -> None:
    found = drive("tests.crash.racing:same_directory")
    assert sorted(found["created"]) == [False] * (PROCESSES - 1) + [True]
    assert found["there"] == [".mstore"]
