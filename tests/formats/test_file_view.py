import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstore.errors import DamagedFileError
from mstore.formats.file_view import FileView

SIZE = 1 << 20
DATA = bytes(range(251)) * (SIZE // 251 + 1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("windows") / "file"
    path.write_bytes(DATA)
    return path


@given(st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(0, 400_000)), max_size=20))
def test_a_window_shows_what_a_view_shows(file: Path, places: list[tuple[int, int]]) -> None:
    view = memoryview(DATA)
    with file.open("rb", buffering=0) as opened:
        whole = FileView(opened, str(file))
        assert len(whole) == len(DATA)
        for start, size in places:
            part, expected = whole[start : start + size], view[start : start + size]
            assert len(part) == len(expected)
            assert bytes(part) == expected
            if len(part):
                assert part[0] == expected[0]
                assert part[len(part) - 1] == expected[-1]
            assert bytes(part[3:9][1:]) == expected[3:9][1:]


def test_a_file_that_becomes_shorter_is_damage_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with path.open("rb", buffering=0) as opened:
        window = FileView(opened, str(path))
        os.truncate(path, 1000)
        with pytest.raises(DamagedFileError, match="cut short"):
            _ = window[700_000]
        with pytest.raises(DamagedFileError, match="cut short"):
            bytes(window[500:2000])
        with pytest.raises(DamagedFileError, match="cut short"):
            bytes(window)
