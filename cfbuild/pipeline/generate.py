"""`cfbuild generate`: facts and templates to records, by way of the rules and, if there is one, the model filter."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from random import Random
from typing import Any, Protocol

from cfbuild import __version__
from cfbuild.data import Candidate, Decision, Fact, Record, Rejection, Target, Verdict, id_number
from cfbuild.errors import ConfigError, DataError
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.rules import KEPT, Outcome, RuleContext, judge_draft, judge_fact, judge_target, judge_template
from cfbuild.progress import Progress, silent
from cfbuild.records.builder import Builder, BuildOptions, Draft, cases
from cfbuild.records.groups import GROUPS, Known, prompt_groups
from cfbuild.records.prefixes import BUILTIN, Prefixes, Sampler
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.rowlog import Entry, RowLog
from cfbuild.store.schema import conforming

VERB = "generate"
INPUTS = ("facts.jsonl", "entities.jsonl", "templates.jsonl")

JUDGED_AT_ONCE = 64
"""Candidates in a chunk where a model judges them: what an interruption loses, at most."""

BUILT_AT_ONCE = 1024
"""Candidates in a chunk where none does."""

FEWEST_AT_ONCE = 8
"""Candidates in a chunk when nearly as many records are kept as were asked for."""


class TargetFilter(Protocol):
    """Chooses, for each candidate, the first o* that a model does not believe already."""

    @property
    def signature(self) -> Mapping[str, Any]:
        """Everything that verdicts depend on, as JSON values; `model` names the scores in a record's meta."""
        ...

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """One verdict a candidate, in order; a candidate's verdict does not depend on the others."""
        ...


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """What `cfbuild generate` can be told. Raises ConfigError for a number below its minimum.

    `limit` stops after so many records, taken from the relations in turn; `per_relation` after so many of a relation.
    Facts whose turn does not come are not counted. `prefixes` is where the sentences before paraphrases come from:
    `builtin`, `references`, `model`, `none`, or a text file. `groups` are the prompt groups beyond CounterFact's.
    `restart` gives up what was done before.
    """

    build: BuildOptions = field(default_factory=BuildOptions)
    relations: tuple[str, ...] = ()
    language: str = "en"
    limit: int | None = None
    per_relation: int | None = None
    min_neighbors: int = 0
    allow_several: bool = False
    allow_symmetric: bool = False
    min_sitelinks: int | None = None
    max_sitelinks: int | None = None
    prefixes: str = BUILTIN
    groups: tuple[str, ...] = tuple(GROUPS)
    restart: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("limit", 1),
            ("per_relation", 1),
            ("min_neighbors", 0),
            ("min_sitelinks", 0),
            ("max_sitelinks", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} is {value}; expected at least {least}")
        unknown = sorted(set(self.groups) - GROUPS.keys())
        if unknown:
            raise ConfigError(f"there is no prompt group {', '.join(unknown)}; expected some of {', '.join(GROUPS)}")


@dataclass(frozen=True, slots=True)
class GenerateSummary:
    """What generating came to: `facts` = `kept` + `rejected`; rejects by rule; all three by relation."""

    facts: int
    kept: int
    rejected: int
    filtered: bool
    by_rule: Mapping[str, int]
    by_relation: Mapping[str, Mapping[str, int]]


def generate(
    folder: BuildFolder,
    options: GenerateOptions,
    model_filter: TargetFilter | None = None,
    progress: Progress = silent,
    sampler: Sampler | None = None,
) -> GenerateSummary:
    """Make records.jsonl, rejected.jsonl and references.jsonl of the build's facts, entities and templates.

    Without a model filter the first o* drawn is taken, and the manifest says `filtered: false`. `sampler` writes the
    texts of prefixes from a model. An interrupted run
    goes on after its last finished chunk; the bytes do not depend on it. A finished run with the same settings is not
    repeated. Raises BuildStateError if an input is missing or the folder holds work made with other settings,
    ConfigError for a relation without facts, DataError for broken input or a filter that breaks its promises.
    """
    with folder.lock(VERB):
        prefixes = Prefixes(folder, options.prefixes, options.language, options.build.seed, sampler)
        config = _config(folder, options, prefixes, model_filter)
        if not folder.begin(VERB, config, restart=options.restart):
            folder.discard(VERB)  # a run may have been killed between its last two steps
            return _summary(folder.manifest()["verbs"][VERB])
        bench = _Bench(folder, options, prefixes)
        log = RowLog(folder.progress(VERB) / "rows.jsonl")
        _work_off(bench, log, options, model_filter, progress)
        entries = _Caps(options).select(log.entries)
        files = _write(folder, bench, log, entries)
        counts = _counts(bench, entries, files, model_filter is not None)
        folder.finish(VERB, config, files, counts)
        folder.discard(VERB)
        return _summary(counts)


