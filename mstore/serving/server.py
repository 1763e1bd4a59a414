"""A running model server: what it says of its versions, and what its models answer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mstore.domain.servers import ServerAddress, VersionStatus
from mstore.domain.signatures import Signature
from mstore.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

SECONDS = 30.0
"""How long a server may take for one answer."""


class ModelServer(Protocol):
    """TensorFlow Serving, over one of its two protocols."""

    def status(self, model: str) -> dict[int, VersionStatus]:
        """Return what the server says of each version of a model that it has heard of.

        Raises:
            ServerError: it does not answer, or not as a model server does.
        """
        ...

    def predict(
        self,
        model: str,
        version: int,
        name: str,
        signature: Signature,
        inputs: "Mapping[str, Array]",
    ) -> "dict[str, Array]":
        """Return what a signature gives.

        Args:
            model: name of the model.
            version: its number.
            name: name of the signature.
            signature: its inputs and outputs.
            inputs: input key to batch; strings as ``bytes`` objects, bfloat16 as floats.

        Returns:
            Output key to array; strings as ``bytes`` objects, bfloat16 as float32.

        Raises:
            ServerError: the request fails, or its types cannot be carried by the protocol.
        """
        ...

    def reload(self, config: bytes) -> bool:
        """Give the server another ``ModelServerConfig``; False where the protocol has no such call.

        Raises:
            ServerError: it refuses.
        """
        ...

    def refuses(self, signature: Signature) -> str | None:
        """Return why the protocol cannot carry a signature's tensors, or None."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


def connect(address: ServerAddress, seconds: float = SECONDS) -> ModelServer:
    """Return a way to talk to a server; finds out which of its two protocols is spoken.

    Raises:
        ServerError: nobody answers there.
        MissingExtraError: it speaks gRPC, and grpcio is not installed.
    """
    from mstore.serving.over_rest import RestServer, speaks_http  # noqa: PLC0415 - and JSON, HTTP

    scheme = address.scheme
    if scheme is None:
        scheme = "http" if speaks_http(address, seconds) else "grpc"
    if scheme != "grpc":
        return RestServer(address, seconds, secure=scheme == "https")
    try:
        from mstore.serving.over_grpc import GrpcServer  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "grpc":
            raise
        raise MissingExtraError(
            f"{address} speaks gRPC, and grpcio is not installed",
            hint="pip install 'mstore[serving]'; or name the server's REST port",
        ) from error
    return GrpcServer(address, seconds)
