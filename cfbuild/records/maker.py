"""Records from facts and rules, with or without a model: no folder, no files, the same records in every process.

records, rejected = RecordMaker(snapshot(), seed=0).make(limit=50)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from cfbuild.data import Candidate, Decision, Fact, Record, Reference, Rejection, Target, Verdict, id_number
from cfbuild.errors import ConfigError, DataError
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.context import RuleContext, Rules, TargetFilter
from cfbuild.filter.naming import noise_in
from cfbuild.filter.rules import KEPT, Outcome, judge_draft, judge_fact, judge_target, judge_template
from cfbuild.progress import Progress, silent
from cfbuild.records.builder import Builder, BuildOptions, Draft
from cfbuild.records.factset import FactSet
from cfbuild.records.groups import GROUPS, Known, prompt_groups
from cfbuild.records.kinds import EVERY, KINDS, chosen_kinds
from cfbuild.records.pairs import SubjectPairs
from cfbuild.records.prefixes import Prefixes
from cfbuild.records.turns import Caps, Selection, Turn, turns
from cfbuild.text.languages import LANGUAGES

if TYPE_CHECKING:
    from cfbuild.lm.model import LanguageModel

JUDGED_AT_ONCE = 64
"""Candidates in a portion that a model judges: an interruption loses this many at most."""
BUILT_AT_ONCE = 1024
"""Candidates in a portion without a model."""
FEWEST_AT_ONCE = 8
"""The fewest candidates in a portion, however few records are still wanted."""

Drafted = tuple[int, Fact, Draft | Decision]
"""A fact with its case id, and its draft or the decision of the rule that rejects it."""


class Made(NamedTuple):
    """The records and the rejected facts of a selection, each by case id."""

    records: tuple[Record, ...]
    rejected: tuple[Rejection, ...]


class Finished(Protocol):
    """A fact that an earlier pass has finished; `kept` is True if it became a record."""

    @property
    def case_id(self) -> int: ...

    @property
    def relation(self) -> str: ...

    @property
    def kept(self) -> bool: ...


def check_groups(groups: Iterable[str]) -> None:
    """Raise ConfigError if `groups` holds a name that the table GROUPS does not."""
    unknown = sorted(set(groups) - KINDS.keys() - {EVERY})
    if unknown:
        raise ConfigError(f"there is no prompt group {', '.join(unknown)}; expected some of {', '.join(GROUPS)}")


def check_neighbors(rules: Rules, build: BuildOptions) -> None:
    """Raise ConfigError if records must have more neighborhood prompts than are asked for: all would be rejected."""
    if rules.min_neighbors > build.neighborhood:
        raise ConfigError(
            f"min_neighbors is {rules.min_neighbors} and neighborhood is {build.neighborhood}: no record would have "
            f"enough neighborhood prompts; expected min_neighbors to be at most neighborhood"
        )


class RecordMaker:
    """A maker of records from facts, by all rules. Picklable: another process makes the same records of the same facts.

    facts: a `FactSet`, such as `snapshot()`.
    rules: the options of the rules; a model's thresholds belong to its filter.
    build: how many prompts of each kind a record has, and the seed.
    prefixes: the sentences before paraphrases; None for the bundled ones if the facts are English, else for none.
    groups: the prompt groups beyond CounterFact's, `all` for all KINDS; None for those of GROUPS.
    seed: replaces the seed in `build`, if given.
    Raises ConfigError for an unknown prompt group, and for rules that want more neighborhood prompts than `build`.
    """

    def __init__(
        self,
        facts: FactSet,
        rules: Rules | None = None,
        build: BuildOptions | None = None,
        prefixes: Prefixes | None = None,
        groups: Collection[str] | None = None,
        seed: int | None = None,
    ) -> None:
        self.facts = facts
        self.rules = rules or Rules()
        self.build = build or BuildOptions()
        if seed is not None:
            self.build = dataclasses.replace(self.build, seed=seed)
        check_neighbors(self.rules, self.build)
        check_groups(GROUPS if groups is None else groups)
        self.groups = chosen_kinds(GROUPS if groups is None else groups)
        self.graph = FactGraph(facts.facts, facts.entities, facts.language, facts.today)
        english = self.graph.wording is LANGUAGES["en"]
        self.prefixes = prefixes or (Prefixes.builtin() if english else Prefixes())
        self._pairs: SubjectPairs | None = None
        self._prepare()

    def _prepare(self) -> None:
        """Make the builder, the rules' context, and the material of the prompt groups."""
        graph, seed = self.graph, self.build.seed
        sound = [template for template in self.facts.templates if judge_template(template, graph.wording).kept]
        sentences = self.prefixes.by_relation(self._object_names)
        self._builder = Builder(graph, sound, self.build, sentences, self._serves, self.rules.min_pool)
        rewrites = {relation: tuple(self._builder.templates(relation)) for relation in graph.relations}
        needed = 1 + self.build.paraphrases
        self._context = RuleContext(graph, rewrites, needed, seed, **self.rules.rule_options())
        # A second hop's fact needs no spare templates, and how well known its object is does not matter.
        hops = dataclasses.replace(self._context, min_templates=1, min_sitelinks=None, max_sitelinks=None)
        self._known = Known(graph, self._builder.templates, lambda fact: judge_fact(fact, hops).kept, seed)

    def __reduce__(self) -> tuple[type[RecordMaker], tuple[Any, ...]]:
        return type(self), (self.facts, self.rules, self.build, self.prefixes, self.groups)

    def make(
        self,
        limit: int | None = None,
        per_relation: int | None = None,
        relations: Sequence[str] = (),
        model: TargetFilter | LanguageModel | None = None,
        progress: Progress = silent,
    ) -> Made:
        """Return the records and the rejected facts of a selection (see `Selection`), each by case id.

        limit: the most records in all; None for any number.
        per_relation: the most records of a relation; None for any number.
        relations: the relations to take facts of; all if empty.
        model: a filter that chooses o*; or a language model, used with the default thresholds; or None to keep the
        first o* that is drawn.
        Raises ConfigError for a relation without facts or a number below 1, and DataError for a filter that does not
        return a verdict for each candidate, or chooses an o* that is not among the draws.
        """
        selection = Selection(relations=tuple(relations), limit=limit, per_relation=per_relation)
        making = self.start(selection, model)
        decided: list[Record | Rejection] = []
        for portion in making:
            decided += portion
            progress("facts", making.place, len(making.turns))
        decided.sort(key=lambda decision: decision.case_id)
        return Made(
            tuple(record for record in decided if isinstance(record, Record)),
            tuple(rejection for rejection in decided if isinstance(rejection, Rejection)),
        )

    def start(self, selection: Selection, model: TargetFilter | LanguageModel | None = None) -> Making:
        """Return a pass over the facts of a selection; `model` is as in `make`.

        Raises ConfigError for a relation without facts.
        """
        return Making(self, selection, target_filter(model))

    def draft(self, turn: Turn, ranked: bool) -> Drafted:
        """Return a fact with its draft, or with the decision of the rule that rejects it.

        ranked: True if a model will rank its o*.
        """
        case_id, fact = turn
        decision = judge_fact(fact, self._context)
        if decision.kept:
            most = self.build.max_draws if ranked else 1
            outline = self._builder.outline(fact, self._refusal, self.rules.min_neighbors, most)
            pool = len(self._pool(fact)) if ranked and outline.draws else None
            outcome = Outcome(len(outline.draws), len(outline.neighborhood), outline.refused, pool)
            decision = judge_draft(fact, outcome, self._context)
            if decision.kept:
                return case_id, fact, self._builder.draft(case_id, fact, outline=outline)
        return case_id, fact, decision

    def decide(self, drafted: Sequence[Drafted], model: TargetFilter | None) -> Iterator[Record | Rejection]:
        """Yield the record or the rejection of each drafted fact, in order. Raises DataError as `make` does."""
        verdicts = self._verdicts([draft for _, _, draft in drafted if isinstance(draft, Draft)], model)
        for case_id, fact, draft in drafted:
            if isinstance(draft, Decision):
                yield self._rejection(case_id, fact, draft)
                continue
            verdict = verdicts[case_id]
            if verdict.chosen is None:
                yield self._rejection(case_id, fact, verdict.decision)
                continue
            record = self._builder.record(draft, verdict.chosen)
            scores = {} if model is None else {str(model.signature["model"]): verdict.scores}
            groups = prompt_groups(record, self._known, self.groups, KINDS)
            yield dataclasses.replace(record, groups=groups, scores=scores)

    def references(self, relations: Iterable[str] | None = None) -> Iterator[Reference]:
        """Return an iterator over the facts of `relations` (None for all) as sentences; see `Builder.references`."""
        return self._builder.references(relations)

    def pairs(self, record: Record) -> tuple[tuple[str, str], ...]:
        """Return other subjects of the record's relation with other objects, (subject, object), in a seeded order.

        A causal trace by `swap` puts one in the subject's place; that it has as many tokens, and that the model knows
        its object, is found out there.
        """
        if self._pairs is None:
            self._pairs = SubjectPairs.of_facts(self.graph, self.build.seed)
        return self._pairs.others(record)

    def _verdicts(self, drafts: Sequence[Draft], model: TargetFilter | None) -> dict[int, Verdict]:
        """Return the verdicts of drafts by case id. Candidates are sorted by pool, so that it is prepared once."""
        if model is None:
            return {draft.case_id: Verdict(draft.draws[0], KEPT) for draft in drafts}
        candidates = sorted(map(self._candidate, drafts), key=_by_pool)
        verdicts = model.judge(candidates) if candidates else []
        if len(verdicts) != len(candidates):
            raise DataError(
                f"the model filter gave {len(verdicts)} verdicts; expected {len(candidates)}, one a candidate"
            )
        for candidate, verdict in zip(candidates, verdicts, strict=True):
            if verdict.chosen is not None and verdict.chosen not in candidate.draws:
                raise DataError(
                    f"the model filter chose {verdict.chosen} for case {candidate.case_id}; expected a draw"
                )
        return {candidate.case_id: verdict for candidate, verdict in zip(candidates, verdicts, strict=True)}

    def _candidate(self, draft: Draft) -> Candidate:
        return Candidate(
            case_id=draft.case_id,
            relation=draft.fact.relation,
            rewrite=draft.rewrite,
            target_true=draft.target_true,
            draws=draft.draws,
            pool=self._pool(draft.fact),
            neighborhood=tuple(prompt.text for prompt in draft.neighborhood),
        )

    def _pool(self, fact: Fact) -> tuple[Target, ...]:
        return self._builder.pools.pool(fact.relation, fact.object)

    def _rejection(self, case_id: int, fact: Fact, decision: Decision) -> Rejection:
        return Rejection(case_id, fact, self.graph.label(fact.subject), self.graph.label(fact.object), decision)

    def _object_names(self, relation: str) -> list[str]:
        return [name for item in self.graph.object_counts(relation) for name in self.graph.names(item)]

    def _serves(self, relation: str, item: str) -> bool:
        """Return True if prompts of `relation` about `item` make sense and name it as one would."""
        return self._context.suits(relation, item) and noise_in(item, self._context) is None

    def _refusal(self, fact: Fact, target: Target) -> str | None:
        decision = judge_target(fact, target, self._context)
        return None if decision.kept else decision.rule


