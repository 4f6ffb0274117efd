"""A soak: facts by the hundred thousand from a real Oxigraph, through a proxy that fails one request in five.

`python tests/soak.py 100000` (`make chaos`); `test_chaos.py` takes 2,000. The fetch is run again for as long as it says
that it can be resumed, and must end with exactly the right facts and names.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

from servers import Proxy, oxigraph, reply

from cfbuild.errors import SourceError
from cfbuild.pipeline.fetch import FetchOptions, fetch
from cfbuild.sources.http import Client
from cfbuild.sources.parts import PartReader
from cfbuild.store.codec import decode_entity, decode_fact
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_values

SHARE = 0.2
"""Of the requests, that fail."""
TIMEOUT_S = 1.0
MOST_RUNS = 60
WD, WDT = "http://www.wikidata.org/entity/", "http://www.wikidata.org/prop/direct/"
LABEL = "http://www.w3.org/2000/01/rdf-schema#label"

FAULTS: dict[str, Callable[[bytes], bytes | float]] = {
    "429 with Retry-After": lambda body: reply(b"", "Retry-After: 7", status="429 Too Many Requests"),
    "429 without": lambda body: reply(b"", status="429 Too Many Requests"),
    "503 until a date": lambda body: reply(
        b"", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", status="503 Service Unavailable"
    ),
    "500 with a page": lambda body: reply(b"<html>Oops</html>", status="500 Internal Server Error", kind="text/html"),
    "504": lambda body: reply(b"timeout", status="504 Gateway Timeout", kind="text/plain"),
    "body cut": lambda body: reply(body[: len(body) // 2], length=len(body)),
    "wrong length": lambda body: reply(body, length=len(body) - 9),
    "truncated JSON": lambda body: reply(body[: len(body) * 2 // 3]),
    "an error text after partial JSON": lambda body: reply(body[:-30] + b"\njava.util.concurrent.TimeoutException"),
    "a row too few": lambda body: reply(_without_a_row(body)),
    "HTML": lambda body: reply(b"<html><body>We are busy.</body></html>", kind="text/html"),
    "HTML called JSON": lambda body: reply(b"<html><body>We are busy.</body></html>"),
    "nothing, as JSON": lambda body: reply(b'{"head":{"vars":[]},"results":{"bindings":[]}}'),
    "gzip cut": lambda body: reply(gzip.compress(body)[:-9], "Content-Encoding: gzip"),
    "closed at once": lambda body: b"",
    "silence": lambda body: TIMEOUT_S + 0.5,
}
"""The proxy's faults: each is done in place of passing an answer on."""


def _without_a_row(body: bytes) -> bytes:
    """Return the answer without its first row, as a server that lost it would send it; without its end, if one row."""
    start, end = body.find(b'"bindings":[{') + 12, body.find(b"},{")
    return body[:start] + body[end + 2 :] if 12 <= start < end else body[:-2]


class FaultProxy:
    """Passes queries on; one in five, by a seeded draw, ends in the next of FAULTS."""

    def __init__(self, upstream: str) -> None:
        self.failed: Counter[str] = Counter()
        self.asked = 0
        self._proxy = Proxy(upstream)
        self._draw = random.Random("soak")
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/query"

    def __enter__(self) -> FaultProxy:
        self._proxy.__enter__()
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._proxy.__exit__()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            with connection.makefile("rb") as stream:
                length = 0
                while line := stream.readline().strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                form = stream.read(length)
            if not form:
                return
            self.asked += 1
            status, kind, body = self._proxy.forward(form)
            answer: bytes | float = reply(body, status=f"{status} OK", kind=kind)
            if self._draw.random() < SHARE:
                name = list(FAULTS)[sum(self.failed.values()) % len(FAULTS)]
                self.failed[name] += 1
                answer = FAULTS[name](body)
            if isinstance(answer, bytes):
                connection.sendall(answer)
            else:
                time.sleep(answer)


def graph(count: int) -> tuple[set[tuple[str, str, str]], dict[str, str]]:
    """Return `count` facts of three relations, one object having a twentieth of them, and a label for each item."""
    draw = random.Random(f"graph:{count}")
    facts: set[tuple[str, str, str]] = set()
    while len(facts) < count:
        relation = draw.choice(("P36", "P30", "P495"))
        value = 1 if draw.random() < 0.05 else draw.randint(2, 2 + count // 40)
        facts.add((relation, f"Q{10_000_000 + draw.randrange(count)}", f"Q{value}"))
    items = {one for _, subject, value in facts for one in (subject, value)}
    return facts, {one: f"item {one} “é”" for one in items}


def soak(count: int, root: Path) -> str:
    """Fetch `count` facts through the proxy; return what happened. Raises AssertionError for any other fact or name."""
    facts, labels = graph(count)
    lines = [f"<{WD}{s}> <{WDT}{r}> <{WD}{o}> ." for r, s, o in facts]
    lines += [f'<{WD}{one}> <{LABEL}> "{text}"@en .' for one, text in labels.items()]
    folder, waits = BuildFolder(root / "build"), []
    with oxigraph(root, "\n".join(lines)) as url, FaultProxy(url) as proxy, contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(Client.__init__.__kwdefaults__, {"sleep": waits.append}))
        small_pages = partial(PartReader, page_rows=max(100, count // 100))
        stack.enter_context(mock.patch("cfbuild.sources.wikidata.PartReader", small_pages))
        options = FetchOptions(endpoint=proxy.url, relations=("P30", "P36", "P495"), timeout_s=TIMEOUT_S)
        runs = 1
        while True:
            try:
                summary = fetch(folder, options)
                break
            except SourceError as error:
                assert error.exit_code == 3 and runs < MOST_RUNS, error
                runs += 1
    found = {(one.relation, one.subject, one.object) for one in read_values(folder.path("facts.jsonl"), decode_fact)}
    entities = list(read_values(folder.path("entities.jsonl"), decode_entity))
    assert found == facts and sum(summary.facts.values()) == len(facts)
    assert {one.id: one.labels.get("en") for one in entities} == labels
    assert set(proxy.failed) == set(FAULTS) or proxy.asked < 400, "every kind of fault came"
    return (
        f"{len(found)} facts and {len(entities)} names, all right; {proxy.asked} requests, "
        f"{sum(proxy.failed.values())} failed in {len(proxy.failed)} ways; {runs} runs; "
        f"{sum(waits):.0f} s of waiting asked for and not slept"
    )


def main(count: int) -> None:
    logging.disable(logging.CRITICAL)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        print(soak(count, Path(folder)), f"({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main(int(sys.argv[1]))
