"""SPARQL 1.1 over HTTP: queries whose answers contain the number of rows that they should have.

Only the standard is used: no label service, no hints, no vendor's functions. Results are read strictly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from cfbuild.errors import DataError, SourceError
from cfbuild.sources.address import checked_url
from cfbuild.sources.endpoints import note
from cfbuild.sources.failures import HeavyAnswerError, MiscountError, decoded
from cfbuild.sources.http import HEAVY_ATTEMPTS, AddressOption, HttpRequest
from cfbuild.sources.journal import JournaledClient
from cfbuild.store.jsonl import parse_json

Answered = TypeVar("Answered")
Batched = TypeVar("Batched")

RESULTS_JSON = "application/sparql-results+json"
PAGE_ROWS = 50_000
"""The most rows of an answer: about 8 MB of JSON, seconds for the server."""
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"})
KINDS = frozenset({"uri", "literal", "typed-literal", "bnode"})
"""The kinds of terms in SPARQL's JSON results."""


class Term(NamedTuple):
    """An RDF term of a result. `language` is in lower case, and empty if the term has none."""

    kind: str
    value: str
    language: str = ""


Binding = Mapping[str, Term]


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows of a pattern, and the server's count of all rows (`total`), which is larger if a limit cut them."""

    rows: list[Binding]
    total: int


class Endpoint:
    """A SPARQL endpoint that is queried through a journal.

    prologue: PREFIX lines that go before every query. `pattern` is a group graph pattern such as "?s wdt:P36 ?o .",
    `variables` are those that are selected, such as "?s ?o". `heavy_attempts` are the tries of a query that is too much
    for the server (None: as many as of others). The methods raise SourceError (HeavyAnswerError if a smaller query may
    succeed) if no whole answer came.
    """

    def __init__(self, url: str, client: JournaledClient, prologue: str = "") -> None:
        self.url = checked_url(url)
        self._client = client
        self._prologue = prologue

    def select(
        self, query: str, check: Callable[[list[Binding]], Answered], heavy_attempts: int | None = None
    ) -> Answered:
        """Return the value of `check` for the rows of a SELECT query; `check` raises DataError for wrong rows."""
        return self._client.ask(self._request(query), lambda body: check(parse(body)), heavy_attempts)

    def count(self, pattern: str, heavy_attempts: int | None = None) -> int:
        """Return the number of solutions of `pattern`."""
        return self.select(_count(pattern), lambda rows: _total(rows, "n"), heavy_attempts)

    def count_unless_refused(self, pattern: str, light: str) -> int | None:
        """Return as `count`; None if this is too much for a service that counts the pattern `light`."""
        return self._unless_refused(_count(pattern), lambda rows: _total(rows, "n"), light)

    def counted(self, pattern: str, variables: str, limit: int, heavy_attempts: int | None = None) -> Counted:
        """Return at most `limit` solutions of `pattern`, and the count of all.

        The count comes from the same query, and so from the same state of a graph that is edited all the time. An
        answer without a count, or with another number of rows than its count says, is broken.
        """
        return self.select(_limited(pattern, variables, limit), lambda rows: _counted(rows, limit), heavy_attempts)

    def counted_unless_refused(self, pattern: str, variables: str, limit: int, light: str) -> Counted | None:
        """Return as `counted` (`limit` too); None if this is too much for a service that counts the pattern `light`."""
        return self._unless_refused(_limited(pattern, variables, limit), lambda rows: _counted(rows, limit), light)

    def groups(self, pattern: str, variable: str) -> list[tuple[Term, int]] | None:
        """Return each value of `variable` in `pattern` with its number of solutions, whose sum is checked by a count.

        None if this is too much for a service that counts the pattern.
        """
        query = (
            f"SELECT {variable} ?n ?all WHERE {{ {{ SELECT {variable} (COUNT(*) AS ?n) WHERE {{ {pattern} }} "
            f"GROUP BY {variable} }} UNION {{ SELECT (COUNT(*) AS ?all) WHERE {{ {pattern} }} }} }}"
        )
        return self._unless_refused(query, lambda rows: _groups(rows, variable.lstrip("?")), pattern)

    def _unless_refused(self, query: str, check: Callable[[list[Binding]], Answered], light: str) -> Answered | None:
        easy = self._request(_count(light))
        return self._client.ask_unless_refused(
            self._request(query), lambda body: check(parse(body)), lambda: self._client.client.answer(easy, parse)
        )

    def _request(self, query: str) -> HttpRequest:
        address_option = AddressOption("--endpoint", self.url, note(self.url))
        return HttpRequest("POST", self.url, (RESULTS_JSON,), (("query", self._prologue + query),), address_option)


