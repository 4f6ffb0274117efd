"""Another graph than the excerpt, made from its facts: other items, names, classes, sizes, ranks and dates.

The excerpt's facts say who is linked to whom; nothing else of it is left. Items get new ids, names get made up
(`invented_names`), classes get finer ones below them and general ones above (P279), relations get other sizes, and of a
third of them objects have few subjects. Some facts get statement nodes with ranks and qualifiers. On top come items
with known faults, and items that look as if they had them (`other_plants`). The same seed and day give the same text.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from invented_names import SCRIPTS, Names, spelled
from small_world import read_triples

WD, P = "http://www.wikidata.org/entity/", "http://www.wikidata.org/prop/"
GENID = "http://www.wikidata.org/.well-known/genid/"
LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
ALIAS = "http://www.w3.org/2004/02/skos/core#altLabel"
WIKIBASE, XSD = "http://wikiba.se/ontology#", "http://www.w3.org/2001/XMLSchema#"
TYPE, SAME = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type", "http://www.w3.org/2002/07/owl#sameAs"
INSTANCE, SUBCLASS, GENDER, HUMAN = "P31", "P279", "P21", "Q5"
DAY, YEAR = 11, 9
"""Wikidata's precisions of a date."""

LARGEST, STEEPNESS = 4000, 1.2
"""The n-th largest relation keeps LARGEST / n ** STEEPNESS of its facts, or all it has."""
ENOUGH = 600
"""The facts of a relation of STEADY."""
STEADY = ("P19", "P27", "P39", "P106", "P264", "P407", "P495", "P937")
"""Relations that `other_plants` adds facts to: they stay large, and their objects keep their subjects."""
FEW_SUBJECTS = 3
"""The most subjects that an object of a thin relation has."""
STATED = ("P27", "P36", "P39", "P108", "P127", "P131", "P159", "P463", "P937")
"""Relations whose facts have statement nodes; as in a dump of truthy facts, those of the others have none."""

OF_CLASS: Mapping[str, str] = {
    "person": r"human\Z|human biblical figure|character|deity|prophet|saint|superhero|duo",
    "continent": "continent",
    "country": "sovereign state|country|republic|empire|kingdom",
    "settlement": "city|town|commune|comune|municipality|village|settlement|neighborhood|capital|borough|suburb",
    "region": "(?:state|province|county|region|department|district|prefecture|canton|oblast) of|province|region",
    "channel": "television (?:station|channel|network)|specialty channel|cable channel|broadcaster",
    "paper": "newspaper|magazine|journal",
    "work": "film|series|television|song|single|book|literary|written work|opera|album|text|manga|sitcom|anime",
    "band": "musical group|band|supergroup|musical ensemble",
    "label": "record label|imprint",
    "language": "language|dialect",
    "religion": "religio|denomination",
    "office": "position|office|title",
    "occupation": "profession|occupation",
    "genre": "genre|musical form|music term",
    "field": "academic|discipline|science|specialty",
    "club": "club|team|stadium",
    "product": "model|software|operating system|video game|application|aircraft|vehicle|website",
    "maker": "business|enterprise|company|manufacturer|marque|developer|publisher|brand",
    "mountain": "mountain|glacier|peninsula|island|volcano|hill",
    "river": "river|lake|sea",
    "airport": "airport",
    "road": "road|railway|street|highway|line",
    "organization": "organi[sz]ation|party|university|federation|association|school|body|society|senate",
    "event": "battle|war|festival|event|tournament",
    "substance": "compound|protein|medication|element|gene",
}
"""The kind of name of an item by words in its classes' names; the first that fits counts."""
AS_OBJECT = {
    "P413": "position",
    "P1303": "instrument",
    "P30": "continent",
    "P136": "genre",
    "P101": "field",
    "P106": "occupation",
    "P39": "office",
    "P140": "religion",
    **dict.fromkeys(("P103", "P1412", "P37", "P364", "P407"), "language"),
    **dict.fromkeys(("P27", "P17", "P495"), "country"),
    **dict.fromkeys(("P19", "P20", "P159", "P740", "P937"), "settlement"),
}
"""The kind of name of an object without a telling class, by its relation; the first that fits counts."""
NAMED_AFTER_OBJECT = {"P176": "product", "P138": "airport", "P178": "product"}
"""Relations of which some subjects carry their object's name."""


@dataclass(frozen=True)
class Statement:
    """A statement node. `value` None is an unknown value; dates are ISO days or "unknown"; `precision` is the end's."""

    subject: str
    relation: str
    value: str | None
    rank: str = "Normal"
    start: str | None = None
    end: str | None = None
    precision: int = DAY
    no_end: bool = False