def _config(
    folder: BuildFolder, options: GenerateOptions, prefixes: Prefixes, model_filter: TargetFilter | None
) -> dict[str, Any]:
    """Everything that the output's bytes depend on, as it comes back from JSON."""
    config = dataclasses.asdict(options)
    del config["restart"]
    config["cfbuild"] = __version__
    config["inputs"] = folder.digests(INPUTS)
    config["prefixes"] = prefixes.config
    config["model_filter"] = None if model_filter is None else dict(model_filter.signature)
    plain: dict[str, Any] = json.loads(json.dumps(config, allow_nan=False))
    return plain


class _Bench:
    """What the facts are worked on with: the graph, the builder, the rules' context, and the facts in their turn."""

    def __init__(self, folder: BuildFolder, options: GenerateOptions, prefixes: Prefixes) -> None:
        facts, entities, templates = (folder.require(name) for name in INPUTS)
        self.graph = FactGraph(
            jsonl.read_values(facts, conforming("facts", codec.decode_fact)),
            jsonl.read_values(entities, conforming("entities", codec.decode_entity)),
            options.language,
        )
        self.relations = _relations(self.graph, options.relations)
        prompts = jsonl.read_values(templates, conforming("templates", codec.decode_template))
        sound = (one for one in prompts if judge_template(one, self.graph.wording).kept)
        sentences = prefixes.of(folder.progress(VERB), self._object_names)
        self.builder = Builder(self.graph, sound, options.build, sentences, self._suits)

        def texts(relation: str) -> tuple[str, ...]:
            return tuple(one.text for one in self.builder.templates(relation))

        self.context = RuleContext(
            self.graph,
            {relation: texts(relation) for relation in self.relations},
            min_templates=1 + options.build.paraphrases,
            min_neighbors=options.min_neighbors,
            allow_several=options.allow_several,
            allow_symmetric=options.allow_symmetric,
            min_sitelinks=options.min_sitelinks,
            max_sitelinks=options.max_sitelinks,
            seed=options.build.seed,
        )
        self.turns = _turns(self.graph, self.relations, options)
        self._groups = options.groups
        # Facts of a second hop need no rewrite of their own, and how well known o* is was not asked.
        hops = dataclasses.replace(
            self.context,
            rewrite_templates={one: texts(one) for one in self.graph.relations},
            min_templates=1,
            min_sitelinks=None,
            max_sitelinks=None,
        )
        self._known = Known(
            self.graph, self.builder.templates, lambda fact: judge_fact(fact, hops).kept, options.build.seed
        )

    def prepare(self, case_id: int, fact: Fact) -> Draft | Decision:
        """A draft of the fact, or the decision of the rule that rejects it."""
        decision = judge_fact(fact, self.context)
        if not decision.kept:
            return decision
        draft = self.builder.draft(case_id, fact, self._refusal)
        decision = judge_draft(fact, Outcome(len(draft.draws), len(draft.neighborhood), draft.refused), self.context)
        return draft if decision.kept else decision

    def candidate(self, draft: Draft) -> Candidate:
        """What the model filter is asked about a draft."""
        return Candidate(
            case_id=draft.case_id,
            relation=draft.fact.relation,
            rewrite=draft.rewrite,
            target_true=draft.target_true,
            draws=draft.draws,
            pool=self.builder.pool(draft.fact.relation),
            neighborhood=tuple(prompt.text for prompt in draft.neighborhood),
        )

    def record(self, draft: Draft, target_new: Target) -> Record:
        """The draft with its o*, and the prompt groups that were asked for."""
        record = self.builder.record(draft, target_new)
        return dataclasses.replace(record, groups=prompt_groups(record, self._known, self._groups))

    def rejected(self, case_id: int, fact: Fact, decision: Decision) -> jsonl.Row:
        """The row of a reject."""
        names = self.graph.label(fact.subject), self.graph.label(fact.object)
        return codec.encode_rejection(Rejection(case_id, fact, *names, decision))

    def _object_names(self, relation: str) -> list[str]:
        return [name for one in self.graph.object_counts(relation) for name in self.graph.names(one)]

    def _suits(self, relation: str, item: str) -> bool:
        return self.context.suits(relation, item)

    def _refusal(self, fact: Fact, target: Target) -> str | None:
        decision = judge_target(fact, target, self.context)
        return None if decision.kept else decision.rule


