"""Flip one bit in the middle of a file, as a failing disk or a careless hand would."""

import sys
from pathlib import Path

path = Path(sys.argv[1])
data = bytearray(path.read_bytes())
middle = len(data) // 2
data[middle] ^= 1
path.write_bytes(data)
print(f"flipped a bit of byte {middle} of {path}")
