"""The objects of a relation, from which o* is drawn, and the pool of possible objects, in which it is ranked.

A pool holds the relation's objects and objects of their kind in the whole build and in the bundled table, since the
least likely of three objects is no unlikely one. o* is drawn from the relation's objects alone: those that share the
class closest to the true object first.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from random import Random
from typing import NamedTuple, TypeGuard

from cfbuild.data import SharedClass, Target, id_number
from cfbuild.facts.bundled import LANGUAGE, bundled_classes
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.kinds import OTHERS, Kinds, Ladder, kinds_in
from cfbuild.records.draws import MANY, Weighted, drawn, race, random_numbers
from cfbuild.text.names import find_id

ENOUGH = 100
"""The size up to which a pool takes objects of other relations: more cost time and make a rank little more precise."""
FAR = 255
"""The distance of an object that shares no class; all other distances are smaller."""
TIERS = 1024
"""The most ladders of classes whose tiers are kept: 40 MB where relations have 10,000 objects each."""
USUAL = 0.5
"""The least share of a relation's facts with objects of a kind that makes the kind that of objects without a class."""


def is_usable(label: str | None) -> TypeGuard[str]:
    """Return True if a prompt can use the label: it is not None, not blank, and has no item id in it."""
    return label is not None and bool(label.strip()) and find_id(label) is None


class Tier(NamedTuple):
    """The objects of a relation that are equally far from a given one.

    steps: from the given object up to the closest class that they share with it; FAR if they share none.
    places: their places in the relation's list of objects, ascending.
    """

    steps: int
    places: array[int]