def _relations(graph: FactGraph, wanted: Sequence[str]) -> tuple[str, ...]:
    unknown = sorted(set(wanted) - set(graph.relations))
    if unknown:
        raise ConfigError(
            f"the build has no facts of {', '.join(unknown)}; it has {', '.join(graph.relations) or 'none at all'}"
        )
    return tuple(relation for relation in graph.relations if not wanted or relation in wanted)


def _turns(graph: FactGraph, relations: Sequence[str], options: GenerateOptions) -> list[tuple[int, Fact]]:
    """The facts in the order of their turn: the graph's; under a cap, a seeded one in each relation; under a limit, one
    relation after the other gives one fact."""
    by_relation: dict[str, list[tuple[int, Fact]]] = {relation: [] for relation in relations}
    for case_id, fact in cases(graph):
        if fact.relation in by_relation:
            by_relation[fact.relation].append((case_id, fact))
    if options.limit is not None or options.per_relation is not None:
        for relation, facts in by_relation.items():
            Random(f"{options.build.seed}:{relation}:turns").shuffle(facts)
    if options.limit is None:
        return [turn for facts in by_relation.values() for turn in facts]
    return [turn for turns in zip_longest(*by_relation.values()) for turn in turns if turn is not None]


class _Caps:
    """How many records are still wanted, in all and of each relation."""

    def __init__(self, options: GenerateOptions) -> None:
        self._limit = options.limit
        self._per_relation = options.per_relation
        self._kept: Counter[str] = Counter()

    def admits(self, relation: str) -> bool:
        """Whether the next fact of `relation` gets its turn."""
        return self.wanted != 0 and (self._per_relation is None or self._kept[relation] < self._per_relation)

    @property
    def wanted(self) -> int | None:
        """How many more records are wanted in all; None for any number."""
        return None if self._limit is None else self._limit - self._kept.total()

    def select(self, entries: Sequence[Entry]) -> list[Entry]:
        """Count the rows whose facts got their turn, and return them: a chunk may have worked on a few more."""
        selected = []
        for entry in entries:
            if self.admits(entry.relation):
                self._kept[entry.relation] += entry.kept
                selected.append(entry)
        return selected


def _work_off(
    bench: _Bench, log: RowLog, options: GenerateOptions, model_filter: TargetFilter | None, progress: Progress
) -> None:
    """Work on the facts in their turn, chunk by chunk, until there are no more or enough are kept."""
    places = {case_id: place for place, (case_id, _) in enumerate(bench.turns)}
    if not all(entry.case_id in places for entry in log.entries):
        raise DataError(f"{log.path}: holds rows of other facts than this build's; use --restart to start over")
    place = places[log.entries[-1].case_id] + 1 if log.entries else 0
    caps = _Caps(options)
    caps.select(log.entries)
    while place < len(bench.turns) and caps.wanted != 0:
        place, chunk = _chunk(bench, place, caps, BUILT_AT_ONCE if model_filter is None else JUDGED_AT_ONCE)
        before = len(log.entries)
        log.append(_judge(bench, chunk, model_filter))
        caps.select(log.entries[before:])
        progress("facts", place, len(bench.turns))


def _chunk(bench: _Bench, place: int, caps: _Caps, size: int) -> tuple[int, list[tuple[int, Fact, Draft | Decision]]]:
    """The next facts, from `place` on, until `size` of them need a verdict; and the place after them."""
    if caps.wanted is not None:
        size = min(size, max(FEWEST_AT_ONCE, caps.wanted))
    chunk: list[tuple[int, Fact, Draft | Decision]] = []
    drafts = 0
    while place < len(bench.turns) and drafts < size:
        case_id, fact = bench.turns[place]
        place += 1
        if caps.admits(fact.relation):
            prepared = bench.prepare(case_id, fact)
            chunk.append((case_id, fact, prepared))
            drafts += isinstance(prepared, Draft)
    return place, chunk


