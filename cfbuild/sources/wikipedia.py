"""Lead texts of Wikipedia articles about the facts' subjects; RS compares generated texts with them.

An item's article is found by its sitelinks in Wikidata's graph (`schema:about`, `schema:isPartOf`). The texts come from
the MediaWiki action API, one request at a time and with `maxlag`, as its etiquette demands. They are under CC BY-SA
4.0, so each names its page, revision and URL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote_plus, urlencode

from cfbuild.data import ITEM_ID, UNKNOWN, Fact, Reference, id_number
from cfbuild.errors import DataError, SourceError
from cfbuild.facts.dates import ASSUMED_TODAY, is_over
from cfbuild.option import option
from cfbuild.sources.address import checked_url
from cfbuild.sources.failures import BusyAnswerError, HeavyAnswerError, decoded
from cfbuild.sources.http import HEAVY_ATTEMPTS, AddressOption, HttpRequest
from cfbuild.sources.journal import JournaledClient
from cfbuild.sources.source import SourceTally
from cfbuild.sources.sparql import Endpoint, batch_rows, halves
from cfbuild.sources.statements import values_of
from cfbuild.sources.subset import ENTITY
from cfbuild.store.jsonl import parse_json

LICENCE = "CC-BY-SA-4.0"
JSON = ("application/json",)
TITLES = 20
"""The most pages of which the API extracts introductions in an answer (TextExtracts' exlimit)."""
TITLE_BYTES = 4000
"""The most bytes of a request's encoded titles: its URL stays well below the 8 kB that servers take."""
MAX_LAG_S = 5
"""Seconds that the databases' replicas may lag behind; beyond that the API asks clients to wait, by its etiquette."""
SITELINKS = 250
"""Items in a query about sitelinks, as many as in a query about entities (`wikidata.py`)."""
SPARE = 3
"""Candidates for each text, since not every item has an article."""
CONTINUATIONS = 100
"""The most answers about a batch. Each brings at least a page, so a server that needs more repeats itself."""
BUSY = frozenset({"maxlag", "ratelimited", "readonly"})
"""The API's error codes that mean to try again later."""

WIKIS = {"nb": "no", "zh-hans": "zh", "zh-hant": "zh", "zh-cn": "zh", "zh-tw": "zh", "zh-hk": "zh"} | {
    code: code.partition("-")[0] for code in ("de-at", "de-ch", "en-gb", "en-ca", "en-us", "pt-br")
}
"""The code of a language's Wikipedia, if it is not the language's own code."""

PROLOGUE = "PREFIX wd: <http://www.wikidata.org/entity/> PREFIX schema: <http://schema.org/> "


@dataclass(frozen=True)
class ReferenceOptions:
    """Options of reference texts."""

    references: bool = option(False, "Also get the first paragraphs of Wikipedia articles, for RS and for prefixes.")
    references_per_object: int = option(5, "Get N such texts for each relation and object.")
    wikipedia: str | None = option(None, "The MediaWiki API's address. [default: that of the language's Wikipedia]")

    def api(self, language: str) -> str:
        """Return the address of the API for articles in `language`."""
        return self.wikipedia or api_url(language)


@dataclass(frozen=True, slots=True)
class Article:
    """The lead of an article about the item `entity`, as plain text, with the article's revision."""

    entity: str
    title: str
    text: str
    revision: int
    url: str


def site(language: str) -> str:
    """Return the address of a language's Wikipedia, as Wikidata's graph writes it."""
    return f"https://{WIKIS.get(language, language)}.wikipedia.org/"


def api_url(language: str) -> str:
    """Return the address of the action API of a language's Wikipedia."""
    return f"{site(language)}w/api.php"


def candidates(
    facts: Iterable[Fact], per_object: int, seed: int, today: str = ASSUMED_TODAY
) -> dict[tuple[str, str], list[str]]:
    """Return, by (relation, object), subjects that have the object now, in an order drawn from the seed.

    per_object: texts for each object; at most SPARE times as many subjects are chosen.
    """
    subjects: dict[tuple[str, str], set[str]] = {}
    for fact in facts:
        if fact.object != UNKNOWN and not is_over(fact.end, today) and fact.rank != "deprecated":
            subjects.setdefault((fact.relation, fact.object), set()).add(fact.subject)
    chosen = {}
    for key in sorted(subjects, key=lambda pair: (id_number(pair[0]), id_number(pair[1]))):
        ordered = sorted(subjects[key], key=id_number)
        chosen[key] = Random(f"{seed}:{key[0]}:{key[1]}:references").sample(
            ordered, min(SPARE * per_object, len(ordered))
        )
    return chosen


def titles(endpoint: Endpoint, ids: Iterable[str], language: str) -> dict[str, str]:
    """Return the titles of the articles about items in a language's Wikipedia, by id; of `ids`, some have none."""
    found: dict[str, str] = {}
    ordered = sorted(set(ids), key=id_number)
    for start in range(0, len(ordered), SITELINKS):
        batch = tuple(ordered[start : start + SITELINKS])
        for row in batch_rows(endpoint, lambda part: _sitelinks(part, language), "?e ?t", batch):
            item = row["e"].value.removeprefix(ENTITY)
            if ITEM_ID.match(item) and row["t"].value.strip() and "|" not in row["t"].value:
                found[item] = min(found.get(item, row["t"].value), row["t"].value)
    return found


def _sitelinks(batch: tuple[str, ...], language: str) -> str:
    return f"{values_of('?e', batch)} ?a schema:about ?e ; schema:isPartOf <{site(language)}> ; schema:name ?t ."


class Wikipedia:
    """The action API at `url`, queried through a journal; `tally` counts the items without a fitting lead."""

    def __init__(self, url: str, client: JournaledClient, tally: SourceTally) -> None:
        self.url = checked_url(url)
        self.tally = tally
        self._client = client

    def articles(self, titles: Mapping[str, str]) -> Iterator[Article]:
        """Yield the article of each item that has a lead about it, ordered by title.

        titles: an article's title by item id. Pages that are missing, about another item, or disambiguations are left
        out. Raises SourceError if an answer did not come.
        """
        items: dict[str, list[str]] = {}
        for item in sorted(titles, key=id_number):
            items.setdefault(titles[item], []).append(item)
        for batch in _batches(sorted(items)):
            pages, moved = self._pages(batch)
            for title in batch:
                target, fragment = _end(title, moved)
                page = pages.get(target)
                if page is None:
                    raise SourceError(f"{self.url} left {title!r} out of its answer; run the same command again")
                for item in items[title]:
                    reason = _unfit(page, item, redirected=target != title, fragment=fragment)
                    if reason is None:
                        yield _article(page, item)
                    else:
                        self.tally.add(reason)

    def _pages(self, batch: Sequence[str]) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[str, bool]]]:
        """Return the API's data on the pages of a batch of titles, by title, and the titles that lead elsewhere.

        The latter are normalized or redirected titles: (target title, True if it is a section) by title. A batch that
        is too much for the server is halved. Raises SourceError beyond CONTINUATIONS.
        """
        try:
            return self._answered(batch, HEAVY_ATTEMPTS if len(batch) > 1 else None)
        except HeavyAnswerError:
            if len(batch) == 1:
                raise
        (pages, moved), (more_pages, more_moved) = map(self._pages, halves(tuple(batch)))
        return pages | more_pages, moved | more_moved

    def _answered(
        self, batch: Sequence[str], heavy_attempts: int | None
    ) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[str, bool]]]:
        pages: dict[str, dict[str, Any]] = {}
        moved: dict[str, tuple[str, bool]] = {}
        continuation: Mapping[str, Any] = {}
        for _ in range(CONTINUATIONS):
            query, continuation = self._client.ask(self._request(batch, continuation), _parsed, heavy_attempts)
            for page in query["pages"]:
                pages.setdefault(page["title"], {}).update(page)
            for step in (*query.get("normalized", ()), *query.get("redirects", ())):
                moved[step["from"]] = step["to"], bool(step.get("tofragment"))
            if not continuation:
                return pages, moved
        raise SourceError(f"{self.url} did not come to an end of {len(batch)} pages in {CONTINUATIONS} answers")

    def _request(self, batch: Sequence[str], continuation: Mapping[str, Any]) -> HttpRequest:
        parameters = {
            "action": "query",
            "format": "json",
            "formatversion": "2",
            "maxlag": str(MAX_LAG_S),
            "redirects": "1",
            "prop": "extracts|info|pageprops",
            "exintro": "1",
            "explaintext": "1",
            "exlimit": str(TITLES),
            "inprop": "url",
            "ppprop": "disambiguation|wikibase_item",
            "titles": "|".join(batch),
            **{name: str(value) for name, value in continuation.items()},
        }
        separator = "&" if "?" in self.url else "?"
        url = f"{self.url}{separator}{urlencode(parameters)}"
        return HttpRequest("GET", url, JSON, address_option=AddressOption("--wikipedia", self.url))