class Pools:
    """The objects and pools of a graph's relations, each made once.

    min_pool: the size up to which a pool takes objects of coarser kinds, too.
    """

    def __init__(self, graph: FactGraph, min_pool: int = 0) -> None:
        self._graph = graph
        self._min_pool = min_pool
        self._kinds = Kinds(graph)
        self._objects: dict[str, tuple[Target, ...]] = {}
        self._counts: dict[str, array[int]] = {}
        self._pools: dict[tuple[str, frozenset[str]], tuple[Target, ...]] = {}
        self._places: dict[str, dict[str, list[int]]] = {}
        self._classes: dict[str, list[frozenset[str]]] = {}
        self._weighted: dict[tuple[str, str | None], Weighted | None] = {}
        self._tiers = lru_cache(TIERS)(self._tiers_by_ladder)
        self._of_kind: dict[str, list[Target]] | None = None

    def forget(self) -> None:
        """Clear the objects and pools of all relations, which are made again when they are asked for."""
        for kept in (self._objects, self._counts, self._pools, self._places, self._classes, self._weighted):
            kept.clear()
        self._tiers.cache_clear()

    def objects(self, relation: str) -> tuple[Target, ...]:
        """Return every object of `relation` with a usable label, the most frequent first.

        Of objects with the same label, letter case ignored, only the most frequent is kept.
        """
        if relation not in self._objects:
            counts = self._graph.object_counts(relation)
            by_label: dict[str, Target] = {}
            for item in sorted(counts, key=lambda object_id: (-counts[object_id], id_number(object_id))):
                label = self._graph.label(item)
                if is_usable(label):
                    by_label.setdefault(label.casefold(), Target(item, label))
            self._objects[relation] = tuple(by_label.values())
        return self._objects[relation]

    def counts(self, relation: str) -> Sequence[int]:
        """Return the number of subjects of each of `objects(relation)`."""
        if relation not in self._counts:
            counts = self._graph.object_counts(relation)
            self._counts[relation] = array("q", (counts[target.id] for target in self.objects(relation)))
        return self._counts[relation]

    def pool(self, relation: str, true: str) -> tuple[Target, ...]:
        """Return the possible objects where `true` is the object of `relation`, each name once.

        These are the relation's objects without those of another kind, and other objects of the same kind, until there
        are ENOUGH; of a coarser kind too, if there are fewer than `min_pool`. An object without a class has the kinds
        that are usual in the relation.
        """
        kinds = self._kinds.of(true)
        if (relation, kinds) not in self._pools:
            own = (one for one in self.objects(relation) if self._fits(one.id, kinds))
            pool = _NamedOnce(self._graph, own, max(ENOUGH, self._min_pool))
            filling = kinds or self._usual(relation)
            for kind in sorted(filling - OTHERS.keys()):
                pool.fill(self._all_of_kind().get(kind, ()))
            if len(pool.targets) < self._min_pool:
                for kind in sorted(filling & OTHERS.keys()):
                    pool.fill(self._all_of_kind().get(kind, ()))
            self._pools[relation, kinds] = tuple(pool.targets)
        return self._pools[relation, kinds]

    def tiers(self, relation: str, true: str) -> tuple[Tier, ...]:
        """Return the objects of `relation` by the closest class that they share with `true`, the nearest first."""
        return self._tiers(relation, self._kinds.ladder(true))

    def drawn(self, relation: str, true: str, random: Random) -> Iterator[Target]:
        """Yield the objects of `relation` in the order in which they are drawn as o* where `true` is the object.

        Tier follows tier, the nearest first; within a tier the order is that of weighted draws (`draws.py`) by the
        numbers of the seeded generator `random`.
        """
        objects, counts = self.objects(relation), self.counts(relation)
        if len(objects) > MANY:
            for place in self._drawn_of_many(relation, true, random):
                yield objects[place]
            return
        # Each object has a random number, but few objects are reached: arrivals are computed tier by tier.
        numbers = random_numbers(random, len(objects))
        for tier in self.tiers(relation, true):
            for place in race(tier.places, counts, numbers):
                yield objects[place]

    def _drawn_of_many(self, relation: str, true: str, random: Random) -> Iterator[int]:
        """Yield places among the objects, tier by tier, drawing from the classes of each step without making tiers."""
        counts, own, before = self.counts(relation), self._classes_of(relation), frozenset[str]()
        for step in self._kinds.ladder(true):
            found = [(one, self._in_class(relation, one)) for one in sorted(step, key=id_number)]
            names = [one for one, pool in found if pool is not None]

            def takes(place: int, which: int, names: list[str] = names, before: frozenset[str] = before) -> bool:
                return before.isdisjoint(own[place]) and own[place].isdisjoint(names[:which])

            yield from drawn([pool for _, pool in found if pool is not None], counts, takes, random)
            before |= step
        every = self._in_class(relation, None)
        yield from drawn([every] if every else [], counts, lambda place, _: before.isdisjoint(own[place]), random)

    def _classes_of(self, relation: str) -> list[frozenset[str]]:
        """Return the classes that each of the relation's objects is in or below; equal sets are the same object."""
        if relation not in self._classes:
            shared: dict[frozenset[str], frozenset[str]] = {}
            found = map(self._classes_above, self.objects(relation))
            self._classes[relation] = [shared.setdefault(classes, classes) for classes in found]
        return self._classes[relation]

    def _classes_above(self, target: Target) -> frozenset[str]:
        return frozenset().union(*self._kinds.ladder(target.id))

    def _in_class(self, relation: str, class_id: str | None) -> Weighted | None:
        """Return the relation's objects in a class or below it (None: all objects); None if there are none."""
        key = relation, class_id
        if key not in self._weighted:
            counts = self.counts(relation)
            places = range(len(counts)) if class_id is None else self._places_by_class(relation).get(class_id, ())
            self._weighted[key] = Weighted.of(places, counts) if places else None
        return self._weighted[key]

    def shared_class(self, relation: str, true_id: str, new_id: str) -> SharedClass:
        """Return the class closest to the true object (`true_id`) that o* (`new_id`) shares with it."""
        ladder, classes = self._kinds.ladder(true_id), frozenset().union(*self._kinds.ladder(new_id))
        shared = ((steps, step & classes) for steps, step in enumerate(ladder, 1))
        steps, found = next((pair for pair in shared if pair[1]), (None, frozenset[str]()))
        fallback = None
        if not ladder:
            fallback = "class-unknown"
        elif steps is None or steps > 1:
            nearest = self._nearest(relation, true_id, ladder)
            if nearest == FAR:
                fallback = "none-shares"
            elif steps is None or steps > nearest:
                fallback = "nearer-refused"
        return SharedClass(min(found, key=id_number, default=None), steps, fallback)

    def _nearest(self, relation: str, true: str, ladder: Ladder) -> int:
        """Return the steps up to the closest class that another object of the relation shares; FAR if none does."""
        by_class, objects = self._places_by_class(relation), self.objects(relation)
        for steps, classes in enumerate(ladder, 1):
            for class_id in classes:
                # The true object may be among the nearest ones itself.
                places = by_class.get(class_id, ())
                if len(places) > 1 or (places and objects[places[0]].id != true):
                    return min(steps, FAR - 1)
        return FAR

    def _tiers_by_ladder(self, relation: str, ladder: Ladder) -> tuple[Tier, ...]:
        """Return the objects of `relation` by the closest class that they share with an object of this ladder."""
        by_class, remaining = self._places_by_class(relation), set(range(len(self.objects(relation))))
        found: dict[int, set[int]] = {}
        for steps, classes in enumerate(ladder, 1):
            reached = remaining.intersection(chain.from_iterable(by_class.get(one, ()) for one in classes))
            found.setdefault(min(steps, FAR - 1), set()).update(reached)
            remaining -= reached
        found[FAR] = remaining
        return tuple(Tier(steps, array("I", sorted(places))) for steps, places in found.items() if places)

    def _fits(self, item: str, kinds: frozenset[str]) -> bool:
        own = self._kinds.of(item)
        return not own or not kinds or not own.isdisjoint(kinds)

    def _usual(self, relation: str) -> frozenset[str]:
        """Return the kinds that the objects of at least USUAL of the relation's facts are of."""
        counts = self._graph.object_counts(relation)
        kinds: Counter[str] = Counter()
        for item, number in counts.items():
            kinds.update(dict.fromkeys(self._kinds.of(item), number))
        total = sum(counts.values())
        return frozenset(kind for kind, number in kinds.items() if number >= USUAL * total)

    def _places_by_class(self, relation: str) -> dict[str, list[int]]:
        """Return, by class, the places in `objects(relation)` of the objects in it or below it."""
        if relation not in self._places:
            found: dict[str, list[int]] = {}
            for place, target in enumerate(self.objects(relation)):
                for class_id in self._classes_above(target):
                    found.setdefault(class_id, []).append(place)
            self._places[relation] = found
        return self._places[relation]

    def _all_of_kind(self) -> dict[str, list[Target]]:
        """Return the objects of every relation by kind, the most frequent first, and after them the bundled ones."""
        if self._of_kind is None:
            graph, counts, found = self._graph, Counter[str](), dict[str, list[Target]]()
            for relation in graph.relations:
                counts.update(graph.object_counts(relation))
            for item in sorted(counts, key=lambda object_id: (-counts[object_id], id_number(object_id))):
                label = graph.label(item)
                if is_usable(label) and graph.wording.noise(label) is None:
                    for kind in self._kinds.of(item):
                        found.setdefault(kind, []).append(Target(item, label))
            for bundled in bundled_classes().values() if graph.language == LANGUAGE else ():
                others = [member for member in bundled.members if member.id not in counts]
                # A pool may take only some of them: not those that come first in the alphabet.
                Random(bundled.id).shuffle(others)
                for kind in kinds_in({bundled.id: bundled.name}):
                    found.setdefault(kind, []).extend(others)
            self._of_kind = found
        return self._of_kind


class _NamedOnce:
    """A growing list of objects, `targets`, to which none is added whose label is a name of another."""

    def __init__(self, graph: FactGraph, targets: Iterable[Target], enough: int) -> None:
        self.targets: list[Target] = []
        self._graph = graph
        self._enough = enough
        self._names: set[str] = set()
        for target in targets:
            self._put(target)

    def fill(self, targets: Iterable[Target]) -> None:
        """Add targets until there are `enough`."""
        for target in targets:
            if len(self.targets) >= self._enough:
                return
            if target.label.casefold() not in self._names:
                self._put(target)

    def _put(self, target: Target) -> None:
        self.targets.append(target)
        self._names.add(target.label.casefold())
        self._names.update(name.casefold() for name in self._graph.names(target.id))
