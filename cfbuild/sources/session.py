"""A session of requests that follows no redirect and gives up on answers that arrive too slowly."""

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
"""The timeouts that an answer, headers and body, may take in all; a timeout itself starts anew with every byte."""


class _TimedReader(io.RawIOBase):
    """A reader of what a socket receives, which raises TimeoutError after PATIENCE times the socket's timeout."""

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
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(sock, self.fp.detach()))


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Adapter(HTTPAdapter):
    """An adapter whose connections, also through a proxy, read answers by `_TimedReader`."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _SecureConnection if issubclass(pool.ConnectionCls, HTTPSConnection) else _Connection
        return pool


class Session(requests.Session):
    """A session that leaves redirects alone.

    Without this, requests reads the whole body of a redirect, however long, and raises for a malformed address, even
    with `allow_redirects=False`.
    """

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None
