from collections.abc import Iterator
from pathlib import Path

import pytest

from mstore.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.init(tmp_path / "project") as opened:
        yield opened
