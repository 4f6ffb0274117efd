"""Items that a derived graph gets on top: each with a known fault, or with the look of a fault that it has not.

Add a kind as a function and a line in PLANTS. A function adds one item to the graph and returns its fact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import cycle
from pathlib import Path

from invented_names import SCRIPTS, spelled
from other_world import HUMAN, SUBCLASS, YEAR, Derived, Excerpt, Statement

EACH = 12
"""Items of a kind: more than the ten neighbours that a record of CounterFact has."""
AGO, AHEAD = "1987-04-05", "2190-06-30"
CODES = ("en", "fr", "pt-br", "zh-hans", "de", "es", "it", "nl", "sv", "pl", "cs", "fi", "tr", "ja")
"""Bare language codes: one for each item that has nothing else for a name, so that none of them is a namesake."""
PEOPLE = ("P19", "P106", "P937")
WORKS = ("P495", "P407")
"""Relations of persons and of works whose facts are many, so that the planted ones have neighbours."""

Fact = tuple[str, str, str]
"""(relation, subject, object)"""


@dataclass(frozen=True)
class Plant:
    """The making of a kind's items, and the fate of their facts: a record (`kept`), a refusal, either (None).

    `rule`: the rule that refuses them. `named`: the fault is in the subject's name, which no prompt may have.
    """

    make: Callable[[Planter], Fact]
    kept: bool | None
    rule: str | None = None
    named: bool = False


@dataclass(frozen=True)
class OtherWorld:
    """The finished graph of a day: N-Triples, truthy facts of `relations`, English or general names, the plants."""

    triples: str
    facts: frozenset[Fact]
    relations: tuple[str, ...]
    day: date
    labels: Mapping[str, str]
    planted: Mapping[str, tuple[Fact, ...]]


class Planter:
    """The makers of planted items, over a derived graph; `soon` is a day of the year that is still running."""

    def __init__(self, derived: Derived, soon: date) -> None:
        self.derived = derived
        self.graph = derived.graph
        self.names = derived.names
        self.year = f"{soon.year}-01-01"
        self.people, self.works, self.codes = cycle(PEOPLE), cycle(WORKS), cycle(CODES)
        self.scripts = cycle(SCRIPTS)
        self._shared: dict[str, str] = {}
        series, film, album, single = map(derived.class_named, ("television series", "film", "studio album", "single"))
        self.series, self.film, self.album, self.single = series, film, album, single
        self.group, self.village = map(derived.class_named, ("musical group", "village"))
        self.graph.items[self.group].aliases.append(("band", "en"))
        feature = derived.new("class", "feature-length production")
        self.graph.say(feature, SUBCLASS, film)
        self.feature = feature

    def shared(self, name: str, make: Callable[[], str]) -> str:
        """Return the one item of this name, made when it is first asked for: its subjects are neighbours."""
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]

    def person(self, label: str | None = None) -> tuple[str, str, str]:
        """Return a fact about a new person."""
        return self.fact(next(self.people), self.derived.new("person", label, [HUMAN]))

    def work(self, label: str | None = None, kind: str | None = None) -> tuple[str, str, str]:
        """Return a fact about a new work, a series unless `kind` is another class."""
        return self.fact(next(self.works), self.derived.new("work", label, [kind or self.series]))

    def fact(self, relation: str, subject: str) -> Fact:
        """Add the fact that the subject has the relation's most frequent object, and return it."""
        value = self.derived.popular(relation)
        self.graph.say(subject, relation, value)
        return relation, subject, value

    def stated(self, place: int = 0, **parts: object) -> Fact:
        """Return a stated fact about a new holder of an office, the most frequent but `place`."""
        return self.statement(self.derived.new("person", None, [HUMAN]), place, **parts)

    def statement(self, subject: str, place: int, truthy: bool = True, **parts: object) -> Fact:
        value = self.derived.popular("P39", place)
        self.graph.state(Statement(subject, "P39", value, **parts), truthy)  # type: ignore[arg-type]
        return "P39", subject, value

    def relabel(self, fact: Fact, labels: dict[str, str]) -> Fact:
        """Give the fact's subject these labels alone."""
        self.graph.items[fact[1]].labels = labels
        return fact

    def alias(self, fact: Fact, *names: str) -> Fact:
        self.graph.items[fact[1]].aliases += [(name, "en") for name in names]
        return fact


def _code_label(one: Planter) -> Fact:
    return one.relabel(one.person(), {"mul": next(one.codes)})


def _code_object(one: Planter) -> Fact:
    city = one.shared("nameless", lambda: one.derived.new("settlement", None, [one.village]))
    one.graph.items[city].labels = {"mul": CODES[-1]}
    subject = one.derived.new("person", None, [HUMAN])
    one.graph.say(subject, "P19", city)
    return "P19", subject, city


