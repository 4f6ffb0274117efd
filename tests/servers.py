"""Servers on loopback for tests: a real SPARQL endpoint, a proxy that counts and tampers, and one that misbehaves."""

from __future__ import annotations

import contextlib
import gzip
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest

Self = TypeVar("Self")
RESULTS_JSON = "application/sparql-results+json"


def oxigraph_binary() -> str:
    """Return the path of the Oxigraph server of the development dependencies; skip the test, saying why, without it."""
    binary = Path(sys.executable).with_name("oxigraph")
    found = str(binary) if binary.exists() else shutil.which("oxigraph")
    if found is None:
        pytest.skip("the oxigraph server is not installed (a development dependency)")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def oxigraph(folder: Path, triples: str) -> Iterator[str]:
    """Serve N-Triples at a SPARQL endpoint; yield the address of its queries."""
    binary = oxigraph_binary()
    source = folder / "graph.nt"
    source.write_text(triples, encoding="utf-8")
    store = str(folder / "store")
    subprocess.run([binary, "load", "--location", store, "--file", str(source)], check=True, capture_output=True)
    port = free_port()
    server = subprocess.Popen(
        [binary, "serve-read-only", "--location", store, "--bind", f"127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, server)
        yield f"http://127.0.0.1:{port}/query"
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if server.poll() is not None:
            raise RuntimeError(f"oxigraph ended with {server.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("oxigraph does not listen")


class Served:
    """An HTTP server on loopback that answers while its context is open; `url` is the address of `path`."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], path: str = "") -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def __enter__(self: Self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Proxy(Served):
    """Forwards queries to `upstream` and counts those that it answered.

    `before(number)` is called with the number of the request, from 1, before it is passed on; `tamper(body)` may
    change an answer. `spoil(body)` may give raw bytes to send in its place: none at all are a reset connection.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.answered: Counter[str] = Counter()
        self.asked = 0
        self.before: Callable[[int], None] = lambda number: None
        self.tamper: Callable[[bytes], bytes] = lambda body: body
        self.spoil: Callable[[bytes], bytes | None] = lambda body: None
        super().__init__(self._handler(), "/query")

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler has a self of its own
        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True  # headers and body are two packets: the second would wait for an answer

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"]))
                proxy.asked += 1
                proxy.before(proxy.asked)
                status, kind, body = proxy.forward(form)
                spoiled = proxy.spoil(body)
                if spoiled is not None:
                    return self.send_raw(spoiled)
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    self.wfile.flush()
                except OSError:
                    return
                proxy.answered[urllib.parse.parse_qs(form.decode())["query"][0]] += 1

            def send_raw(self, raw: bytes) -> None:
                self.close_connection = True
                if not raw:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.wfile.write(raw)

            def log_message(self, *args: object) -> None: ...

        return Handler

    def forward(self, form: bytes) -> tuple[int, str, bytes]:
        request = urllib.request.Request(self.upstream, form, {"Accept": RESULTS_JSON})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return 200, response.headers["Content-Type"], self.tamper(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, "text/plain", error.read()


class Scripted:
    """Answers each connection with the next of `replies`, the last one forever.

    A reply is raw bytes, seconds to be silent, or what is done with the connection.
    """

    def __init__(self, *replies: bytes | float | Callable[[socket.socket], object]) -> None:
        self.replies = list(replies)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/sparql"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._reply(connection)

    def _reply(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            start = stream.readline().decode().strip()
            headers = {}
            while line := stream.readline().decode().strip():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body = stream.read(int(headers.get("content-length", 0)))
        self.requests.append((start, headers, body))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if callable(reply):
            with contextlib.suppress(OSError):
                reply(connection)
        elif isinstance(reply, bytes):
            connection.sendall(reply)
        else:
            time.sleep(reply)

    def __enter__(self) -> Scripted:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def reply(
    body: bytes = b"",
    *headers: str,
    status: str = "200 OK",
    kind: str = RESULTS_JSON,
    length: int | None = -1,
) -> bytes:
    """Return a raw HTTP response; `length` None leaves Content-Length out, -1 makes it right."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


TIME_OUT = b'{"exception": "Operation timed out. Last operation: sorting", "status": "ERROR"}'
PAGE = b"<html><style>body { margin: 0 }</style><body>The server behind this gateway did not answer.</body></html>"
OVERLOADED: dict[str, Callable[[bytes], bytes]] = {
    "429 that names a time-out": lambda body: reply(TIME_OUT, status="429 Too Many Requests", kind="application/json"),
    "the same in gzip": lambda body: reply(
        gzip.compress(TIME_OUT), "Content-Encoding: gzip", status="429 Too Many Requests", kind="application/json"
    ),
    "400 that names memory": lambda body: reply(b"Tried to allocate 3 GB", status="400 Bad Request", kind="text/plain"),
    "408": lambda body: reply(status="408 Request Timeout"),
    "413": lambda body: reply(status="413 Content Too Large"),
    "500": lambda body: reply(b"java.util.concurrent.TimeoutException", status="500 Oops", kind="text/plain"),
    "502 with a page": lambda body: reply(PAGE, status="502 Bad Gateway", kind="text/html"),
    "503": lambda body: reply(status="503 Service Unavailable"),
    "503 that asks to wait": lambda body: reply(PAGE, "Retry-After: 1", status="503 Unavailable", kind="text/html"),
    "504 with a page": lambda body: reply(PAGE, status="504 Gateway Time-out", kind="text/html"),
    "524": lambda body: reply(b"error code: 524", status="524 A timeout occurred", kind="text/plain"),
    "200 with a page": lambda body: reply(PAGE, kind="text/html"),
    "200 that breaks off": lambda body: reply(body[: len(body) // 2], length=len(body)),
    "200 with an error text in mid-body": lambda body: reply(body[:-40] + b"\njava.util.concurrent.TimeoutException"),
    "200 with an error in place of a body": lambda body: reply(TIME_OUT),
    "reset": lambda body: b"",
}
"""Ways in which services and gateways say that a question was too much for them."""


class Spoiler:
    """A fault in place of one answer in five, by a seeded draw; `counts` says which there were."""

    def __init__(self, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._draw = random.Random(seed)
        self._faults = {
            "429": lambda body: reply(status="429 Too Many Requests"),
            "503 that asks to wait": OVERLOADED["503 that asks to wait"],
            "reset": OVERLOADED["reset"],
            "body cut": OVERLOADED["200 that breaks off"],
            "500": OVERLOADED["500"],
            "page": OVERLOADED["200 with a page"],
        }

    def __call__(self, body: bytes) -> bytes | None:
        if self._draw.random() >= 0.2:
            return None
        name = self._draw.choice(list(self._faults))
        self.counts[name] += 1
        return self._faults[name](body)
