"""Facts, names and attributes from a SPARQL endpoint that holds Wikidata's graph.

Facts are the truthy `wdt:` statements between items. `parts.py` reads a relation as a whole or its seeded sample, and
`by_object.py` a relation that is too large for the service to scan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from cfbuild.data import UNKNOWN, Entity, Fact, id_number, item_id, property_id
from cfbuild.errors import ConfigError, SourceError
from cfbuild.facts.relations import ATTRIBUTES
from cfbuild.option import COMMA_SEPARATED, option
from cfbuild.progress import Progress
from cfbuild.sources.address import redact
from cfbuild.sources.by_object import ByObject
from cfbuild.sources.endpoints import endpoint_url
from cfbuild.sources.failures import HeavyAnswerError
from cfbuild.sources.http import HEAVY_ATTEMPTS
from cfbuild.sources.journal import Asker
from cfbuild.sources.parts import PAGE_ROWS, SCAN_ROWS, Part, PartReader, RefusedError, halves, item_of
from cfbuild.sources.source import (
    ChosenPart,
    EndpointOptions,
    KnownObjects,
    LeftOut,
    SourceSpec,
    StatementOptions,
    TooLargeError,
)
from cfbuild.sources.sparql import Binding, Counted, Endpoint
from cfbuild.sources.statements import PREFIXES, redirects, with_statements
from cfbuild.sources.subset import ENTITY, NOBODY_KNOWS, Pair, SampleOrder
from cfbuild.text.codes import chain, fits_script, is_code
from cfbuild.text.languages import LANGUAGES

ENTITIES = 250

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


@dataclass(frozen=True)
class WikidataOptions(EndpointOptions, StatementOptions):
    """Options of a SPARQL endpoint that holds Wikidata's graph; `endpoint` None means Wikidata's own."""

    also_labels: tuple[str, ...] = option(
        (),
        "Further languages of labels and aliases, comma-separated: for generate --languages.",
        form=COMMA_SEPARATED.naming(*LANGUAGES),
    )
    objects: str | None = option(
        None,
        "File of item ids, one a line: of a relation too large to scan, the objects to fetch. [default: known ones]",
    )

    @property
    def service(self) -> str:
        return endpoint_url(self.endpoint)


class Wikidata:
    """A `FactSource` over a SPARQL endpoint. `page_rows` and `scan_rows` are there for tests; they change no byte."""

    def __init__(
        self, options: WikidataOptions, asker: Asker, *, page_rows: int = PAGE_ROWS, scan_rows: int = SCAN_ROWS
    ) -> None:
        self.tally = LeftOut()
        self.statements = options.statements
        self.endpoint = Endpoint(options.service, asker, PROLOGUE + (PREFIXES if options.statements else ""))
        self.language = language_code(options.language)
        self.languages = tuple(dict.fromkeys((self.language, *map(language_code, options.also_labels))))
        self.per_relation = options.per_relation
        self.seed = options.seed
        self.reader = PartReader(self.endpoint, self.tally, page_rows, scan_rows)

    def facts(self, relation: str) -> Iterator[Fact]:
        """Yield the truthy facts of `relation` between items, or their seeded sample, by subject then object number.

        With `statements`, redirects are resolved, and each subject's other statements of any rank are included.
        Raises TooLargeError, before it yields any, for a relation that the service does not manage to scan.
        """
        yield from self._stated(self._truthy(relation))

    def _stated(self, truthy: Iterator[Fact]) -> Iterator[Fact]:
        if not self.statements:
            yield from truthy
            return
        plain = list(truthy)
        moved = redirects(self.endpoint, (item for fact in plain for item in (fact.subject, fact.object)))
        resolved = (
            replace(fact, subject=moved.get(fact.subject, fact.subject), object=moved.get(fact.object, fact.object))
            for fact in plain
        )
        ordered = sorted(set(resolved), key=lambda fact: (id_number(fact.subject), id_number(fact.object)))
        yield from with_statements(self.endpoint, ordered, lambda item: moved.get(item, item))

    def _truthy(self, relation: str) -> Iterator[Fact]:
        whole = Part(property_id(relation))
        total = self.reader.count(whole)
        whole = replace(whole, facts=total)
        left_out = dict(self.tally.left_out)
        try:
            pairs = self._pairs(whole, total)
        except RefusedError as refused:
            self.tally.left_out = left_out
            raise TooLargeError(
                f"{relation} has {total:,} facts, too many for {redact(self.endpoint.url)} to look through ({refused})",
                partial(self._by_object, whole),
            ) from refused
        yield from self._facts(relation, pairs)

    def _facts(self, relation: str, pairs: set[Pair]) -> Iterator[Fact]:
        """Yield facts by subject, without subjects of which only unknown objects are told."""
        named = {subject for subject, value in pairs if value != NOBODY_KNOWS}
        for subject, value in sorted(pairs):
            if subject in named:
                yield Fact(relation, f"Q{subject}", f"Q{value}" if value else UNKNOWN, source="wikidata")
        self.tally.add("subject with an unknown object alone", len({subject for subject, _ in pairs} - named))

    def _pairs(self, whole: Part, total: int) -> set[Pair]:
        if self.per_relation is None or self.per_relation >= total:
            return self.reader.everything(whole)
        return self.reader.sample(whole, self.per_relation, SampleOrder(self.seed, whole.relation))

    def _by_object(self, whole: Part, known: KnownObjects, progress: Progress) -> tuple[Iterator[Fact], ChosenPart]:
        fetch = ByObject(self.reader, whole, SampleOrder(self.seed, whole.relation), self.per_relation, progress)
        pairs, choice = fetch.facts(known)
        return self._stated(self._facts(whole.relation, pairs)), choice

    def entities(self, ids: Sequence[str]) -> Iterator[Entity]:
        """Yield an entity with label, aliases, attributes and sitelinks for each of `ids`, in their order."""
        for start in range(0, len(ids), ENTITIES):
            batch = tuple(item_id(one) for one in ids[start : start + ENTITIES])
            described = [Described(code, self.tally if code == self.language else LeftOut()) for code in self.languages]
            for row in self._described(batch):
                for in_language in described:
                    in_language.add(row)
            yield from (_named([in_language.entity(one) for in_language in described]) for one in batch)

    def _answer(self, pattern: str, variables: str, splittable: bool) -> Counted | None:
        """Return the counted answer; None if the server failed at a query that can be split."""
        try:
            attempts = HEAVY_ATTEMPTS if splittable else None
            return self.endpoint.counted(pattern, variables, self.reader.page_rows + 1, attempts)
        except HeavyAnswerError:
            if not splittable:
                raise
            return None

    def _described(self, batch: tuple[str, ...]) -> Iterator[Binding]:
        answer = self._answer(_description(batch, self.languages, self.statements), "?e ?k ?v", len(batch) > 1)
        if answer is not None and answer.total <= self.reader.page_rows:
            yield from answer.rows
            return
        if len(batch) == 1:
            raise SourceError(
                f"{batch[0]} has more than {self.reader.page_rows} names and attributes, which cannot be right"
            )
        for half in halves(batch):
            yield from self._described(half)


SPEC = SourceSpec(WikidataOptions, Wikidata, frozenset({"facts", "statements", "names", "references"}))


def _named(same: Sequence[Entity]) -> Entity:
    """Return an item with the names that it has in each language."""
    labels = {code: label for one in same for code, label in one.labels.items()}
    aliases = {code: names for one in same for code, names in one.aliases.items()}
    return replace(same[0], labels=labels, aliases=aliases)


def _description(batch: tuple[str, ...], languages: Sequence[str], revisions: bool) -> str:
    """Return the pattern of names, attributes and sitelinks of the items of `batch`: rows of entity, kind and value."""
    values = f"VALUES ?e {{ {' '.join('wd:' + one for one in batch)} }}"
    codes = dict.fromkeys(code for language in languages for code in chain(language))
    languages = "FILTER(LCASE(LANG(?v)) IN ({}))".format(", ".join(f'"{code}"' for code in codes))
    branches = [
        f'{values} ?e rdfs:label ?v . {languages} BIND("label" AS ?k)',
        f'{values} ?e skos:altLabel ?v . {languages} BIND("alias" AS ?k)',
        *(f'{values} ?e wdt:{one} ?v . BIND("{one}" AS ?k)' for one in ATTRIBUTES),
        f'{values} ?e wikibase:sitelinks ?v . BIND("sitelinks" AS ?k)',
    ]
    if revisions:
        branches.append(f'{values} ?e schema:version ?v . BIND("revision" AS ?k)')
    return " UNION ".join(f"{{ {branch} }}" for branch in branches)


class Described:
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
            number = item_of(value)
            text = None if number is None else f"Q{number}"
        else:
            text = value.value
        if text is not None:
            self.put(entity, kind, text, value.language)

    def put(self, entity: str, kind: str, text: str, language: str = "") -> None:
        """Add a value of an entity: its label, an alias, an attribute's item, or a number."""
        self._texts.setdefault((entity, kind, language), set()).add(text)

    def entity(self, entity_id: str) -> Entity:
        labels = self._label(entity_id)
        aliases = {name for code in chain(self.language) for name in self._names(entity_id, "alias", code)}
        attributes = {name: tuple(sorted(self._get(entity_id, name), key=id_number)) for name in ATTRIBUTES}
        sitelinks = self._numbers(entity_id, "sitelinks")
        return Entity(
            entity_id,
            # Several labels in one language break Wikidata's rule; the smallest is as good as any and always the same.
            labels={self.language: min(labels)} if labels else {},
            aliases={self.language: tuple(sorted(aliases))} if aliases else {},
            attributes={name: ids for name, ids in attributes.items() if ids},
            sitelinks=max(sitelinks, default=None),
            revision=max(self._numbers(entity_id, "revision"), default=None),
        )

    def _label(self, entity_id: str) -> set[str]:
        """Return the label in the first language of the chain that has one; maybe several, or none."""
        for code in chain(self.language):
            if found := self._names(entity_id, "label", code):
                if code != self.language:
                    self._tally.borrow(code)
                return found
        return set()

    def _names(self, entity_id: str, kind: str, code: str) -> set[str]:
        """Return an item's names in the language `code` that may be names in the build's.

        Aliases in the build's own language are all kept: countries and languages go by their codes there.
        """
        names = self._get(entity_id, kind, code)
        if code == self.language and kind == "alias":
            return names
        names = {name for name in names if not is_code(name, code)}
        return names if code == self.language else {name for name in names if fits_script(name, self.language)}

    def _numbers(self, entity_id: str, kind: str) -> list[int]:
        return [int(text) for text in self._get(entity_id, kind) if text.isascii() and text.isdigit()]

    def _get(self, entity_id: str, kind: str, language: str = "") -> set[str]:
        return self._texts.get((entity_id, kind, language), set())
