"""What rules may look at, and the shapes that rules have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cfbuild.data import Fact, Measured, Target
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.kinds import HUMAN, PLACES, kinds_of
from cfbuild.facts.relations import INSTANCE_OF, PERSONAL

USUAL_SHARE = 0.9
"""Share of a relation's facts that makes a kind of place the usual one; less is a relation that mixes kinds."""
USUAL_FACTS = 20


@dataclass(frozen=True)
class RuleContext:
    """What rules may look at: the facts, the rewrite templates' texts by relation, and the options.

    `min_templates` is one for the rewrite and one for each paraphrase. `allow_several` lets a subject with several
    true objects through with one of them, drawn with `seed`; `allow_symmetric` lets relations through that hold both
    ways. `min_sitelinks` and `max_sitelinks` bound how well known a subject is (None: not asked).
    """

    graph: FactGraph
    rewrite_templates: Mapping[str, tuple[str, ...]]
    min_templates: int = 3
    min_neighbors: int = 0
    allow_several: bool = False
    allow_symmetric: bool = False
    min_sitelinks: int | None = None
    max_sitelinks: int | None = None
    seed: int = 0
    remembered: dict[tuple[str, str, str, Target], Measured | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _items_by_label: Counter[str] = field(default_factory=Counter, init=False, repr=False, compare=False)
    _by_object: dict[str, dict[str, list[Fact]]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _usual: dict[str, str | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    _kinds: dict[str, frozenset[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def items_named(self, label: str) -> int:
        """How many items carry this label, letter case ignored."""
        if not self._items_by_label:
            labels = (self.graph.label(item) for item in self.graph.entities)
            self._items_by_label.update(one.casefold() for one in labels if one)
        return self._items_by_label[label.casefold()]

    def suits(self, relation: str, item: str) -> bool:
        """Whether prompts of `relation` make sense about `item`: not if they speak of a person, and it is told to be
        something else."""
        classes = self.graph.attributes(item, INSTANCE_OF) if relation in PERSONAL else ()
        return not classes or HUMAN in classes

    def facts_with(self, relation: str, value: str) -> tuple[Fact, ...]:
        """The best fact of each subject that has `value`, ended and deprecated ones among them."""
        if relation not in self._by_object:
            found: dict[str, list[Fact]] = {}
            for fact in self.graph.facts_of(relation):
                found.setdefault(fact.object, []).append(fact)
            self._by_object[relation] = found
        return tuple(self._by_object[relation].get(value, ()))

    def usual_place(self, relation: str) -> str | None:
        """The kind of place that nearly all facts of `relation` have as their object, or None."""
        if relation not in self._usual:
            counts: Counter[str] = Counter()
            told = 0
            for item, number in self.graph.object_counts(relation).items():
                places = self.kinds(item) & PLACES.keys()
                told += number if places else 0
                counts.update(dict.fromkeys(places, number))
            kind, most = max(counts.items(), key=lambda one: (one[1], one[0]), default=("", 0))
            self._usual[relation] = kind if told >= USUAL_FACTS and most >= USUAL_SHARE * told else None
        return self._usual[relation]

    def kinds(self, item: str) -> frozenset[str]:
        """What `item` is an instance of, coarsely; empty where the facts do not tell."""
        if item not in self._kinds:
            self._kinds[item] = kinds_of(item, self.graph)
        return self._kinds[item]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What building a fact came to: how many o* are left, how many each target rule refused, how many neighbors."""

    draws: int
    neighbors: int
    refused: Mapping[str, int] = field(default_factory=dict)


FactRule = Callable[[Fact, RuleContext], "Measured | None"]
TargetRule = Callable[[Fact, Target, RuleContext], "Measured | None"]
DraftRule = Callable[[Fact, Outcome, RuleContext], "Measured | None"]
