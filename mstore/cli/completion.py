"""What the shell offers for models, checkpoints and versions."""

from collections.abc import Iterator

from mstore.cli.session import open_session
from mstore.cli.settings import Settings
from mstore.domain.records import Checkpoint
from mstore.errors import Error

_MANY = 200


def complete_model(incomplete: str) -> list[str]:
    """Return the models that begin so."""
    return _beginning(incomplete, (item.model for item in _checkpoints()))


def complete_reference(incomplete: str) -> list[str]:
    """Return references of checkpoints and versions that begin so."""
    return _beginning(incomplete, _references(_checkpoints()))


def complete_version(incomplete: str) -> list[str]:
    """Return references of versions that begin so."""
    found = (text for text in _references(_checkpoints()) if ":" in text)
    return _beginning(incomplete, found)


def complete_target(incomplete: str) -> list[str]:
    """Return the targets that begin so."""
    try:
        with open_session(Settings()).store() as store:
            names = [state.site.name for state in store.targets()]
    except Error:
        return []
    return _beginning(incomplete, iter(names))


def _beginning(incomplete: str, texts: Iterator[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text.startswith(incomplete)]


def _references(checkpoints: tuple[Checkpoint, ...]) -> Iterator[str]:
    for item in checkpoints:
        yield from (f"{item.model}@latest", f"{item.model}@best", f"{item.model}@{item.step}")
        yield f"{item.model}/{item.run}@{item.step}"
        yield from (f"{item.model}@{tag}" for tag in item.tags)
        yield from (f"{item.model}:{number}" for number in item.versions)


def _checkpoints() -> tuple[Checkpoint, ...]:
    # A shell that completes has nowhere to show an error.
    try:
        with open_session(Settings()).store() as store:
            found: tuple[Checkpoint, ...] = store.list(limit=_MANY)
            return found
    except Error:
        return ()
