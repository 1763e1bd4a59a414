"""Canonical JSON: equal values, equal bytes."""

import json


def canonical(value: object) -> bytes:
    """Return JSON with sorted keys, no spaces and no NaN, in UTF-8: equal values, equal bytes."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()
