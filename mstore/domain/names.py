"""Names that people choose: models, runs, tags, metrics."""

import re

from mstore.errors import UsageError

# TensorFlow Serving's REST paths take `[^/:]+` for a model and its documentation promises only word
# characters; dots and dashes are safe everywhere as well.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9_]{1,128}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{4,64}", re.ASCII)
_NUMBER = re.compile(r"[0-9]+", re.ASCII)

RESERVED = frozenset({"latest", "best", "head", "all", "none"})
"""Words that a tag or alias may not be."""


def looks_like_hash(text: str) -> bool:
    """Return whether ``text`` could be the beginning of a content id."""
    return _HEX.fullmatch(text) is not None


def check_name(kind: str, name: str) -> str:
    """Return ``name`` if it can name a model or a run.

    Raises:
        UsageError: it has other characters than letters, digits, ``_``, ``.`` and ``-``, starts
            with a dot or dash, or is longer than 128 characters.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} cannot be the name of a {kind}",
            hint="use letters, digits, '_', '.' and '-', starting with a letter, digit or '_'",
        )
    return name


def check_tag(name: str) -> str:
    """Return ``name`` if it can be a tag.

    Raises:
        UsageError: it is no valid name, or looks like a number, a hash prefix or a reserved word.
    """
    check_name("tag", name)
    if _NUMBER.fullmatch(name) or looks_like_hash(name) or name.lower() in RESERVED:
        raise UsageError(
            f"{name!r} cannot be a tag: it reads as a step, a hash prefix or a reserved word",
            hint="choose a word such as 'baseline' or 'candidate-2'",
        )
    return name


def check_label(name: str) -> str:
    """Return ``name`` if it can be a label of TensorFlow Serving, whose documentation says which.

    Raises:
        UsageError: it has other characters than letters, digits and ``_``.
    """
    if _LABEL.fullmatch(name) is None:
        raise UsageError(f"{name!r} cannot be a label", hint="use letters, digits and '_'")
    return name
