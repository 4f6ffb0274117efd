"""`cfbuild audit`: the faults of a CounterFact-format file, by rule, and a cleaned file with `--fix`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cfbuild.audit.evidence import AuditContext, resolve
from cfbuild.audit.findings import AuditedRow, find_faults, learned_templates
from cfbuild.audit.fix import Cleaning, clean_file
from cfbuild.audit.foreign import foreign_format, refuse_foreign
from cfbuild.audit.row import RecordParts
from cfbuild.errors import ConfigError, DataError
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.rules import RuleContext
from cfbuild.option import REQUIRED, Form, option
from cfbuild.progress import Progress, silent
from cfbuild.records.factset import dated_facts
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.schema import conforming
from cfbuild.store.schema.faults import Fault, Located
from cfbuild.store.schema.located import LocatedRows

EXAMPLES = 3
"""The most examples of a rule in a summary."""
PACKED = frozenset({".gz", ".bz2", ".xz", ".zst", ".zip", ".parquet"})
"""Endings of file names that promise something else than plain JSON."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """Options of an audit. `build` is a folder with facts to compare the file with; `fix` the path of a cleaned file.

    Raises ConfigError for `max_per_entity` below 1, a limit on sitelinks without a build, or a cleaned file that would
    replace the audited file.
    """

    file: Path = option(
        REQUIRED, "A file of CounterFact's format, cfbuild's, or EasyEdit's; JSON or parquet, also packed."
    )
    build: BuildFolder | None = option(
        None,
        "A build folder whose facts to hold the file against.",
        flag="--build -b",
        form=Form(lambda text: BuildFolder(Path(text)), lambda folder: str(folder.root)),
        metavar="<path>",
    )
    fix: Path | None = option(None, "Write a cleaned file here, and what was changed beside it (.changes.jsonl).")
    fix_guesses: bool = option(False, "In the cleaned file, mend faults too that rest on names read off prompts.")
    max_per_entity: int = option(1, "How often one entity may be asked about among a record's prompts of a kind.")
    allow_symmetric: bool = option(False, "Relations that hold both ways are no fault.")
    allow_several: bool = option(False, "Subjects with several true objects are no fault.")
    min_sitelinks: int | None = option(None, "Fewest wikis with a page about the subject.")
    max_sitelinks: int | None = option(None, "Most wikis with a page about the subject.")

    def __post_init__(self) -> None:
        if self.max_per_entity < 1:
            raise ConfigError(f"max per entity is {self.max_per_entity}; expected at least 1")
        if self.build is None and (self.min_sitelinks, self.max_sitelinks) != (None, None):
            raise ConfigError("how many sitelinks a subject has, only a build's facts tell; give --build")
        if self.fix is not None and self.fix.resolve() == self.file.resolve():
            raise ConfigError(f"{self.fix} is the audited file itself; give --fix another name")
        if self.fix is not None and self.fix.suffix in PACKED:
            raise ConfigError(f"--fix writes plain JSON; give it a name that does not end in {self.fix.suffix}")
        if self.fix_guesses and self.fix is None:
            raise ConfigError("--fix-guesses says how a file is cleaned; give --fix the name of the cleaned file")


@dataclass(frozen=True, slots=True)
class Example:
    """A fault as a summary shows it."""

    line: int
    case_id: int | float | str | None
    path: str
    got: str
    expected: str


@dataclass(slots=True)
class RuleSummary:
    """The number of a rule's faults, the number of rows that have them, and the first EXAMPLES faults.

    `guesses` counts the faults among them that rest on a name that was read off a prompt.
    """

    faults: int = 0
    guesses: int = 0
    rows: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class AuditSummary:
    """The result of an audit: counts of rows, and summaries by rule, the most frequent first.

    `known` counts rows about facts of the build, None without a build; `written` and `dropped` those of the cleaned
    file, None without one.
    """

    rows: int = 0
    faulty: int = 0
    known: int | None = None
    written: int | None = None
    dropped: int | None = None
    rules: dict[str, RuleSummary] = field(default_factory=dict)


def audit(options: AuditOptions, progress: Progress = silent) -> AuditSummary:
    """Return the summary of an audit by every rule that applies; with `fix`, write the cleaned file and its changes.

    Raises DataError if the file cannot be read, holds no row or only rows of a format that is not read, BuildStateError
    if the build has no facts.
    """
    with LocatedRows(options.file) as located:
        rows = list(located)
    if not rows:
        raise DataError(f"{options.file}: holds no rows; expected a JSON array or JSON lines of records")
    if all(foreign_format(one.row) for one in rows):
        refuse_foreign(options.file, rows[0].row)
    audited = [AuditedRow.of(located) for located in rows]
    whole = [row.whole for row in audited]
    context = AuditContext(
        learned_templates(whole),
        options.max_per_entity,
        options.allow_symmetric,
        options.allow_several,
        _rules(options, _told_language(whole)),
    )
    found = [*find_faults(audited, context, progress)]
    summary = _summarize(rows, found)
    if context.rules is not None:
        summary.known = sum(parts is not None and resolve(parts, context.rules) is not None for parts in whole)
    if options.fix is not None:
        cleaning = Cleaning(located.form, options.fix_guesses)
        summary.written = clean_file(options.fix, rows, whole, found, cleaning)
        summary.dropped = summary.rows - summary.written
    return summary


def _rules(options: AuditOptions, language: str | None) -> RuleContext | None:
    """Return the build's facts in the language of the file's first row, as rules read them; None without a build."""
    if options.build is None:
        return None
    facts, entities = (options.build.require(name) for name in ("facts.jsonl", "entities.jsonl"))
    manifest = options.build.manifest()
    made, fetched = manifest.entry("generate").config, manifest.entry("fetch").config
    today = made.get("today") or manifest.today
    graph = FactGraph(
        dated_facts(options.build, jsonl.read_values(facts, conforming("facts", codec.decode_fact)), today),
        jsonl.read_values(entities, conforming("entities", codec.decode_entity)),
        language or made.get("language") or fetched.get("language") or "en",
        today,
    )
    return RuleContext(
        graph,
        {},
        allow_symmetric=options.allow_symmetric,
        min_sitelinks=options.min_sitelinks,
        max_sitelinks=options.max_sitelinks,
    )


def _told_language(rows: Iterable[RecordParts | None]) -> str | None:
    """Return the language that the first row says it is in; None if no row says so."""
    for parts in rows:
        meta = None if parts is None else parts.row.get("meta")
        if parts is not None and isinstance(meta, dict) and "language" in meta:
            return parts.language
    return None


def _summarize(rows: Sequence[Located], found: Sequence[Sequence[Fault]]) -> AuditSummary:
    summary = AuditSummary(rows=len(rows), faulty=sum(map(bool, found)))
    for located, row_faults in zip(rows, found, strict=True):
        case_id = located.row.get("case_id") if isinstance(located.row, dict) else None
        case_id = case_id if isinstance(case_id, int | float | str) else None
        for fault in row_faults:
            entry = summary.rules.setdefault(fault.rule, RuleSummary())
            entry.faults += 1
            entry.guesses += fault.guess
            if len(entry.examples) < EXAMPLES:
                entry.examples.append(Example(located.line, case_id, fault.path, fault.got, fault.expected))
        for rule in {fault.rule for fault in row_faults}:
            summary.rules[rule].rows += 1
    summary.rules = dict(sorted(summary.rules.items(), key=lambda item: (-item[1].faults, item[0])))
    return summary
