"""The provenance statement that travels with a version: in-toto Statement v1, SLSA provenance v1.

Formats: https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1. The statement holds no
time and no version number, so that the same checkpoint, builder and tools give the same bytes; who
placed which number when is in the store's ledger.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mstore
from mstore.domain.records import Checkpoint, FileRecord
from mstore.errors import Error
from mstore.formats.files import read_limited
from mstore.ops.hashing import STATEMENT_PATH

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:mstore:export:trace:v1"

_LARGEST = 16 << 20


def make_statement(
    checkpoint: Checkpoint,
    files: Sequence[FileRecord],
    *,
    program: str,
    digest: str,
    builder: Mapping[str, object],
    parameters: Mapping[str, object],
    environment: Mapping[str, str],
) -> bytes:
    """Return the statement about a version's files as JSON, the same for the same facts."""
    subjects = [
        {"name": file.path, "digest": {"sha256": file.sha256}, "annotations": {"size": file.size}}
        for file in sorted(files, key=lambda file: file.path)
    ]
    source = {
        "id": checkpoint.id,
        "model": checkpoint.model,
        "run": checkpoint.run,
        "step": checkpoint.step,
        "metrics": dict(checkpoint.metrics),
        "content": checkpoint.content,
    }
    dependencies = [
        {
            "uri": f"urn:mstore:checkpoint:{checkpoint.id}",
            "name": f"{checkpoint.model}/{checkpoint.run}@{checkpoint.step}",
            "digest": {"blake3": checkpoint.content},
            "annotations": source,
        },
        # A file of Keras or a SavedModel carries its own architecture.
        *([_builder_dependency(builder)] if builder else []),
    ]
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "checkpoint": source,
                    "builder": builder.get("spec"),
                    **parameters,
                },
                "internalParameters": {
                    "program": program,
                    "digest": digest,
                    "environment": dict(environment),
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": "urn:mstore", "version": {"mstore": mstore.__version__}},
                "metadata": {},
            },
        },
    }
    return (json.dumps(statement, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _builder_dependency(builder: Mapping[str, object]) -> dict[str, object]:
    digest = {"sha256": builder.get("source_sha256")}
    if builder.get("git_commit"):
        digest["gitCommit"] = builder["git_commit"]
    return {
        "uri": f"urn:mstore:builder:{builder.get('spec')}",
        "name": builder.get("spec"),
        "digest": digest,
        "annotations": {"git_dirty": builder.get("git_dirty")},
    }


class Statement:
    """A statement found in a directory, read with suspicion.

    Attributes:
        files: what it says of each file.
        checkpoint: what it says of the checkpoint.
        checkpoint_id: the checkpoint's id in it.
        model: the model's name in it.
        digest: the version digest it names, or None.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        """Take the parts out of a parsed statement.

        Raises:
            ValueError: it is not a statement of this kind.
        """
        try:
            definition = body["predicate"]["buildDefinition"]
            self.files = tuple(
                FileRecord(
                    str(subject["name"]),
                    int(subject["annotations"]["size"]),
                    str(subject["digest"]["sha256"]),
                )
                for subject in body["subject"]
            )
            self.checkpoint: dict[str, object] = dict(
                definition["externalParameters"]["checkpoint"]
            )
            self.checkpoint_id = str(self.checkpoint["id"])
            self.model = str(self.checkpoint["model"])
            digest = definition["internalParameters"].get("digest")
            self.digest = None if digest is None else str(digest)
            if body["_type"] != STATEMENT_TYPE:
                raise ValueError("not an in-toto statement")
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a statement of mstore: {error}") from error


def read_statement(directory: Path) -> Statement | None:
    """Return the statement in a version directory, or None if there is none.

    Raises:
        ValueError: there is one, and it cannot be read.
    """
    path = directory / STATEMENT_PATH
    if not os.path.lexists(path):
        return None
    try:
        data = read_limited(path, _LARGEST)
    except Error as error:
        raise ValueError(error.message) from error
    try:
        body = json.loads(data)
        json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    return Statement(body)