def references(
    chosen: Mapping[tuple[str, str], Sequence[str]],
    articles: Mapping[str, Article],
    names: Mapping[str, str],
    per_object: int,
) -> Iterator[Reference]:
    """Yield at most `per_object` texts for each (relation, object), of the first candidates that have an article.

    chosen: subjects by (relation, object). articles, names: article and label by subject.
    """
    for (relation, value), subjects in chosen.items():
        for subject in sorted([subject for subject in subjects if subject in articles][:per_object], key=id_number):
            article = articles[subject]
            yield Reference(
                relation,
                value,
                subject,
                names.get(subject, article.title),
                article.text,
                title=article.title,
                revision=article.revision,
                url=article.url,
                licence=LICENCE,
            )


def first_titles(
    chosen: Mapping[tuple[str, str], Sequence[str]], titles: Mapping[str, str], per_object: int
) -> dict[str, str]:
    """Return the titles, by item, of the first `per_object` subjects with a title of each pair in `chosen`."""
    with_title = ([item for item in subjects if item in titles] for subjects in chosen.values())
    return {item: titles[item] for items in with_title for item in items[:per_object]}


def _batches(titles: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for title in titles:
        length = len(quote_plus(title)) + 3
        if batch and (len(batch) == TITLES or size + length > TITLE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(title)
        size += length
    if batch:
        yield batch


def _parsed(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the `query` of an answer, and the parameters of the request that continues it ({} at the end).

    Raises BusyAnswerError for an answer that says to try again later, DataError for any other that is not whole.
    """
    document = parse_json(decoded(body), "the body")
    if not isinstance(document, dict):
        raise DataError("the body is no JSON object")
    fault = document.get("error")
    if fault is not None:
        code, info = (str(fault.get(key, ""))[:200] if isinstance(fault, dict) else "" for key in ("code", "info"))
        raise (BusyAnswerError if code in BUSY else DataError)(f"the API reports {code or 'an error'}: {info}")
    continuation: Any = document.get("continue", {})
    query: Any = document.get("query")
    if not continuation and document.get("batchcomplete") is not True:
        raise DataError("the answer is neither complete nor says how to go on")
    try:
        _check_query(query)
        return query, dict(continuation)
    except (KeyError, TypeError, ValueError, AttributeError) as broken:
        raise DataError(f"the answer's query is not as expected ({type(broken).__name__}: {broken})") from broken


def _check_query(query: Any) -> None:
    for page in query["pages"]:
        text, props = page.get("extract", ""), page.get("pageprops", {})
        if not all(isinstance(one, str) for one in (page["title"], text)) or not isinstance(props, dict):
            raise TypeError("a page without a title, or with an extract that is no text")
        if not (page.get("missing") or page.get("invalid")) and "pageid" not in page:
            raise KeyError("pageid")
    for step in (*query.get("normalized", ()), *query.get("redirects", ())):
        if not isinstance(step["from"], str) or not isinstance(step["to"], str):
            raise TypeError("a redirect that is none")


def _end(title: str, moved: Mapping[str, tuple[str, bool]]) -> tuple[str, bool]:
    """Return the title to which a title finally leads, and True if it leads to a section of that page."""
    fragment = False
    seen = {title}
    while title in moved and moved[title][0] not in seen:
        title, fragment = moved[title][0], fragment or moved[title][1]
        seen.add(title)
    return title, fragment


def _unfit(page: Mapping[str, Any], item: str, *, redirected: bool, fragment: bool) -> str | None:
    """Return the reason why a page is no text about `item`, or None.

    redirected: the title led elsewhere; then only the page's own item can show that it is about `item`. fragment: the
    title led to a section.
    """
    props = page.get("pageprops", {})
    if page.get("missing") or page.get("invalid"):
        return "article is missing"
    if "disambiguation" in props:
        return "article tells namesakes apart"
    about = props.get("wikibase_item")
    if fragment or (about not in (None, item)) or (redirected and about != item):
        return "article is about another item"
    if not str(page.get("extract", "")).strip() or not isinstance(page.get("lastrevid"), int):
        return "article has no lead"
    return None


def _article(page: Mapping[str, Any], item: str) -> Article:
    url = page.get("canonicalurl") or page.get("fullurl") or ""
    return Article(item, page["title"], page["extract"].strip(), page["lastrevid"], str(url))
