"""Wait until a model server has done what a change in its directory asks of it."""

import time
from collections.abc import Callable, Iterator, Mapping

from mstore.domain.servers import VersionStatus
from mstore.errors import NotServedError, ServerError
from mstore.serving.server import ModelServer

_FIRST, _LONGEST = 0.05, 1.0


def wait_available(
    server: ModelServer,
    model: str,
    version: int,
    *,
    seconds: float,
    before: Mapping[int, VersionStatus],
    tick: Callable[[str], None] = lambda _: None,
) -> float:
    """Return when a server says that it serves a version, with the seconds that it took.

    A server that does not answer for a moment is asked again. What it says of the number from an
    earlier life (``before``, which was asked for before the files came) does not count as failure
    until it changes.

    Args:
        server: whom to ask.
        model: name of the model.
        version: number of the version.
        seconds: how long to wait.
        before: what the server said before.
        tick: called with the state, each time.

    Raises:
        NotServedError: the server could not load the version, or time is up.
        ServerError: it did not answer at the end.
    """
    start = time.monotonic()
    past = before.get(version)
    found: VersionStatus | None = None
    problem: ServerError | None = None
    for _ in _rounds(start + seconds):
        try:
            found, problem = server.status(model).get(version), None
        except ServerError as error:
            problem = error
            continue
        state = found.state if found else "not there"
        tick(state)
        if found is not None and found.state == "AVAILABLE":
            return time.monotonic() - start
        if found is not None and found.has_failed and found != past:
            raise NotServedError(
                f"the server could not load {model}:{version}: {found.error}", state=found.state
            )
    if problem is not None:
        raise problem
    said = f"is {found.state}" if found else "is not known to it"
    why = f" ({found.error})" if found and found.error else ""
    if found is not None and found.has_failed and found == past:
        why += (
            "; it said so before, and has not tried again: a version that failed has to be away "
            "for longer than the server's --file_system_poll_wait_seconds"
        )
    raise NotServedError(
        f"after {seconds:.0f} s {model}:{version} {said}{why}",
        state=found.state if found else "",
    )


def _rounds(end: float) -> Iterator[None]:
    """Yield at once, then at growing distances until the end, and once at the end."""
    pause = _FIRST
    yield
    while (rest := end - time.monotonic()) > 0:
        time.sleep(min(pause, rest))
        pause = min(pause * 1.5, _LONGEST)
        yield
