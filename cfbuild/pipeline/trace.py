"""`cfbuild trace`: causal traces of a build's records, or of a prompt, with their averages and drawings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfbuild import __version__
from cfbuild.data import SLOT
from cfbuild.errors import BuildStateError, ConfigError, DataError, check_least
from cfbuild.option import option, restart_option, values_of
from cfbuild.probe.settings import KINDS, NOISE, SEVERED, SWAP, TraceSettings
from cfbuild.progress import Progress, silent
from cfbuild.store.files import sha256_text, write_atomic
from cfbuild.store.jsonl import read_json, write_json, write_jsonl
from cfbuild.store.rowlog import RowLog
from cfbuild.store.runs import SKIPPED, SUMMARY, TRACE, TRACED, TRACED_CASES, Run, new_run

if TYPE_CHECKING:
    from cfbuild.audit.validate import RecordFile
    from cfbuild.lm.model import LanguageModel
    from cfbuild.probe.effects import CausalTrace
    from cfbuild.probe.tracer import TracedFact, Tracer
    from cfbuild.store.folder import BuildFolder

LOG = "rows.log"
FACTS_AT_ONCE = 4
"""Facts that are traced and logged together: an interruption loses this many at most."""
PROMPT = "prompt"
"""The relation of a prompt that is no record's, and the default name of its traces."""
RELEASED_KINDS = {"state": "", "mlp": "mlp", "attention": "attn"}
"""The names of kinds in the files that ROME's released code (causal_trace.py) writes."""


@dataclass(frozen=True, slots=True)
class TraceOptions(TraceSettings):
    """Options of `cfbuild trace`. Raises ConfigError as TraceSettings does, and for a prompt that lacks its subject."""

    records: Path | None = option(
        None, "Trace the records of this file of CounterFact's format. [default: the build's records]"
    )
    prompt: str | None = option(None, "Trace this prompt instead of records; it contains its subject.")
    subject: str | None = option(None, "The subject in --prompt, where it first occurs.")
    other: str | None = option(
        None, "For --corrupt swap with --prompt: the subject to put in instead; it needs as many tokens."
    )
    limit: int | None = option(None, "Trace only the first N records. [default: all]")
    run: str | None = option(
        None, "The name of the traces; a build can have several. [default: noise, swap, or prompt]"
    )
    pictures: int = option(3, "Draw heat maps of the first N facts, and of the averages.")
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        TraceSettings.__post_init__(self)
        check_least(self, limit=1, pictures=0)
        if self.prompt is None:
            if self.subject is not None or self.other is not None:
                raise ConfigError("--subject and --other go with --prompt, which is missing; give --prompt too")
            return
        if self.records is not None:
            raise ConfigError("--prompt and --records do not go together; leave out one of them")
        if not self.subject or self.subject not in self.prompt:
            raise ConfigError(
                f"--prompt {self.prompt!r} does not hold the subject {self.subject!r}; name it by --subject"
            )
        if SLOT in self.prompt:
            raise ConfigError(f"--prompt {self.prompt!r} holds {SLOT}; write the subject in its place")
        if self.corrupt == SWAP and self.other is None:
            raise ConfigError("--corrupt swap of a --prompt needs --other, the subject to put in instead")
        if self.corrupt != SWAP and self.other is not None:
            raise ConfigError(f"--other goes with --corrupt swap; leave it out of --corrupt {self.corrupt}")

    @property
    def name(self) -> str:
        """Return the name of the traces: the option's, or else a default."""
        return self.run or (PROMPT if self.prompt is not None else self.corrupt)


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """Finished traces: their folder, the numbers of facts traced and skipped (by rule), and the noise's deviation.

    averages: as in summary.json, empty if nothing was traced. page: report.html, None if it was not written.
    """

    name: str
    folder: str
    traced: int
    skipped: Mapping[str, int]
    noise: float | None
    averages: Mapping[str, Any]
    page: str | None


@dataclass(frozen=True, slots=True)
class _Input:
    """The facts to trace, the subjects from whose embeddings the noise follows, and the file of records, if any."""

    facts: Sequence[TracedFact]
    subjects: Sequence[str]
    read: RecordFile | None


def trace(
    folder: BuildFolder,
    options: TraceOptions,
    lm: LanguageModel,
    progress: Progress = silent,
    read: RecordFile | None = None,
) -> TraceSummary:
    """Trace facts; write `traces/NAME/` in the build, and report.html if it has records; return a summary.

    read: the file of records, if it was read before.
    Raises SchemaError for a file of records with violations, BuildStateError for work made with other settings,
    DataError if the noise cannot be measured on any subject.
    """
    run = new_run(folder, options.name, TRACE)
    given = _input(folder, options, read)
    config = _config(options, lm, given)
    with folder.lock(TRACE):
        if folder.begin(run.entry, config, restart=options.restart):
            files, counted = _write(run, options, lm, given, progress)
            folder.finish(run.entry, config, files, counted)
        page = _page(folder, options, given)
    summary = read_json(run.path(SUMMARY))
    found = {name: summary[name] for name in ("traced", "skipped", "noise", "averages")}
    where = str(folder.path(run.file("")[:-1]))
    return TraceSummary(run.name, where, **found, page=None if page is None else str(page))


