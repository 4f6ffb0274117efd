"""A session of requests that follows no redirect, and whose answers have a deadline however slowly they arrive."""

from __future__ import annotations

import errno
import io
import socket
import time
from http.client import HTTPResponse
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from cfbuild.sources.http import TIMEOUT_S

PATIENCE = 8
"""The most timeouts that an answer, headers and body, may take in all; a byte a minute would never time out."""


class _Timed(io.RawIOBase):
    """The bytes that a socket receives, for PATIENCE times its timeout; the timeout itself restarts with every byte."""

    def __init__(self, connection: socket.socket, raw: Any) -> None:
        self._raw = raw
        self._patience_s = PATIENCE * (connection.gettimeout() or TIMEOUT_S)
        self._deadline = time.monotonic() + self._patience_s

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        number: int = self._raw.fileno()
        return number

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._deadline:
            raise TimeoutError(errno.ETIMEDOUT, f"sent its answer for more than {self._patience_s:.0f} s")
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *given: Any, **named: Any) -> None:
        super().__init__(sock, *given, **named)
        self.fp = io.BufferedReader(_Timed(sock, self.fp.detach()))


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Adapter(HTTPAdapter):
    """An adapter whose connections, also through a proxy, have a deadline for an answer's first to last byte."""

    def get_connection_with_tls_context(self, *given: Any, **named: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*given, **named)
        pool.ConnectionCls = _SecureConnection if issubclass(pool.ConnectionCls, HTTPSConnection) else _Connection
        return pool


class Session(requests.Session):
    """A session that leaves redirects alone.

    Even where redirects are not to be followed, requests reads the whole body of a redirect, however long, and raises
    for a malformed address.
    """

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None
