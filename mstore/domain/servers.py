"""Model servers: their addresses, and what they say of a model's versions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from mstore.errors import UsageError

Scheme = Literal["http", "https", "grpc"]
State = Literal["UNKNOWN", "START", "LOADING", "AVAILABLE", "UNLOADING", "END"]

STATES: Mapping[int, State] = {
    0: "UNKNOWN",
    10: "START",
    20: "LOADING",
    30: "AVAILABLE",
    40: "UNLOADING",
    50: "END",
}
"""``ModelVersionStatus.State`` of tensorflow_serving/apis/get_model_status.proto."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a model server listens.

    Attributes:
        host: name or number of the machine.
        port: one of the server's two ports.
        scheme: what is spoken there; None where that is to be found out.
    """

    host: str
    port: int
    scheme: Scheme | None = None

    @classmethod
    def parse(cls, text: str) -> "ServerAddress":
        """Return the address that ``HOST:PORT`` or ``SCHEME://HOST:PORT`` means.

        Raises:
            UsageError: it is none.

        >>> ServerAddress.parse("tfs:8501"), str(ServerAddress.parse("grpc://[::1]:8500"))
        (ServerAddress(host='tfs', port=8501, scheme=None), 'grpc://[::1]:8500')
        """
        try:
            parts = urlsplit(text if "://" in text else f"//{text}")
            host, port, scheme = parts.hostname, parts.port, parts.scheme
        except ValueError:
            host, port, scheme = None, None, ""
        odd = host is None or port is None or scheme not in {"", "http", "https", "grpc"}
        if odd or parts.path.strip("/") or parts.query or parts.username or port == 0:
            raise UsageError(
                f"{text!r} is no address of a server",
                hint="HOST:PORT of its REST or gRPC port, such as localhost:8501; or say which: "
                "http://HOST:PORT, grpc://HOST:PORT",
            )
        assert host is not None and port is not None  # noqa: S101, PT018 - looked at above
        return cls(host, port, scheme or None)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        place = f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
        return f"{self.scheme}://{place}" if self.scheme else place


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """What a server says of one version.

    Attributes:
        version: its number.
        state: where it is in its life.
        error: why it could not be served, or the empty string.
    """

    version: int
    state: State
    error: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether the server has given it up."""
        return self.state == "END" and bool(self.error)

    def to_json(self) -> dict[str, object]:
        """Return the JSON object."""
        return {"version": self.version, "state": self.state, "error": self.error}


WAIT = 120.0
"""Seconds that a server has to serve what was put before it."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How a server is asked.

    Attributes:
        seconds: how long it may take until a version is available.
        atol: how far an output of the golden example may be off.
        rtol: the same, relative to what is expected.
    """

    seconds: float = WAIT
    atol: float = 1e-5
    rtol: float = 1e-5
