"""Everything that mstore raises on purpose.

::

    Error                          1   error
    ├── UsageError                 2   usage
    ├── PartialError               3   partial
    ├── StoreNotFoundError        10   no-store
    ├── StoreLockedError          11   locked
    ├── ResolveError              12   (never raised itself)
    │   ├── UnknownReferenceError 12   unknown-reference
    │   └── AmbiguousReferenceError 12 ambiguous-reference
    ├── IntegrityError            13   integrity
    │   ├── DamagedFileError      13   damaged-file
    │   ├── DamagedStoreError     13   damaged-store
    │   ├── ProofError            13   proof-failed
    │   ├── LoadCheckError        13   load-check-failed
    │   ├── ParityError           13   parity-failed
    │   └── LintError             13   lint-failed
    ├── InputError                 1   bad-input
    ├── ConflictError              1   conflict
    ├── RefusedError               1   refused
    ├── StoreVersionError          1   store-version
    ├── MissingExtraError          1   missing-extra
    ├── ServerError                1   server
    │   └── NotServedError         1   not-served
    ├── SystemIOError              1   io
    ├── WorkerError                1   worker
    │   ├── BuilderError           1   builder-failed
    │   └── WorkerTimeoutError     1   timeout
    └── WeightsNotSavedError       1   weights-not-saved

Exit statuses are those of the command line; ``code`` is stable and is what ``--json`` prints.
Exceptions carry facts; they never log, print or exit.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar


class Error(Exception):
    """Base of all errors that mstore raises on purpose.

    Attributes:
        code: stable machine-readable name of the kind of failure.
        exit_status: exit status of the command line for it.
        message: what failed, on which thing.
        hint: the next thing to do, often a command; empty when there is none.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Make the error from its message and the next step."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_json(self) -> dict[str, object]:
        """Return the object that ``--json`` prints on standard error."""
        return {
            "error": {
                "code": self.code,
                "exit": self.exit_status,
                "message": self.message,
                "hint": self.hint,
            }
        }


class UsageError(Error):
    """The call itself is wrong: options that exclude each other, a value that does not parse."""

    code = "usage"
    exit_status = 2


class PartialError(Error):
    """Some of the things asked for were done, others failed; the message lists both."""

    code = "partial"
    exit_status = 3


class StoreNotFoundError(Error):
    """No ``.mstore`` directory here or above."""

    code = "no-store"
    exit_status = 10


class StoreLockedError(Error):
    """Another process held a lock for longer than the time-out."""

    code = "locked"
    exit_status = 11


class ResolveError(Error):
    """A reference does not name exactly one thing.

    Attributes:
        reference: the text that was given.
        candidates: what it could have meant, best first.
    """

    code = "reference"
    exit_status = 12

    def __init__(
        self, message: str, *, reference: str, candidates: Sequence[str] = (), hint: str = ""
    ) -> None:
        """Make the error from the reference and what it could have meant."""
        super().__init__(message, hint=hint)
        self.reference = reference
        self.candidates = tuple(candidates)

    def to_json(self) -> dict[str, object]:
        """Return the error object with the candidates."""
        body = super().to_json()
        error = body["error"]
        assert isinstance(error, dict)  # noqa: S101 - built one line above
        error["candidates"] = list(self.candidates)
        return body


class UnknownReferenceError(ResolveError):
    """A reference names nothing."""

    code = "unknown-reference"


class AmbiguousReferenceError(ResolveError):
    """A reference names more than one thing."""

    code = "ambiguous-reference"


class IntegrityError(Error):
    """Bytes are not what they must be."""

    code = "integrity"
    exit_status = 13


class DamagedFileError(IntegrityError):
    """A file that somebody handed in is damaged, cut short or not of its format.

    Attributes:
        path: the file, as given.
    """

    code = "damaged-file"

    def __init__(self, message: str, *, path: str, hint: str = "") -> None:
        """Make the error for the file at ``path``."""
        super().__init__(message, hint=hint)
        self.path = path

    def to_json(self) -> dict[str, object]:
        """Return the error object with the path."""
        body = super().to_json()
        error = body["error"]
        assert isinstance(error, dict)  # noqa: S101 - built one line above
        error["path"] = self.path
        return body


class DamagedStoreError(IntegrityError):
    """An object of the store is missing or its bytes do not have its id."""

    code = "damaged-store"


