"""The kinds of an object, coarser than the classes that it is an instance of (P31).

Classes are fine ("city of the United States", "commune of France"), so two cities seldom share one. Kinds are read from
words in the classes' English names; of an object that is no place, each class's id is a kind too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import INSTANCE_OF

HUMAN = "Q5"
"""Wikidata's class of humans."""

PLACES: Mapping[str, re.Pattern[str]] = {
    kind: re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for kind, words in {
        "continent": "(?:super)?continent|continental area and surrounding islands",
        "country": (
            "country|countries|sovereign state|republic|island nation|nation|kingdom|federal state|realm|empire|"
            "city-state|state with limited recognition|(?:legal|social|secular|unitary|archipelagic|communist) state|"
            "member state of the .*|constitutional monarchy|colonial power"
        ),
        "region": (
            "constituent part.*|constituent country|autonomous country.*|dependent territory|overseas .*|"
            "(?:state|province|region|county|district|department|canton|prefecture|oblast|governorate|emirate|"
            "voivodeship|republic|territory|autonomous community|lieutenancy area) of .*|"
            "first-level administrative country subdivision|"
            "(?:ceremonial|non-metropolitan|historic|metropolitan) county.*|cultural region|historical region|"
            "province|federated state|krai|raion|insular area.*"
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

OTHERS: Mapping[str, re.Pattern[str]] = {
    kind: re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for kind, words in {
        "language": "languages?|dialect|macrolanguage",
        "religion": "religio(?:n|us group)|.*religious movement|faith|denomination|Relajación|belief system",
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
"""Other kinds, by words in their classes' names."""


def kinds_of(item: str, graph: FactGraph) -> frozenset[str]:
    """Return the kinds of `item`: those of places alone if it is a place, else other kinds and its classes' ids.

    Empty where its classes are not known.
    """
    classes = graph.attributes(item, INSTANCE_OF)
    names = [graph.name(one, "en") or "" for one in classes]
    places = {kind for kind, words in PLACES.items() if any(words.search(name) for name in names)}
    if places:
        return frozenset(_broadness(places, names))
    return frozenset(classes) | {kind for kind, words in OTHERS.items() if any(words.search(name) for name in names)}


def _broadness(places: set[str], names: list[str]) -> set[str]:
    """Return the kinds of a place without those that it has in name only; `names` are its classes'.

    Wales is called a country and is a part of one; London has quarters.
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
