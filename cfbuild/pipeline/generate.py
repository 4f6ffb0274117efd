"""`cfbuild generate`: the records of a build, made of its facts and templates; an interrupted run goes on."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cfbuild import __version__
from cfbuild.data import Record, Rejection, id_number
from cfbuild.errors import ConfigError, DataError
from cfbuild.filter.context import FilterRecipe, Rules, TargetFilter
from cfbuild.option import COMMA_SEPARATED, COMMA_SEPARATED_OR_NONE, DAY, WORD, option, restart_option
from cfbuild.pipeline.prefix_source import PrefixSource
from cfbuild.progress import Progress, silent
from cfbuild.records.aligned import AlignedCounts, check_languages, file_in, in_language
from cfbuild.records.draft import BuildOptions
from cfbuild.records.factset import FILES, StoredFacts, index_facts
from cfbuild.records.groups import GROUPS
from cfbuild.records.kinds import EVERY, KINDS
from cfbuild.records.maker import RecordMaker, check_groups, check_neighbors
from cfbuild.records.making import FactChunk, Making
from cfbuild.records.prefixes import BUILTIN, MODEL, NONE, REFERENCES, Prefixes, Sampler
from cfbuild.records.spread import RowFigures, Spread, row_figures
from cfbuild.records.turns import Selection
from cfbuild.store import codec, jsonl
from cfbuild.store.files import sha256_file
from cfbuild.store.folder import BuildFolder
from cfbuild.store.rowlog import Entries, LogLine, RowLog, line_of
from cfbuild.templates.builtin import languages
from cfbuild.text.languages import LANGUAGES
from cfbuild.text.languages import language as wording_of
from cfbuild.work import ModelWorkerOptions, WorkerOptions, map_chunks
from cfbuild.work.collector import collector_paused

VERB = "generate"
INDEX = "facts.{language}.sqlite"
"""The file of facts in a language, indexed, in the verb's folder of unfinished work."""
OTHER_LANGUAGE = re.compile(r"(?:records|rejected)\.[a-z-]+\.jsonl")
"""The files of all languages but the first, as `file_in` names them: records.fr.jsonl."""


def _kinds(text: str) -> tuple[str, ...]:
    """Return the kinds of questions that a text names; `all` names all of them."""
    names: tuple[str, ...] = COMMA_SEPARATED_OR_NONE.read(text)
    return tuple(KINDS) if EVERY in names else names


GROUP_NAMES = dataclasses.replace(COMMA_SEPARATED_OR_NONE, read=_kinds).naming(*KINDS, EVERY, "none")
"""The form of a list of kinds of questions."""


@dataclass(frozen=True)
class GenerateOptions(Rules, Selection, ModelWorkerOptions):
    """Options of `cfbuild generate`: facts to take, rules to apply, workers (which change no byte), and its own.

    build: the numbers of prompts of each kind in a record, and the seed.
    Raises ConfigError for a number below its minimum, an unknown kind of question, or numbers that no record can have
    together.
    """

    build: BuildOptions = field(default_factory=BuildOptions)
    language: str = option("en", "The language of the labels, such as en.", form=WORD.naming_all(languages))
    languages: tuple[str, ...] = option(
        (),
        "Comma-separated languages in which to ask the same; o* and neighbors are chosen in the first. "
        "[default: --language]",
        form=COMMA_SEPARATED.naming_all(languages),
    )
    today: str | None = option(
        None, "The day on which facts must hold, such as 2026-11-26. [default: that of the fetch]", form=DAY
    )
    prefixes: str = option(
        BUILTIN,
        "Where the sentences before paraphrases come from: builtin, references (of fetch --references), model, none, "
        "or a text file.",
        form=WORD.naming(BUILTIN, REFERENCES, MODEL, NONE),
    )
    groups: tuple[str, ...] = option(
        tuple(GROUPS),
        f"Comma-separated kinds of questions to add to CounterFact's, or none, or all: {', '.join(KINDS)}. "
        f"[default: {', '.join(GROUPS)}]",
        form=GROUP_NAMES,
    )
    updates: Path | None = option(
        None,
        "The file of changes that `cfbuild diff` wrote: also make records of the changes, whose o* is the new object.",
    )
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        Selection.__post_init__(self)
        Rules.__post_init__(self)
        if self.languages:
            check_languages(self.languages)
            if self.language not in ("en", self.lead):
                raise ConfigError(f"language {self.language} is not the first of languages {','.join(self.languages)}")
        if self.today is not None:
            DAY.read(self.today)
        if self.updates is not None and not self.updates.is_file():
            raise ConfigError(f"{self.updates} is no file; expected the changes that `cfbuild diff` wrote")
        if self.only_updates and self.updates is None:
            raise ConfigError("--only-updates makes records of changes alone; name their file by --updates")
        check_neighbors(self, self.build)
        check_groups(self.groups)
        self.check_workers()

    @property
    def lead(self) -> str:
        """Return the language of records.jsonl."""
        return self.languages[0] if self.languages else self.language


