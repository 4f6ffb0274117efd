"""Facts, names and attributes from a SPARQL endpoint that holds Wikidata's graph.

Facts are the truthy `wdt:` statements between items. `parts.py` reads a whole relation or a seeded sample of it, and
`by_object.py` a relation that is too large for the service to scan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from cfbuild.data import UNKNOWN, Entity, Fact, id_number, property_id
from cfbuild.errors import ConfigError
from cfbuild.facts.relations import ATTRIBUTES
from cfbuild.option import COMMA_SEPARATED, option
from cfbuild.progress import Progress
from cfbuild.sources.address import redact
from cfbuild.sources.by_object import ByObject
from cfbuild.sources.endpoints import endpoint_url
from cfbuild.sources.journal import JournaledClient
from cfbuild.sources.parts import Part, PartReader, RefusedError
from cfbuild.sources.source import (
    ChosenPart,
    EndpointOptions,
    KnownObjects,
    SourceSpec,
    SourceTally,
    StatementOptions,
    TooLargeError,
)
from cfbuild.sources.sparql import Binding, Endpoint, batch_rows
from cfbuild.sources.statements import PREFIXES, item_of, redirects, values_of, with_statements
from cfbuild.sources.subset import ENTITY, Pair, SampleOrder
from cfbuild.text.codes import chain, fits_script, is_code
from cfbuild.text.languages import LANGUAGES

ENTITIES = 250
"""Items in a query about entities: an answer has some thousand rows, far below a page."""
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
        "Comma-separated further languages of labels and aliases, for generate --languages.",
        form=COMMA_SEPARATED.naming(*LANGUAGES),
    )
    objects: str | None = option(
        None,
        "A file of item ids, one a line: the objects by which relations too large to scan are fetched. "
        "[default: known objects]",
    )

    @property
    def service(self) -> str:
        return endpoint_url(self.endpoint)


class Wikidata:
    """A `FactSource` over a SPARQL endpoint. No result depends on the sizes of `reader`'s pages."""

    def __init__(self, options: WikidataOptions, client: JournaledClient) -> None:
        self.tally = SourceTally()
        self.statements = options.statements
        self.endpoint = Endpoint(options.service, client, PROLOGUE + (PREFIXES if options.statements else ""))
        self.language = language_code(options.language)
        self.languages = tuple(dict.fromkeys((self.language, *map(language_code, options.also_labels))))
        self.per_relation = options.per_relation
        self.seed = options.seed
        self.reader = PartReader(self.endpoint, self.tally)

    def facts(self, relation: str) -> Iterator[Fact]:
        """Yield the truthy facts of `relation` between items, or their seeded sample, by subject then object number.

        With `statements`, redirects are resolved, and the subjects' other statements of any rank are included. Raises
        TooLargeError, before it yields any, for a relation that is too large for the service to scan.
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
        total = self.endpoint.count(whole.pattern)
        whole = replace(whole, facts=total)
        left_out = self.tally.left_out.copy()
        try:
            if self.per_relation is None or self.per_relation >= total:
                pairs = self.reader.everything(whole)
            else:
                pairs = self.reader.sample(whole, self.per_relation, SampleOrder(self.seed, relation))
        except RefusedError as refused:
            self.tally.left_out = left_out
            raise TooLargeError(
                f"{relation} has {total:,} facts, too many for {redact(self.endpoint.url)} to look through ({refused})",
                partial(self._by_object, whole),
            ) from refused
        yield from self._facts(relation, pairs)

    def _facts(self, relation: str, pairs: set[Pair]) -> Iterator[Fact]:
        """Yield facts by subject, without the subjects that have unknown objects alone."""
        named = {subject for subject, value in pairs if value}
        for subject, value in sorted(pairs):
            if subject in named:
                yield Fact(relation, f"Q{subject}", f"Q{value}" if value else UNKNOWN, source="wikidata")
        self.tally.add("subject with an unknown object alone", len({subject for subject, _ in pairs} - named))

    def _by_object(self, whole: Part, known: KnownObjects, progress: Progress) -> tuple[Iterator[Fact], ChosenPart]:
        fetch = ByObject(self.reader, whole, SampleOrder(self.seed, whole.relation), self.per_relation, progress)
        pairs, choice = fetch.facts(known)
        return self._stated(self._facts(whole.relation, pairs)), choice

    def entities(self, ids: Sequence[str]) -> Iterator[Entity]:
        """Yield an entity with label, aliases, attributes and sitelinks for each of `ids`, in their order."""
        for start in range(0, len(ids), ENTITIES):
            batch = ids[start : start + ENTITIES]
            collectors = [
                EntityCollector(code, self.tally if code == self.language else SourceTally()) for code in self.languages
            ]
            pattern = partial(_description, languages=self.languages, revisions=self.statements)
            for row in batch_rows(self.endpoint, pattern, "?e ?k ?v", batch, self.reader.page_rows):
                for collector in collectors:
                    collector.add(row)
            yield from (_merged([collector.entity(item) for collector in collectors]) for item in batch)


SPEC = SourceSpec(WikidataOptions, Wikidata, frozenset({"facts", "statements", "names", "references"}))


def _merged(in_languages: Sequence[Entity]) -> Entity:
    """Return an item with all of its names, given as an entity for each language."""
    labels = {code: label for entity in in_languages for code, label in entity.labels.items()}
    aliases = {code: names for entity in in_languages for code, names in entity.aliases.items()}
    return replace(in_languages[0], labels=labels, aliases=aliases)


def _description(batch: tuple[str, ...], languages: Sequence[str], revisions: bool) -> str:
    """Return the pattern of names, attributes and sitelinks of a batch of items.

    Its rows are ?e (the item), ?k ("label", "alias", an attribute's property, "sitelinks" or "revision") and ?v.
    """
    values = values_of("?e", batch)
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


class EntityCollector:
    """A collector of the values of a batch of items, which makes an entity of each.

    An item without a label in `language` gets one in its script of the languages that stand in for it; `tally` counts
    these. A value has a `kind`: "label", "alias", an attribute's property such as P31, "sitelinks" or "revision".
    """

    def __init__(self, language: str, tally: SourceTally) -> None:
        self.language = language
        self._tally = tally
        self._texts: dict[tuple[str, str, str], set[str]] = {}

    def add(self, row: Binding) -> None:
        """Add a row of a description: ?e, ?k and ?v."""
        entity_id, kind, value = row["e"].value.removeprefix(ENTITY), row["k"].value, row["v"]
        text = item_of(value) if kind in ATTRIBUTES else value.value
        if text is not None:
            self.put(entity_id, kind, text, value.language)

    def put(self, entity_id: str, kind: str, text: str, language: str = "") -> None:
        """Add a value of an entity, a name with its language code."""
        self._texts.setdefault((entity_id, kind, language), set()).add(text)

    def entity(self, entity_id: str) -> Entity:
        """Return the entity of the values that were added."""
        labels = self._label(entity_id)
        aliases = {name for code in chain(self.language) for name in self._names(entity_id, "alias", code)}
        attributes = {name: tuple(sorted(self._get(entity_id, name), key=id_number)) for name in ATTRIBUTES}
        sitelinks = self._numbers(entity_id, "sitelinks")
        return Entity(
            entity_id,
            # Wikidata allows one label a language; of several, the smallest is as good as any and always the same.
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
                    self._tally.borrowed[code] += 1
                return found
        return set()

    def _names(self, entity_id: str, kind: str, code: str) -> set[str]:
        """Return the names in the language `code` that may stand for names in the collector's.

        Aliases in the collector's own language are all kept: countries and languages go by their codes there.
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
