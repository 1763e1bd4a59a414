import struct
import subprocess
import sys
import time
from pathlib import Path

from mstore.formats.tensor_bundle import parse_index
from tests.formats.bundle_writer import FLOAT32, Entry, write_index

ROOT = Path(__file__).parents[2]


def test_reading_needs_neither_tensorflow_nor_numpy() -> None:
    code = (
        "import sys; import mstore.formats.detect, mstore.formats.saved_model; "
        "print(sorted({'tensorflow', 'keras', 'numpy', 'sqlalchemy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_six_thousand_tensors_take_well_under_a_tenth_of_a_second() -> None:
    entries = {
        b"model/layer_%04d/kernel/.ATTRIBUTES/VARIABLE_VALUE" % at: Entry(
            FLOAT32, (8, 4), 0, 128 * at, 128, struct.unpack("<I", b"\x01\x02\x03\x04")[0]
        )
        for at in range(6000)
    }
    index = write_index(entries)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert len(parse_index(index, path="x")) == 6000
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1
