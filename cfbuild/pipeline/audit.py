"""`cfbuild audit`: the faults of a CounterFact-format file, by rule, and a cleaned file with `--fix`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from cfbuild.audit.evidence import AuditContext
from cfbuild.audit.findings import JudgedRow, judge
from cfbuild.audit.fix import Cleaning, cleaned_file
from cfbuild.audit.foreign import refuse_format
from cfbuild.audit.mentions import Templates
from cfbuild.audit.rulebook import EarlierRows
from cfbuild.audit.survey import Repeats, Survey, SurveyChunks, chunks
from cfbuild.errors import ConfigError, DataError, check_least
from cfbuild.facts.stored import StoredGraph
from cfbuild.filter.rules import RuleContext
from cfbuild.option import REQUIRED, Form, option
from cfbuild.progress import Progress, silent
from cfbuild.records.factset import write_facts_index
from cfbuild.store.folder import BuildFolder
from cfbuild.store.schema.faults import Fault
from cfbuild.store.schema.located import FileForm, LocatedRows, Piece, located_of
from cfbuild.store.unpack import rereadable
from cfbuild.work import WorkerOptions, map_chunks

EXAMPLES = 3
"""The most examples of a rule in a summary; the terminal shows the first."""
PACKED = frozenset({".gz", ".bz2", ".xz", ".zst", ".zip", ".parquet"})
"""Suffixes of files that are not plain JSON, which is what `--fix` writes."""


@dataclass(frozen=True, slots=True)
class AuditOptions(WorkerOptions):
    """Options of `cfbuild audit`. The workers change no byte.

    Raises ConfigError for `max_per_entity` or workers below 1, a limit on sitelinks without a build, or a cleaned file
    that would replace the audited file.
    """

    file: Path = option(
        REQUIRED, "A file of CounterFact's format, cfbuild's, or EasyEdit's: JSON or parquet, packed or not."
    )
    build: BuildFolder | None = option(
        None,
        "Compare the file with the facts of this build folder.",
        flag="--build -b",
        form=Form(lambda text: BuildFolder(Path(text)), lambda folder: str(folder.root)),
        metavar="<path>",
    )
    fix: Path | None = option(
        None, "Write a cleaned file to this path, and a list of its changes beside it (.changes.jsonl)."
    )
    fix_guesses: bool = option(False, "With --fix: also mend faults that rest on names read off prompts.")
    max_per_entity: int = option(1, "An item may occur N times among a record's prompts of the same kind.")
    allow_symmetric: bool = option(False, "Do not count relations that hold both ways as a fault.")
    allow_several: bool = option(False, "Do not count subjects with several true objects as a fault.")
    min_sitelinks: int | None = option(None, "With --build: N wikis at least must have a page about the subject.")
    max_sitelinks: int | None = option(None, "With --build: N wikis at most may have a page about the subject.")

    def __post_init__(self) -> None:
        self.check_workers()
        check_least(self, max_per_entity=1)
        if self.build is None and (self.min_sitelinks, self.max_sitelinks) != (None, None):
            raise ConfigError("--min-sitelinks and --max-sitelinks need a build's facts; give --build")
        if self.fix is not None and self.fix.resolve() == self.file.resolve():
            raise ConfigError(f"{self.fix} is the audited file itself; give --fix another name")
        if self.fix is not None and self.fix.suffix in PACKED:
            raise ConfigError(f"--fix writes plain JSON; give it a name that does not end in {self.fix.suffix}")
        if self.fix_guesses and self.fix is None:
            raise ConfigError("--fix-guesses goes with --fix; give --fix the name of the cleaned file")


@dataclass(frozen=True, slots=True)
class Example:
    """A fault as a summary shows it. `path` is its place in the row: requested_rewrite.subject."""

    line: int
    case_id: int | float | str | None
    path: str
    got: str
    expected: str


@dataclass(slots=True)
class RuleSummary:
    """The number of a rule's faults, the number of rows that have them, and the first EXAMPLES of them.

    guesses: how many of the faults rest on a name that was read off a prompt.
    """

    faults: int = 0
    guesses: int = 0
    rows: int = 0
    examples: list[Example] = field(default_factory=list)

    def add(self, row: JudgedRow, fault: Fault) -> None:
        """Count a fault of a row."""
        self.faults += 1
        self.guesses += fault.guess
        if len(self.examples) < EXAMPLES:
            self.examples.append(Example(row.line, row.case_id, fault.path, fault.got, fault.expected))


@dataclass(slots=True)
class AuditSummary:
    """The result of an audit: numbers of rows, and summaries by rule, the most frequent first.

    known: rows about facts of the build; None without a build.
    written, dropped: rows that are and are not in the cleaned file; None without such a file.
    """

    rows: int = 0
    faulty: int = 0
    known: int | None = None
    written: int | None = None
    dropped: int | None = None
    rules: dict[str, RuleSummary] = field(default_factory=dict)

    def count(self, row: JudgedRow, faults: Sequence[Fault]) -> None:
        """Count the next row, with all of its faults."""
        self.rows += 1
        self.faulty += bool(faults)
        if self.known is not None:
            self.known += row.is_known
        for fault in faults:
            self.rules.setdefault(fault.rule, RuleSummary()).add(row, fault)
        for rule in {fault.rule for fault in faults}:
            self.rules[rule].rows += 1


@dataclass(frozen=True)
class JudgeRows:
    """The job that judges rows, with what the whole file showed.

    graph: opens the build's facts in the process that works; None without a build.
    """

    options: AuditOptions
    form: FileForm
    graph: Callable[[], StoredGraph] | None
    templates: Mapping[str, Templates]
    repeats: Repeats

    def open(self) -> Callable[[Sequence[Piece]], list[JudgedRow]]:
        """Return the function that judges a chunk of rows."""
        options, rules = self.options, None
        if self.graph is not None:
            rules = RuleContext(
                self.graph(),
                {},
                allow_symmetric=options.allow_symmetric,
                min_sitelinks=options.min_sitelinks,
                max_sitelinks=options.max_sitelinks,
            )
        context = AuditContext(
            self.templates,
            options.max_per_entity,
            options.allow_symmetric,
            options.allow_several,
            rules,
        )
        cleaning = None if options.fix is None else Cleaning(self.form, options.fix_guesses)
        return lambda pieces: [judge(located_of(piece), context, self.repeats, cleaning) for piece in pieces]


def audit(options: AuditOptions, progress: Progress = silent) -> AuditSummary:
    """Judge every row by every rule that applies; with `fix`, write the cleaned file; return the summary.

    The file is read twice, in chunks: first for what its rows show together, then to judge each row. So neither memory
    nor the result depends on the workers.

    Raises DataError if the file cannot be read, holds no row or only rows of a format that is not read, or changes
    meanwhile; BuildStateError if the build has no facts.
    """
    with rereadable(options.file) as copy:
        with LocatedRows(options.file, copy) as located:
            survey = _surveyed(options, located, progress)
        summary = AuditSummary(known=None if options.build is None else 0)
        with _indexed(options, survey.language) as graph:
            job = JudgeRows(options, located.form, graph, survey.templates(), survey.repeats())
            fixed = nullcontext() if options.fix is None else cleaned_file(options.fix, located.form)
            with LocatedRows(options.file, copy) as again, fixed as cleaned:
                for row, repeated in _judged(job, again, progress, survey.rows):
                    summary.count(row, [*row.faults, *repeated])
                    if cleaned is not None and row.mended is not None:
                        cleaned.add(row.line, row.mended.without(repeated))
                if again.sha256 != located.sha256:
                    raise DataError(f"{options.file}: changed while it was read; audit it again")
    if cleaned is not None:
        summary.written, summary.dropped = cleaned.written, summary.rows - cleaned.written
    summary.rules = dict(sorted(summary.rules.items(), key=lambda item: (-item[1].faults, item[0])))
    return summary


def _surveyed(options: AuditOptions, located: LocatedRows, progress: Progress) -> Survey:
    """Return what the rows of a file show together. Raises DataError for a file without rows of a known format."""
    survey = Survey()
    for part in map_chunks(SurveyChunks(), chunks(located), options):
        survey.add(part)
        progress("rows read", survey.rows, None)
    progress("rows read", survey.rows, survey.rows)
    if not survey.rows:
        raise DataError(f"{options.file}: holds no rows; expected a JSON array or JSON lines of records")
    if survey.first is not None and survey.foreign == survey.rows:
        refuse_format(options.file, survey.first)
    return survey


def _judged(
    job: JudgeRows, located: LocatedRows, progress: Progress, total: int
) -> Iterator[tuple[JudgedRow, list[Fault]]]:
    """Yield each judged row, and the faults that it has only because of rows before it, such as the same case id."""
    earlier, done = EarlierRows(), 0
    progress("rows", done, total)
    for part in map_chunks(job, chunks(located), job.options):
        yield from ((row, row.faults_after(earlier)) for row in part)
        done += len(part)
        progress("rows", done, total)


@contextmanager
def _indexed(options: AuditOptions, language: str | None) -> Iterator[Callable[[], StoredGraph] | None]:
    """Yield a function that opens an index of the build's facts; the index is deleted at the end. None without a build.

    language: that of the file's first row; None for the build's. Raises BuildStateError if the build has no facts.
    """
    if options.build is None:
        yield None
        return
    manifest = options.build.manifest()
    made, fetched = manifest.entry("generate").config, manifest.entry("fetch").config
    today = made.get("today") or manifest.today
    code = language or made.get("language") or fetched.get("language") or "en"
    parent = None if options.ray is None else options.build.root  # the only folder that all machines of a cluster see
    with TemporaryDirectory(prefix="cfbuild-audit-", dir=parent) as scratch:
        index = Path(scratch) / "facts.sqlite"
        write_facts_index(options.build, index, code, today)
        yield partial(StoredGraph, index, code, today)