class MadeRows(NamedTuple):
    """The rows of a chunk of facts, as lines of the log with the figures to count; `place` is the chunk's."""

    place: int
    rows: list[tuple[LogLine, RowFigures]]


@dataclass(frozen=True)
class MakeRows:
    """The job that makes the rows of a chunk of facts.

    model: the filter in this process; None for none.
    recipe: how another process makes its own filter.
    """

    maker: RecordMaker
    model: TargetFilter | None = None
    recipe: FilterRecipe | None = None

    def open(self) -> Callable[[FactChunk], MadeRows]:
        """Return the function that makes a chunk's rows."""
        model = self.recipe.filter() if self.recipe else self.model

        def make(chunk: FactChunk) -> MadeRows:
            with collector_paused(model is None):
                rows = map(_row, self.maker.decided(chunk, model))
                return MadeRows(chunk.place, [(line_of(row), row_figures(row)) for row in rows])

        return make


@dataclass(frozen=True)
class StateFacts:
    """The job that states the facts of a chunk as sentences, which are reference texts."""

    maker: RecordMaker

    def open(self) -> Callable[[FactChunk], list[str]]:
        """Return the function that makes a chunk's lines of references.jsonl."""

        def state(chunk: FactChunk) -> list[str]:
            with collector_paused():
                return [jsonl.dump_row(codec.encode_reference(one)) + "\n" for one in self.maker.sentences(chunk)]

        return state


@dataclass(frozen=True, slots=True)
class GenerateSummary:
    """The counts of records: `facts` = `kept` + `rejected`; rejects by rule; all three by relation.

    filtered: True if a model filter chose o*.
    neighbors, pools, shared_class, changes: as `Spread.as_dict` has them; no `changes` if no record is about one.
    languages: as `AlignedCounts.as_dict` has them; None for a single language.
    """

    facts: int
    kept: int
    rejected: int
    filtered: bool
    by_rule: Mapping[str, int]
    by_relation: Mapping[str, Mapping[str, int]]
    neighbors: Mapping[str, Mapping[str, int]]
    pools: Mapping[str, Any] | None
    shared_class: Mapping[str, Any]
    changes: Mapping[str, Any] | None = None
    languages: Mapping[str, Any] | None = None


def generate(
    folder: BuildFolder,
    options: GenerateOptions,
    model_filter: TargetFilter | None = None,
    progress: Progress = silent,
    sampler: Sampler | None = None,
) -> GenerateSummary:
    """Make records.jsonl, rejected.jsonl and references.jsonl of the build's facts; return their counts.

    model_filter: chooses o*; None takes the first o* drawn, and the manifest says `filtered: false`.
    sampler: writes the texts that prefixes are cut from, for the source `model`.
    Raises BuildStateError if an input is missing or the folder holds work made with other settings, ConfigError for a
    relation without facts or a source of prefixes that cannot be used, DataError for broken input or a filter whose
    verdicts do not fit its candidates.
    """
    with folder.lock(VERB):
        source = PrefixSource(folder, options.prefixes, options.lead, options.build.seed, sampler)
        config = _config(folder, options, source, model_filter)
        earlier = folder.manifest().entry(VERB).files
        if not folder.begin(VERB, config, restart=options.restart):
            return _summary(folder.manifest().entry(VERB).counted)
        maker = _maker(folder, options, source)
        others = _others(folder, options, maker)
        making = maker.start(options, model_filter)
        log = RowLog(folder.progress(VERB) / "rows.jsonl")
        spread = _resumed(making, log)
        job = MakeRows(maker, model_filter) if options.is_alone else MakeRows(maker, None, _recipe(model_filter))
        for made in map_chunks(job, making.chunks(), options):
            _take_in(made, making, log, spread)
            progress("facts", made.place, len(making.turns))
        without_model = WorkerOptions(workers=options.workers, ray=options.ray)
        files = {**_write(folder, log), **_write_references(folder, making, maker, without_model)}
        counts = _counts(making.relations, log.entries, files, model_filter is not None) | spread.as_dict()
        if others:
            written, counts["languages"] = _write_others(folder, options, others, maker, progress)
            files |= written
        folder.finish(VERB, config, files, counts)
        for name in filter(OTHER_LANGUAGE.fullmatch, earlier.keys() - files.keys()):
            folder.path(name).unlink(missing_ok=True)  # of a language that there is no longer
        return _summary(counts)