def _count(pattern: str) -> str:
    return f"SELECT (COUNT(*) AS ?n) WHERE {{ {pattern} }}"


def _limited(pattern: str, variables: str, limit: int) -> str:
    return (
        f"SELECT {variables} ?n WHERE {{ {{ SELECT {variables} WHERE {{ {pattern} }} LIMIT {limit} }} "
        f"UNION {{ {_count(pattern)} }} }}"
    )


def batch_rows(
    endpoint: Endpoint,
    pattern: Callable[[tuple[Batched, ...]], str],
    variables: str,
    batch: Sequence[Batched],
    page_rows: int = PAGE_ROWS,
) -> Iterator[Binding]:
    """Yield the rows of `pattern(batch)`, or of its halves if they are more than a page or too much for the server.

    batch: such as item ids. pattern: returns the graph pattern about a batch. variables: such as "?e ?v".
    Raises SourceError if a single item has more than `page_rows` rows, or an answer did not come.
    """
    answer: Counted | None = None
    items = tuple(batch)
    try:
        attempts = HEAVY_ATTEMPTS if len(items) > 1 else None
        answer = endpoint.counted(pattern(items), variables, page_rows + 1, attempts)
    except HeavyAnswerError:
        if len(items) == 1:
            raise
    if answer is not None and answer.total <= page_rows:
        yield from answer.rows
        return
    if len(items) == 1:
        raise SourceError(f"{items[0]} has more than {page_rows} rows, which cannot be right")
    for half in halves(items):
        yield from batch_rows(endpoint, pattern, variables, half, page_rows)


def halves(items: tuple[Batched, ...]) -> tuple[tuple[Batched, ...], tuple[Batched, ...]]:
    """Return the first and the second half of `items`."""
    middle = len(items) // 2
    return items[:middle], items[middle:]


def parse(body: bytes) -> list[Binding]:
    """Return the rows of an `application/sparql-results+json` body. Raises DataError for any other body."""
    document = parse_json(decoded(body), "the body")
    try:
        variables, bindings = document["head"]["vars"], document["results"]["bindings"]
    except (KeyError, TypeError) as error:
        raise DataError("the body has no head.vars and results.bindings: it is no SPARQL SELECT result") from error
    if not isinstance(bindings, list) or not isinstance(variables, list):
        raise DataError("head.vars and results.bindings must be lists")
    names = frozenset(name for name in variables if isinstance(name, str))
    return [_row(binding, names, number) for number, binding in enumerate(bindings)]


def _row(binding: Any, names: frozenset[str], number: int) -> Binding:
    if not isinstance(binding, dict) or not binding.keys() <= names:
        raise DataError(f"binding {number} is not an object over the variables of head.vars")
    return {name: _term(term, number) for name, term in binding.items()}


def _term(term: Any, number: int) -> Term:
    if not isinstance(term, dict) or term.get("type") not in KINDS or not isinstance(term.get("value"), str):
        raise DataError(f"binding {number} holds something that is not an RDF term: {str(term)[:80]}")
    language = term.get("xml:lang", "")
    if not isinstance(language, str):
        raise DataError(f"binding {number} has a language that is not text")
    return Term(term["type"], term["value"], language.lower())


def _integer(term: Term) -> int:
    if term.kind not in ("literal", "typed-literal") or not term.value.isascii() or not term.value.isdigit():
        raise DataError(f"a count is {term.value[:40]!r}, expected a whole number")
    return int(term.value)


def _total(rows: list[Binding], name: str) -> int:
    counts = [row[name] for row in rows if name in row]
    if len(counts) != 1:
        raise DataError(f"the answer of {len(rows)} rows holds {len(counts)} counts, expected 1: it is not whole")
    return _integer(counts[0])


def _counted(rows: list[Binding], limit: int) -> Counted:
    total = _total(rows, "n")
    found = [row for row in rows if "n" not in row]
    if len(found) != min(total, limit):
        raise MiscountError(f"the answer has {len(found)} rows, and the server counts {total} (limit {limit})")
    return Counted(found, total)


def _groups(rows: list[Binding], name: str) -> list[tuple[Term, int]]:
    total = _total(rows, "all")
    found = [row for row in rows if "all" not in row]
    if not all(row.keys() == {name, "n"} for row in found):
        raise DataError("a group lacks its value or its count")
    groups = [(row[name], _integer(row["n"])) for row in found]
    received = sum(number for _, number in groups)
    if received != total:
        raise MiscountError(f"the groups add up to {received}, and the server counts {total}")
    return groups


def literal(text: str, language: str) -> str:
    """Return `text` as a SPARQL literal with a language tag; characters that could end it are escaped."""
    return f'"{text.translate(_ESCAPES)}"@{language}'