def _other_script(one: Planter) -> Fact:
    fact = one.person()
    return one.relabel(fact, {"mul": spelled(one.derived.label(fact[1]), next(one.scripts))})


def _general_label(one: Planter) -> Fact:
    fact = one.person()
    return one.relabel(fact, {"mul": one.derived.label(fact[1])})


def _id_label(one: Planter) -> Fact:
    fact = one.person()
    return one.relabel(fact, {"en": fact[1]})


def _code_alias(one: Planter) -> Fact:
    fact = one.person()
    one.graph.items[fact[1]].aliases.append(("en", "mul"))
    return fact


def _bracket_word(one: Planter) -> Fact:
    return one.work(f"{one.names.of('work')} (film)", one.film)


def _bracket_class(one: Planter) -> Fact:
    demonym = one.names.of("language")
    endings = ("TV series", one.series), (f"{demonym} album", one.album), (f"{demonym} band", one.group)
    ending, kind = one.derived.random.choice(endings)
    return one.work(f"{one.names.of('work')} ({ending})", kind)


def _bracket_superclass(one: Planter) -> Fact:
    return one.work(f"{one.names.of('work')} ({one.names.of('language')} film)", one.feature)


def _bracket_value(one: Planter) -> Fact:
    label = one.derived.popular("P264", one.derived.random.randrange(3))
    fact = one.work(f"{one.names.of('work')} ({one.derived.label(label)} Version)", one.single)
    one.graph.say(fact[1], "P264", label)
    return fact


def _bracket_alias(one: Planter) -> Fact:
    title = one.names.of("work")
    return one.alias(one.work(f"{title} (Second Telling)"), title)


def _bracket_namesake(one: Planter) -> Fact:
    title = one.derived.label(one.work()[1])
    return one.work(f"{title} (Northern Stage)")


def _title_bracket(one: Planter) -> Fact:
    ending = one.names.pick("All My Hours", "Tell It Twice", "What She Saw", "Never Was I Home", "Once For You")
    return one.work(f"{one.names.of('work')} ({ending})", one.single)


def _region_suffix(one: Planter) -> Fact:
    name, subject = one.names.of("settlement"), ""
    for _ in range(2):
        region = one.derived.new("region", one.names.first(lambda: f"{one.names.root()} Voivodeship"))
        subject = one.derived.new("settlement", f"{name}, {one.derived.label(region)}", [one.village])
        one.graph.say(subject, "P131", region)
        one.graph.items[subject].aliases.append((name, "en"))
    return one.fact("P17", subject)


def _namesake(one: Planter) -> Fact:
    fact = one.person()
    one.person(one.derived.label(fact[1]).upper())
    return fact


def _same_name(one: Planter) -> Fact:
    fact = one.work()
    return one.alias(fact, one.derived.label(fact[2]))


def _object_in_subject(one: Planter) -> Fact:
    relation = "P495"
    value = one.derived.label(one.derived.popular(relation))
    return one.fact(relation, one.derived.new("work", f"{value} {one.names.of('work')}", [one.film]))


def _band_born(one: Planter) -> Fact:
    return one.fact("P19", one.derived.new("band", None, [one.group]))


def _citizen(one: Planter, city: str) -> Fact:
    subject = one.derived.new("person", None, [HUMAN])
    one.graph.say(subject, "P27", city)
    return "P27", subject, city


def _city_as_country(one: Planter) -> Fact:
    return _citizen(one, one.shared("village", lambda: one.derived.new("settlement", None, [one.village])))


def _town_of_a_republic(one: Planter) -> Fact:
    return _citizen(one, one.shared("town", lambda: one.derived.new("settlement", None, [_republics_town(one)])))


def _republics_town(one: Planter) -> str:
    """A class whose name holds the word for another kind of place."""
    kind = one.derived.new("class", f"town of the {one.names.of('language')} Republic")
    one.graph.say(kind, SUBCLASS, one.village)
    return kind


def _two_objects(one: Planter) -> Fact:
    relation, subject, value = one.person()
    one.graph.say(subject, relation, one.derived.popular(relation, 1))
    return relation, subject, value


def _unknown_beside(one: Planter) -> Fact:
    fact = one.stated()
    one.graph.state(Statement(fact[1], "P39", None))
    return fact


def _redirected(one: Planter) -> Fact:
    relation, subject, value = one.person()
    old = one.derived.new("settlement")
    one.graph.items[old].labels.clear()
    one.graph.items[subject].values.remove((relation, value))
    one.graph.say(subject, relation, old)
    one.graph.redirects[old] = value
    return relation, subject, value


