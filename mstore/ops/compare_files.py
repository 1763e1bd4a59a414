"""Hold the files of a directory against a list of what they should be."""

from collections.abc import Iterable

from mstore.domain.records import FileRecord, Finding
from mstore.ops.hashing import STATEMENT_PATH
from mstore.ops.inspect import Inspection


def compare_files(inspection: Inspection, expected: Iterable[FileRecord]) -> list[Finding]:
    """Return a finding for each file that is missing, changed or too many.

    A statement that is gone is a note: the directory can be proven without it.
    """
    wanted = {file.path: file for file in expected}
    findings = []
    for path, file in sorted(wanted.items()):
        found = inspection.files.get(path)
        if found is None and path == STATEMENT_PATH:
            findings.append(Finding("no-statement", path, "is gone; its facts come from the store"))
        elif found is None:
            findings.append(Finding("missing-file", path, "was published and is gone"))
        elif found.sha256 != file.sha256:
            detail = f"SHA-256 is {found.sha256}, was {file.sha256} when it was published"
            findings.append(Finding("modified-file", path, detail))
    findings += [
        Finding("extra-file", path, "was not published with this version")
        for path in sorted(set(inspection.files) - set(wanted) - {STATEMENT_PATH})
    ]
    return findings
