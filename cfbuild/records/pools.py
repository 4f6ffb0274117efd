"""The objects of a relation, in which o* is drawn, and the pool of all that could be said there, in which it is ranked.

A pool holds the relation's objects, and objects of their kind in the whole build and in the bundled table, since the
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
from cfbuild.records.draws import MANY, RandomNumber, Weighted, drawn, race
from cfbuild.text.names import find_id

ENOUGH = 100
"""Objects beyond which a pool takes no others than the relation's own: more cost time and tell a rank little better."""
FAR = 255
"""The distance of an object that shares no class; nearer ones are below it."""
TIERS = 1024
"""The most ladders of classes whose tiers are kept: 40 MB where relations have 10,000 objects each."""
USUAL = 0.5
"""Least share of a relation's facts whose objects are of a kind that makes it the kind of an object without a class."""


def is_usable(label: str | None) -> TypeGuard[str]:
    """Return True if a prompt can use the label: it is there, not blank, and holds no item id for a name."""
    return label is not None and bool(label.strip()) and find_id(label) is None


class Tier(NamedTuple):
    """The objects of a relation that are equally far from another: `steps` up to the closest class that they share.

    `places` are theirs among the relation's objects, in ascending order; `steps` is FAR for those that share none.
    """

    steps: int
    places: array[int]


