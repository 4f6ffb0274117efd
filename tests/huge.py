"""A SPARQL endpoint on loopback with a relation of twenty million facts, which it computes as it is asked for them.

It answers cfbuild's questions as an index would: the count of a relation or of bound objects, and the facts of bound
objects or subjects, at once. A question for which it would have to look at more than a million facts times out.
"""

from __future__ import annotations

import hashlib
import json
import re
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from itertools import chain, islice
from typing import Any

from servers import RESULTS_JSON, TIME_OUT, Served

SIZE, EXTRA = 20_000_000, 1_000
MOST = 1_000_000
FIRST_OBJECT, OTHER_OBJECT, FIRST_SUBJECT = 10, 900, 1_000
HUGE, SMALL = "P31", "P279"
WD = "http://www.wikidata.org/entity/"
CLASSES = [(number, 5) for number in range(FIRST_OBJECT, FIRST_OBJECT + 30)]
"""The facts of the small relation, whose subjects are the objects of the huge one."""

Pair = tuple[int, int]


def objects_of(subject: int) -> list[int]:
    """Return a subject's objects. The trailing zeros of its place choose: each object has half as many as the last."""
    place = subject - FIRST_SUBJECT
    if not 1 <= place <= SIZE:
        return []
    first = FIRST_OBJECT + (place & -place).bit_length() - 1
    return [first, OTHER_OBJECT] if place % EXTRA == 0 else [first]


def number_of(value: int) -> int:
    """Return the number of an object's facts."""
    if value == OTHER_OBJECT:
        return SIZE // EXTRA
    power = 1 << max(0, value - FIRST_OBJECT)
    return SIZE // power - SIZE // (2 * power) if value >= FIRST_OBJECT else 0


def subjects_of(value: int) -> Iterator[int]:
    if value == OTHER_OBJECT:
        yield from range(FIRST_SUBJECT + EXTRA, FIRST_SUBJECT + SIZE + 1, EXTRA)
    elif value >= FIRST_OBJECT:
        power = 1 << (value - FIRST_OBJECT)
        yield from range(FIRST_SUBJECT + power, FIRST_SUBJECT + SIZE + 1, 2 * power)


class Pattern:
    """A graph pattern over ?s and ?o, as cfbuild writes it."""

    def __init__(self, text: str) -> None:
        self.objects, self.subjects = _values(text, "o"), _values(text, "s")
        bounds = dict(re.findall(r'MD5\(STR\(\?s\)\) (>=|<) "([0-9a-f]+)"', text))
        self.low, self.high = bounds.get(">=", ""), bounds.get("<", "g")
        self.relation = re.findall(r"wdt:(P\d+)", text)[-1]

    @property
    def hashed(self) -> bool:
        return (self.low, self.high) != ("", "g")

    @property
    def looked_at(self) -> int:
        """Return the number of facts that it takes to look at, without an index of hashes."""
        if self.relation == SMALL:
            return len(CLASSES)
        if self.subjects is not None:
            return 2 * len(self.subjects)
        return SIZE + SIZE // EXTRA if self.objects is None else sum(map(number_of, self.objects))

    def pairs(self) -> Iterator[Pair]:
        for subject, value in self._bound():
            if not self.hashed or self.low <= hashlib.md5(f"{WD}Q{subject}".encode()).hexdigest() < self.high:
                yield subject, value

    def _bound(self) -> Iterator[Pair]:
        if self.relation == SMALL:
            yield from (pair for pair in CLASSES if self.objects is None or pair[1] in self.objects)
        elif self.subjects is not None:
            yield from ((one, value) for one in self.subjects for value in objects_of(one))
        else:
            yield from chain.from_iterable(((one, value) for one in subjects_of(value)) for value in self.objects or ())


def _values(text: str, name: str) -> list[int] | None:
    found = re.search(rf"VALUES \?{name} \{{([^}}]*)\}}", text)
    return [int(one) for one in re.findall(r"wd:Q(\d+)", found[1])] if found else None


class TimedOutError(Exception):
    """The question takes a look at too many facts."""


class Huge(Served):
    """The endpoint; `asked` counts its questions, and `before(number)` is called before question `number`, from 1.

    `strict`: it does not give the first facts of an object either that has more than it looks at, nor the count of one.
    `groups`: it does count the facts of each object.
    """

    def __init__(self, strict: bool = False, groups: bool = False) -> None:
        self.strict = strict
        self.groups = groups
        self.asked: Counter[str] = Counter()
        self.timed_out: set[str] = set()
        self.before: Callable[[int], None] = lambda number: None
        super().__init__(self._handler(), "/sparql")

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler has a self of its own
        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                query = urllib.parse.parse_qs(form)["query"][0]
                server.asked[query] += 1
                server.before(server.asked.total())
                try:
                    status, kind, body = 200, RESULTS_JSON, server.answer(query[query.index("SELECT") :])
                except TimedOutError:
                    server.timed_out.add(query)
                    status, kind, body = 429, "application/json", TIME_OUT
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None: ...

        return Handler

    def answer(self, query: str) -> bytes:
        if "?e ?k ?v" in query:
            ids = _values(query, "e") or ()
            rows = [{"e": _item(one), "k": _text("label"), "v": _text(f"item {one}")} for one in ids]
            return _results("ekvn", [*rows, {"n": _number(len(rows))}])
        pattern = Pattern(query)
        if "GROUP BY" in query and self.groups:
            values = [*range(FIRST_OBJECT, FIRST_OBJECT + SIZE.bit_length()), OTHER_OBJECT]
            rows = [{"o": _item(one), "n": _number(number_of(one))} for one in values]
            return _results(("o", "n", "all"), [*rows, {"all": _number(pattern.looked_at)}])
        limit = re.search(r"LIMIT (\d+)", query)
        uncounted = (pattern.objects or ()) if self.strict else ()
        heavy = pattern.hashed or "GROUP BY" in query or (self.strict and limit) or FIRST_OBJECT + 1 in uncounted
        if heavy and pattern.looked_at > MOST:
            raise TimedOutError
        if query.startswith("SELECT (COUNT"):
            assert not pattern.hashed and pattern.subjects is None
            number = sum(1 for _ in pattern.pairs()) if pattern.relation == SMALL else pattern.looked_at
            return _results("n", [{"n": _number(number)}])
        assert limit and "GROUP BY" not in query, query
        exact = pattern.hashed or pattern.subjects is not None or pattern.relation == SMALL
        found = list(pattern.pairs() if exact else islice(pattern.pairs(), int(limit[1])))
        rows = [{"s": _item(subject), "o": _item(value)} for subject, value in found[: int(limit[1])]]
        return _results("son", [*rows, {"n": _number(len(found) if exact else pattern.looked_at)}])


def _results(names: Sequence[str], rows: list[dict[str, Any]]) -> bytes:
    return json.dumps({"head": {"vars": list(names)}, "results": {"bindings": rows}}).encode()


def _item(number: int) -> dict[str, str]:
    return {"type": "uri", "value": f"{WD}Q{number}"}


def _text(text: str) -> dict[str, str]:
    return {"type": "literal", "value": text, "xml:lang": "en"}


def _number(number: int) -> dict[str, str]:
    return {"type": "literal", "value": str(number)}
