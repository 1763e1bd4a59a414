"""An S3 server of its own process, and a proxy before it that sees, refuses or kills.

The server is moto's: real HTTP and the S3 protocol, its objects in memory. It is not Amazon's.
"""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

BUCKET = "models"


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def s3_server() -> Iterator[int]:
    """Run a server with one bucket; give its port."""
    port = _free()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _make_bucket(port)
        yield port
    finally:
        process.kill()
        process.wait()


def _make_bucket(port: int) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(request).close()  # noqa: S310 - our own server
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def environment(port: int) -> dict[str, str]:
    """Return the variables that lead clients to a server on this machine."""
    return {
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
    }


class Proxy:
    """Passes requests on, and writes them down.

    Attributes:
        port: where it listens.
        seen: method and key of each request, in order.
        refuse_from: number of the request from which on all are refused, or None.
        spoil: end of the key of an object whose bytes come back changed, or None.
        kill_at: number of the request at which ``victim`` is killed, or None.
        unanswered: end of the key whose next upload is passed on and not answered, or None.
    """

    def __init__(self, upstream: int) -> None:
        """Listen before a server."""
        self.upstream = upstream
        self.seen: list[tuple[str, str]] = []
        self.refuse_from: int | None = None
        self.kill_at: int | None = None
        self.spoil: str | None = None
        self.victim = 0
        self.unanswered: str | None = None
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        """Forget what was seen, and let all pass."""
        self.seen.clear()
        self.refuse_from = self.kill_at = self.spoil = None


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _pass(self) -> None:
        proxy = self.proxy
        body = self._body()
        number = len(proxy.seen)
        named = re.search(rb"<Key>([^<]*)</Key>", body)  # a request to delete several
        key = unquote(urlsplit(self.path).path) + (f"/{named[1].decode()}" if named else "")
        proxy.seen.append((self.command, key))
        if proxy.kill_at == number:
            os.kill(proxy.victim, signal.SIGKILL)
            self.close_connection = True
            return
        if proxy.refuse_from is not None and number >= proxy.refuse_from:
            self._answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
            return
        upstream = http.client.HTTPConnection("127.0.0.1", proxy.upstream)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        lost = proxy.unanswered
        if self.command == "PUT" and lost is not None and key.endswith(lost):
            proxy.unanswered = None
            self.close_connection = True
            return
        if self.command == "GET" and proxy.spoil is not None and key.endswith(proxy.spoil):
            content = bytes([content[0] ^ 1]) + content[1:]
        self._answer(answer.status, dict(answer.getheaders()), content)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _answer(self, status: int, headers: dict[str, Any], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "connection", "transfer-encoding", "date"}:
                self.send_header(name, value)
        size = headers.get("Content-Length", headers.get("content-length"))
        head = self.command == "HEAD" and size is not None
        self.send_header("Content-Length", str(size) if head else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815 - names of the library