def _input(folder: BuildFolder, options: TraceOptions, read: RecordFile | None) -> _Input:
    """Return the facts of the prompt, or those of the records, which are read unless `read` has them."""
    from cfbuild.audit.validate import read_records
    from cfbuild.probe.tracer import TracedFact, fact_to_trace
    from cfbuild.records.pairs import SubjectPairs

    path = folder.path("records.jsonl")
    if options.prompt is not None:
        assert options.subject is not None
        template = options.prompt.replace(options.subject, SLOT, 1)
        others = () if options.other is None else ((options.other, None),)
        facts = [TracedFact(0, PROMPT, template, options.subject, None, others)]
        if options.noise is not None or options.corrupt == SWAP or not path.is_file():
            return _Input(facts, [options.subject], None)
        subjects = [record.subject.label for record in read_records(path).all_valid().records]
        return _Input(facts, subjects or [options.subject], None)
    read = (read or read_records(options.records or folder.require(path.name))).all_valid()
    if not read.records:
        raise DataError(f"{read.path} has no records to trace")
    pairs = SubjectPairs.of_records(read.records if options.corrupt == SWAP else (), options.seed)
    facts = [fact_to_trace(record, pairs.others) for record in read.records[: options.limit]]
    return _Input(facts, [record.subject.label for record in read.records], read)


def _config(options: TraceOptions, lm: LanguageModel, given: _Input) -> dict[str, Any]:
    """Return everything that the traces' bytes depend on, for the manifest."""
    config = {**values_of(options), "cfbuild": __version__, **lm.identity}
    del config["restart"], config["run"]
    config["kinds"] = [kind for kind in (*KINDS, SEVERED) if kind in options.kinds]
    config["records"] = given.read.sha256 if given.read else None
    is_measured = options.corrupt == NOISE and options.noise is None
    config["noise_of"] = sha256_text("\n".join(given.subjects)) if is_measured else None
    return config


def _write(
    run: Run, options: TraceOptions, lm: LanguageModel, given: _Input, progress: Progress
) -> tuple[dict[str, int], dict[str, Any]]:
    """Trace the facts that are not done and write all files; return row counts by file, and the manifest's counts."""
    from cfbuild.probe.effects import AverageEffects, CausalTrace
    from cfbuild.probe.tracer import Tracer

    tracer = Tracer(lm, options, given.subjects)
    log = RowLog(run.folder.progress(run.entry) / LOG)
    _trace_all(tracer, given.facts, log, progress)
    kept, dropped = ([entry for entry in log.entries if entry.kept is is_kept] for is_kept in (True, False))
    run.path(TRACED_CASES).mkdir(parents=True, exist_ok=True)
    files = {
        run.file(TRACED): write_jsonl(run.path(TRACED), log.rows(kept)),
        run.file(SKIPPED): write_jsonl(run.path(SKIPPED), log.rows(dropped)),
        run.file(SUMMARY): 1,
    }
    traces = [CausalTrace.of_row(row) for row in log.rows(kept)]
    for causal_trace in traces:
        _write_released(run.path(TRACED_CASES), causal_trace, options)
    average = AverageEffects.of(traces) if traces else None
    skipped = Counter(entry.rule or "" for entry in dropped)
    counted = {"traced": len(traces), "skipped": dict(sorted(skipped.items()))}
    settings = {name: getattr(options, name) for name in ("corrupt", "metric", "method", "window", "rows", "seed")}
    noise = None if options.corrupt == SWAP else tracer.level
    averages = average.as_dict() if average else {}
    write_json(run.path(SUMMARY), {**lm.identity, **settings, "noise": noise, **counted, "averages": averages})
    if average is not None:
        from cfbuild.views.page.heat import drawings

        for name, drawing in drawings(traces[: options.pictures], average, options.metric):
            write_atomic(run.path(name), drawing)
            files[run.file(name)] = 1
    return files, counted


def _trace_all(tracer: Tracer, facts: Sequence[TracedFact], log: RowLog, progress: Progress) -> None:
    """Trace the facts that the log lacks, a chunk at a time."""
    progress("facts", len(log.entries), len(facts))
    restored = 0
    for start in range(len(log.entries), len(facts), FACTS_AT_ONCE):
        before = restored

        def count(done: int, before: int = before) -> None:
            nonlocal restored
            restored = before + done
            progress("restored states", restored, None)

        traces = tracer.trace(facts[start : start + FACTS_AT_ONCE], count)
        log.append(traced.as_row() for traced in traces)
        progress("facts", len(log.entries), len(facts))


def _write_released(folder: Path, causal_trace: CausalTrace, options: TraceOptions) -> None:
    """Write a trace with the released code's file names and keys, so that its notebooks read it.

    Attributed effects become scores by adding the low score.
    """
    import numpy as np

    for kind, effects in causal_trace.maps.items():
        released = RELEASED_KINDS[kind]
        path = folder / f"knowledge_{causal_trace.case_id}{'_' if released else ''}{released}.npz"
        with path.open("wb") as stream:
            np.savez(
                stream,
                scores=np.asarray(effects + causal_trace.low, dtype=np.float32),
                low_score=np.float32(causal_trace.low),
                high_score=np.float32(causal_trace.high),
                input_ids=np.array(causal_trace.ids),
                input_tokens=np.array(causal_trace.tokens),
                subject_range=np.array(causal_trace.subject),
                answer=np.array(causal_trace.answer),
                window=np.array(options.window),
                correct_prediction=np.array(True),
                kind=np.array(released),
            )


def _page(folder: BuildFolder, options: TraceOptions, given: _Input) -> Path | None:
    """Write report.html of the traced records; return its path, or None if there are no records to show."""
    from cfbuild.pipeline.report import report

    if given.read is None and not folder.path("records.jsonl").is_file():
        return None
    try:
        return report(folder, options.records, given.read).page
    except (BuildStateError, DataError):  # the build's runs are of another file, or its own records are broken
        return None
