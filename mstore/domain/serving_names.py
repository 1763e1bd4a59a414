"""Which names under a base path TensorFlow Serving takes for versions.

The server parses every child's name with ``absl::SimpleAtoi<int64>``
(tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc). mstore itself only
ever writes unpadded positive numbers.
"""

import re

MAX_VERSION = 2**63 - 1
"""Largest version number that fits the server's int64."""

_CANONICAL = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
# ascii_isspace of Abseil: space, \t, \n, \v, \f, \r on both ends.
_SIMPLE_ATOI = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*", re.ASCII)


def server_number(name: str) -> int | None:
    """Return the version that the server reads in ``name``, or None.

    >>> [server_number(name) for name in ("7", "007", " 7", "+5", "v1", "7.tmp")]
    [7, 7, 7, 5, None, None]
    """
    match = _SIMPLE_ATOI.fullmatch(name)
    if match is None or len(match[1]) > 4096:  # noqa: PLR2004 - longer than any file name
        return None
    number = int(match[1])
    return number if -(2**63) <= number <= MAX_VERSION else None


def canonical_number(name: str) -> int | None:
    """Return the number that ``name`` spells without sign, padding or space, or None.

    >>> canonical_number("7"), canonical_number("007"), canonical_number("0")
    (7, None, None)
    """
    if _CANONICAL.fullmatch(name) is None:
        return None
    number = int(name)
    return number if number <= MAX_VERSION else None