class Making:
    """A pass over the facts of a selection: iterating yields the records and rejections of portion after portion.

    turns: the selected facts in their order. place: how many of them had their turn. relations: those selected. To
    continue an interrupted pass, make a new one and call `resume` with the finished facts; the records do not depend
    on the portions.
    """

    def __init__(self, maker: RecordMaker, selection: Selection, model: TargetFilter | None) -> None:
        self.relations = selection.chosen(maker.graph.relations)
        self.turns = turns(maker.graph, selection, maker.build.seed)
        self.place = 0
        self._maker = maker
        self._model = model
        self._caps = Caps(selection)

    def resume(self, finished: Sequence[Finished]) -> None:
        """Continue after the last of the `finished` facts, which are in the order of their turn.

        Raises DataError for a fact that is not in this selection.
        """
        places = {case_id: place for place, (case_id, _) in enumerate(self.turns)}
        unknown = next((fact.case_id for fact in finished if fact.case_id not in places), None)
        if unknown is not None:
            raise DataError(f"case {unknown} is of other facts than these")
        for fact in finished:
            self._caps.count(fact.relation, fact.kept)
        self.place = places[finished[-1].case_id] + 1 if finished else 0

    def __iter__(self) -> Iterator[list[Record | Rejection]]:
        while self.place < len(self.turns) and self._caps.wanted != 0:
            decided = self._maker.decide(self._drafted(), self._model)
            # A portion may hold a few facts whose turn does not come, because a cap is reached within it.
            portion = [decision for decision in decided if self._count(decision)]
            if portion:
                yield portion

    def _count(self, decision: Record | Rejection) -> bool:
        if isinstance(decision, Record):
            return self._caps.count(decision.relation, True)
        return self._caps.count(decision.fact.relation, False)

    def _drafted(self) -> list[Drafted]:
        """Return the next facts, until there are enough drafts among them for a portion."""
        size = BUILT_AT_ONCE if self._model is None else JUDGED_AT_ONCE
        if self._caps.wanted is not None:
            size = min(size, max(FEWEST_AT_ONCE, self._caps.wanted))
        drafted: list[Drafted] = []
        drafts = 0
        while self.place < len(self.turns) and drafts < size:
            turn = self.turns[self.place]
            self.place += 1
            if self._caps.admits(turn[1].relation):
                drafted.append(self._maker.draft(turn, ranked=self._model is not None))
                drafts += isinstance(drafted[-1][2], Draft)
        return drafted


def _by_pool(candidate: Candidate) -> tuple[int, int, int]:
    return id_number(candidate.relation), id_number(candidate.target_true.id), candidate.case_id


def target_filter(model: TargetFilter | LanguageModel | None) -> TargetFilter | None:
    """Return `model` if it is None or a filter, else a filter that uses it with the default thresholds."""
    if model is None or hasattr(model, "judge"):
        return cast("TargetFilter | None", model)
    from cfbuild.filter.rank import RankFilter
    from cfbuild.filter.thresholds import FilterOptions

    return RankFilter(model, FilterOptions())
