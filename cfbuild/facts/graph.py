"""The graph of a build: an index of its facts and entities in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import TypeVar

from cfbuild.data import UNKNOWN, Entity, Fact, id_number
from cfbuild.facts.bounded import MOST, Bounded
from cfbuild.facts.dates import ASSUMED_TODAY, covers, is_over, is_to_come, misses
from cfbuild.facts.known_classes import known_above, known_classes
from cfbuild.facts.relations import CONTAINING, CONTAINMENT, INSTANCE_OF, SUBCLASS_OF
from cfbuild.facts.subjects import PLURAL, kinds_of_class, misfits
from cfbuild.text import languages
from cfbuild.text.codes import chain, fits_script, is_code, name_in
from cfbuild.text.languages.neutral import without_bracket

RANKS: Mapping[str | None, int] = {"preferred": 0, "normal": 1, None: 1, "deprecated": 2}
"""The order of Wikidata's ranks, best first; a fact without a known rank counts as normal."""

NumberedFact = tuple[int, Fact]
"""A case id and its fact."""

NO_COUNTS: Mapping[str, int] = MappingProxyType({})
"""The counts of a relation without facts."""
NO_ATTRIBUTES: Mapping[str, tuple[str, ...]] = MappingProxyType({})
"""The attributes of an item that was not fetched."""
NO_CONTAINERS = frozenset[str]()
"""The containers of an item that has none: one set for all such items, since an empty set takes 216 bytes."""

TupleKey = TypeVar("TupleKey")
Listed = TypeVar("Listed")


