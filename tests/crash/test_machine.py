"""Random histories of a store agree with plain dictionaries, whoever dies on the way.

``MSTORE_HISTORIES`` and ``MSTORE_HISTORY_STEPS`` make the hunt longer, ``MSTORE_SEED`` random.
"""

import os

import pytest

from tests.crash.children import drive


def test_random_histories_agree_with_plain_dictionaries() -> None:
    counts = drive(
        "tests.crash.machine:hunt",
        os.environ.get("MSTORE_HISTORIES", "8"),
        os.environ.get("MSTORE_HISTORY_STEPS", "20"),
        os.environ.get("MSTORE_SEED", ""),
    )
    print(counts)  # noqa: T201
    assert counts["steps"] > 50
    assert min(counts["killed"], counts["together"], counts["refused"]) > 0


@pytest.mark.parametrize("mistake", ["never publish", "publish late"])
def test_a_mistake_shows(mistake: str) -> None:
    with pytest.raises(AssertionError, match="verify: "):
        drive("tests.crash.machine:hunt", "40", "20", "", mistake)