def _judge(
    bench: _Bench, chunk: Sequence[tuple[int, Fact, Draft | Decision]], model_filter: TargetFilter | None
) -> Iterator[jsonl.Row]:
    """The rows of a chunk, in its order."""
    drafts = [prepared for _, _, prepared in chunk if isinstance(prepared, Draft)]
    verdicts = _verdicts(bench, drafts, model_filter)
    for case_id, fact, prepared in chunk:
        if isinstance(prepared, Decision):
            yield bench.rejected(case_id, fact, prepared)
            continue
        verdict = verdicts[case_id]
        if verdict.chosen is None:
            yield bench.rejected(case_id, fact, verdict.decision)
            continue
        record = bench.record(prepared, verdict.chosen)
        scores = {} if model_filter is None else {str(model_filter.signature["model"]): verdict.scores}
        yield codec.encode_record(dataclasses.replace(record, scores=scores))


def _verdicts(bench: _Bench, drafts: Sequence[Draft], model_filter: TargetFilter | None) -> dict[int, Verdict]:
    """A verdict for each draft by case id; candidates go to the filter sorted by relation, whose pool they share."""
    if model_filter is None:
        return {draft.case_id: Verdict(draft.draws[0], KEPT) for draft in drafts}
    candidates = sorted(map(bench.candidate, drafts), key=lambda one: (id_number(one.relation), one.case_id))
    verdicts = model_filter.judge(candidates) if candidates else []
    if len(verdicts) != len(candidates):
        raise DataError(f"the model filter gave {len(verdicts)} verdicts; expected {len(candidates)}, one a candidate")
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        if verdict.chosen is not None and verdict.chosen not in candidate.draws:
            raise DataError(f"the model filter chose {verdict.chosen} for case {candidate.case_id}; expected a draw")
    return {candidate.case_id: verdict for candidate, verdict in zip(candidates, verdicts, strict=True)}


def _write(folder: BuildFolder, bench: _Bench, log: RowLog, entries: Sequence[Entry]) -> dict[str, int]:
    """Put the output files in place, rows by case id; return how many rows each has."""
    ordered = sorted(entries, key=lambda entry: entry.case_id)
    files = {
        "records.jsonl": jsonl.write_jsonl(
            folder.path("records.jsonl"), log.rows(entry for entry in ordered if entry.kept)
        ),
        "rejected.jsonl": jsonl.write_jsonl(
            folder.path("rejected.jsonl"), log.rows(entry for entry in ordered if not entry.kept)
        ),
    }
    # Texts that fetch got from Wikipedia are better than sentences made of facts.
    fetched = folder.manifest()["verbs"].get("fetch", {}).get("files", {})
    if "references.jsonl" not in fetched:
        sentences = map(codec.encode_reference, bench.builder.references(bench.relations))
        files["references.jsonl"] = jsonl.write_jsonl(folder.path("references.jsonl"), sentences)
    return files


def _counts(bench: _Bench, entries: Sequence[Entry], files: Mapping[str, int], filtered: bool) -> dict[str, Any]:
    """What the manifest says was counted. Raises DataError unless every fact became a record or a reject."""
    facts = Counter(entry.relation for entry in entries)
    kept = Counter(entry.relation for entry in entries if entry.kept)
    written = files["records.jsonl"] + files["rejected.jsonl"]
    if written != len(entries) or len({entry.case_id for entry in entries}) != len(entries):
        raise DataError(f"{len(entries)} facts went in, {written} rows came out; run again with --restart")
    return {
        "filtered": filtered,
        "facts": len(entries),
        "kept": files["records.jsonl"],
        "rejected": files["rejected.jsonl"],
        "by_rule": dict(sorted(Counter(entry.rule for entry in entries if entry.rule is not None).items())),
        "by_relation": {
            relation: {
                "facts": facts[relation],
                "kept": kept[relation],
                "rejected": facts[relation] - kept[relation],
            }
            for relation in bench.relations
        },
    }


def _summary(entry: Mapping[str, Any]) -> GenerateSummary:
    names = [one.name for one in dataclasses.fields(GenerateSummary)]
    if not entry.keys() >= set(names):
        raise DataError(f"the manifest does not say what `cfbuild {VERB}` counted; use --restart to do it again")
    return GenerateSummary(**{name: entry[name] for name in names})