def _config(
    folder: BuildFolder, options: GenerateOptions, source: PrefixSource, model_filter: TargetFilter | None
) -> dict[str, Any]:
    """Return everything that the output's bytes depend on, in the types that JSON gives back."""
    config = dataclasses.asdict(options)
    for name in ("restart", *(one.name for one in dataclasses.fields(ModelWorkerOptions))):
        del config[name]
    config["cfbuild"] = __version__
    config["inputs"] = folder.digests(FILES)
    fetched = folder.manifest().entry("fetch").config
    # Only statements have dates; without them the day changes no byte.
    config["day"] = options.today or (folder.manifest().today if fetched.get("statements") else None)
    config["language"] = options.lead
    if not options.languages:
        del config["languages"]
    config["prefixes"] = source.config
    # A file's folder is this machine's; the digest identifies the content.
    config["updates"] = f"{options.updates.name}@{sha256_file(options.updates)[:16]}" if options.updates else None
    if not options.only_updates:
        del config["only_updates"]
    config["model_filter"] = None if model_filter is None else dict(model_filter.signature)
    plain: dict[str, Any] = json.loads(json.dumps(config, allow_nan=False))
    return plain


def _maker(folder: BuildFolder, options: GenerateOptions, source: PrefixSource) -> RecordMaker:
    """Return the maker of the build's records.

    Raises ConfigError for a relation without facts, before the sentences are cut, and as `PrefixSource.prefixes`.
    """
    facts = _indexed(folder, options, options.lead)
    options.chosen(facts.relations)
    _check_changes(facts, options)
    if options.languages:
        facts = in_language(facts, options.lead, _fetched(folder, options))
    prefixes = source.prefixes(folder.progress(VERB))
    return RecordMaker(facts, Rules(**options.rule_options()), options.build, prefixes, options.groups)


def _indexed(folder: BuildFolder, options: GenerateOptions, language: str) -> StoredFacts:
    """Return the build's facts and changes with labels in a language, indexed on the disk."""
    index = folder.progress(VERB) / INDEX.format(language=language)
    return index_facts(folder, index, language, options.today, options.updates)


def _fetched(folder: BuildFolder, options: GenerateOptions) -> str:
    """Return the language of the build's templates: the fetch's, or the first of the options if it is not known."""
    return str(folder.manifest().entry("fetch").config.get("language") or options.lead)


def _others(folder: BuildFolder, options: GenerateOptions, lead: RecordMaker) -> dict[str, RecordMaker]:
    """Return the makers of all languages but the first, by language, after aligning `lead` with them.

    Raises ConfigError for a language without templates.
    """
    makers = {}
    # Only English has bundled sentences; those of any other source are in the first language.
    english = Prefixes.builtin() if options.prefixes == BUILTIN else Prefixes()
    for code in options.languages[1:]:
        facts = in_language(_indexed(folder, options, code), code, _fetched(folder, options))
        prefixes = english if wording_of(code) is LANGUAGES["en"] else Prefixes()
        makers[code] = RecordMaker(facts, lead.rules, lead.build, prefixes, lead.groups)
    if makers:
        lead.align(list(makers.values()))
    return makers


def _write_others(
    folder: BuildFolder,
    options: GenerateOptions,
    others: Mapping[str, RecordMaker],
    lead: RecordMaker,
    progress: Progress,
) -> tuple[dict[str, int], Mapping[str, Any]]:
    """Write the records and rejects of the other languages; return the number of rows by file, and their counts."""
    aligned, files = AlignedCounts(options.lead), {}
    records = folder.path("records.jsonl")
    kept = sum(1 for _ in jsonl.read_rows(records))
    for code, maker in others.items():
        read = (codec.decode_record(row) for _, row in jsonl.read_rows(records))
        rejected: list[Rejection] = []
        decided = aligned.same(maker, read, lead.cases)
        accepted = _accepted(decided, rejected, (f"records in {code}", kept), progress)
        for name, rows in (("records.jsonl", accepted), ("rejected.jsonl", rejected)):
            file = file_in(name, code, options.languages)
            files[file] = jsonl.write_jsonl(folder.path(file), map(_row, rows))
    return files, aligned.as_dict(kept)