@dataclass
class Item:
    """An item: labels by language, aliases as (text, language), truthy facts as (relation, item), pages about it."""

    labels: dict[str, str] = field(default_factory=dict)
    aliases: list[tuple[str, str]] = field(default_factory=list)
    values: list[tuple[str, str]] = field(default_factory=list)
    sitelinks: int | None = None


class Graph:
    """A graph under construction, and its N-Triples."""

    def __init__(self) -> None:
        self.items: defaultdict[str, Item] = defaultdict(Item)
        self.statements: list[Statement] = []
        self.unknown: list[tuple[str, str]] = []
        self.redirects: dict[str, str] = {}

    def say(self, subject: str, relation: str, value: str) -> None:
        """Add a truthy fact."""
        if (relation, value) not in self.items[subject].values:
            self.items[subject].values.append((relation, value))

    def state(self, statement: Statement, truthy: bool = True) -> None:
        """Add a statement node, and its truthy fact."""
        self.statements.append(statement)
        if truthy and statement.value is None:
            self.unknown.append((statement.subject, statement.relation))
        elif truthy and statement.value is not None:
            self.say(statement.subject, statement.relation, statement.value)

    def triples(self) -> Iterator[str]:
        """Yield the lines of the graph."""
        for item_id, item in self.items.items():
            yield from (f"<{WD}{item_id}> <{LABEL}> {_text(text)}@{code} ." for code, text in item.labels.items())
            yield from (f"<{WD}{item_id}> <{ALIAS}> {_text(text)}@{code} ." for text, code in item.aliases)
            yield from (f"<{WD}{item_id}> <{P}direct/{relation}> <{WD}{value}> ." for relation, value in item.values)
            if item.sitelinks is not None:
                yield f'<{WD}{item_id}> <{WIKIBASE}sitelinks> "{item.sitelinks}"^^<{XSD}integer> .'
        for number, (subject, relation) in enumerate(self.unknown):
            yield f"<{WD}{subject}> <{P}direct/{relation}> <{GENID}truthy{number}> ."
        yield from (f"<{WD}{old}> <{SAME}> <{WD}{new}> ." for old, new in self.redirects.items())
        for number, statement in enumerate(self.statements):
            yield from _statement_triples(number, statement)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _statement_triples(number: int, statement: Statement) -> Iterator[str]:
    node = f"<{WD}statement/{statement.subject}-{number}>"
    value = f"<{GENID}value{number}>" if statement.value is None else f"<{WD}{statement.value}>"
    yield f"<{WD}{statement.subject}> <{P}{statement.relation}> {node} ."
    yield f"{node} <{P}statement/{statement.relation}> {value} ."
    yield f"{node} <{WIKIBASE}rank> <{WIKIBASE}{statement.rank}Rank> ."
    if statement.no_end:
        yield f"{node} <{TYPE}> <{P}novalue/P582> ."
    dates = ("P580", statement.start, DAY), ("P582", statement.end, statement.precision)
    for qualifier, day, precision in dates:
        if day == "unknown":
            yield f"{node} <{P}qualifier/{qualifier}> <{GENID}{qualifier}x{number}> ."
        elif day is not None:
            time, full = f'"{day}T00:00:00Z"^^<{XSD}dateTime>', f"<http://www.wikidata.org/value/{qualifier}x{number}>"
            yield f"{node} <{P}qualifier/{qualifier}> {time} ."
            yield f"{node} <{P}qualifier/value/{qualifier}> {full} ."
            yield f"{full} <{TYPE}> <{WIKIBASE}TimeValue> ."
            yield f"{full} <{WIKIBASE}timeValue> {time} ."
            yield f'{full} <{WIKIBASE}timePrecision> "{precision}"^^<{XSD}integer> .'