class Pools:
    """The objects and pools of a graph's relations, each made once.

    min_pool: the number of objects below which a pool also takes objects of coarser kinds.
    """

    def __init__(self, graph: FactGraph, min_pool: int = 0) -> None:
        self._graph = graph
        self._min_pool = min_pool
        self._kinds = Kinds(graph)
        self._objects: dict[str, tuple[Target, ...]] = {}
        self._counts: dict[str, list[int]] = {}
        self._pools: dict[tuple[str, frozenset[str]], tuple[Target, ...]] = {}
        self._places: dict[str, dict[str, list[int]]] = {}
        self._classes: dict[str, list[frozenset[str]]] = {}
        self._weighted: dict[tuple[str, str | None], Weighted | None] = {}
        self._tiers = lru_cache(TIERS)(self._tiers_by_ladder)
        self._of_kind: dict[str, list[Target]] | None = None

    def forget(self) -> None:
        """Drop the objects and pools of all relations, which are made again when they are asked for."""
        for kept in (self._objects, self._counts, self._pools, self._places, self._classes, self._weighted):
            kept.clear()
        self._tiers.cache_clear()

    def objects(self, relation: str) -> tuple[Target, ...]:
        """Return every object of `relation` with a usable label, the most frequent first.

        Of objects with the same label, letter case ignored, only the most frequent is there.
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
            self._counts[relation] = [counts[target.id] for target in self.objects(relation)]
        return self._counts[relation]

    def pool(self, relation: str, true: str) -> tuple[Target, ...]:
        """Return all that could be said where `true` is the object of `relation`, each name once.

        These are the relation's objects but those of another kind, and other objects of the same kind, until there are
        ENOUGH; of a coarser kind too, if there are fewer than `min_pool`. The kinds of an object without a class are
        the relation's usual ones.
        """
        kinds = self._kinds.of(true)
        if (relation, kinds) not in self._pools:
            own = (one for one in self.objects(relation) if self._fits(one.id, kinds))
            named = _Named(self._graph, own, max(ENOUGH, self._min_pool))
            wanted = kinds or self._usual(relation)
            for kind in sorted(wanted - OTHERS.keys()):
                named.fill(self._all_of_kind().get(kind, ()))
            if len(named) < self._min_pool:
                for kind in sorted(wanted & OTHERS.keys()):
                    named.fill(self._all_of_kind().get(kind, ()))
            self._pools[relation, kinds] = tuple(named)
        return self._pools[relation, kinds]

    def tiers(self, relation: str, true: str) -> tuple[Tier, ...]:
        """Return the objects of `relation` by the closest class that they share with `true`, the nearest first."""
        return self._tiers(relation, self._kinds.ladder(true))

    def drawn(self, relation: str, true: str, random: RandomNumber) -> Iterator[Target]:
        """Yield the objects of `relation` in the order in which they are drawn where `true` is the object.

        Those that share the class closest to it are first (`tiers`); among equals see `draws.py`.
        """
        objects, counts = self.objects(relation), self.counts(relation)
        if len(objects) > MANY:
            for place in self._drawn_of_many(relation, true, random):
                yield objects[place]
            return
        # Each object has a number of its own, but few are ever reached: times are computed a tier at a time.
        numbers = [random() for _ in objects]
        for tier in self.tiers(relation, true):
            for place in race(tier.places, counts, numbers.__getitem__):
                yield objects[place]

    def _drawn_of_many(self, relation: str, true: str, random: RandomNumber) -> Iterator[int]:
        """Yield places among the objects, tier by tier: the tiers are not made, each step's classes are drawn from."""
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
        """Return the classes that each of the relation's objects is in or below; equal sets are one."""
        if relation not in self._classes:
            shared: dict[frozenset[str], frozenset[str]] = {}
            sets = (frozenset().union(*self._kinds.ladder(one.id)) for one in self.objects(relation))
            self._classes[relation] = [shared.setdefault(one, one) for one in sets]
        return self._classes[relation]

    def _in_class(self, relation: str, class_id: str | None) -> Weighted | None:
        """Return the relation's objects in a class or below it (None: all objects); None if there are none."""
        key = relation, class_id
        if key not in self._weighted:
            counts = self.counts(relation)
            places = range(len(counts)) if class_id is None else self._places_by_class(relation).get(class_id, ())
            self._weighted[key] = Weighted.of(places, counts) if places else None
        return self._weighted[key]

    def shared_class(self, relation: str, true: str, new: str) -> SharedClass:
        """Return the class that o* shares with the true object closest to it."""
        ladder, classes = self._kinds.ladder(true), frozenset().union(*self._kinds.ladder(new))
        shared = ((steps, step & classes) for steps, step in enumerate(ladder, 1))
        steps, found = next((pair for pair in shared if pair[1]), (None, frozenset[str]()))
        fallback = None
        if not ladder:
            fallback = "class-unknown"
        elif steps is None or steps > 1:
            nearest = self._nearest(relation, true, ladder)
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
        by_class, left = self._places_by_class(relation), set(range(len(self.objects(relation))))
        found: dict[int, set[int]] = {}
        for steps, classes in enumerate(ladder, 1):
            reached = left.intersection(chain.from_iterable(by_class.get(one, ()) for one in classes))
            found.setdefault(min(steps, FAR - 1), set()).update(reached)
            left -= reached
        found[FAR] = left
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
        """Return, for each class, the places in `objects(relation)` of those that are in it or below it."""
        if relation not in self._places:
            found: dict[str, list[int]] = {}
            for place, target in enumerate(self.objects(relation)):
                for class_id in frozenset().union(*self._kinds.ladder(target.id)):
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
                # Where a pool takes a part of them, it is not the first of the alphabet.
                Random(bundled.id).shuffle(others)
                for kind in kinds_in({bundled.id: bundled.name}):
                    found.setdefault(kind, []).extend(others)
            self._of_kind = found
        return self._of_kind


class _Named:
    """Objects, each name once: an object is left out if its label is a name of another that is there."""

    def __init__(self, graph: FactGraph, targets: Iterable[Target], enough: int) -> None:
        self._graph = graph
        self._enough = enough
        self._found: list[Target] = []
        self._names: set[str] = set()
        for target in targets:
            self._put(target)

    def fill(self, targets: Iterable[Target]) -> None:
        """Add targets until there are `enough`."""
        for target in targets:
            if len(self._found) >= self._enough:
                return
            if target.label.casefold() not in self._names:
                self._put(target)

    def _put(self, target: Target) -> None:
        self._found.append(target)
        self._names.add(target.label.casefold())
        self._names.update(name.casefold() for name in self._graph.names(target.id))

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Target]:
        return iter(self._found)
