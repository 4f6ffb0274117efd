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
        """State that a subject holds the office with the most holders but `place`; return that fact."""
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


def _code_label(planter: Planter) -> Fact:
    return planter.relabel(planter.person(), {"mul": next(planter.codes)})


def _code_object(planter: Planter) -> Fact:
    city = _new_village(planter, "nameless")
    planter.graph.items[city].labels = {"mul": CODES[-1]}
    return _resident(planter, "P19", city)


def _other_script(planter: Planter) -> Fact:
    fact = planter.person()
    return planter.relabel(fact, {"mul": spelled(planter.derived.label(fact[1]), next(planter.scripts))})


def _general_label(planter: Planter) -> Fact:
    fact = planter.person()
    return planter.relabel(fact, {"mul": planter.derived.label(fact[1])})


def _id_label(planter: Planter) -> Fact:
    fact = planter.person()
    return planter.relabel(fact, {"en": fact[1]})


def _code_alias(planter: Planter) -> Fact:
    fact = planter.person()
    planter.graph.items[fact[1]].aliases.append(("en", "mul"))
    return fact


def _bracket_word(planter: Planter) -> Fact:
    return planter.work(f"{planter.names.of('work')} (film)", planter.film)


def _bracket_class(planter: Planter) -> Fact:
    demonym = planter.names.of("language")
    endings = ("TV series", planter.series), (f"{demonym} album", planter.album), (f"{demonym} band", planter.group)
    ending, kind = planter.derived.random.choice(endings)
    return planter.work(f"{planter.names.of('work')} ({ending})", kind)


def _bracket_superclass(planter: Planter) -> Fact:
    return planter.work(f"{planter.names.of('work')} ({planter.names.of('language')} film)", planter.feature)


def _bracket_value(planter: Planter) -> Fact:
    label = planter.derived.popular("P264", planter.derived.random.randrange(3))
    fact = planter.work(f"{planter.names.of('work')} ({planter.derived.label(label)} Version)", planter.single)
    planter.graph.say(fact[1], "P264", label)
    return fact


def _bracket_alias(planter: Planter) -> Fact:
    title = planter.names.of("work")
    return planter.alias(planter.work(f"{title} (Second Telling)"), title)


def _bracket_namesake(planter: Planter) -> Fact:
    title = planter.derived.label(planter.work()[1])
    return planter.work(f"{title} (Northern Stage)")


def _title_bracket(planter: Planter) -> Fact:
    ending = planter.names.pick("All My Hours", "Tell It Twice", "What She Saw", "Never Was I Home", "Once For You")
    return planter.work(f"{planter.names.of('work')} ({ending})", planter.single)


def _region_suffix(planter: Planter) -> Fact:
    name, subject = planter.names.of("settlement"), ""
    for _ in range(2):
        region = planter.derived.new("region", planter.names.first(lambda: f"{planter.names.root()} Voivodeship"))
        subject = planter.derived.new("settlement", f"{name}, {planter.derived.label(region)}", [planter.village])
        planter.graph.say(subject, "P131", region)
        planter.graph.items[subject].aliases.append((name, "en"))
    return planter.fact("P17", subject)


def _namesake(planter: Planter) -> Fact:
    fact = planter.person()
    planter.person(planter.derived.label(fact[1]).upper())
    return fact


def _same_name(planter: Planter) -> Fact:
    fact = planter.work()
    return planter.alias(fact, planter.derived.label(fact[2]))


def _object_in_subject(planter: Planter) -> Fact:
    relation = "P495"
    value = planter.derived.label(planter.derived.popular(relation))
    return planter.fact(relation, planter.derived.new("work", f"{value} {planter.names.of('work')}", [planter.film]))


def _band_born(planter: Planter) -> Fact:
    return planter.fact("P19", planter.derived.new("band", None, [planter.group]))


def _new_village(planter: Planter, name: str) -> str:
    return planter.shared(name, lambda: planter.derived.new("settlement", None, [planter.village]))


def _resident(planter: Planter, relation: str, city: str) -> Fact:
    subject = planter.derived.new("person", None, [HUMAN])
    planter.graph.say(subject, relation, city)
    return relation, subject, city


def _city_as_country(planter: Planter) -> Fact:
    return _resident(planter, "P27", _new_village(planter, "village"))


def _town_of_a_republic(planter: Planter) -> Fact:
    town = planter.shared("town", lambda: planter.derived.new("settlement", None, [_republics_town(planter)]))
    return _resident(planter, "P27", town)


def _republics_town(planter: Planter) -> str:
    """Return a class whose name holds the word for another kind of place."""
    kind = planter.derived.new("class", f"town of the {planter.names.of('language')} Republic")
    planter.graph.say(kind, SUBCLASS, planter.village)
    return kind


def _two_objects(planter: Planter) -> Fact:
    relation, subject, value = planter.person()
    planter.graph.say(subject, relation, planter.derived.popular(relation, 1))
    return relation, subject, value


def _unknown_beside(planter: Planter) -> Fact:
    fact = planter.stated()
    planter.graph.state(Statement(fact[1], "P39", None))
    return fact


def _redirected(planter: Planter) -> Fact:
    relation, subject, value = planter.person()
    old = planter.derived.new("settlement")
    planter.graph.items[old].labels.clear()
    planter.graph.items[subject].values.remove((relation, value))
    planter.graph.say(subject, relation, old)
    planter.graph.redirects[old] = value
    return relation, subject, value


def _outranked(planter: Planter) -> Fact:
    fact = planter.stated(truthy=False)
    planter.statement(fact[1], 1, rank="Preferred")
    return fact


def _deprecated(planter: Planter) -> Fact:
    fact = planter.stated(truthy=False, rank="Deprecated")
    planter.statement(fact[1], 1)
    return fact


def _stale(planter: Planter) -> Fact:
    fact = planter.stated(start="1990-01-01")
    planter.statement(fact[1], 1, start="2020-01-01", end=AHEAD)
    return fact


def _succeeded(planter: Planter) -> Fact:
    """Return the fact of an office that is held, after another that has ended."""
    fact = planter.stated(start="2004-01-01")
    planter.statement(fact[1], 1, start="1990-01-01", end="2003-12-31")
    return fact


def _article(planter: Planter) -> Fact:
    fact = planter.work(planter.names.of("band"), planter.group)
    return planter.alias(fact, f"the {planter.derived.label(fact[1])}")


def _own_article(planter: Planter) -> Fact:
    return planter.work(f"The {planter.names.of('band')}", planter.group)


PLANTS: Mapping[str, Plant] = {
    "language code as label": Plant(_code_label, False),
    "language code as object's label": Plant(_code_object, False),
    "language code as alias": Plant(_code_alias, True),
    "general label in another script": Plant(_other_script, False, named=True),
    "general label": Plant(_general_label, True),
    "no label": Plant(lambda planter: planter.relabel(planter.person(), {}), False, "missing-label"),
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
    "in office": Plant(lambda planter: planter.stated(start="2001-02-03"), True),
    "in office, no end": Plant(lambda planter: planter.stated(no_end=True), True),
    "ended": Plant(lambda planter: planter.stated(end=AGO), False, "ended-fact"),
    "ended in a year": Plant(lambda planter: planter.stated(end="1987-01-01", precision=YEAR), False, "ended-fact"),
    "ended, nobody knows when": Plant(lambda planter: planter.stated(end="unknown"), False, "ended-fact"),
    "ends in the future": Plant(lambda planter: planter.stated(end=AHEAD), True),
    "ends in the running year": Plant(lambda planter: planter.stated(end=planter.year, precision=YEAR), True),
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
