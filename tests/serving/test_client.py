"""What is said to model servers, and what odd ones answer. No TensorFlow here."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest

from mstore.domain.servers import ServerAddress, VersionStatus
from mstore.domain.signatures import Signature, TensorSpec
from mstore.errors import NotServedError, ServerError, UsageError
from mstore.serving import messages
from mstore.serving.server import connect
from mstore.serving.tensors import decode, encode
from mstore.serving.waiting import wait_available

NUMBERS = np.arange(6).reshape(2, 3)
TEXTS = np.array([[b"a", b"\xff\0"], [b"", b"long" * 9]], object)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tfs:8500", ServerAddress("tfs", 8500)),
        ("http://10.0.0.1:8501/", ServerAddress("10.0.0.1", 8501, "http")),
        ("grpc://[::1]:1", ServerAddress("::1", 1, "grpc")),
    ],
)
def test_an_address_is_read_and_written(text: str, address: ServerAddress) -> None:
    assert ServerAddress.parse(text) == address
    assert ServerAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text", ["tfs", "tfs:x", ":8500", "tfs:99999", "ftp://a:1", "http://a:1/v1", "u@a:1", ""]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="no address of a server"):
        ServerAddress.parse(text)


@pytest.mark.parametrize(
    "dtype",
    [
        *("float16", "float32", "float64", "int8", "int16", "int32", "int64", "bool"),
        *("uint8", "uint16", "uint32", "uint64", "complex64", "complex128", "bfloat16"),
    ],
)
def test_a_tensor_comes_back_as_it_was_sent(dtype: str) -> None:
    kind = "float32" if dtype == "bfloat16" else dtype
    for array in (NUMBERS.astype(kind), np.zeros((0, 3), kind), np.array(1, kind)):
        message = messages.Tensor.FromString(encode(dtype, array).SerializeToString())
        got = decode(message)
        assert (got.dtype, got.shape) == (array.dtype, array.shape)
        assert np.array_equal(got, array)


def test_texts_come_back_as_bytes() -> None:
    assert decode(encode("string", TEXTS)).tolist() == TEXTS.tolist()
    assert decode(encode("string", np.array(["a"], object))).tolist() == [b"a"]


def tensor(dtype: int, shape: tuple[int, ...], **fields: Any) -> Any:
    message = messages.Tensor(dtype=dtype, **fields)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


def test_typed_fields_are_read_and_the_last_element_stands_for_the_rest() -> None:
    assert decode(tensor(1, (3,), float_val=[1.5, 2.5])).tolist() == [1.5, 2.5, 2.5]
    assert decode(tensor(1, (2,))).tolist() == [0.0, 0.0]
    assert decode(tensor(6, (2,), int_val=[-1, 5])).tolist() == [-1, 5]
    assert decode(tensor(8, (2,), scomplex_val=[1, 2])).tolist() == [1 + 2j, 1 + 2j]
    assert decode(tensor(19, (1,), half_val=[0x3C00])).tolist() == [1.0]
    assert decode(tensor(14, (1,), half_val=[0x3FC0])).tolist() == [1.5]
    assert decode(tensor(7, (2, 2), string_val=[b"x"])).tolist() == [[b"x", b"x"], [b"x", b"x"]]


@pytest.mark.parametrize(
    "message",
    [
        tensor(1, (2,), float_val=[1.0, 2.0, 3.0]),
        tensor(1, (2,), tensor_content=b"123"),
        tensor(99, (2,)),
        tensor(7, (1,), string_val=[b"a", b"b"]),
        tensor(3, (-2,), int_val=[1]),
        tensor(1, (1 << 40,), float_val=[1.0]),
    ],
)
def test_what_is_no_tensor(message: Any) -> None:
    with pytest.raises(ServerError, match="holds no tensor"):
        decode(message)


class Answers(BaseHTTPRequestHandler):
    """Answers everything with the next of what it was given."""

    answers: list[tuple[int, bytes]]
    asked: list[tuple[str, bytes]]

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        self.asked.append((self.path, self.rfile.read(size)))
        code, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815 - the names that the library looks for


@contextmanager
def answering(*answers: tuple[int, Any]) -> Iterator[tuple[Any, list[tuple[str, bytes]]]]:
    """A server that gives these answers, the last again and again; and what it was asked."""
    texts = [
        (c, body if isinstance(body, bytes) else json.dumps(body).encode()) for c, body in answers
    ]
    handler = type("Handler", (Answers,), {"answers": texts, "asked": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = ServerAddress("127.0.0.1", server.server_port, "http")
        yield connect(address, 5), handler.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


def states(*entries: tuple[int, str, str]) -> dict[str, Any]:
    return {
        "model_version_status": [
            {
                "version": str(number),
                "state": state,
                "status": {"error_code": "INTERNAL" if error else "OK", "error_message": error},
            }
            for number, state, error in entries
        ]
    }


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b"[]", {"error": "Malformed request"}, {"model_version_status": [1]}]
)
def test_what_is_no_model_server_is_called_odd(body: Any) -> None:
    with answering((200, body)) as (server, _), pytest.raises(ServerError, match="odd answer"):
        server.status("m")


def test_a_model_that_is_not_known_has_no_versions() -> None:
    with answering((404, {"error": "Could not find any versions of model m"})) as (server, asked):
        assert server.status("a/b") == {}
    assert asked[0][0] == "/v1/models/a%2Fb"


def test_waiting_ends_with_success_failure_or_time() -> None:
    loading, ready = states((2, "LOADING", "")), states((1, "END", ""), (2, "AVAILABLE", ""))
    with answering((404, {}), (500, b"busy"), (200, loading), (200, ready)) as (server, asked):
        said: list[str] = []
        wait_available(server, "m", 2, seconds=30, before={}, tick=said.append)
    assert said == ["not there", "LOADING", "AVAILABLE"]
    assert len(asked) == 4
    failed = states((2, "END", "no such op"))
    with (
        answering((200, failed)) as (server, _),
        pytest.raises(NotServedError, match="could not load m:2: INTERNAL: no such op"),
    ):
        wait_available(server, "m", 2, seconds=30, before={})
    # The same words from an earlier life of the number are no verdict, a change of them is.
    past = {2: VersionStatus(2, "END", "INTERNAL: no such op")}
    with (
        answering((200, failed)) as (server, _),
        pytest.raises(NotServedError, match=r"after 0 s m:2 is END .* has not tried again"),
    ):
        wait_available(server, "m", 2, seconds=0.2, before=past)
    with answering((200, failed), (200, ready)) as (server, _):
        assert wait_available(server, "m", 2, seconds=30, before=past) > 0
    with answering((500, b"")) as (server, _), pytest.raises(ServerError, match="odd answer"):
        wait_available(server, "m", 2, seconds=0.1, before={})


SIGNATURE = Signature(
    {"x": TensorSpec("float32", (None, 2))}, {"name_bytes": TensorSpec("string", (None,))}
)


def test_a_prediction_over_rest() -> None:
    answer = {"outputs": [{"b64": "/wA="}, {"b64": ""}]}
    with answering((200, answer)) as (server, asked):
        got = server.predict("m", 3, "serve", SIGNATURE, {"x": np.ones((2, 2), "float32")})
    assert got["name_bytes"].tolist() == [b"\xff\0", b""]
    assert asked[0][0] == "/v1/models/m/versions/3:predict"
    body = json.loads(asked[0][1])
    assert body == {"signature_name": "serve", "inputs": {"x": [[1.0, 1.0], [1.0, 1.0]]}}


def test_texts_of_any_shape_go_out_as_base64() -> None:
    spec = TensorSpec("string", (None, 2))
    signature = Signature({"x": spec}, {"a": spec, "b": TensorSpec("int64", (None,))})
    answer = {"outputs": {"a": [["q", "é"]], "b": [7]}}
    with answering((200, answer)) as (server, asked):
        got = server.predict("m", 1, "s", signature, {"x": TEXTS})
    assert got["a"].tolist() == [[b"q", "é".encode()]]
    assert got["b"].tolist() == [7]
    sent = json.loads(asked[0][1])["inputs"]["x"]
    assert sent[0] == [{"b64": "YQ=="}, {"b64": "/wA="}]


def test_a_prediction_that_fails_says_why() -> None:
    with (
        answering((400, {"error": 'Serving signature name: "s" not found'})) as (server, _),
        pytest.raises(ServerError, match=r"m:1 does not answer to s: .*not found"),
    ):
        server.predict("m", 1, "s", SIGNATURE, {"x": np.ones((1, 2), "float32")})
    with (
        answering((200, {"outputs": {"a": 1}})) as (server, _),
        pytest.raises(ServerError, match="odd answer"),
    ):
        server.predict("m", 1, "s", SIGNATURE, {"x": np.ones((1, 2), "float32")})
    half = Signature({"x": TensorSpec("float16", (None,))}, {})
    with answering((200, {})) as (server, _):
        assert server.refuses(SIGNATURE) is None
        assert "float16" in str(server.refuses(half))
