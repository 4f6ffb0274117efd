"""The classes of an item, and its kinds, which are coarser.

Classes come from the facts (P31, P279 and the classes above these) and from the bundled table. They are fine ("city of
the United States", "commune of France"), so two cities seldom share one. A kind follows from words in a class's English
name (`FactGraph.class_name`), by the tables below, so a build in any language has the same kinds. Of an object that is
no place, the id of each class is a kind too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cfbuild.facts.bounded import Bounded
from cfbuild.facts.bundled import classes_by_member
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import INSTANCE_OF, SUBCLASS_OF
from cfbuild.text.class_names import class_noun

HUMAN = "Q5"
"""Wikidata's class of humans."""

PLACES: Mapping[str, re.Pattern[str]] = {
    kind: re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for kind, words in {
        "continent": "(?:super)?continent|continental area and surrounding islands",
        "country": (
            "country(?! subdivision)|countries|sovereign state|republic|island nation|nation|kingdom|federal state|"
            "realm|empire|"
            "city-state|(?:legal|social|secular|unitary|archipelagic|communist|member) state|"
            "constitutional monarchy|colonial power"
        ),
        "region": (
            "constituent part.*|constituent country|autonomous country.*|dependent territory|overseas .*|"
            "(?:state|province|region|county|district|department|canton|prefecture|oblast|governorate|emirate|"
            "voivodeship|republic|territory|autonomous community|lieutenancy area) of .*|"
            "first-level administrative country subdivision|"
            "(?:ceremonial|non-metropolitan|historic|metropolitan) county.*|cultural region|historical region|"
            "province|federated state|krai|raion|insular area(?: of .*)?$"
        ),
        "settlement": (
            "city|cities|town|commune|comune|municipality|village|human settlement|settlement|capital|capital city|"
            "metropolis|megacity|county seat|port settlement|populated place|burgh|local government|"
            "city-state|administrative centre|city/town|settlement site|ancient city"
        ),
        "quarter": "borough|quarter|neighbou?rhood|suburb|urban district.*|city district|area of London|ward",
    }.items()
}
"""Kinds of places by words in their classes' names, the broadest first: o* has to be as broad as o_c."""

BY_NOUN = frozenset({"continent", "country"})
"""Kinds whose words count only in the noun of a class's name: a town of a republic is no country."""
LIMITED = re.compile(r"\bstate with limited recognition\b", re.IGNORECASE)
"""The class of countries whose noun, state, does not tell that they are countries."""

OTHERS: Mapping[str, re.Pattern[str]] = {
    kind: re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for kind, words in {
        "language": "languages?|dialect|macrolanguage",
        "religion": "religio(?:n|us group)|.*religious movement|faith|denomination|belief system",
        "occupation": "profession|occupation|specialty|job|craft",
        "office": "position|office|title|function|religious occupation|rank|ecclesiastical occupation",
        "music": "music(?:al)? (?:genre|form|style)",
        "genre of stories": "^genre$|(?:television|radio|film|comedic|fantastique|theatrical|literary) genre",
        "discipline": "discipline|branch of .*|area of .*|science|academic major|field of .*|specialty",
        "company": (
            "business|enterprise|company|manufacturer|marque|brand|label|conglomerate|corporation|publisher|"
            "developer|studio|bank|airline|division|imprint"
        ),
        "broadcaster": "station|channel|broadcaster|broadcasting|television network|radio network|streaming service",
        "organization": "organi[sz]ation|federation|alliance|association|party|agency|union|league|university|movement",
        "person": "human|person|deity|saint|prophet|human biblical figure|fictional human|mythological .*",
        "position on a team": "(?:.* )?position",
        "instrument": "musical instrument|string instrument|wind instrument|keyboard instrument|instrument",
        "substance": "chemical element|chemical compound|nonmetal|metal|substance|group or class of .*substances|alloy",
        "food": "food|food ingredient|course|dish|type of food or dish|drink|cuisine",
        "water": "river|main stream|stream|lake|sea|ocean|bay|watercourse|strait",
        "mountain": ".*mountain range|mountain|massif|volcano|mountain system",
        "work": "written work|literary work|film|book|television series|song|album|religious text|sacred text|play",
    }.items()
}
"""The kinds that are no places, by words in their classes' names."""

Ladder = tuple[frozenset[str], ...]
"""The classes of an item by steps up: its own classes, those above these, and so on."""


def kinds_in(classes: Mapping[str, str]) -> frozenset[str]:
    """Return the kinds of an item of these classes, given as English name by id.

    A place has kinds of places alone, another item has other kinds and the ids of its classes.
    """
    names = tuple(classes.values())
    places = {kind for kind in PLACES if any(_tells_place(name, kind) for name in names)}
    if places:
        return frozenset(_actual_places(places, names))
    others = {kind for kind, words in OTHERS.items() if any(words.search(name) for name in names)}
    return frozenset(classes) | others


def _tells_place(name: str, kind: str) -> bool:
    """Return True if the instances of a class with this name are places of this kind."""
    if kind == "country" and LIMITED.search(name):
        return True
    return bool(PLACES[kind].search(class_noun(name) if kind in BY_NOUN else name))


class Kinds:
    """The kinds and classes of the items of `graph`, cached by the item's id."""

    def __init__(self, graph: FactGraph) -> None:
        self._graph = graph
        self._kinds: dict[str, frozenset[str]] = Bounded()
        self._ladders: dict[str, Ladder] = Bounded()
        self._shared: dict[Ladder, Ladder] = {}

    def of(self, item: str) -> frozenset[str]:
        """Return the kinds of `item` (`kinds_in`); empty if its classes are not known."""
        if item not in self._kinds:
            classes = self._graph.attributes(item, INSTANCE_OF) or classes_by_member().get(item, ())
            self._kinds[item] = kinds_in({class_id: self._graph.class_name(class_id) for class_id in classes})
        return self._kinds[item]

    def ladder(self, item: str) -> Ladder:
        """Return the classes of `item` by steps up; empty if no class is known.

        A class is in the first step that reaches it. The bundled classes come last, since they are coarse.
        """
        if item not in self._ladders:
            steps: list[frozenset[str]] = []
            seen = {item}
            attributes = self._graph.attributes
            step = {*attributes(item, INSTANCE_OF), *attributes(item, SUBCLASS_OF)} - seen
            while step:
                steps.append(frozenset(step))
                seen |= step
                step = {above for one in step for above in attributes(one, SUBCLASS_OF)} - seen
            bundled = frozenset(classes_by_member().get(item, ())) - seen
            ladder = (*steps, bundled) if bundled else tuple(steps)
            # Most items of a class have no other class: they share one ladder, which saves memory.
            self._ladders[item] = self._shared.setdefault(ladder, ladder)
        return self._ladders[item]


def _actual_places(places: set[str], names: Sequence[str]) -> set[str]:
    """Return the kinds of a place without those that it has in name only; Wales is called a country and is a region.

    names: those of its classes.
    """
    parts = re.compile(r"constituent|autonomous country|dependent territory", re.IGNORECASE)
    sovereign = any(re.search(r"sovereign state", name, re.IGNORECASE) for name in names)
    if any(parts.search(name) for name in names) and not sovereign:
        places = (places - {"country"}) | {"region"}
    elif "country" in places:
        # A country may list that it is a region or a settlement of some kind; few are (Singapore, a city-state).
        places = places - {"region"} - ({"settlement"} if not any("city" in name for name in names) else set())
    elif "settlement" in places and any(re.search(r"\bcity\b|capital", name) for name in names):
        places = places - {"quarter"}
    return places - {"country", "region", "settlement"} if "continent" in places else places
