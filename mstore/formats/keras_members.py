"""The files that make up a saved Keras model besides its weights, and what is the same in them.

``save_model`` (keras/src/saving/saving_lib.py) writes ``metadata.json``, ``config.json``,
``model.weights.h5`` and ``assets/``, into an archive or a directory.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mstore.formats.files import damaged

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"
ASSETS = "assets/"

MAX_JSON = 8 << 20
"""Bytes of a ``config.json`` or ``metadata.json``."""

# `ObjectSharingScope` numbers shared objects by their addresses. The quotes cannot be within a
# string of valid JSON, where they would be escaped.
_SHARED = re.compile(rb'("shared_object_id": ?)(\d+)')


def parse_object(data: bytes, path: str, name: str) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
        DamagedFileError: it holds something else.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its {name} is not JSON") from error
    if not isinstance(found, dict):
        raise damaged(path, f"its {name} is not a JSON object")
    return found


def check_config(data: bytes, path: str) -> None:
    """Check that a ``config.json`` describes a Keras object.

    Raises:
        DamagedFileError: it does not.
    """
    if not isinstance(parse_object(data, path, CONFIG).get("class_name"), str):
        raise damaged(path, f"its {CONFIG} names no class of a model")


def canonical(name: str, data: bytes, path: str) -> bytes:
    """Return what two saves of one model have in common in ``config.json`` or ``metadata.json``.

    The date is left out; the addresses that stand for shared objects are replaced by their order,
    which keeps what is shared with what.
    """
    if name == METADATA:
        found = parse_object(data, path, name)
        found.pop("date_saved", None)
        return json.dumps(found, sort_keys=True).encode()
    numbers: dict[bytes, int] = {}

    def numbered(match: "re.Match[bytes]") -> bytes:
        return match[1] + b"%d" % numbers.setdefault(match[2], len(numbers))

    return _SHARED.sub(numbered, data)


def identity(format_: str, members: Mapping[str, Iterable[bytes]], path: str) -> bytes:
    """Return bytes that are equal for saves of equal content.

    Args:
        format_: name of the format; an archive and a directory are never the same.
        members: the bytes of each file by its name.
        path: for messages.

    Returns:
        JSON: the format and the SHA-256 of each file, of config and metadata as `canonical`.

    Raises:
        DamagedFileError: a file does not hold what it must.
    """
    digests = {}
    for name in sorted(members):
        sha256 = hashlib.sha256()
        if name in {CONFIG, METADATA}:
            sha256.update(canonical(name, _limited(members[name], path, name), path))
        else:
            for piece in members[name]:
                sha256.update(piece)
        digests[name] = sha256.hexdigest()
    body = {"format": format_, "members": digests}
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _limited(pieces: Iterable[bytes], path: str, name: str) -> bytes:
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > MAX_JSON:
            raise damaged(path, f"its {name} has more than {MAX_JSON} bytes")
    return bytes(data)
