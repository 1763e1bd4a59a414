"""Rules about the files of a version directory."""

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mstore.domain.lint import LintFinding, finding
from mstore.domain.lint_signatures import DEFAULT_SIGNATURE
from mstore.domain.signatures import Signature
from mstore.domain.warmup import MAX_WARMUP_RECORDS, WARMUP_PATH, WarmupRequest

Link = Literal["none", "inside", "outside", "broken"]
"""Whether a path is a symbolic link, and where to."""

_KNOWN_FILES = frozenset(
    {
        "batching_params.pbtxt",
        "fingerprint.pb",
        "keras_metadata.pb",
        "model.tflite",
        "saved_model.pb",
        "saved_model.pbtxt",
        "variables/variables.index",
    }
)
_KNOWN_FOLDERS = ("assets/", "assets.extra/", "debug/")
_SHARD = re.compile(r"variables/variables\.data-(\d{5,})-of-(\d{5,})", re.ASCII)
_LISTED = 10


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or directory in a version directory, or the directory itself.

    Attributes:
        path: relative to the version directory; ``.`` is itself.
        size: in bytes; 0 for directories.
        mode: type and permissions, of what a link leads to.
        link: whether it is a symbolic link.
        target: what the link says.
    """

    path: str
    size: int
    mode: int
    link: Link = "none"
    target: str = ""

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory or leads to one."""
        return stat.S_ISDIR(self.mode)


def lint_files(entries: Sequence[Entry], shards: int | None) -> Iterator[LintFinding]:
    """Yield what is wrong with the files of a version directory.

    Args:
        entries: the directory itself and everything in it.
        shards: number of data files that ``variables.index`` speaks of, or None without an index.
    """
    yield from _junk(entries, shards)
    yield from _links(entries)


def _junk(entries: Sequence[Entry], shards: int | None) -> Iterator[LintFinding]:
    files = [e for e in entries if not e.is_directory and e.link != "broken"]
    junk = [entry for entry in files if not _belongs(entry.path, shards)]
    total = sum(entry.size for entry in junk)
    for entry in junk[:_LISTED]:
        more = f"; {len(junk)} such files have {total} bytes" if len(junk) > _LISTED else ""
        yield finding(
            "junk-file",
            entry.path,
            f"it is no part of the SavedModel, and its {entry.size} bytes count in the server's "
            f"estimate of the memory that the version needs{more}",
            "remove it",
        )


def _belongs(path: str, shards: int | None) -> bool:
    shard = _SHARD.fullmatch(path)
    if shard is not None and shards is not None:
        return int(shard[2]) == shards and int(shard[1]) < shards
    return shard is not None or path in _KNOWN_FILES or path.startswith(_KNOWN_FOLDERS)


def _links(entries: Sequence[Entry]) -> Iterator[LintFinding]:
    for entry in entries:
        if entry.link == "broken":
            yield finding(
                "broken-link",
                entry.path,
                f"it is a symbolic link to {entry.target}, which does not exist",
                "put the file itself there",
            )
        elif entry.link == "outside":
            yield finding(
                "link-outside",
                entry.path,
                f"it is a symbolic link to {entry.target}, outside the base path: a server in a "
                "container that mounts the base path alone does not find it",
                "put the files themselves there",
            )


def lint_modes(entries: Sequence[Entry]) -> Iterator[LintFinding]:
    """Yield a finding if another user, as whom servers run, cannot read everything."""
    shut = [entry for entry in entries if entry.link != "broken" and not _open_to_all(entry)]
    if not shut:
        return
    first = shut[0]
    count = f", and {len(shut) - 1} more are not" if len(shut) > 1 else ""
    yield finding(
        "unreadable-mode",
        first.path,
        f"with the mode {stat.S_IMODE(first.mode):04o} it is not readable by every user{count}: a "
        "server that runs as another user gets 'Permission denied'",
        "chmod -R a+rX on the directory",
    )


def _open_to_all(entry: Entry) -> bool:
    needed = stat.S_IROTH | (stat.S_IXOTH if entry.is_directory else 0)
    return entry.mode & needed == needed


def lint_warmup(
    requests: Sequence[WarmupRequest], signatures: Mapping[str, Signature]
) -> Iterator[LintFinding]:
    """Yield what makes the warmup requests fail, and with them the load."""
    if not requests:
        detail = "it holds no request, so that it warms nothing up"
        yield finding("warmup-empty", WARMUP_PATH, detail, "remove it, or write requests into it")
    if len(requests) > MAX_WARMUP_RECORDS:
        yield _warmup(
            f"it holds more than {MAX_WARMUP_RECORDS} requests, and the server refuses the version",
            f"keep at most {MAX_WARMUP_RECORDS}",
        )
    seen: set[str] = set()
    for number, request in enumerate(requests):
        why = _refused(request, signatures)
        if why and why not in seen and len(seen) < _LISTED:
            seen.add(why)
            yield _warmup(
                f"request {number} {why}, and a warmup request that fails makes the load fail",
                "write the file again for these signatures, or remove it",
            )


def _warmup(detail: str, cure: str) -> LintFinding:
    return finding("warmup", WARMUP_PATH, detail, cure)


_REFUSED = {
    "none": "is no PredictionLog with a request",
    "unsupported": "is of a kind that servers do not replay",
}


def _refused(request: WarmupRequest, signatures: Mapping[str, Signature]) -> str:
    """Return why a server refuses a request, or nothing."""
    if request.kind in _REFUSED:
        return _REFUSED[request.kind]
    if request.inputs is None:  # only predictions are looked into
        return "" if request.kind != "predict" else _REFUSED["none"]
    name = request.signature or DEFAULT_SIGNATURE
    signature = signatures.get(name)
    if signature is None:
        return f"names the signature {name!r}, which is not there"
    if set(request.inputs) != set(signature.inputs):
        given, wanted = sorted(request.inputs), sorted(signature.inputs)
        return f"gives the inputs {given}, and the signature {name!r} takes {wanted}"
    wrong = (key for key, spec in signature.inputs.items() if request.inputs[key] != spec.dtype)
    key = next(wrong, None)
    if key is None:
        return ""
    given_dtype, wanted_dtype = request.inputs[key], signature.inputs[key].dtype
    return f"gives {key!r} as {given_dtype}, and the signature takes {wanted_dtype}"
