"""`cfbuild generate`: the records of a build from its facts and templates, in files, resumably."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cfbuild import __version__
from cfbuild.data import Record, Rejection
from cfbuild.errors import DataError
from cfbuild.filter.context import Rules, TargetFilter
from cfbuild.option import COMMA_SEPARATED_OR_NONE, DAY, Form, option, restart_option
from cfbuild.pipeline.prefix_source import PrefixSource
from cfbuild.progress import Progress, silent
from cfbuild.records.builder import BuildOptions
from cfbuild.records.factset import FILES, read_facts
from cfbuild.records.groups import GROUPS
from cfbuild.records.kinds import EVERY, KINDS
from cfbuild.records.maker import Making, RecordMaker, check_groups, check_neighbors
from cfbuild.records.prefixes import BUILTIN, Sampler
from cfbuild.records.spread import Spread
from cfbuild.records.turns import Selection
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.rowlog import Entry, RowLog

VERB = "generate"


def _kinds(text: str) -> tuple[str, ...]:
    """Return the kinds of questions that a text names; `all` are all of them."""
    names: tuple[str, ...] = COMMA_SEPARATED_OR_NONE.read(text)
    return tuple(KINDS) if EVERY in names else names


GROUP_NAMES = Form(_kinds, COMMA_SEPARATED_OR_NONE.write)
"""The form of a choice of kinds of questions."""


@dataclass(frozen=True)
class GenerateOptions(Rules, Selection):
    """The options of `cfbuild generate`. Raises ConfigError for a number below its minimum, an unknown group, or
    numbers that no record can fulfil together.

    Beside the facts to take (`Selection`) and the rules to apply (`Rules`):
    build: the number of prompts of each kind in a record, and the seed.
    language: the code of the language of labels, such as `en`.
    today: the day for which the facts hold; None for that of the fetch.
    prefixes: the source of the sentences before paraphrases: `builtin`, `references`, `model`, `none`, or a text file.
    groups: the prompt groups beyond CounterFact's.
    restart: True to give up finished and unfinished work.
    """

    build: BuildOptions = field(default_factory=BuildOptions)
    language: str = option("en", "Language of the labels to use.")
    today: str | None = option(
        None, "The day for which facts hold, such as 2026-11-26. [default: that of the fetch]", form=DAY
    )
    prefixes: str = option(
        BUILTIN, "Sentences before paraphrases: builtin, references (of fetch --references), model, none, or a file."
    )
    groups: tuple[str, ...] = option(
        tuple(GROUPS),
        f"Kinds of questions beyond CounterFact's, comma-separated, or none, or all: {', '.join(KINDS)}. "
        f"[default: {', '.join(GROUPS)}]",
        form=GROUP_NAMES,
    )
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        Selection.__post_init__(self)
        Rules.__post_init__(self)
        if self.today is not None:
            DAY.read(self.today)
        check_neighbors(self, self.build)
        check_groups(self.groups)


@dataclass(frozen=True, slots=True)
class GenerateSummary:
    """The counts of a run: `facts` = `kept` + `rejected`; rejects by rule; all three by relation.

    `filtered` is True if a model filter chose o*. `neighbors`, `pools` and `shared_class` are as `Spread.as_dict` has
    them.
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


def generate(
    folder: BuildFolder,
    options: GenerateOptions,
    model_filter: TargetFilter | None = None,
    progress: Progress = silent,
    sampler: Sampler | None = None,
) -> GenerateSummary:
    """Return the counts of records.jsonl, rejected.jsonl and references.jsonl, after making them of the build's facts.

    model_filter: chooses o*; None takes the first o* drawn, and the manifest says `filtered: false`.
    sampler: writes the texts that `prefixes` `model` are cut from.
    An interrupted run continues after its last finished portion; the bytes do not depend on it. A finished run with
    the same settings is not repeated. Raises BuildStateError if an input is missing or the folder holds work made with
    other settings, ConfigError for a relation without facts or a source of prefixes that cannot be used, DataError for
    broken input or a filter whose verdicts do not fit its candidates.
    """
    with folder.lock(VERB):
        source = PrefixSource(folder, options.prefixes, options.language, options.build.seed, sampler)
        config = _config(folder, options, source, model_filter)
        if not folder.begin(VERB, config, restart=options.restart):
            folder.discard(VERB)  # a run may have been killed between its last two steps
            return _summary(folder.manifest().entry(VERB).counted)
        maker = _maker(folder, options, source)
        making = maker.start(options, model_filter)
        log = RowLog(folder.progress(VERB) / "rows.jsonl")
        spread = Spread()
        _work_off(making, log, spread, progress)
        files = {**_write(folder, log), **_write_references(folder, maker, making.relations)}
        counts = _counts(making.relations, log.entries, files, model_filter is not None) | spread.as_dict()
        folder.finish(VERB, config, files, counts)
        folder.discard(VERB)
        return _summary(counts)