def _accepted(
    decided: Iterable[Record | Rejection], rejected: list[Rejection], task: tuple[str, int], progress: Progress
) -> Iterator[Record]:
    """Yield the records and append the rejections to `rejected`. `task` is the name and total for progress."""
    name, total = task
    for number, outcome in enumerate(decided, start=1):
        if isinstance(outcome, Record):
            yield outcome
        else:
            rejected.append(outcome)
        progress(name, number, total)


def _check_changes(facts: StoredFacts, options: GenerateOptions) -> None:
    """Raise ConfigError for changes of relations of which the build has no facts: they belong to another build."""
    missing = sorted({change.fact.relation for change in facts.changes} - set(facts.relations), key=id_number)
    if missing:
        raise ConfigError(
            f"{options.updates} has changes of {', '.join(missing)}, of which the build has no facts; expected the "
            "changes that `cfbuild diff OLD NEW` found, with this build as NEW"
        )


def _resumed(making: Making, log: RowLog) -> Spread:
    """Let `making` go on after the rows in the log; return the counts over these rows.

    Raises DataError if the log holds rows of other facts.
    """
    try:
        making.resume(log.entries)
    except DataError as error:
        raise DataError(
            f"{log.path}: holds rows of other facts than this build's ({error}); use --restart to start over"
        ) from error
    spread = Spread()
    for row in log.rows(log.entries):
        spread.count(row_figures(row))
    return spread


def _take_in(made: MadeRows, making: Making, log: RowLog, spread: Spread) -> None:
    """Append a chunk's rows to the log and count them, without those beyond a limit that other rows have reached."""
    admitted = [(line, figures) for line, figures in made.rows if making.count(line.relation, line.rule is None)]
    if admitted:
        log.append_lines(line for line, _ in admitted)
    for _, figures in admitted:
        spread.count(figures)


def _recipe(model_filter: TargetFilter | None) -> FilterRecipe | None:
    """Return how workers make the filter; None without a filter. Raises ConfigError if they cannot make it."""
    recipe: FilterRecipe | None = getattr(model_filter, "recipe", None)
    if model_filter is not None and recipe is None:
        raise ConfigError("this filter has no recipe by which workers could make it; filter in one process")
    return recipe


def _row(decided: Record | Rejection) -> jsonl.Row:
    return codec.encode_record(decided) if isinstance(decided, Record) else codec.encode_rejection(decided)


def _write(folder: BuildFolder, log: RowLog) -> dict[str, int]:
    """Write records and rejects, sorted by case id; return row counts by file."""
    return {
        name: jsonl.write_lines(
            folder.path(name), log.lines(entry for entry in log.entries.by_case() if entry.kept is kept)
        )
        for name, kept in (("records.jsonl", True), ("rejected.jsonl", False))
    }


def _write_references(
    folder: BuildFolder, making: Making, maker: RecordMaker, workers: WorkerOptions
) -> dict[str, int]:
    """Write reference texts made of facts, unless fetch got texts from Wikipedia; return row counts by file."""
    fetched = folder.manifest().entry("fetch").files
    if "references.jsonl" in fetched:
        return {}
    made = map_chunks(StateFacts(maker), making.all_facts(), workers)
    return {
        "references.jsonl": jsonl.write_lines(folder.path("references.jsonl"), (one for part in made for one in part))
    }


def _counts(relations: Sequence[str], entries: Entries, files: Mapping[str, int], filtered: bool) -> dict[str, Any]:
    """Return the counts for the manifest. Raises DataError unless every fact became a record or a reject."""
    facts = Counter(entry.relation for entry in entries)
    kept = Counter(entry.relation for entry in entries if entry.kept)
    written = files["records.jsonl"] + files["rejected.jsonl"]
    if written != len(entries) or not entries.distinct:
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
            for relation in relations
        },
    }


def _summary(entry: Mapping[str, Any]) -> GenerateSummary:
    names = {count.name for count in dataclasses.fields(GenerateSummary)}
    if not entry.keys() >= names - {"changes", "languages"}:
        raise DataError(f"the manifest does not say what `cfbuild {VERB}` counted; use --restart to do it again")
    return GenerateSummary(**{name: entry[name] for name in names & entry.keys()})