class ProofError(IntegrityError):
    """An exported variable is not a tensor of the checkpoint.

    Attributes:
        subjects: names of the variables that could not be proven.
    """

    code = "proof-failed"

    def __init__(self, message: str, *, subjects: Sequence[str], hint: str = "") -> None:
        """Make the error from the names of the unproven variables."""
        super().__init__(message, hint=hint)
        self.subjects = tuple(subjects)

    def to_json(self) -> dict[str, object]:
        """Return the error object with the unproven variables."""
        body = super().to_json()
        error = body["error"]
        assert isinstance(error, dict)  # noqa: S101 - built one line above
        error["subjects"] = list(self.subjects)
        return body


class LoadCheckError(IntegrityError):
    """TensorFlow's C++ loader could not load or run an exported SavedModel."""

    code = "load-check-failed"


class ParityError(IntegrityError):
    """A golden example does not come out of an exported SavedModel as it was recorded.

    Attributes:
        differences: one text for each output that differs.
    """

    code = "parity-failed"

    def __init__(self, message: str, *, differences: Sequence[str], hint: str = "") -> None:
        """Make the error with the outputs that differ."""
        super().__init__(message, hint=hint)
        self.differences = tuple(differences)

    def to_json(self) -> dict[str, object]:
        """Return the object that ``--json`` prints, with the differences."""
        body = super().to_json()
        assert isinstance(body["error"], dict)  # noqa: S101 - made just above
        body["error"]["differences"] = list(self.differences)
        return body


class LintError(IntegrityError):
    """TensorFlow Serving could not serve an exported SavedModel.

    Attributes:
        findings: each with ``severity``, ``kind``, ``subject``, ``detail`` and ``cure``.
    """

    code = "lint-failed"

    def __init__(
        self, message: str, *, findings: Sequence[Mapping[str, object]], hint: str = ""
    ) -> None:
        """Make the error from the findings that stopped the export."""
        super().__init__(message, hint=hint)
        self.findings = tuple(findings)

    def to_json(self) -> dict[str, object]:
        """Return the error object with the findings."""
        body = super().to_json()
        error = body["error"]
        assert isinstance(error, dict)  # noqa: S101 - built one line above
        error["findings"] = [dict(item) for item in self.findings]
        return body


class InputError(Error):
    """Something handed in cannot be used: a path that is not there, not a checkpoint, no step."""

    code = "bad-input"


class ConflictError(Error):
    """The name or number is taken by other content."""

    code = "conflict"


class RefusedError(Error):
    """What is asked for would do harm there; the hint says how to insist, if at all.

    Attributes:
        reason: stable word for why.
    """

    code = "refused"

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        """Make the error; ``reason`` is a word that options take."""
        super().__init__(message, hint=hint)
        self.reason = reason

    def to_json(self) -> dict[str, object]:
        """Return the object that ``--json`` prints, with the reason."""
        body = super().to_json()
        assert isinstance(body["error"], dict)  # noqa: S101 - made just above
        body["error"]["reason"] = self.reason
        return body


class StoreVersionError(Error):
    """The store was written by a newer mstore, or by one too old to be brought up to date."""

    code = "store-version"


class MissingExtraError(Error):
    """An optional part of the installation is needed and absent."""

    code = "missing-extra"


class ServerError(Error):
    """A model server does not answer, or not as it should."""

    code = "server"


class NotServedError(ServerError):
    """A model server does not serve a version that was put before it.

    Attributes:
        state: what it says of the version, or the empty string.
    """

    code = "not-served"

    def __init__(self, message: str, *, state: str, hint: str = "") -> None:
        """Make the error from its message and the state."""
        super().__init__(message, hint=hint)
        self.state = state


class SystemIOError(Error):
    """The operating system refused: disk full, no permission, an input/output error."""

    code = "io"


class WorkerError(Error):
    """The conversion process failed, crashed or was killed."""

    code = "worker"


class BuilderError(WorkerError):
    """The user's builder raised, or returned something that is not a model."""

    code = "builder-failed"


class WorkerTimeoutError(WorkerError):
    """The conversion process took longer than it was given."""

    code = "timeout"


class WeightsNotSavedError(Error):
    """A live model has weights that its checkpoint does not hold.

    Attributes:
        weights: names of the weights that would be lost.
    """

    code = "weights-not-saved"

    def __init__(self, message: str, *, weights: Sequence[str], hint: str = "") -> None:
        """Make the error from the names of the weights."""
        super().__init__(message, hint=hint)
        self.weights = tuple(weights)
