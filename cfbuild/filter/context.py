"""The options of rules, the facts that rules read, and the shapes of rules and of model filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from typing import Any, Protocol

from cfbuild.data import Candidate, Decision, Fact, Measured, Target, Template, Verdict
from cfbuild.errors import ConfigError, check_least
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.kinds import HUMAN, PLACES, Kinds
from cfbuild.facts.relations import INSTANCE_OF, PERSONAL
from cfbuild.option import option

USUAL_SHARE = 0.9
"""The least share of a relation's facts that makes a kind of place the usual one; below it the relation mixes kinds."""
REMEMBERED = 100_000
"""The most decisions about pairs of o_c and o* that are kept: 30 MB. Judging a pair again gives the same decision."""
USUAL_FACTS = 20
"""The fewest facts with a place of a known kind as object from which the usual kind is told."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The options of the rules that need no model.

    min_neighbors: the default is CounterFact's number: NS is then over ten prompts of every record, as in the paper. A
    record without neighbors has no NS and no S at all.
    min_pool: of the default 50 the middle object is the 25th likeliest, so an o* of the unlikelier half is far from the
    model's own answer.
    allow_several: the seed draws one of the true objects.
    min_sitelinks, max_sitelinks: None for any number.
    Raises ConfigError for a number below its minimum, and for min_sitelinks above max_sitelinks.
    """

    min_neighbors: int = option(10, "A record needs N neighborhood prompts at least.")
    min_pool: int = option(50, "The pool in which a model ranks o* needs N objects at least.")
    allow_several: bool = option(False, "Keep facts whose subject has other objects too.")
    allow_symmetric: bool = option(False, "Keep relations that hold both ways, such as P47.")
    min_sitelinks: int | None = option(None, "N wikis at least must have a page about the subject.")
    max_sitelinks: int | None = option(None, "N wikis at most may have a page about the subject.")
    no_place_suffix: bool = option(
        False, 'Drop facts with names such as "Ruda, Podlaskie Voivodeship", which end in a place.'
    )

    def __post_init__(self) -> None:
        check_least(self, min_neighbors=0, min_pool=2, min_sitelinks=0, max_sitelinks=0)
        low, high = self.min_sitelinks, self.max_sitelinks
        if low is not None and high is not None and low > high:
            raise ConfigError(
                f"min_sitelinks is {low} and max_sitelinks is {high}: no subject has both; "
                "expected min_sitelinks to be at most max_sitelinks"
            )

    def rule_options(self) -> dict[str, Any]:
        """Return the values of these options by name, without the other fields of a subclass."""
        return {one.name: getattr(self, one.name) for one in fields(Rules)}


@dataclass(frozen=True)
class RuleContext(Rules):
    """The facts that rules read, the rewrite templates by relation, and the options.

    min_templates: the fewest templates of a fact: one for the rewrite and one for each paraphrase.
    seed: draws the object that is kept where several are allowed.
    remembered: the decisions of the target rules that do not read the subject, by relation, object and o*.
    """

    graph: FactGraph
    rewrite_templates: Mapping[str, tuple[Template, ...]]
    min_templates: int = 3
    seed: int = 0
    remembered: dict[tuple[str, str, str], Decision] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _by_object: dict[str, dict[str, list[Fact]]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _usual: dict[str, str | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def suits(self, relation: str, item: str) -> bool:
        """Return True unless prompts of `relation` speak of a person and `item` is known to be something else."""
        classes = self.graph.attributes(item, INSTANCE_OF) if relation in PERSONAL else ()
        return not classes or HUMAN in classes

    def fitting(self, fact: Fact) -> int:
        """Return the number of the relation's rewrite templates that suit the subject and fit before the object."""
        return self._fitting(fact.relation, fact.object, self.graph.subject_kinds(fact.subject))

    @cached_property
    def _fitting(self) -> Callable[[str, str, frozenset[str]], int]:
        @lru_cache(REMEMBERED)
        def fitting(relation: str, value: str, kinds: frozenset[str]) -> int:
            label, clash = self.graph.label(value) or "", self.graph.wording.article_clash
            suitable = [one for one in self.rewrite_templates.get(relation, ()) if one.suits(kinds)]
            return sum(clash(one.text, label) is None for one in suitable)

        return fitting

    def facts_with(self, relation: str, value: str) -> tuple[Fact, ...]:
        """Return the best fact with the object `value` of each subject, even if it is ended or deprecated."""
        if relation not in self._by_object:
            found: dict[str, list[Fact]] = {}
            for fact in self.graph.facts_of(relation):
                found.setdefault(fact.object, []).append(fact)
            self._by_object[relation] = found
        return tuple(self._by_object[relation].get(value, ()))

    def usual_place(self, relation: str) -> str | None:
        """Return the kind of place that nearly all facts of `relation` have as their object, or None."""
        if relation not in self._usual:
            counts: Counter[str] = Counter()
            total = 0
            for item, number in self.graph.object_counts(relation).items():
                places = self.kinds(item) & PLACES.keys()
                total += number if places else 0
                counts.update(dict.fromkeys(places, number))
            kind, most = max(counts.items(), key=lambda pair: (pair[1], pair[0]), default=("", 0))
            self._usual[relation] = kind if total >= USUAL_FACTS and most >= USUAL_SHARE * total else None
        return self._usual[relation]

    def kinds(self, item: str) -> frozenset[str]:
        """Return the kinds of `item` (`Kinds.of`); empty where its classes are not known."""
        return self._kinds.of(item)

    @cached_property
    def _kinds(self) -> Kinds:
        return Kinds(self.graph)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The numbers that draft rules judge: of o* to try, of neighborhood prompts, of refused o* by rule, of the pool.

    pool: the number of objects that a model will rank o* among; None without a model.
    """

    draws: int
    neighbors: int
    refused: Mapping[str, int] = field(default_factory=dict)
    pool: int | None = None


FactRule = Callable[[Fact, RuleContext], "Measured | None"]
TargetRule = Callable[[Fact, Target, RuleContext], "Measured | None"]
DraftRule = Callable[[Fact, Outcome, RuleContext], "Measured | None"]


class FilterRecipe(Protocol):
    """A value that can be sent to another process, which makes a filter of it."""

    def filter(self) -> TargetFilter:
        """Return the filter, with its model loaded."""


class TargetFilter(Protocol):
    """A filter that chooses for each candidate the first o* that is a counterfactual to a model, too."""

    @property
    def signature(self) -> Mapping[str, Any]:
        """Return all that verdicts depend on, as JSON values; `model` is the key of the scores in `meta.scores`."""

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """Return a verdict for each candidate, in order; it must not depend on the other candidates."""
