"""A stand-in for ``tensorflow_model_server``: its protocols, its rules, its C++ loader.

What is real: the messages of tensorflow-serving-api on the wire, gRPC, HTTP, and TensorFlow's C++
loader and runtime, which hold the versions. What is not: the C++ server around them; its rules are
those of `tests.serving.rules`. Takes the flags of the real one that the tests use.

TensorFlow for Python is not imported: its package stands in as an empty one that only gives access
to its protocol buffers.
"""

import argparse
import base64
import json
import re
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tests.serving.server_configs import ParseError, entries, parse, tensorflow_directory

TENSORFLOW = tensorflow_directory()

from tensorflow.core.framework import tensor_pb2, types_pb2  # noqa: E402
from tensorflow.core.protobuf import meta_graph_pb2  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from mstore.convert.worker.capi import Library, Session, StatusError  # noqa: E402
from tests.serving.rules import ConfigError, ModelConfig, Rules  # noqa: E402

_PATH = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
    r"(?P<verb>:predict)?"
)
_VALUES = {
    "float32": "float_val",
    "float64": "double_val",
    "int32": "int_val",
    "int16": "int_val",
    "int8": "int_val",
    "uint8": "int_val",
    "int64": "int64_val",
    "bool": "bool_val",
}


class RequestError(Exception):
    """A request that cannot be answered, with the code of gRPC."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Loaded:
    """A version in TensorFlow's C++ runtime."""

    def __init__(self, library: Library, path: Path) -> None:
        # The server reads only what it can read; the C API would not say it so plainly.
        self.session = Session(library, path)
        graph = meta_graph_pb2.MetaGraphDef()
        graph.ParseFromString(self.session.meta_graph)
        self.signatures = graph.signature_def

    def predict(self, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        signature = self.signatures.get(name or "serving_default")
        if signature is None:
            text = f'Serving signature key "{name}" not found.'
            raise RequestError(grpc.StatusCode.FAILED_PRECONDITION, text)
        if set(inputs) != set(signature.inputs):
            text = f"input size does not match signature: {sorted(inputs)}"
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, text)
        feeds = {
            info.name: (_dtype(info.dtype), np.asarray(inputs[key], _kind(info.dtype)))
            for key, info in signature.inputs.items()
        }
        keys = list(signature.outputs)
        try:
            found = self.session.run(feeds, [signature.outputs[key].name for key in keys])
        except StatusError as error:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, error.text) from error
        return dict(zip(keys, found, strict=True))


def _dtype(number: int) -> str:
    name = str(types_pb2.DataType.Name(number)).removeprefix("DT_").lower()
    return {"float": "float32", "double": "float64", "half": "float16"}.get(name, name)


def _kind(number: int) -> Any:
    return object if _dtype(number) == "string" else _dtype(number)


class Server:
    """The rules, asked by two protocols."""

    def __init__(self, configs: list[ModelConfig]) -> None:
        library = Library(TENSORFLOW)
        self.rules = Rules(lambda path: Loaded(library, path), configs)

    def find(self, model: str, version: int | None, label: str | None) -> Loaded:
        found = self.rules.find(model, version, label)
        if found is None:
            text = f"Servable not found for request: {model} {version or label or 'latest'}"
            raise RequestError(grpc.StatusCode.NOT_FOUND, text)
        assert isinstance(found, Loaded)
        return found

    def status(self, model: str) -> dict[int, tuple[str, str]]:
        found = self.rules.status(model)
        if not found:
            text = f"Could not find any versions of model {model}"
            raise RequestError(grpc.StatusCode.NOT_FOUND, text)
        return found


