"""Records from facts and rules, with or without a model, without reading or writing files.

records, rejected = RecordMaker(snapshot(), seed=0).make(limit=50)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cfbuild.data import (
    Candidate,
    Decision,
    EntityPrompt,
    Fact,
    Record,
    Reference,
    Rejection,
    Target,
    Verdict,
    id_number,
)
from cfbuild.errors import ConfigError, DataError
from cfbuild.facts.graph import FactGraph, NumberedFact
from cfbuild.filter.changed import judge_change
from cfbuild.filter.context import RuleContext, Rules, TargetFilter
from cfbuild.filter.naming import noise_in
from cfbuild.filter.rules import KEPT, Outcome, judge_draft, judge_fact, judge_target, judge_template
from cfbuild.progress import Progress, silent
from cfbuild.records.builder import Builder, RefuseTarget
from cfbuild.records.draft import BuildOptions, Draft, Outline
from cfbuild.records.fact_lookup import FactLookup
from cfbuild.records.factset import FactSet, StoredFacts
from cfbuild.records.groups import GROUPS, prompt_groups
from cfbuild.records.kinds import EVERY, KINDS, chosen_kinds
from cfbuild.records.making import Drafted, FactChunk, Making, case_ids_of
from cfbuild.records.pairs import SubjectPairs
from cfbuild.records.pools import is_usable
from cfbuild.records.prefixes import Prefixes
from cfbuild.records.turns import Selection
from cfbuild.records.updates import Updates
from cfbuild.text.languages import LANGUAGES

if TYPE_CHECKING:
    from cfbuild.lm.model import LanguageModel


class Made(NamedTuple):
    """The records and the rejected facts of a selection, each by case id."""

    records: tuple[Record, ...]
    rejected: tuple[Rejection, ...]


def check_groups(groups: Iterable[str]) -> None:
    """Raise ConfigError if `groups` has a name that is neither in the table KINDS nor EVERY."""
    unknown = sorted(set(groups) - KINDS.keys() - {EVERY})
    if unknown:
        raise ConfigError(
            f"there is no prompt group {', '.join(unknown)}; expected some of {', '.join(KINDS)}, or {EVERY}"
        )


def check_neighbors(rules: Rules, build: BuildOptions) -> None:
    """Raise ConfigError if the rules want more neighborhood prompts than records get: they would reject all facts."""
    if rules.min_neighbors > build.neighborhood:
        raise ConfigError(
            f"min_neighbors is {rules.min_neighbors} and neighborhood is {build.neighborhood}: no record would have "
            f"enough neighborhood prompts; expected min_neighbors to be at most neighborhood"
        )


class RecordMaker:
    """A maker of records from facts, by all rules. Picklable: every process makes the same records of the same facts.

    facts: a `FactSet`, such as `snapshot()`, or the index of a build's facts on the disk.
    rules: the options of the rules; a model's thresholds belong to its filter.
    build: the number of prompts of each kind in a record, and the seed.
    prefixes: the sentences before paraphrases; None for the bundled ones if the facts are English, else for none.
    groups: names of prompt groups beyond CounterFact's; `all` for all KINDS, None for those of GROUPS.
    seed: replaces the seed in `build`, if given.
    Raises ConfigError for an unknown prompt group, and for rules that want more neighborhood prompts than `build`.
    """

    def __init__(
        self,
        facts: FactSet | StoredFacts,
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
        self.graph: FactGraph = facts.graph()
        english = self.graph.wording is LANGUAGES["en"]
        self.prefixes = prefixes or (Prefixes.builtin() if english else Prefixes())
        self._pairs: SubjectPairs | None = None
        self._relation: str | None = None
        self._updates = Updates(facts.changes, self.graph)
        self._others: tuple[RecordMaker, ...] = ()
        self._prepare()

    def align(self, others: Sequence[RecordMaker]) -> None:
        """Prefer neighbors, attribute entities and o* that makers in other languages can ask about, too.

        others: makers of the same facts, one a language. Records are made where there are none such, too; `same` then
        returns a rejection.
        """
        self._others = tuple(others)

        def preferred(item: str, relation: str, value: str) -> bool:
            return all(one._builder.entity(item, relation, value) is not None for one in self._others)

        self._builder.prefer(preferred)

    def _prepare(self) -> None:
        """Make the builder, the rules' context, and the lookups of the prompt groups."""
        graph, seed = self.graph, self.build.seed
        templates = [template for template in self.facts.templates if judge_template(template, graph.wording).kept]
        sentences = self.prefixes.by_relation(self._object_names)
        self._builder = Builder(graph, templates, self.build, sentences, self._suits, self.rules.min_pool)
        rewrites = {relation: tuple(self._builder.templates(relation)) for relation in graph.relations}
        needed = 1 + self.build.paraphrases
        self._context = RuleContext(graph, rewrites, needed, seed, **self.rules.rule_options())
        # A second hop's fact needs a single template, and its subject may be little known.
        hops = dataclasses.replace(self._context, min_templates=1, min_sitelinks=None, max_sitelinks=None)
        self._lookup = FactLookup(
            graph, self._builder.templates, lambda fact: judge_fact(fact, hops).kept, seed, self._updates.pairs
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self._others, self.facts, self.rules, self.build, self.prefixes, self.groups)

    def make(
        self,
        limit: int | None = None,
        per_relation: int | None = None,
        relations: Sequence[str] = (),
        model: TargetFilter | LanguageModel | None = None,
        progress: Progress = silent,
    ) -> Made:
        """Return the records and the rejected facts of a selection, each by case id.

        limit, per_relation, relations: see `Selection`.
        model: a filter that chooses o*; or a language model, used with the default thresholds; or None to keep the
        first o* that is drawn.
        Raises ConfigError for a relation without facts or a number below 1, and DataError for a filter that does not
        return a verdict for each candidate, or chooses an o* that is not among the draws.
        """
        selection = Selection(relations=tuple(relations), limit=limit, per_relation=per_relation)
        making = self.start(selection, model)
        decided: list[Record | Rejection] = []
        for decisions in making:
            decided += decisions
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

    def draft(self, turn: NumberedFact, ranked: bool) -> Drafted:
        """Return a fact with its draft, or with the decision of the rule that rejects it.

        ranked: True if a model will rank its o*.
        """
        case_id, fact = turn
        if case_id in self._updates.by_case:
            return case_id, fact, self._draft_change(case_id)
        decision = judge_fact(fact, self._context)
        if decision.kept:
            most = self.build.max_draws if ranked else 1
            outline = self._builder.outline(fact, self._refusal_of(fact), self.rules.min_neighbors, most)
            if self._others and not outline.draws:
                outline = self._builder.outline(fact, self._refusal, self.rules.min_neighbors, most)
            pool = len(self._pool(fact)) if ranked and outline.draws else None
            outcome = Outcome(len(outline.draws), len(outline.neighborhood), outline.refused, pool)
            decision = judge_draft(fact, outcome, self._context)
            if decision.kept:
                return case_id, fact, self._builder.draft(case_id, fact, outline=outline)
        return case_id, fact, decision

    def decided(self, chunk: FactChunk, model: TargetFilter | None = None) -> Iterator[Record | Rejection]:
        """Return an iterator over the records and rejections of a chunk, in order. Raises DataError as `make` does.

        They depend neither on the process nor on the chunk that a fact is in.
        """
        self._forget_all_but(chunk.relation)
        drafted = [self.draft(turn, ranked=model is not None) for turn in self.cases(case_ids_of(chunk))]
        return self.decide(drafted or [one for one in chunk.facts if not isinstance(one, int)], model)

    def _forget_all_but(self, relation: str | None) -> None:
        """Clear what is kept of the relation before `relation`, since none comes twice; nothing for None."""
        if relation is not None and relation != self._relation:
            self._builder.forget()
            self.graph.forget()
            self._relation = relation

    @property
    def changed(self) -> list[NumberedFact]:
        """Return the case id and the old fact of each change that records are made of."""
        return [(case_id, self._updates.facts(case_id).old) for case_id in self._updates.by_case]

    def cases(self, case_ids: Sequence[int]) -> list[NumberedFact]:
        """Return each case id with its fact, in order; for a change the old fact."""
        changes = self._updates.by_case
        if not changes:
            return self.graph.cases(case_ids)
        facts = dict(self.graph.cases([one for one in case_ids if one not in changes]))
        return [(one, self._updates.facts(one).old if one in changes else facts[one]) for one in case_ids]

    def _draft_change(self, case_id: int) -> Draft | Decision:
        """Return the draft of a change, or the decision of the rule that rejects it."""
        change = self._updates.facts(case_id)
        decision = judge_change(change, self._context)
        if decision.kept:
            outline = self._builder.outline_change(
                change.old, change.new.object, self._updates.lasts, self.rules.min_neighbors
            )
            decision = judge_draft(change.old, Outcome(1, len(outline.neighborhood)), self._context)
            if decision.kept:
                return self._builder.draft(case_id, change.old, outline=outline)
        return decision

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
            record = self._record(draft, verdict.chosen)
            scores = {} if model is None else {str(model.signature["model"]): verdict.scores}
            groups = prompt_groups(record, self._lookup, self.groups, KINDS)
            yield dataclasses.replace(record, groups=groups, scores=scores)

    def _record(self, draft: Draft, target_new: Target, attributes: Sequence[Target] | None = None) -> Record:
        """Return the record of a draft, without groups and scores; of a real change with `change`."""
        case_id, updates = draft.case_id, self._updates
        if case_id not in updates.by_case:
            return self._builder.record(draft, target_new, None, attributes)
        record = self._builder.record(draft, target_new, updates.lasts, attributes)
        now, change = updates.facts(case_id).new, updates.real_change(case_id)
        return dataclasses.replace(record, source=now.source, change=change)

    def same(self, record: Record, fact: Fact) -> Record | Rejection:
        """Return another maker's record in this maker's language, or the rejection by the rule that it breaks there.

        fact: the record's fact; of a change the old one. The case id, o* and the neighbors are the record's; attribute
        entities are those of the record's that have a name here.
        """
        decision = self._judge_same(record, fact)
        if decision.kept:
            drafted = self._drafted_same(record, fact)
            if isinstance(drafted, Draft):
                items = _entities(record.attribute)
                attributes, _ = self._builder.same_entities(fact, drafted.draws[0].id, items)
                made = self._record(drafted, drafted.draws[0], attributes)
                return dataclasses.replace(made, groups=prompt_groups(made, self._lookup, self.groups, KINDS))
            decision = drafted
        return self._rejection(record.case_id, fact, decision)

    def _judge_same(self, record: Record, fact: Fact) -> Decision:
        """Return the decision of the rules about a fact and the o* that another maker chose for it."""
        if record.case_id in self._updates.by_case:
            return judge_change(self._updates.facts(record.case_id), self._context)
        decision = judge_fact(fact, self._context)
        label = self.graph.label(record.target_new.id)
        if not decision.kept:
            return decision
        if not is_usable(label):
            return Decision(False, "unaligned-target", {"item": record.target_new.id, "label": label})
        return judge_target(fact, Target(record.target_new.id, label), self._context)

    def _drafted_same(self, record: Record, fact: Fact) -> Draft | Decision:
        """Return the draft with another record's neighbors and o*, or the decision that rejects one of them."""
        neighbors, others = self._builder.same_entities(fact, fact.object, _entities(record.neighborhood))
        if others:
            return Decision(False, "unaligned-neighbor", {"item": others[0], "label": self.graph.label(others[0])})
        prompts = self._builder.prompts_about(fact, neighbors, len(record.neighborhood))
        if len(prompts) < len(record.neighborhood):
            return Decision(False, "too-few-neighbors", {"neighbors": len(prompts), "needed": len(record.neighborhood)})
        target = Target(record.target_new.id, self.graph.label(record.target_new.id) or "")
        values = {value for one in neighbors for value in self.graph.values(one.id, fact.relation)}
        if any(not self.graph.folded_names(one).isdisjoint(self.graph.folded_names(target.id)) for one in values):
            return Decision(False, "unaligned-target", {"item": target.id, "label": target.label})
        return self._builder.draft(record.case_id, fact, outline=Outline(prompts, (target,), {}))

    def references(self, relations: Iterable[str] | None = None) -> Iterator[Reference]:
        """Return an iterator over the facts of `relations` (None for all) as sentences; see `Builder.sentences`."""
        return self._builder.references(relations)

    def sentences(self, chunk: FactChunk) -> Iterator[Reference]:
        """Return an iterator over the facts of a chunk, given by case id, as sentences; see `Builder.sentences`."""
        self._forget_all_but(chunk.relation)
        return self._builder.sentences(fact for _, fact in self.graph.cases(case_ids_of(chunk)))

    def pairs(self, record: Record) -> tuple[tuple[str, str], ...]:
        """Return (subject, object) of the record's relation that can take the place of its own, in a seeded order.

        A causal trace by `swap` uses the first whose subject has as many tokens and whose object the model knows.
        """
        if self._pairs is None:
            self._pairs = SubjectPairs.of_facts(self.graph, self.build.seed)
        return self._pairs.others(record)

    def _verdicts(self, drafts: Sequence[Draft], model: TargetFilter | None) -> dict[int, Verdict]:
        """Return the verdicts of drafts by case id; candidates are sorted by pool, so that each is encoded once."""
        if model is None:
            return {draft.case_id: Verdict(draft.draws[0], KEPT) for draft in drafts}
        candidates = sorted(map(self._candidate, drafts), key=_by_pool)
        verdicts = model.judge(candidates) if candidates else []
        if len(verdicts) != len(candidates):
            raise DataError(
                f"the model filter gave {len(verdicts)} verdicts; expected {len(candidates)}, one for each candidate"
            )
        for candidate, verdict in zip(candidates, verdicts, strict=True):
            if verdict.chosen is not None and verdict.chosen not in candidate.draws:
                raise DataError(
                    f"the model filter chose {verdict.chosen} for case {candidate.case_id}; expected one of its draws"
                )
        return {candidate.case_id: verdict for candidate, verdict in zip(candidates, verdicts, strict=True)}

    def _candidate(self, draft: Draft) -> Candidate:
        pool, is_change = self._pool(draft.fact), draft.case_id in self._updates.by_case
        if is_change:
            # The old object may be no subject's any longer, and the new one may be of another kind.
            ids = {target.id for target in pool}
            pool += tuple(one for one in (draft.target_true, *draft.draws) if one.id not in ids)
        return Candidate(
            case_id=draft.case_id,
            relation=draft.fact.relation,
            rewrite=draft.rewrite,
            target_true=draft.target_true,
            draws=draft.draws,
            pool=pool,
            neighborhood=tuple(prompt.text for prompt in draft.neighborhood),
            is_change=is_change,
        )

    def _pool(self, fact: Fact) -> tuple[Target, ...]:
        return self._builder.pools.pool(fact.relation, fact.object)

    def _rejection(self, case_id: int, fact: Fact, decision: Decision) -> Rejection:
        return Rejection(case_id, fact, self.graph.label(fact.subject), self.graph.label(fact.object), decision)

    def _object_names(self, relation: str) -> list[str]:
        return [name for item in self.graph.object_counts(relation) for name in self.graph.names(item)]

    def _suits(self, relation: str, item: str) -> bool:
        """Return True if prompts of `relation` about `item` make sense and its label is a plain name."""
        return self._context.suits(relation, item) and noise_in(item, self._context) is None

    def _refusal_of(self, fact: Fact) -> RefuseTarget:
        """Return the function that refuses an o* of `fact` by this maker's rules and by those of the others.

        The others are those in whose languages the fact itself is kept.
        """
        others = [one for one in self._others if judge_fact(fact, one._context).kept]

        def refusal(fact: Fact, target: Target) -> str | None:
            rule = self._refusal(fact, target)
            if rule is None and any(one._refuses(fact, target.id) for one in others):
                return "unaligned-target"
            return rule

        return refusal if others else self._refusal

    def _refuses(self, fact: Fact, item: str) -> bool:
        """Return True if an item has no name in this maker's language, or the rules refuse it as o*."""
        label = self.graph.label(item)
        return not is_usable(label) or self._refusal(fact, Target(item, label)) is not None

    def _refusal(self, fact: Fact, target: Target) -> str | None:
        decision = judge_target(fact, target, self._context)
        return None if decision.kept else decision.rule


def _remade(others: tuple[RecordMaker, ...], *arguments: Any) -> RecordMaker:
    """Return an unpickled maker, aligned as it was."""
    maker = RecordMaker(*arguments)
    if others:
        maker.align(others)
    return maker


def _entities(prompts: Iterable[EntityPrompt]) -> list[str]:
    """Return the ids of the entities that prompts are about, each once, in their order."""
    return list(dict.fromkeys(prompt.entity for prompt in prompts))


def _by_pool(candidate: Candidate) -> tuple[int, int, int]:
    return id_number(candidate.relation), id_number(candidate.target_true.id), candidate.case_id


def target_filter(model: TargetFilter | LanguageModel | None) -> TargetFilter | None:
    """Return `model` if it is None or a filter, else a filter that uses it with the default thresholds."""
    if model is None or hasattr(model, "judge"):
        return cast("TargetFilter | None", model)
    from cfbuild.filter.rank import RankFilter
    from cfbuild.filter.thresholds import FilterOptions

    return RankFilter(model, FilterOptions())
