"""Facts, names and attributes from a SPARQL endpoint that holds Wikidata's graph.

Facts are the truthy `wdt:` statements between items. ARCHITECTURE.md ("Paging without OFFSET") explains how a relation
of millions of facts is cut into answers that are whole, cheap for the server, and small enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

from cfbuild.data import ITEM_ID, UNKNOWN, Entity, Fact, id_number, item_id, property_id
from cfbuild.errors import ConfigError, SourceError
from cfbuild.facts.relations import ATTRIBUTES
from cfbuild.option import option
from cfbuild.sources.http import HeavyAnswerError
from cfbuild.sources.journal import Asker
from cfbuild.sources.source import EndpointOptions, LeftOut, SourceSpec
from cfbuild.sources.sparql import Binding, Counted, Endpoint, Term
from cfbuild.sources.statements import GENID, PREFIXES, is_unknown, redirects, with_statements
from cfbuild.sources.subset import DIGITS, ENTITY, HASHES, NOBODY_KNOWS, Pair, Sample, SampleOrder, Span
from cfbuild.text.codes import chain, fits_script, is_code

WIKIDATA = "https://query.wikidata.org/sparql"
QLEVER = "https://qlever.cs.uni-freiburg.de/api/wikidata"
ENDPOINTS = {"wikidata": WIKIDATA, "qlever": QLEVER}

PAGE_ROWS = 50_000
"""The most rows of an answer: about 8 MB of JSON, seconds for the server."""
SCAN_ROWS = 500_000
"""The most facts that the server looks at for an answer about a sample of them."""
SURPLUS = 1.25
"""The factor on the expected share of hashes in a query, so that a single query mostly suffices."""
PAGE_OBJECTS = 1_000
SCAN_OBJECTS = 5_000
ENTITIES = 250
ID_CHARACTERS = 20
"""The most characters of an item id; int() refuses numbers of absurd length."""
HEAVY_ATTEMPTS = 2
"""Tries of a query before it is split, if it can be."""

PROLOGUE = (
    "PREFIX wd: <http://www.wikidata.org/entity/> "
    "PREFIX wdt: <http://www.wikidata.org/prop/direct/> "
    "PREFIX rdfs: <http://www.w3.org/2000/01/rdf-schema#> "
    "PREFIX skos: <http://www.w3.org/2004/02/skos/core#> "
    "PREFIX wikibase: <http://wikiba.se/ontology#> "
)

_LANGUAGE = re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,8})*\Z")


def language_code(text: str) -> str:
    """Return `text` in lower case if it is a language code such as `en` or `pt-br`; raise ConfigError otherwise."""
    code = text.strip().lower()
    if not _LANGUAGE.match(code):
        raise ConfigError(f"{text!r} is not a language code; expected one such as en, de or pt-br")
    return code


def endpoint_url(name: str | None) -> str:
    """Return the address of an endpoint given as a preset's name, as a URL, or as None (Wikidata's own)."""
    return ENDPOINTS.get(name or "wikidata", name or WIKIDATA)


@dataclass(frozen=True)
class WikidataOptions(EndpointOptions):
    """Options of a SPARQL endpoint that holds Wikidata's graph; `endpoint` None means Wikidata's own."""

    statements: bool = option(False, "Ask for ranks, dates, redirects and revisions too (Wikidata).")

    @property
    def service(self) -> str:
        return endpoint_url(self.endpoint)


@dataclass(frozen=True, slots=True)
class Part:
    """A share of a relation's facts: those with `objects` (empty: any) and with a subject whose hash is in `span`.

    With `unknown`, only those whose object nobody knows.
    A range of hashes and not a list of prefixes: the server compares two strings a fact, however narrow the range.
    """

    relation: str
    objects: tuple[str, ...] = ()
    span: Span = (0, HASHES)
    unknown: bool = False

    @property
    def pattern(self) -> str:
        """The part as a group graph pattern over ?s and ?o."""
        values = f"VALUES ?o {{ {' '.join('wd:' + item_id(one) for one in self.objects)} }} " if self.objects else ""
        return f"{values}?s wdt:{property_id(self.relation)} ?o .{self._filter()}"

    @property
    def hashed(self) -> bool:
        """True if the server has to hash every subject to answer."""
        return self.span != (0, HASHES)

    def _filter(self) -> str:
        low, high = self.span
        bounds = [f'MD5(STR(?s)) >= "{low:0{DIGITS}x}"'] if low > 0 else []
        bounds += [f'MD5(STR(?s)) < "{high:0{DIGITS}x}"'] if high < HASHES else []
        bounds += [f'(isBlank(?o) || STRSTARTS(STR(?o), "{GENID}"))'] if self.unknown else []
        return f" FILTER({' && '.join(bounds)})" if bounds else ""

    def split(self) -> tuple[Part, ...]:
        """Return two smaller parts that together are this part; none if it cannot be cut further."""
        if len(self.objects) > 1:
            return tuple(replace(self, objects=half) for half in _halves(self.objects))
        low, high = self.span
        return self.cut(2) if high - low > 1 else ()

    def cut(self, number: int) -> tuple[Part, ...]:
        """Return this part as `number` parts with ranges of hashes of about the same size."""
        low, high = self.span
        bounds = [low + (high - low) * one // number for one in range(number + 1)]
        return tuple(replace(self, span=span) for span in pairwise(bounds))


def _halves(parts: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    middle = len(parts) // 2
    return parts[:middle], parts[middle:]


class Wikidata:
    """A `FactSource` over a SPARQL endpoint. `page_rows` and `scan_rows` are there for tests; they change no byte."""

    def __init__(
        self, options: WikidataOptions, asker: Asker, *, page_rows: int = PAGE_ROWS, scan_rows: int = SCAN_ROWS
    ) -> None:
        self.tally = LeftOut()
        self.statements = options.statements
        self.endpoint = Endpoint(options.service, asker, PROLOGUE + (PREFIXES if options.statements else ""))
        self.language = language_code(options.language)
        self.per_relation = options.per_relation
        self.seed = options.seed
        self.page_rows = page_rows
        self.scan_rows = scan_rows

    def facts(self, relation: str) -> Iterator[Fact]:
        """Yield the truthy facts of `relation` between items, or their seeded sample, by subject then object number.

        With `statements`, redirects are resolved, and each subject's other statements of any rank are included.
        """
        truthy = self._truthy(relation)
        if not self.statements:
            yield from truthy
            return
        plain = list(truthy)
        moved = redirects(self.endpoint, (one for fact in plain for one in (fact.subject, fact.object)))
        resolved = (
            replace(one, subject=moved.get(one.subject, one.subject), object=moved.get(one.object, one.object))
            for one in plain
        )
        ordered = sorted(set(resolved), key=lambda one: (id_number(one.subject), id_number(one.object)))
        yield from with_statements(self.endpoint, ordered, lambda one: moved.get(one, one))

    def _truthy(self, relation: str) -> Iterator[Fact]:
        whole = Part(property_id(relation))
        total = self.endpoint.count(whole.pattern)
        wanted = self.per_relation
        if wanted is None or wanted >= total:
            pairs = set(self._pairs(self._parts(whole, total)))
        else:
            pairs = self._sample(whole, total, wanted)
        named = {subject for subject, value in pairs if value != NOBODY_KNOWS}
        for subject, value in sorted(pairs):
            if subject in named:
                yield Fact(relation, f"Q{subject}", f"Q{value}" if value else UNKNOWN, source="wikidata")
        self.tally.add("subject with an unknown object alone", len({subject for subject, _ in pairs} - named))

    def entities(self, ids: Sequence[str]) -> Iterator[Entity]:
        """Yield an entity with label, aliases, attributes and sitelinks for each of `ids`, in their order."""
        for start in range(0, len(ids), ENTITIES):
            batch = tuple(item_id(one) for one in ids[start : start + ENTITIES])
            described = _Described(self.language, self.tally)
            for row in self._described(batch):
                described.add(row)
            yield from (described.entity(one) for one in batch)

    def _sample(self, whole: Part, total: int, wanted: int) -> set[Pair]:
        """Return at most `wanted` facts of the first subjects in the seed's order; `whole` has `total` facts.

        Of a large relation only as many hashes are queried as that takes.
        """
        order = SampleOrder(self.seed, whole.relation)
        sample = Sample(order, wanted)
        found: set[Pair] = set()
        if total <= self.page_rows:
            sample.add(self._pairs([whole]))
            return sample.pairs
        step = ceil(SURPLUS * wanted / total * HASHES)
        done, more = 0, step // 4 + 1
        while not sample.full and done < HASHES:
            for span in order.spans(done, done + step):
                found.update(self._pairs(self._parts(replace(whole, span=span), total)))
            sample.add(found)
            found.clear()
            done, step, more = done + step, more, 2 * more
        return sample.pairs

    def _parts(self, whole: Part, total: int) -> Iterable[Part]:
        """Return the parts of `whole` to query: itself if it fits, else cut by object, frequent ones also by hash."""
        budget = self.scan_rows if whole.hashed else self.page_rows
        if total <= budget:
            return [whole]
        census, unknown = self._census(whole.relation)
        return self._cut(whole, census, unknown, budget)

    def _cut(self, whole: Part, census: list[tuple[str, int]], unknown: int, budget: int) -> Iterator[Part]:
        most = SCAN_OBJECTS if whole.hashed else PAGE_OBJECTS
        batch: list[str] = []
        size = 0
        for value, number in census:
            if batch and (size + number > budget or len(batch) == most):
                yield replace(whole, objects=tuple(batch))
                batch, size = [], 0
            if number > budget and not whole.hashed:
                yield from replace(whole, objects=(value,)).cut(ceil(SURPLUS * number / budget))
            else:
                batch.append(value)
                size += number
        if batch:
            yield replace(whole, objects=tuple(batch))
        if unknown:
            yield from replace(whole, unknown=True).cut(1 if whole.hashed else ceil(SURPLUS * unknown / budget))

    def _census(self, relation: str) -> tuple[list[tuple[str, int]], int]:
        """Return each object of `relation` with the number of its facts, by item number; and the number of unknown."""
        numbers = {}
        unknown = 0
        for term, number in self.endpoint.groups(Part(relation).pattern, "?o"):
            value = _item(term)
            if is_unknown(term):
                unknown += number
            elif value is None:
                self.tally.add("object is no item", number)
            else:
                numbers[value] = number
        return [(f"Q{value}", numbers[value]) for value in sorted(numbers)], unknown

    def _pairs(self, parts: Iterable[Part]) -> Iterator[Pair]:
        for part in parts:
            for row in self._rows(part):
                subject, value = _item(row["s"]), NOBODY_KNOWS if is_unknown(row["o"]) else _item(row["o"])
                if subject is None or value is None:
                    self.tally.add("subject is no item" if subject is None else "object is no item")
                else:
                    yield subject, value

    def _rows(self, part: Part) -> Iterator[Binding]:
        """Yield the rows of a part, or of its splits if it is more than a page or more than the server manages."""
        splits = part.split() if part.objects or part.hashed else ()
        answer = self._answer(part.pattern, "?s ?o", bool(splits))
        if answer is not None and answer.total <= self.page_rows:
            yield from answer.rows
            return
        smaller = splits or part.split()
        if not smaller:
            raise SourceError(f"{part} has more than {self.page_rows} facts and cannot be cut further")
        for split in smaller:
            yield from self._rows(split)

    def _answer(self, pattern: str, variables: str, splittable: bool) -> Counted | None:
        """Return the counted answer; None if the server failed at a query that can be split."""
        try:
            attempts = HEAVY_ATTEMPTS if splittable else None
            return self.endpoint.counted(pattern, variables, self.page_rows + 1, attempts)
        except HeavyAnswerError:
            if not splittable:
                raise
            return None

    def _described(self, batch: tuple[str, ...]) -> Iterator[Binding]:
        answer = self._answer(_description(batch, self.language, self.statements), "?e ?k ?v", len(batch) > 1)
        if answer is not None and answer.total <= self.page_rows:
            yield from answer.rows
            return
        if len(batch) == 1:
            raise SourceError(f"{batch[0]} has more than {self.page_rows} names and attributes, which cannot be right")
        for half in _halves(batch):
            yield from self._described(half)


SPEC = SourceSpec(WikidataOptions, Wikidata, frozenset({"facts", "statements", "names", "references"}))


def _description(batch: tuple[str, ...], language: str, revisions: bool) -> str:
    """Return the pattern of names, attributes and sitelinks of the items of `batch`: rows of entity, kind and value."""
    values = f"VALUES ?e {{ {' '.join('wd:' + one for one in batch)} }}"
    languages = "FILTER(LCASE(LANG(?v)) IN ({}))".format(", ".join(f'"{code}"' for code in chain(language)))
    branches = [
        f'{values} ?e rdfs:label ?v . {languages} BIND("label" AS ?k)',
        f'{values} ?e skos:altLabel ?v . {languages} BIND("alias" AS ?k)',
        *(f'{values} ?e wdt:{one} ?v . BIND("{one}" AS ?k)' for one in ATTRIBUTES),
        f'{values} ?e wikibase:sitelinks ?v . BIND("sitelinks" AS ?k)',
    ]
    if revisions:
        branches.append(f'{values} ?e schema:version ?v . BIND("revision" AS ?k)')
    return " UNION ".join(f"{{ {branch} }}" for branch in branches)


class _Described:
    """The rows of a batch of items, gathered into an entity for each item.

    Where a language has no name, one of those that stand in for it is taken, in its script; `tally` counts it.
    """

    def __init__(self, language: str, tally: LeftOut) -> None:
        self.language = language
        self._tally = tally
        self._texts: dict[tuple[str, str, str], set[str]] = {}

    def add(self, row: Binding) -> None:
        entity, kind, value = row["e"].value.removeprefix(ENTITY), row["k"].value, row["v"]
        if kind in ATTRIBUTES:
            number = _item(value)
            text = None if number is None else f"Q{number}"
        else:
            text = value.value
        if text is not None:
            self._texts.setdefault((entity, kind, value.language), set()).add(text)

    def entity(self, one: str) -> Entity:
        labels = self._label(one)
        aliases = {name for code in chain(self.language) for name in self._names(one, "alias", code)}
        attributes = {name: tuple(sorted(self._get(one, name), key=id_number)) for name in ATTRIBUTES}
        sitelinks = self._numbers(one, "sitelinks")
        return Entity(
            one,
            # Several labels in one language break Wikidata's rule; the smallest is as good as any and always the same.
            labels={self.language: min(labels)} if labels else {},
            aliases={self.language: tuple(sorted(aliases))} if aliases else {},
            attributes={name: ids for name, ids in attributes.items() if ids},
            sitelinks=max(sitelinks, default=None),
            revision=max(self._numbers(one, "revision"), default=None),
        )

    def _label(self, one: str) -> set[str]:
        """Return the label in the first language of the chain that has one; maybe several, or none."""
        for code in chain(self.language):
            if found := self._names(one, "label", code):
                if code != self.language:
                    self._tally.borrow(code)
                return found
        return set()

    def _names(self, one: str, kind: str, code: str) -> set[str]:
        """Return an item's names in the language `code` that may be names in the build's.

        Aliases in the build's own language are all kept: countries and languages go by their codes there.
        """
        names = self._get(one, kind, code)
        if code == self.language and kind == "alias":
            return names
        names = {name for name in names if not is_code(name, code)}
        return names if code == self.language else {name for name in names if fits_script(name, self.language)}

    def _numbers(self, one: str, kind: str) -> list[int]:
        return [int(text) for text in self._get(one, kind) if text.isascii() and text.isdigit()]

    def _get(self, one: str, kind: str, language: str = "") -> set[str]:
        return self._texts.get((one, kind, language), set())


def _item(term: Term) -> int | None:
    """Return the number of the item that a term names; None for a literal, a blank node, unknown value or property."""
    if term.kind != "uri" or not term.value.startswith(ENTITY):
        return None
    local = term.value[len(ENTITY) :]
    return id_number(local) if len(local) <= ID_CHARACTERS and ITEM_ID.match(local) else None
