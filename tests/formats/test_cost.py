import subprocess
import sys
from pathlib import Path

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