@dataclass
class Excerpt:
    """The excerpt: facts and values as (subject, object) by relation, English labels, and every name in it."""

    facts: defaultdict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> Excerpt:
        found = cls()
        for subject, predicate, value, name, language in read_triples(path):
            if value is not None:
                found.facts[predicate.rsplit("/", 1)[1]].append((subject, value))
                continue
            found.names.add(name)
            if language == "en" and predicate == LABEL:
                found.labels[subject] = name
        return found

    def classes(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for subject, value in self.facts[INSTANCE]:
            found.setdefault(subject, []).append(value)
        return found


def _head(name: str) -> str:
    """Return a class's name without what it is of or in."""
    return re.split(r" (?:of|in) ", name)[0]


class Derived:
    """The derived graph: `graph`, its items by kind of name, and the seeded makers that plants use as well."""

    def __init__(self, excerpt: Excerpt, relations: Sequence[str], seed: int) -> None:
        self.random = Random(f"{seed}:other world")
        self.names = Names(Random(f"{seed}:names"), excerpt.names)
        self.graph = Graph()
        self.kinds: dict[str, str] = {}
        self._ids = iter(self.random.sample(range(200_000_000, 300_000_000), 60_000))
        self._excerpt = excerpt
        self._by_words = {kind: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for kind, words in OF_CLASS.items()}
        chosen = self._chosen(relations)
        self._moved = self._renumbered(chosen)
        self._classify()
        self.facts = {
            relation: [(self._moved[s], self._moved[o]) for s, o in pairs] for relation, pairs in chosen.items()
        }
        for relation, pairs in self.facts.items():
            for subject, value in pairs:
                self._add(relation, subject, value)
        self._name()
        self._refine()

    def new(self, kind: str, label: str | None = None, classes: Iterable[str] = ()) -> str:
        """Return the id of a new item with an English label and classes; the label is made up unless given."""
        item_id = f"Q{next(self._ids)}"
        self.kinds[item_id] = kind
        self.graph.items[item_id].labels["en"] = label or self.names.of(kind)
        for name in classes:
            self.graph.say(item_id, INSTANCE, name)
        return item_id

    def popular(self, relation: str, place: int = 0) -> str:
        """Return the object of `relation` with the most subjects, or the one `place` places behind it."""
        return Counter(value for _, value in self.facts[relation]).most_common(place + 1)[place][0]

    def label(self, item_id: str) -> str:
        """Return an item's English name, or else that for every language."""
        labels = self.graph.items[item_id].labels
        return labels.get("en") or labels["mul"]

    def class_named(self, name: str) -> str:
        """Return the class with an English name that the excerpt has."""
        classes = {value for _, value in self._excerpt.facts[INSTANCE]}
        return min(one for one in classes if self._excerpt.labels.get(one) == name)

    def _chosen(self, relations: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
        """Return the facts that are kept, whole subjects each, by relation: sizes skewed, some objects thinned."""
        order = [one for one in relations if one not in STEADY]
        self.random.shuffle(order)
        thin = set(order[::3])
        chosen = {}
        for rank, relation in enumerate([*STEADY, *order], start=2):
            limit = ENOUGH if relation in STEADY else int(LARGEST / rank**STEEPNESS)
            chosen[relation] = self._taken(relation, limit, FEW_SUBJECTS if relation in thin else limit)
        return chosen

    def _taken(self, relation: str, limit: int, most: int) -> list[tuple[str, str]]:
        by_subject: dict[str, list[str]] = {}
        for subject, value in self._excerpt.facts[relation]:
            by_subject.setdefault(subject, []).append(value)
        subjects = list(by_subject)
        self.random.shuffle(subjects)
        taken: list[tuple[str, str]] = []
        counts: Counter[str] = Counter()
        for subject in subjects:
            values = by_subject[subject]
            if len(taken) + len(values) <= limit and all(counts[value] < most for value in values):
                counts.update(values)
                taken += [(subject, value) for value in values]
        return taken

    def _renumbered(self, chosen: Mapping[str, Iterable[tuple[str, str]]]) -> dict[str, str]:
        """Return the new id of each item; classes keep theirs, by which rules know a human."""
        items = sorted({one for pairs in chosen.values() for pair in pairs for one in pair})
        return {one: f"Q{next(self._ids)}" for one in items}

    def _classify(self) -> None:
        """Give the items their classes, with the classes' names, and sex or gender."""
        classes, genders = self._excerpt.classes(), dict(self._excerpt.facts[GENDER])
        for old, new in self._moved.items():
            for name in classes.get(old, ()):
                self.graph.say(new, INSTANCE, name)
                if name in self._excerpt.labels:
                    self.graph.items[name].labels["en"] = self._excerpt.labels[name]
            if old in genders:
                self.graph.say(new, GENDER, genders[old])

    def _add(self, relation: str, subject: str, value: str) -> None:
        """Add a fact, with a statement node where the relation has them, and an earlier object of another rank."""
        if relation not in STATED:
            self.graph.say(subject, relation, value)
            return
        draw = self.random.random()
        former = self.random.choice(self.facts[relation])[1]
        start = f"{self.random.randint(1900, 2015)}-0{self.random.randint(1, 9)}-11"
        rank = "Preferred" if draw < 0.1 else "Normal"
        self.graph.state(Statement(subject, relation, value, rank, start if draw < 0.5 else None))
        if draw < 0.2 and former != value:
            # Without a preferred statement all of normal rank are truthy, those that have ended among them.
            ended = Statement(subject, relation, former, "Normal", None, f"{start[:4]}-01-01", YEAR)
            self.graph.state(ended, truthy=rank == "Normal")

    def _kind(self, item_id: str, relation: str, is_object: bool) -> str:
        names = [self.graph.items[name].labels.get("en", "") for _, name in self._values(item_id, INSTANCE)]
        if is_object and relation in ("P413", "P1303"):
            return AS_OBJECT[relation]
        for kind, words in self._by_words.items():
            # A city of the United Kingdom is no kingdom.
            if any(words.search(name if kind == "region" else _head(name)) for name in names):
                return kind
        return AS_OBJECT.get(relation, "thing") if is_object else "thing"

    def _values(self, item_id: str, relation: str) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.graph.items[item_id].values if name == relation]

    def _name(self) -> None:
        """Name every item of the facts, objects first, and give it aliases and names in other languages."""
        order = [
            *(item_id for item_id in AS_OBJECT if item_id in self.facts),
            *(item_id for item_id in self.facts if item_id not in AS_OBJECT),
        ]
        for relation in order:
            for _, value in self.facts[relation]:
                self.kinds.setdefault(value, self._kind(value, relation, True))
        for relation in order:
            for subject, _ in self.facts[relation]:
                self.kinds.setdefault(subject, self._kind(subject, relation, False))
        after = {s: o for relation in NAMED_AFTER_OBJECT for s, o in self.facts.get(relation, ())}
        named: set[str] = set()
        for item_id, kind in self.kinds.items():
            maker = after.get(item_id)
            if maker in named and self.random.random() < 0.3:
                label = self.names.first(lambda maker=maker: f"{self.label(maker)} {self.names.root()}")
            else:
                label = self.names.of(kind)
            named.add(item_id)
            self._label(item_id, label)

    def _label(self, item_id: str, label: str) -> None:
        """Give an item its English name, or for some a name in every language; aliases; names in other scripts."""
        item, draw = self.graph.items[item_id], self.random.random
        item.sitelinks = int(self.random.paretovariate(0.8)) if draw() < 0.9 else None
        english = draw() < 0.97
        if english:
            item.labels["en"] = label
        if not english or draw() < 0.1:
            item.labels["mul"] = label
        if draw() < 0.3:
            item.labels["de"] = label
        for language in SCRIPTS:
            if draw() < 0.05:
                item.labels[language] = spelled(label, language)
        if draw() < 0.4:
            item.aliases.append((self.names.of(self.kinds[item_id]), "en"))
        if draw() < 0.1:
            item.aliases.append((self.names.of(self.kinds[item_id]), "mul"))

    def _refine(self) -> None:
        """Put finer classes between items and some of their classes, and more general ones above (P279)."""
        usage = Counter(value for item in self.graph.items.values() for name, value in item.values if name == INSTANCE)
        common = [
            broad for broad, _ in usage.most_common(40) if broad != HUMAN and "en" in self.graph.items[broad].labels
        ]
        countries = [self.popular("P27", place) for place in range(8)]
        finer = {}
        for broad in common:
            name = f"{self.label(broad)} in {self.label(self.random.choice(countries))}"
            finer[broad] = self.new("class", self.names.first(lambda name=name: name))
            self.graph.say(finer[broad], SUBCLASS, broad)
        for broad in [broad for broad, kind in self.kinds.items() if kind not in ("class", "country")]:
            item = self.graph.items[broad]
            for place, (relation, value) in enumerate(item.values):
                if relation == INSTANCE and value in finer and self.random.random() < 0.3:
                    item.values[place] = (relation, finer[value])
        self._generalise(usage)

    def _generalise(self, classes: Iterable[str]) -> None:
        """Make each class a subclass of the one whose name its own ends in, or has before "of" or "in"."""
        by_name = {self.graph.items[item_id].labels.get("en", ""): item_id for item_id in classes}
        for name, item_id in by_name.items():
            head = _head(name)
            words = head.split()
            above = [head, *(" ".join(words[place:]) for place in range(1, len(words)))]
            broader = next((by_name[text] for text in above if text in by_name and by_name[text] != item_id), None)
            if broader is not None:
                self.graph.say(item_id, SUBCLASS, broader)
