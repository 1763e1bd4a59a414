"""No history of promotions, rollbacks and deaths shows a server what it may never see.

``MSTORE_SERVING_HISTORIES`` makes the hunt longer, ``MSTORE_SEED`` random.
"""

import os

import pytest

from tests.crash.children import drive

HUNT = "tests.crash.serving_machine:hunt"


def test_no_server_sees_what_it_may_not_see() -> None:
    counts = drive(
        HUNT,
        os.environ.get("MSTORE_SERVING_HISTORIES", "20"),
        "12",
        os.environ.get("MSTORE_SEED", ""),
    )
    print(counts)  # noqa: T201
    assert counts["looks"] > 1000
    assert min(counts[name] for name in ("done", "refused", "killed", "together", "switches")) > 0


def test_a_history_without_mistakes_shows_none() -> None:
    assert drive("tests.crash.serving_machine:scripted") == []


@pytest.mark.parametrize(
    ("mistake", "seen"),
    [
        ("place in sight", "is not whole"),
        ("withdraw first", "has nothing to serve"),
        ("spare nothing", "has nothing to serve"),
        ("reuse numbers", "differ from what"),
        ("name too early", "which is not whole"),
        ("move labels at once", "the server refuses the config"),
        ("write in place", "the config file"),
    ],
)
def test_a_mistake_shows(mistake: str, seen: str) -> None:
    found = drive("tests.crash.serving_machine:scripted", mistake)
    assert any(seen in text for text in found), found
