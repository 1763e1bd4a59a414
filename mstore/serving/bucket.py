"""Places versions in a bucket, from where TensorFlow Serving reads them by their URL.

An object store has no rename. What makes a version is its ``saved_model.pb``: it is written last
and removed first, and a prefix without it is no version. A server with the policy ``latest`` sees
the number as soon as its first object is there, fails to load it, and tries again; only
``specific`` hides it until it is whole.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from mstore.domain.places import BucketPath
from mstore.domain.records import FileRecord
from mstore.domain.serving_names import server_number
from mstore.errors import ConflictError, InputError, MissingExtraError, SystemIOError
from mstore.serving.publish import FileToPlace

_GRAPH = "saved_model.pb"
_RETRIES = 3
_SECONDS = 60


def numbers(base: BucketPath) -> dict[int, list[str]]:
    """Return the versions under a base path that have their graph; number to names.

    Raises:
        SystemIOError: the bucket cannot be listed.
    """
    found: dict[int, list[str]] = {}
    for path in sorted(objects(base)):
        name, _, rest = path.partition("/")
        number = server_number(name)
        if number is not None and rest == _GRAPH:
            found.setdefault(number, []).append(name)
    return found


def prepare_base(base: BucketPath) -> None:
    """See that the bucket is there and may be listed.

    Raises:
        SystemIOError: it is not.
    """
    objects(base)


def objects(base: BucketPath) -> dict[str, int]:
    """Return path and size of each object below a prefix.

    Raises:
        SystemIOError: the bucket cannot be listed.
    """
    with _errors(f"listing {base}"):
        store = _store(base)
        pages = store.list()
        return {str(item["path"]): int(item["size"]) for page in pages for item in page}


def read(path: BucketPath, name: str) -> Iterator[bytes]:
    """Yield the bytes of an object below a prefix.

    Raises:
        SystemIOError: it cannot be read.
    """
    with _errors(f"reading {path / name}"):
        for part in _store(path).get(name).stream():
            yield bytes(part)


def place(
    base: BucketPath,
    number: int,
    files: Sequence[FileToPlace],
    same: Callable[[BucketPath], bool],
    advance: Callable[[int], None],
) -> bool:
    """Upload a version as ``base/number``: its graph last, after all else was read back.

    What an upload that died has left under the number is replaced.

    Args:
        base: the base path.
        number: the version's number.
        files: what it consists of.
        same: tells whether an existing prefix is this very version.
        advance: hears of bytes written.

    Returns:
        False if the same version was there already and nothing was done.

    Raises:
        ConflictError: the number is there with other content.
        SystemIOError: the bucket refused, or gave back other bytes.
    """
    there = numbers(base).get(number, [])
    target = base / str(number)
    if there:
        if there == [str(number)] and same(target):
            return False
        raise _conflict(target)
    wanted = {file.record.path for file in files}
    with _errors(f"uploading {target}"):
        store = _store(target)
        if objects(target).keys() - wanted:  # an upload of somebody else, not finished
            raise _conflict(target)
        for file in sorted(files, key=lambda file: (file.record.path == _GRAPH, file.record.path)):
            _upload(store, target, file, [each.record for each in files], advance)
    return True


def _upload(
    store: Any,
    target: BucketPath,
    file: FileToPlace,
    records: Sequence[FileRecord],
    advance: Callable[[int], None],
) -> None:
    def parts() -> Iterator[bytes]:
        for part in file.read():
            advance(len(part))
            yield bytes(part)

    from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415 - an extra

    if file.record.path == _GRAPH:
        try:  # of two who place the same number one wins
            store.put(_GRAPH, b"".join(parts()), mode="create")
        except AlreadyExistsError as error:
            # Sent twice because the first answer was lost, it is there and ours.
            if not is_version(target, records):
                raise _conflict(target) from error
    else:
        store.put(file.record.path, parts())
    digest, size = hashlib.sha256(), 0
    for piece in store.get(file.record.path).stream():
        digest.update(piece)
        size += len(piece)
    if (size, digest.hexdigest()) != (file.record.size, file.record.sha256):
        store.delete(file.record.path)
        raise SystemIOError(
            f"{target / file.record.path} came back as other bytes; the version is not there",
            hint="run the command again",
        )


def _conflict(target: BucketPath) -> ConflictError:
    return ConflictError(
        f"{target} is there already, and is not this version; a number is never given to other "
        "content",
        hint="export the checkpoint again with --to to get the next free number",
    )


def withdraw(base: BucketPath, chosen: Sequence[int]) -> None:
    """Take versions out, one after the other, each from its graph on.

    Raises:
        SystemIOError: the bucket refused; those before have left.
    """
    for number in chosen:
        target = base / str(number)
        with _errors(f"removing {target}"):
            store = _store(target)
            for path in sorted(objects(target), key=lambda path: (path != _GRAPH, path)):
                store.delete(path)


def is_version(target: BucketPath, files: Sequence[FileRecord]) -> bool:
    """Return whether a prefix holds exactly these files; every byte is read."""
    if objects(target) != {file.path: file.size for file in files}:
        return False
    for file in files:
        digest = hashlib.sha256()
        for part in read(target, file.path):
            digest.update(part)
        if digest.hexdigest() != file.sha256:
            return False
    return True


def _store(path: BucketPath) -> Any:
    """Return a store of what is below a prefix; its settings are those of the environment."""
    try:
        from obstore.store import from_url  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{path} is in a bucket, and obstore is not installed",
            hint="pip install 'mstore[bucket]'",
        ) from error
    return from_url(
        str(path),
        retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_SECONDS)},
        client_options={"connect_timeout": "5s", "allow_http": True},
    )


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Turn errors of the bucket into ours.

    Raises:
        SystemIOError: the bucket refused.
        InputError: the URL is none.
    """
    try:
        yield
    except (SystemIOError, MissingExtraError, ConflictError):
        raise
    except ValueError as error:
        raise InputError(f"{what} failed: {error}") from error
    except _refusals() as error:
        text = " ".join(str(error).split())[:300]
        raise SystemIOError(
            f"{what} failed: {type(error).__name__}: {text}",
            hint="are the bucket's name and the credentials right (AWS_ACCESS_KEY_ID, "
            "AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS ...)? Nothing was lost; run it again",
        ) from error


def _refusals() -> tuple[type[Exception], ...]:
    """Return what the system raises, and what obstore does where it is installed."""
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra
    except ImportError:
        return (OSError,)
    return (OSError, BaseError)