class FactGraph:
    """Facts by (subject, relation) and by (relation, object), with the entities' labels in one language.

    language: the code of the labels' language. today: the day for which facts hold, that of the fetch; None is
    `ASSUMED_TODAY`. `wording` holds the language's rules about names and prompts. A name that is only a language's code
    does not count as a name.

    All results are in the facts' sort order (`sort_key`), whatever the input order, so a draw from a list is the same
    on every machine.
    """

    def __init__(
        self, facts: Iterable[Fact], entities: Iterable[Entity], language: str = "en", today: str | None = None
    ) -> None:
        self._set_up(language, today)
        self.entities: Mapping[str, Entity] = MappingProxyType(
            {entity.id: named(entity, language) for entity in entities}
        )
        self.facts: tuple[Fact, ...] = tuple(sorted(set(facts), key=lambda fact: sort_key(fact, self.today)))
        self._objects: dict[str, Counter[str]] = {}
        # The rules read about a hundred names for every fact: each is looked up once.
        self._label_of = {entity.id: name_in(entity.labels, language) for entity in self.entities.values()}
        self._objects_named: dict[str, dict[str, list[str]]] = {}
        self._index()
        # Most items have no relation that says what contains them.
        self._contained = {subject for subject, relation in self._values if relation in CONTAINING}

    def _set_up(self, language: str, today: str | None) -> None:
        """Set language and day, and make the caches."""
        self.language = language
        self.today = today or ASSUMED_TODAY
        self.wording = languages.language(language)
        self._is_english = self.wording is languages.LANGUAGES["en"]
        self._make_caches()

    def _make_caches(self) -> None:
        """Make the caches of answers about items, empty."""
        self._containers: dict[str, frozenset[str]] = Bounded()
        self._articles: dict[str, str] = Bounded()
        self._class_names: dict[str, str] = Bounded()
        self._subject_kinds: dict[str, frozenset[str]] = Bounded()
        self._shared_kinds: dict[frozenset[str], frozenset[str]] = {}
        self._names: dict[str, tuple[str, ...]] = Bounded()
        self._folded: dict[str, frozenset[str]] = Bounded()

    def forget(self) -> None:
        """Clear the caches of answers about items, unless all facts' items fit into them.

        What is kept of the next relation then lies together in memory, and is found faster than in the gaps that a
        relation leaves where its items outlive it.
        """
        if sum(map(len, self._case_ids.values())) > MOST:
            self._make_caches()

    def _index(self) -> None:
        """Build the indices of the facts, in tuples, which methods return without a copy."""
        values: dict[tuple[str, str], list[str]] = {}
        subjects: dict[tuple[str, str], list[str]] = {}
        by_relation: dict[str, list[Fact]] = {}
        statements: dict[tuple[str, str], list[Fact]] = {}
        seen: set[tuple[str, str, str]] = set()
        for fact in self.facts:
            key = (fact.subject, fact.relation)
            statements.setdefault(key, []).append(fact)
            if (*key, fact.object) in seen:
                continue
            seen.add((*key, fact.object))
            if fact.object != UNKNOWN:
                by_relation.setdefault(fact.relation, []).append(fact)
            if fact.rank == "deprecated":
                continue
            values.setdefault(key, []).append(fact.object)
            if fact.object == UNKNOWN:
                continue
            subjects.setdefault((fact.relation, fact.object), []).append(fact.subject)
            counts = self._objects.get(fact.relation)
            if counts is None:
                counts = self._objects[fact.relation] = Counter()
            counts[fact.object] += 1
        self._values, self._subjects = _tuples(values), _tuples(subjects)
        self._in_facts = frozenset(relation for _, relation in statements)
        self._by_relation, self._statements = _tuples(by_relation), _tuples(statements)
        self._case_ids: dict[str, range] = {}
        self._cases: list[Fact] = []
        for relation in sorted(self._by_relation, key=id_number):
            begin = len(self._cases)
            self._cases += self._by_relation[relation]
            self._case_ids[relation] = range(begin, len(self._cases))

    @property
    def relations(self) -> tuple[str, ...]:
        """Return the relations that have facts, by number."""
        return tuple(self._case_ids)

    def case_ids(self, relation: str) -> range:
        """Return the case ids of the facts of `relation`, in the order of `facts_of`."""
        return self._case_ids.get(relation, range(0))

    def cases(self, case_ids: Sequence[int]) -> list[NumberedFact]:
        """Return the facts with these case ids, in this order."""
        return [(case_id, self._cases[case_id]) for case_id in case_ids]

    def facts_of(self, relation: str) -> tuple[Fact, ...]:
        """Return the best fact of each (subject, object) pair of `relation`, by subject number, then object number.

        Facts with an unknown object are left out.
        """
        return self._by_relation.get(relation, ())

    def values(self, subject: str, relation: str) -> tuple[str, ...]:
        """Return the objects of a subject under a relation, now or ever, of any rank but deprecated.

        The subject is an id. UNKNOWN is among the objects if the subject has another that nobody knows.
        """
        return self._values.get((subject, relation), ())

    def statements(self, subject: str, relation: str) -> tuple[Fact, ...]:
        """Return all facts of a subject under a relation, of any rank."""
        return self._statements.get((subject, relation), ())

    def current_values(self, subject: str, relation: str) -> tuple[str, ...]:
        """Return the objects, UNKNOWN included, of the facts that hold today, of the best rank among them."""
        statements = self.statements(subject, relation)
        if not statements:
            return ()
        return tuple(dict.fromkeys(fact.object for fact in in_force(statements, self.today)))

    def held_in(self, subject: str, relation: str, year: int) -> str | None:
        """Return the only object that a subject surely had all through a year, as far as dates tell, or None."""
        valid = [fact for fact in self.statements(subject, relation) if fact.rank != "deprecated"]
        sure = {fact.object for fact in valid if covers(fact.start, fact.end, year)}
        possible = {fact.object for fact in valid if not misses(fact.start, fact.end, year)}
        return next(iter(sure)) if len(sure) == 1 and possible == sure and UNKNOWN not in sure else None

    def holds(self, fact: Fact) -> bool:
        """Return True if a fact holds today (`holds`)."""
        return holds(fact, self.today)

    def attributes(self, item: str, relation: str) -> tuple[str, ...]:
        """Return the values of the item with the id `item` under a relation: its entity's, then those of its facts."""
        found = self._attributes_of(item).get(relation, ())
        # Most attributes are of relations that no fact has: their values need not be looked for.
        if relation in self._in_facts:
            found = (*found, *self.values(item, relation))
        if len(found) < 2 and UNKNOWN not in found:
            return found
        return tuple(value for value in dict.fromkeys(found) if value != UNKNOWN)

    def _attributes_of(self, item: str) -> Mapping[str, tuple[str, ...]]:
        """Return the values of an item by relation that its entity has, without those of its facts."""
        entity = self.entities.get(item)
        return entity.attributes if entity else NO_ATTRIBUTES

    def known_values(self, item: str) -> frozenset[str]:
        """Return the values of `item` (an id) under all relations (`attributes`)."""
        relations = {*self.relations, *self._attributes_of(item)}
        return frozenset(value for relation in relations for value in self.attributes(item, relation))

    def containers(self, item: str) -> frozenset[str]:
        """Return the items that `item` (an id) is in, part of, or a kind of, at any number of CONTAINMENT steps."""
        if item not in self._containers:
            found: set[str] = set()
            front = {item}
            while front:
                front = set().union(*map(self._directly_in, front)) - found - {item}
                found |= front
            self._containers[item] = frozenset(found) if found else NO_CONTAINERS
        return self._containers[item]

    def _directly_in(self, item: str) -> set[str]:
        if not self._is_contained(item) and CONTAINING.isdisjoint(self._attributes_of(item)):
            return set()
        return {outer for relation in CONTAINMENT for outer in self.attributes(item, relation)}

    def _is_contained(self, item: str) -> bool:
        """Return True if a fact says what contains the item."""
        return item in self._contained

    def subjects(self, relation: str, value: str) -> tuple[str, ...]:
        """Return the subjects of the facts with this relation and object `value`, of any rank but deprecated."""
        return self._subjects.get((relation, value), ())

    def holders(self, relation: str, value: str) -> Iterator[tuple[str, bool]]:
        """Yield `subjects(relation, value)`, each with True if it has other objects under the relation, too."""
        for subject in self.subjects(relation, value):
            yield subject, len(self.values(subject, relation)) > 1

    def object_counts(self, relation: str) -> Mapping[str, int]:
        """Return the pool of `relation`, from which o* is drawn: the number of subjects by object."""
        return MappingProxyType(self._objects.get(relation, NO_COUNTS))

    def label(self, entity_id: str) -> str | None:
        """Return the entity's label in the graph's language, or None."""
        return self._label_of.get(entity_id)

    def class_name(self, class_id: str) -> str:
        """Return the English name from which the kinds of the class `class_id` are read, in every language, or "".

        It is the name in the table of known classes; else that of the nearest known class above it (P279); else the
        class's English label, if it was fetched.
        """
        if class_id not in self._class_names:
            entity = self.entities.get(class_id)
            own = (entity.labels.get("en") if entity else None) or (self.label(class_id) if self._is_english else None)
            above = partial(self.attributes, relation=SUBCLASS_OF)
            self._class_names[class_id] = known_classes().get(class_id) or known_above(class_id, above) or own or ""
        return self._class_names[class_id]

    def class_names(self, entity_id: str) -> tuple[str, ...]:
        """Return the known English names (`class_name`) of the classes that the entity is an instance of."""
        return tuple(filter(None, map(self.class_name, self.attributes(entity_id, INSTANCE_OF))))

    def subject_kinds(self, entity_id: str) -> frozenset[str]:
        """Return the entity's kinds as a subject (`facts/subjects.py`), by its classes and label."""
        if entity_id not in self._subject_kinds:
            classes = self.class_names(entity_id)
            label = self.label(entity_id) or ""
            plural = {PLURAL} if self.wording.is_plural(label, classes) else ()
            kinds = misfits(label, self.wording).union(plural, *map(kinds_of_class, classes))
            self._subject_kinds[entity_id] = self._shared_kinds.setdefault(kinds, kinds)
        return self._subject_kinds[entity_id]

    def article(self, entity_id: str) -> str:
        """Return the article of the entity's label inside a sentence: "the" of Netherlands, "" if there is none."""
        if entity_id not in self._articles:
            label, *aliases = self.names(entity_id) or ("",)
            self._articles[entity_id] = self.wording.article_of_name(label, aliases, self.class_names(entity_id))
        return self._articles[entity_id]

    def names(self, entity_id: str) -> tuple[str, ...]:
        """Return the label and the aliases in the graph's language, the label first."""
        if entity_id not in self._names:
            label = self.label(entity_id)
            self._names[entity_id] = ((label,) if label else ()) + self._aliases(entity_id)
        return self._names[entity_id]

    def _aliases(self, entity_id: str) -> tuple[str, ...]:
        """Return the aliases in the graph's language (`aliases_in`)."""
        entity = self.entities.get(entity_id)
        return aliases_in(entity, self.language) if entity else ()

    def folded_names(self, entity_id: str) -> frozenset[str]:
        """Return the label and the aliases in the graph's language, case-folded."""
        if entity_id not in self._folded:
            self._folded[entity_id] = frozenset(name.casefold() for name in self.names(entity_id))
        return self._folded[entity_id]

    def objects_named(self, relation: str, label: str) -> tuple[str, ...]:
        """Return the objects of `relation` with this label, letter case ignored, as `object_counts` orders them."""
        if relation not in self._objects_named:
            found: dict[str, list[str]] = {}
            for item in self.object_counts(relation):
                found.setdefault((self.label(item) or "").casefold(), []).append(item)
            self._objects_named[relation] = found
        return tuple(self._objects_named[relation].get(label.casefold(), ()))

    def items_named(self, label: str) -> int:
        """Return the number of items with this label, letter case ignored."""
        return self._labels[label.casefold()]

    def namesakes(self, base: str) -> int:
        """Return the number of items whose label is `base`, with or without a bracket after it, letter case ignored."""
        return self._labels[base.casefold()] + self._bases[base.casefold()]

    def items_called(self, name: str) -> int:
        """Return the number of items whose label or alias is `name`, letter case ignored."""
        return self._bearers[name.casefold()]

    @cached_property
    def _bearers(self) -> Counter[str]:
        return Counter(name for item in self.entities for name in self.folded_names(item))

    @cached_property
    def _labels(self) -> Counter[str]:
        labels = (self.label(item) for item in self.entities)
        return Counter(one.casefold() for one in labels if one)

    @cached_property
    def _bases(self) -> Counter[str]:
        labels = (self.label(item) or "" for item in self.entities)
        return Counter(parts[0].casefold() for one in labels if (parts := without_bracket(one)) is not None)


