"""People who live, work and vote somewhere, as an older and a newer fetch tell it: what changed is planted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from planted import people
from small_world import write_build

from cfbuild.data import UNKNOWN, Entity, Fact, FactChange, Template
from cfbuild.facts.changes import Statements, changes
from cfbuild.pipeline.diff import DiffOptions, diff
from cfbuild.pipeline.generate import GenerateOptions
from cfbuild.records.factset import FactSet
from cfbuild.store.folder import BuildFolder

OLD_DAY, NEW_DAY = "2024-06-30", "2026-06-30"
LIVES, WORKS, VOTES = "P551", "P937", "P27"
CITIES = ("Oslo", "Lima", "Cairo", "Quito", "Hanoi", "Accra")
STATES = ("Norway", "Peru", "Egypt")
COUNT = 90
CITY, STATE, PERSON = "Q515", "Q3624078", "Q5"
TEXTS = {
    LIVES: ("{} lives in", "The home of {} is in", "{} resides in", "{} has a house in"),
    WORKS: ("{} works in", "The office of {} is in", "{} earns a living in", "{} is employed in"),
    VOTES: ("{} is a citizen of", "{} has the passport of", "{} votes in", "The passport of {} is from"),
}
STARTS = ("Every morning, {}", "The neighbors of {}", "From the window, {} sees")
(DATED, OVERWRITTEN, CORRECTED, DEPRECATED, ENDED, SECOND, NESTED, NOBODY_KNOWS, BOTH, TO_A_STATE) = range(10)
"""Persons of whom something changed, by number."""
MOVED = 20
"""One who lived elsewhere before both fetches."""
RECORDED = {
    DATED: "replaced",
    OVERWRITTEN: "replaced",
    CORRECTED: "corrected",
    DEPRECATED: "corrected",
    BOTH: "replaced",
}
"""Those of whose home a record can be made, with the kind of the change."""


def person(number: int) -> str:
    return f"Q{1000 + number}"


def city(number: int) -> str:
    return f"Q{11 + number % len(CITIES)}"


def state(number: int) -> str:
    return f"Q{31 + number % len(STATES)}"


def home(number: int, shift: int = 0, **parts: str | None) -> Fact:
    row = {"rank": "normal", "start": "2001", "source": "made"} | parts
    return Fact(LIVES, person(number), city(number + shift), **row)


def entities() -> Iterator[Entity]:
    for number, name in enumerate(CITIES):
        yield Entity(city(number), {"en": name}, {}, {"P31": (CITY,), "P17": (state(number),)})
    for number, name in enumerate(STATES):
        yield Entity(state(number), {"en": name}, {}, {"P31": (STATE,)})
    for number, name in zip(range(COUNT), people(), strict=False):
        yield Entity(person(number), {"en": name}, {}, {"P31": (PERSON,)})


def templates() -> Iterator[Template]:
    for relation, texts in TEXTS.items():
        yield from (Template(relation, "rewrite", text, "test") for text in texts)
        yield from (Template(relation, "generation", text, "test") for text in STARTS)


def _others(work: int = 0) -> Iterator[Fact]:
    """Yield where people work and vote; the person BOTH works `work` cities further."""
    for number in range(COUNT):
        shift = 2 + (work if number == BOTH else 0)
        yield Fact(WORKS, person(number), city(number + shift), rank="normal", source="made")
        yield Fact(VOTES, person(number), state(number // 7), rank="normal", source="made")


def former(**parts: str | None) -> Fact:
    """Return the fact that MOVED lived elsewhere in the nineties."""
    return home(MOVED, 2, **{"start": "1990", "end": "2000-06"} | parts)


def older() -> list[Fact]:
    return [*map(home, range(COUNT)), former(), *_others()]


def newer() -> list[Fact]:
    changed = {
        DATED: [home(DATED, end="2025-03-01"), home(DATED, 1, start="2025-03-01")],
        OVERWRITTEN: [home(OVERWRITTEN, 1, start=None)],
        CORRECTED: [home(CORRECTED, 1)],
        DEPRECATED: [home(DEPRECATED, rank="deprecated"), home(DEPRECATED, 1, start="2003")],
        ENDED: [home(ENDED, end="2025")],
        SECOND: [home(SECOND), home(SECOND, 1, start="2025")],
        NESTED: [replace(home(NESTED), object=state(NESTED))],
        NOBODY_KNOWS: [replace(home(NOBODY_KNOWS), object=UNKNOWN)],
        BOTH: [home(BOTH, end="2025"), home(BOTH, 3, start="2025")],
        TO_A_STATE: [replace(home(TO_A_STATE), object=state(TO_A_STATE + 1))],
    }
    homes = [fact for number in range(COUNT) for fact in changed.get(number, [home(number)])]
    return [*homes, former(), *_others(work=1)]


def found() -> tuple[FactChange, ...]:
    """Return the changes that `cfbuild diff` writes."""
    every = changes(Statements(older(), OLD_DAY), Statements(newer(), NEW_DAY))
    return tuple(change for change in every if change.kind != "unchanged")


def updated() -> FactSet:
    """Return the newer fetch with the changes since the older one."""
    return FactSet(tuple(newer()), tuple(entities()), tuple(templates()), "en", NEW_DAY, found())


def write_both(root: Path, names: tuple[str, str] = ("old", "new")) -> tuple[BuildFolder, BuildFolder]:
    """Write both fetches as build folders; return them, the older first."""
    folders = []
    for name, facts, day in zip(names, (older(), newer()), (OLD_DAY, NEW_DAY), strict=True):
        folders.append(BuildFolder(write_build(root / name, facts, entities(), templates())))
        folders[-1].finish("fetch", {"statements": True, "language": "en"}, {}, {"today": day})
    return folders[0], folders[1]


def build(root: Path) -> tuple[BuildFolder, Path]:
    """Return the newer build and the file of its changes since the older one."""
    old, new = write_both(root)
    diff(DiffOptions(old, new))
    return new, new.path("changes.jsonl")


def options(file: Path, **given: Any) -> GenerateOptions:
    return GenerateOptions(updates=file, min_neighbors=5, min_pool=2, **given)