class GrpcAnswers:
    """What the server answers over gRPC."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def status(self, request: Any) -> Any:
        answer = get_model_status_pb2.GetModelStatusResponse()
        states = get_model_status_pb2.ModelVersionStatus.State
        for number, (state, error) in self._server.status(request.model_spec.name).items():
            entry = answer.model_version_status.add(version=number, state=states.Value(state))
            if error:
                entry.status.error_code, entry.status.error_message = 2, error
        return answer

    def reload(self, request: Any) -> Any:
        answer = model_management_pb2.ReloadConfigResponse()
        try:
            self._server.rules.configure(entries(request.config))
        except ConfigError as error:
            answer.status.error_code, answer.status.error_message = 9, str(error)
        return answer

    def predict(self, request: Any) -> Any:
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        model = self._server.find(spec.name, version, spec.version_label or None)
        inputs = {key: from_proto(value) for key, value in request.inputs.items()}
        answer = predict_pb2.PredictResponse()
        for key, array in model.predict(spec.signature_name, inputs).items():
            answer.outputs[key].CopyFrom(to_proto(array))
        return answer


def guarded(answer: Any) -> Any:
    """Return a handler that turns what cannot be answered into a status."""

    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return answer(request)
        except RequestError as error:
            context.abort(error.code, str(error))

    return handle


def over_grpc(server: Server, port: int) -> Any:
    """Serve gRPC; return what has to be kept for that."""
    answers = GrpcAnswers(server)
    services: dict[str, dict[str, tuple[Any, Any]]] = {
        "ModelService": {
            "GetModelStatus": (answers.status, get_model_status_pb2.GetModelStatusRequest),
            "HandleReloadConfigRequest": (
                answers.reload,
                model_management_pb2.ReloadConfigRequest,
            ),
        },
        "PredictionService": {"Predict": (answers.predict, predict_pb2.PredictRequest)},
    }
    made = grpc.server(ThreadPoolExecutor(4))
    for service, methods in services.items():
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                guarded(answer), request.FromString, lambda message: message.SerializeToString()
            )
            for name, (answer, request) in methods.items()
        }
        name = f"tensorflow.serving.{service}"
        made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    made.add_insecure_port(f"127.0.0.1:{port}")
    made.start()
    return made


def from_proto(proto: Any) -> Any:
    """Return the array in a TensorProto as clients write it."""
    shape = [dim.size for dim in proto.tensor_shape.dim]
    name = _dtype(proto.dtype)
    if name == "string":
        texts = np.empty(len(proto.string_val), object)
        texts[:] = list(proto.string_val)
        return texts.reshape(shape)
    if proto.tensor_content:
        return np.frombuffer(proto.tensor_content, name).reshape(shape)
    return np.array(list(getattr(proto, _VALUES[name])), name).reshape(shape)


def to_proto(array: Any) -> Any:
    """Return a TensorProto as the server writes it: typed fields, not bytes."""
    proto = tensor_pb2.TensorProto()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype.kind == "O":
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(array.ravel().tolist())
        return proto
    name = array.dtype.name
    short = {"float32": "float", "float64": "double", "float16": "half"}.get(name, name)
    proto.dtype = types_pb2.DataType.Value(f"DT_{short.upper()}")
    getattr(proto, _VALUES[name]).extend(array.ravel().tolist())
    return proto


def over_rest(server: Server, port: int) -> int:
    """Serve REST; return the port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(self._status)

        def do_POST(self) -> None:
            self._answer(self._predict)

        def _answer(self, make: Any) -> None:
            match = _PATH.fullmatch(self.path)
            try:
                code, body = (200, make(match)) if match else (404, {"error": "Malformed request"})
            except RequestError as error:
                missing = error.code == grpc.StatusCode.NOT_FOUND
                code, body = (404 if missing else 400), {"error": str(error)}
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _status(self, match: Any) -> Any:
            found = server.status(match["model"])
            return {
                "model_version_status": [
                    {
                        "version": str(number),
                        "state": state,
                        "status": {
                            "error_code": "UNKNOWN" if error else "OK",
                            "error_message": error,
                        },
                    }
                    for number, (state, error) in sorted(found.items(), reverse=True)
                ]
            }

        def _predict(self, match: Any) -> Any:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            version = int(match["version"]) if match["version"] else None
            model = server.find(match["model"], version, match["label"])
            given = body["inputs"]
            name = body.get("signature_name", "serving_default")
            signature = model.signatures.get(name)
            if not isinstance(given, dict) and signature is not None:
                given = {next(iter(signature.inputs)): given}
            inputs = {key: from_json(value) for key, value in given.items()}
            outputs = model.predict(name, inputs)
            made = {key: to_json(key, value) for key, value in outputs.items()}
            return {"outputs": next(iter(made.values())) if len(made) == 1 else made}

    made = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return int(made.server_address[1])


def from_json(value: Any) -> Any:
    """Return an array; ``{"b64": ...}`` are bytes."""
    if isinstance(value, list):
        parts = [from_json(item) for item in value]
        if parts and parts[0].dtype == object:
            texts = np.empty((len(parts), *parts[0].shape), object)
            for index, part in enumerate(parts):
                texts[index] = part
            return texts
        return np.array(parts)
    if isinstance(value, dict):
        text = np.empty((), object)
        text[()] = base64.b64decode(value["b64"])
        return text
    return np.asarray(value)


def to_json(key: str, array: Any) -> Any:
    """Return what the server writes; texts of outputs called ``..._bytes`` are encoded."""
    if array.dtype.kind != "O":
        return array.tolist()

    def text(item: Any) -> Any:
        if isinstance(item, list):
            return [text(part) for part in item]
        if key.endswith("_bytes"):
            return {"b64": base64.b64encode(item).decode()}
        return item.decode()

    return text(array.tolist())


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--port", type=int, default=8500)
    parser.add_argument("--rest_api_port", type=int, default=8501)
    parser.add_argument("--model_name", default="default")
    parser.add_argument("--model_base_path", type=Path)
    parser.add_argument("--model_config_file", type=Path)
    parser.add_argument("--model_config_file_poll_wait_seconds", type=float, default=0)
    parser.add_argument("--file_system_poll_wait_seconds", type=float, default=1)
    flags = parser.parse_args()
    if flags.model_config_file:
        configs = parse(flags.model_config_file.read_text())
    else:
        configs = [ModelConfig(flags.model_name, flags.model_base_path)]
    server = Server(configs)
    server.rules.poll()  # no port is open before the models are there
    kept = over_grpc(server, flags.port)
    assert kept is not None
    over_rest(server, flags.rest_api_port)
    before = time.monotonic()
    while True:
        time.sleep(flags.file_system_poll_wait_seconds)
        wait = flags.model_config_file_poll_wait_seconds
        if wait and time.monotonic() - before >= wait:
            before = time.monotonic()
            try:
                server.rules.configure(parse(flags.model_config_file.read_text()))
            except (ConfigError, ParseError, OSError) as error:
                sys.stderr.write(f"{error}\n")
        server.rules.poll()


if __name__ == "__main__":
    main()
