"""TensorFlow Serving over gRPC: tensorflow_serving/apis/{model,prediction}_service.proto."""

from collections.abc import Mapping
from typing import Any

import grpc
import numpy.typing as npt

from mstore.domain.servers import STATES, ServerAddress, VersionStatus
from mstore.domain.signatures import Signature
from mstore.errors import ServerError
from mstore.serving import messages
from mstore.serving.tensors import decode, encode, is_known

Array = npt.NDArray[Any]

_MODELS = "/tensorflow.serving.ModelService/"
_PREDICTIONS = "/tensorflow.serving.PredictionService/"
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
)


class GrpcServer:
    """A model server over gRPC."""

    def __init__(self, address: ServerAddress, seconds: float) -> None:
        """Talk to a server, ``seconds`` at most for each answer."""
        self._address = address
        self._seconds = seconds
        place = str(ServerAddress(address.host, address.port))
        self._channel = grpc.insecure_channel(place, options=_OPTIONS)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def status(self, model: str) -> dict[int, VersionStatus]:
        """Return what the server says of each version; see `ModelServer`."""
        request = messages.GetModelStatusRequest()
        request.model_spec.name = model.encode()
        try:
            answer = self._call(
                f"{_MODELS}GetModelStatus", request, messages.GetModelStatusResponse
            )
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return {}
            raise self._failed(f"{self._address} does not say how {model} is", error) from error
        return {int(entry.version): _status(entry) for entry in answer.model_version_status}

    def predict(
        self, model: str, version: int, name: str, signature: Signature, inputs: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Return what a signature gives; see `ModelServer`."""
        request = messages.PredictRequest()
        request.model_spec.name = model.encode()
        request.model_spec.version.value = version
        request.model_spec.signature_name = name.encode()
        for key, array in inputs.items():
            tensor = encode(signature.inputs[key].dtype, array)
            request.inputs.add(key=key.encode()).value.CopyFrom(tensor)
        try:
            answer = self._call(f"{_PREDICTIONS}Predict", request, messages.PredictResponse)
        except grpc.RpcError as error:
            what = f"{model}:{version} does not answer to {name}"
            raise self._failed(what, error) from error
        found = {entry.key.decode(): decode(entry.value) for entry in answer.outputs}
        missing = sorted(signature.outputs.keys() - found.keys())
        if missing:
            raise ServerError(f"{model}:{version} gives no {', '.join(missing)} for {name}")
        return {key: found[key] for key in signature.outputs}

    def refuses(self, signature: Signature) -> str | None:
        """Return why a signature's tensors cannot be carried, or None."""
        for side in (signature.inputs, signature.outputs):
            for key, spec in side.items():
                if not is_known(spec.dtype):
                    return f"{key} is {spec.dtype}, which cannot be sent"
        return None

    def reload(self, config: bytes) -> bool:
        """Give the server another ``ModelServerConfig``, serialized; returns when it has it.

        Raises:
            ServerError: it refuses, or new models did not become available.
        """
        request = messages.ReloadConfigRequest(config=config)
        try:
            answer = self._call(
                f"{_MODELS}HandleReloadConfigRequest", request, messages.ReloadConfigResponse
            )
        except grpc.RpcError as error:
            raise self._failed(f"{self._address} refuses the config", error) from error
        if answer.status.error_code:
            text = answer.status.error_message.decode("utf-8", "replace")
            raise ServerError(f"{self._address} refuses the config: {text}")
        return True

    def _call(self, method: str, request: Any, answer: Any) -> Any:
        call = self._channel.unary_unary(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return call(request, timeout=self._seconds)

    def _failed(self, what: str, error: grpc.RpcError) -> ServerError:
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            return ServerError(
                f"no server answers at {self._address}: {error.details()}",
                hint="is it running, and is this its REST or gRPC port? One is often 8501, the "
                "other 8500",
            )
        return ServerError(f"{what}: {error.details()} ({error.code().name})")


def _status(entry: Any) -> VersionStatus:
    error = ""
    if entry.status.error_code:
        text = entry.status.error_message.decode("utf-8", "replace")
        error = f"{entry.status.error_code}: {text}"
    return VersionStatus(int(entry.version), STATES.get(entry.state, "UNKNOWN"), error)