def sort_key(fact: Fact, today: str) -> tuple[int, int, int, int, bool, str, str, str, str]:
    """Return the key that sorts facts: by relation, subject and object number; of equal triples, the best rank first.

    Of equal ranks, the fact that holds on the day `today` comes first.
    """
    numbers = id_number(fact.relation), id_number(fact.subject), id_number(fact.object)
    rank = RANKS.get(fact.rank, 1)
    texts = fact.source, fact.start or "", fact.end or "", fact.rank or ""
    return (*numbers, rank, not holds(fact, today), *texts)


def _tuples(lists: dict[TupleKey, list[Listed]]) -> dict[TupleKey, tuple[Listed, ...]]:
    """Return the lists as tuples; each list is removed as it is copied, to save memory."""
    return {key: tuple(lists.pop(key)) for key in list(lists)}


def named(entity: Entity, language: str) -> Entity:
    """Return the entity without those of its names in `language` that are only a language's code."""
    label, aliases = entity.labels.get(language, ""), entity.aliases.get(language, ())
    if not any(is_code(name, language) for name in (label, *aliases)):
        return entity
    labels = {code: name for code, name in entity.labels.items() if code != language or not is_code(name, language)}
    names = tuple(name for name in aliases if not is_code(name, language))
    return replace(entity, labels=labels, aliases={**entity.aliases, language: names})


def aliases_in(entity: Entity, language: str) -> tuple[str, ...]:
    """Return the aliases in a language, then those in its script of the languages that stand in for it."""
    own = entity.aliases.get(language, ())
    if entity.aliases.keys() <= {language}:
        return own
    stand_ins = (name for code in chain(language)[1:] for name in entity.aliases.get(code, ()))
    fitting = (name for name in stand_ins if fits_script(name, language) and not is_code(name, language))
    return tuple(dict.fromkeys((*own, *fitting)))


def holds(fact: Fact, today: str) -> bool:
    """Return True if a fact has begun and is not over on the day `today`, as far as its dates tell."""
    return not is_over(fact.end, today) and not is_to_come(fact.start, today)


def in_force(statements: Iterable[Fact], today: str) -> list[Fact]:
    """Return those of a subject's statements under a relation that hold on a day, of the best rank among them."""
    current = [fact for fact in statements if fact.rank != "deprecated" and holds(fact, today)]
    return [fact for fact in current if fact.rank == "preferred"] or current
