"""TensorFlow Serving over REST: https://www.tensorflow.org/tfx/serving/api_rest."""

import base64
import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from mstore.domain.servers import STATES, ServerAddress, VersionStatus
from mstore.domain.signatures import Signature, TensorSpec
from mstore.errors import ServerError

Array = npt.NDArray[Any]

_OK, _NOT_FOUND = 200, 404
_LARGEST = 64 << 20
_KINDS = frozenset(
    {
        *("float32", "float64", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64", "bool", "string"),
    }
)
"""What json_tensor.cc of TensorFlow Serving reads and writes."""


def speaks_http(address: ServerAddress, seconds: float) -> bool:
    """Return whether what listens there answers to HTTP/1.1, as no gRPC server does.

    Raises:
        ServerError: nobody listens, or answers in time.
    """
    connection = http.client.HTTPConnection(address.host, address.port, timeout=seconds)
    try:
        connection.request("GET", "/v1/models")
        connection.getresponse()
    except (http.client.HTTPException, ConnectionResetError):
        return False
    except OSError as error:
        raise _silent(address, error) from error
    finally:
        connection.close()
    return True


def _silent(address: ServerAddress, error: OSError) -> ServerError:
    return ServerError(
        f"no server answers at {address}: {error.strerror or error}",
        hint="is it running, and is this its REST or gRPC port? One is often 8501, the other 8500",
    )


class RestServer:
    """A model server over REST."""

    def __init__(self, address: ServerAddress, seconds: float, *, secure: bool = False) -> None:
        """Talk to a server, ``seconds`` at most for each answer."""
        self._address = address
        self._seconds = seconds
        self._kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection

    def close(self) -> None:
        """Do nothing: each request has a connection of its own."""

    def status(self, model: str) -> dict[int, VersionStatus]:
        """Return what the server says of each version; see `ModelServer`."""
        code, body = self._ask("GET", f"/v1/models/{quote(model, safe='')}", None)
        if code == _NOT_FOUND:
            return {}
        if code != _OK:
            raise self._odd(body)
        try:
            found = map(_status, body["model_version_status"])
            return {status.version: status for status in found}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._odd(body) from error

    def predict(
        self, model: str, version: int, name: str, signature: Signature, inputs: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Return what a signature gives; see `ModelServer`."""
        reason = self.refuses(signature)
        if reason is not None:
            raise ServerError(reason, hint="name the server's gRPC port")
        request = {
            "signature_name": name,
            "inputs": {key: _to_json(array) for key, array in inputs.items()},
        }
        path = f"/v1/models/{quote(model, safe='')}/versions/{version}:predict"
        code, body = self._ask("POST", path, json.dumps(request).encode())
        if code != _OK:
            raise ServerError(
                f"{model}:{version} does not answer to {name}: {_error(body)} (status {code})"
            )
        try:
            outputs = body["outputs"]
            if len(signature.outputs) == 1:  # written without its key
                outputs = {next(iter(signature.outputs)): outputs}
            return {key: _from_json(outputs[key], spec) for key, spec in signature.outputs.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise self._odd(body) from error

    def reload(self, config: bytes) -> bool:
        """Do nothing: over REST the server has to look at its file itself."""
        del config
        return False

    def refuses(self, signature: Signature) -> str | None:
        """Return why REST cannot carry a signature's tensors, or None."""
        if not signature.inputs:
            return "a signature without inputs cannot be asked over REST"
        for side in (signature.inputs, signature.outputs):
            for key, spec in side.items():
                if spec.dtype not in _KINDS:
                    return f"{key} is {spec.dtype}, which cannot be asked for over REST"
        return None

    def _ask(self, method: str, path: str, data: bytes | None) -> tuple[int, Any]:
        connection = self._kind(self._address.host, self._address.port, timeout=self._seconds)
        try:
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read(_LARGEST + 1)
        except http.client.HTTPException as error:
            raise ServerError(
                f"{self._address} does not answer as a server's REST port does",
                hint="if it is the gRPC port, write it as grpc://HOST:PORT",
            ) from error
        except OSError as error:
            raise _silent(self._address, error) from error
        finally:
            connection.close()
        if len(body) > _LARGEST:
            raise ServerError(f"{self._address} gives an answer of more than {_LARGEST} bytes")
        try:
            return response.status, json.loads(body)
        except ValueError:
            return response.status, {"error": body[:200].decode("utf-8", "replace").strip()}

    def _odd(self, body: Any) -> ServerError:
        return ServerError(
            f"{self._address} gives an odd answer: {_error(body)}",
            hint="is this the REST port of TensorFlow Serving?",
        )


def _status(entry: Any) -> VersionStatus:
    state = str(entry["state"])
    known = state if state in STATES.values() else "UNKNOWN"
    status = entry.get("status") or {}
    error = ""
    if status.get("error_code", "OK") not in {"OK", 0}:
        error = f"{status['error_code']}: {status.get('error_message', '')}"
    return VersionStatus(int(entry["version"]), known, error)  # type: ignore[arg-type]


def _error(body: Any) -> str:
    text = body.get("error") if isinstance(body, dict) else None
    return str(text or body)[:500]


def _to_json(array: Array) -> Any:
    if array.dtype.kind in "OSU":
        flat = [_text(item) for item in array.ravel().tolist()]
        return _nested(flat, array.shape)
    return array.tolist()


def _text(item: Any) -> dict[str, str]:
    data = item if isinstance(item, bytes) else str(item).encode()
    return {"b64": base64.b64encode(data).decode()}


def _nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    step = len(flat) // shape[0] if shape[0] else 0
    return [_nested(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def _from_json(value: Any, spec: TensorSpec) -> Array:
    if spec.dtype != "string":
        return np.array(value, np.dtype(spec.dtype))
    shape: list[int] = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    flat = value
    for _ in shape[1:]:
        flat = [item for part in flat for item in part]
    texts: Array = np.empty(shape, object)
    texts.ravel()[:] = [_bytes(item) for item in (flat if shape else [flat])]
    return texts


def _bytes(item: Any) -> bytes:
    if isinstance(item, dict):
        return base64.b64decode(item["b64"], validate=True)
    return str(item).encode()