def _outranked(one: Planter) -> Fact:
    fact = one.stated(truthy=False)
    one.statement(fact[1], 1, rank="Preferred")
    return fact


def _deprecated(one: Planter) -> Fact:
    fact = one.stated(truthy=False, rank="Deprecated")
    one.statement(fact[1], 1)
    return fact


def _stale(one: Planter) -> Fact:
    fact = one.stated(start="1990-01-01")
    one.statement(fact[1], 1, start="2020-01-01", end=AHEAD)
    return fact


def _succeeded(one: Planter) -> Fact:
    """An office that is held, after another that has ended."""
    fact = one.stated(start="2004-01-01")
    one.statement(fact[1], 1, start="1990-01-01", end="2003-12-31")
    return fact


def _article(one: Planter) -> Fact:
    fact = one.work(one.names.of("band"), one.group)
    return one.alias(fact, f"the {one.derived.label(fact[1])}")


def _own_article(one: Planter) -> Fact:
    return one.work(f"The {one.names.of('band')}", one.group)


PLANTS: Mapping[str, Plant] = {
    "language code as label": Plant(_code_label, False),
    "language code as object's label": Plant(_code_object, False),
    "language code as alias": Plant(_code_alias, True),
    "general label in another script": Plant(_other_script, False, named=True),
    "general label": Plant(_general_label, True),
    "no label": Plant(lambda one: one.relabel(one.person(), {}), False, "missing-label"),
    "id as label": Plant(_id_label, False, "qid-label", named=True),
    "bracket of a word": Plant(_bracket_word, False, "label-noise", named=True),
    "bracket ends in a class": Plant(_bracket_class, False, named=True),
    "bracket ends in a class's superclass": Plant(_bracket_superclass, False, named=True),
    "bracket names a value": Plant(_bracket_value, False, named=True),
    "alias without the bracket": Plant(_bracket_alias, False, named=True),
    "namesake without the bracket": Plant(_bracket_namesake, False, named=True),
    "bracket of a title": Plant(_title_bracket, True),
    "region behind a comma": Plant(_region_suffix, None),
    "namesakes": Plant(_namesake, False, "ambiguous-subject"),
    "object's name as alias": Plant(_same_name, False, "same-name"),
    "object's name in the subject's": Plant(_object_in_subject, False, "object-in-subject"),
    "a band's birth": Plant(_band_born, False, "subject-kind"),
    "a city as country": Plant(_city_as_country, False, "object-kind"),
    "a republic's town as country": Plant(_town_of_a_republic, False, "object-kind"),
    "two objects": Plant(_two_objects, False, "several-objects"),
    "object under its former id": Plant(_redirected, True),
    "in office": Plant(lambda one: one.stated(start="2001-02-03"), True),
    "in office, no end": Plant(lambda one: one.stated(no_end=True), True),
    "ended": Plant(lambda one: one.stated(end=AGO), False, "ended-fact"),
    "ended in a year": Plant(lambda one: one.stated(end="1987-01-01", precision=YEAR), False, "ended-fact"),
    "ended, nobody knows when": Plant(lambda one: one.stated(end="unknown"), False, "ended-fact"),
    "ends in the future": Plant(lambda one: one.stated(end=AHEAD), True),
    "ends in the running year": Plant(lambda one: one.stated(end=one.year, precision=YEAR), True),
    "succeeded": Plant(_succeeded, True),
    "beside one that ends in the future": Plant(_stale, False),
    "unknown value beside a known one": Plant(_unknown_beside, False),
    "outranked": Plant(_outranked, False, "outranked-fact"),
    "deprecated": Plant(_deprecated, False, "deprecated-fact"),
    "article told by an alias": Plant(_article, True),
    "article in the name": Plant(_own_article, True),
}


def other_world(excerpt: Path, relations: Sequence[str], today: date, seed: int = 0) -> OtherWorld:
    """Return the other graph with EACH items of every kind in PLANTS.

    relations: of the excerpt, such as those that ParaRel has patterns for.
    """
    derived = Derived(Excerpt.read(excerpt), relations, seed)
    planter = Planter(derived, today + timedelta(days=2))  # on the last days of a year "this year" is the next
    planted = {kind: tuple(plant.make(planter) for _ in range(EACH)) for kind, plant in PLANTS.items()}
    items, moved = derived.graph.items, derived.graph.redirects
    facts = ((name, one, moved.get(value, value)) for one in items for name, value in items[one].values)
    return OtherWorld(
        triples="\n".join(derived.graph.triples()) + "\n",
        facts=frozenset(fact for fact in facts if fact[0] in relations),
        relations=tuple(relations),
        day=today,
        labels={one: item.labels.get("en") or item.labels["mul"] for one, item in items.items() if item.labels},
        planted=planted,
    )