def _config(
    folder: BuildFolder, options: GenerateOptions, source: PrefixSource, model_filter: TargetFilter | None
) -> dict[str, Any]:
    """Return everything that the output's bytes depend on, in the types that JSON gives back."""
    config = dataclasses.asdict(options)
    del config["restart"]
    config["cfbuild"] = __version__
    config["inputs"] = folder.digests(FILES)
    fetched = folder.manifest().entry("fetch").config
    # Only statements have dates; without them the day changes no byte.
    config["day"] = options.today or (folder.manifest().today if fetched.get("statements") else None)
    config["prefixes"] = source.config
    config["model_filter"] = None if model_filter is None else dict(model_filter.signature)
    plain: dict[str, Any] = json.loads(json.dumps(config, allow_nan=False))
    return plain


def _maker(folder: BuildFolder, options: GenerateOptions, source: PrefixSource) -> RecordMaker:
    """Return the maker of the build's records.

    Raises ConfigError for a relation without facts, before the sentences are cut, and as `PrefixSource.prefixes`.
    """
    facts = read_facts(folder.root, options.language, options.today)
    options.chosen(facts.relations)
    prefixes = source.prefixes(folder.progress(VERB))
    return RecordMaker(facts, Rules(**options.rule_options()), options.build, prefixes, options.groups)


def _work_off(making: Making, log: RowLog, spread: Spread, progress: Progress) -> None:
    """Append the rows of all facts that get their turn to the log, portion by portion, after the rows in it.

    All rows are counted in `spread`, those of earlier runs first.
    Raises DataError if the log holds rows of other facts.
    """
    try:
        making.resume(log.entries)
    except DataError as error:
        raise DataError(
            f"{log.path}: holds rows of other facts than this build's ({error}); use --restart to start over"
        ) from error
    for row in log.rows(log.entries):
        spread.count(row)
    for portion in making:
        log.append(spread.counting(map(_row, portion)))
        progress("facts", making.place, len(making.turns))


def _row(decided: Record | Rejection) -> jsonl.Row:
    return codec.encode_record(decided) if isinstance(decided, Record) else codec.encode_rejection(decided)


def _write(folder: BuildFolder, log: RowLog) -> dict[str, int]:
    """Write records and rejects, sorted by case id; return the number of rows by file."""
    ordered = sorted(log.entries, key=lambda entry: entry.case_id)
    return {
        name: jsonl.write_lines(folder.path(name), log.lines(entry for entry in ordered if entry.kept is kept))
        for name, kept in (("records.jsonl", True), ("rejected.jsonl", False))
    }


def _write_references(folder: BuildFolder, maker: RecordMaker, relations: Sequence[str]) -> dict[str, int]:
    """Write sentences made of facts, and return the number of rows by file.

    Nothing is written if fetch got texts from Wikipedia, which are better.
    """
    fetched = folder.manifest().entry("fetch").files
    if "references.jsonl" in fetched:
        return {}
    rows = map(codec.encode_reference, maker.references(relations))
    return {"references.jsonl": jsonl.write_jsonl(folder.path("references.jsonl"), rows)}


def _counts(
    relations: Sequence[str], entries: Sequence[Entry], files: Mapping[str, int], filtered: bool
) -> dict[str, Any]:
    """Return the counts for the manifest. Raises DataError unless every fact became a record or a reject."""
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
            for relation in relations
        },
    }


def _summary(entry: Mapping[str, Any]) -> GenerateSummary:
    names = [one.name for one in dataclasses.fields(GenerateSummary)]
    if not entry.keys() >= set(names):
        raise DataError(f"the manifest does not say what `cfbuild {VERB}` counted; use --restart to do it again")
    return GenerateSummary(**{name: entry[name] for name in names})
