"""`cfbuild trace`: causal traces of a build's records, or of a prompt, resumably; their averages and drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfbuild import __version__
from cfbuild.data import SLOT
from cfbuild.errors import BuildStateError, ConfigError, DataError
from cfbuild.option import option, restart_option, values_of
from cfbuild.probe.settings import KINDS, NOISE, SEVERED, SWAP, TraceSettings
from cfbuild.progress import Progress, silent
from cfbuild.store.files import write_atomic
from cfbuild.store.jsonl import read_json, write_json, write_jsonl
from cfbuild.store.rowlog import RowLog
from cfbuild.store.runs import SKIPPED, SUMMARY, TRACE, TRACED, TRACED_CASES, Run, new_trace

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
"""The relation, and the default name, of a prompt that is no record's."""
RELEASED_SUFFIX = {"state": "", "mlp": "_mlp", "attention": "_attn"}
"""The ends of the released code's file names by kind."""


@dataclass(frozen=True, slots=True)
class TraceOptions(TraceSettings):
    """Options of `cfbuild trace`. Raises ConfigError as TraceSettings does, and for a prompt that lacks its subject."""

    records: Path | None = option(None, "Any CounterFact-format file. [default: the build's records]")
    prompt: str | None = option(None, "A prompt to trace instead of records, its subject in place.")
    subject: str | None = option(None, "The subject in --prompt, where it first occurs.")
    other: str | None = option(None, "swap with --prompt: the subject that takes its place, with as many tokens.")
    limit: int | None = option(None, "Trace only the first N records.")
    run: str | None = option(
        None, "The traces' name: they stand side by side in a build. [default: noise, swap, or prompt]"
    )
    pictures: int = option(3, "Draw heat maps of the first N facts, and of the averages.")
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        TraceSettings.__post_init__(self)
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit}; expected at least 1")
        if self.pictures < 0:
            raise ConfigError(f"pictures is {self.pictures}; expected 0 or more")
        if self.prompt is None:
            if self.subject is not None or self.other is not None:
                raise ConfigError("--subject and --other go with --prompt, and there is none")
            return
        if self.records is not None:
            raise ConfigError("--prompt and --records do not go together: one is traced or the others")
        if not self.subject or self.subject not in self.prompt:
            raise ConfigError(
                f"--prompt {self.prompt!r} does not hold the subject {self.subject!r}; name it by --subject"
            )
        if SLOT in self.prompt:
            raise ConfigError(f"--prompt {self.prompt!r} holds {SLOT}; write the subject in its place")
        if (self.corrupt == SWAP) != (self.other is not None):
            raise ConfigError("--corrupt swap of a --prompt needs --other, the subject that takes its place; else none")

    @property
    def name(self) -> str:
        """The traces' name."""
        return self.run or (PROMPT if self.prompt is not None else self.corrupt)


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """Finished traces: their folder, the facts traced and skipped (by reason), the noise, and the averages.

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
class _Material:
    """The input of a tracing: the facts, the subjects that noise is measured on, and the file of records, if any."""

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
    """Trace facts and write `traces/NAME/` of the build, and report.html if it has records; return a summary.

    `read` is the file of records, if it was read before. Interrupted work goes on after its last finished chunk, with
    the same bytes; what is finished is not repeated. Raises SchemaError for a file of records with violations,
    BuildStateError for work made with other settings, DataError if no subject can tell the noise.
    """
    made = new_trace(folder, options.name)
    material = _material(folder, options, read)
    config = _config(options, lm, material)
    with folder.lock(TRACE):
        if folder.begin(made.entry, config, restart=options.restart):
            files, counted = _write(made, options, lm, material, progress)
            folder.finish(made.entry, config, files, counted)
        folder.discard(made.entry)  # also what was killed between the last two steps
        page = _page(folder, options, material)
    summary = read_json(made.path(SUMMARY))
    return TraceSummary(
        made.name,
        str(folder.path(made.file("")[:-1])),
        summary["traced"],
        summary["skipped"],
        summary["noise"],
        summary["averages"],
        None if page is None else str(page),
    )


def _material(folder: BuildFolder, options: TraceOptions, read: RecordFile | None) -> _Material:
    from cfbuild.audit.validate import read_records
    from cfbuild.probe.tracer import TracedFact, fact_to_trace
    from cfbuild.records.pairs import SubjectPairs

    own = folder.path("records.jsonl")
    if options.prompt is not None:
        assert options.subject is not None
        text = options.prompt.replace(options.subject, SLOT, 1)
        others = () if options.other is None else ((options.other, None),)
        facts = [TracedFact(0, PROMPT, text, options.subject, None, others)]
        if options.noise is not None or options.corrupt == SWAP or not own.is_file():
            return _Material(facts, [options.subject], None)
        subjects = [record.subject.label for record in read_records(own).all_valid().records]
        return _Material(facts, subjects or [options.subject], None)
    read = (read or read_records(options.records or folder.require(own.name))).all_valid()
    if not read.records:
        raise DataError(f"{read.path} has no records to trace")
    pairs = SubjectPairs.of_records(read.records if options.corrupt == SWAP else (), options.seed)
    facts = [fact_to_trace(record, pairs.others) for record in read.records[: options.limit]]
    return _Material(facts, [record.subject.label for record in read.records], read)


def _config(options: TraceOptions, lm: LanguageModel, material: _Material) -> dict[str, Any]:
    """Return everything that the traces' bytes depend on."""
    from cfbuild.store.files import sha256_text

    config = {**values_of(options), "cfbuild": __version__, **lm.identity}
    del config["restart"], config["run"]
    config["kinds"] = [kind for kind in (*KINDS, SEVERED) if kind in options.kinds]
    config["records"] = material.read.sha256 if material.read else None
    measured = options.corrupt == NOISE and options.noise is None
    config["noise_of"] = sha256_text("\n".join(material.subjects)) if measured else None
    return config


def _write(
    made: Run, options: TraceOptions, lm: LanguageModel, material: _Material, progress: Progress
) -> tuple[dict[str, int], dict[str, Any]]:
    """Trace what is left and write all files; return their rows by name, and the manifest's counts."""
    from cfbuild.probe.effects import AverageEffects, CausalTrace
    from cfbuild.probe.tracer import Tracer

    tracer = Tracer.of(lm, options, material.subjects)
    log = RowLog(made.folder.progress(made.entry) / LOG)
    _trace_all(tracer, material.facts, log, progress)
    kept, dropped = ([entry for entry in log.entries if entry.kept is wanted] for wanted in (True, False))
    made.path(TRACED_CASES).mkdir(parents=True, exist_ok=True)
    files = {
        made.file(TRACED): write_jsonl(made.path(TRACED), log.rows(kept)),
        made.file(SKIPPED): write_jsonl(made.path(SKIPPED), log.rows(dropped)),
        made.file(SUMMARY): 1,
    }
    traces = [CausalTrace.of_row(row) for row in log.rows(kept)]
    for causal_trace in traces:
        _write_released(made.path(TRACED_CASES), causal_trace, options)
    average = AverageEffects.of(traces) if traces else None
    skipped: dict[str, int] = {}
    for entry in dropped:
        skipped[entry.rule or ""] = skipped.get(entry.rule or "", 0) + 1
    counted = {"traced": len(traces), "skipped": dict(sorted(skipped.items()))}
    level = None if options.corrupt == SWAP else tracer.level
    averages = average.as_dict() if average else {}
    summary = {**lm.identity, **_told(options), "noise": level, **counted, "averages": averages}
    write_json(made.path(SUMMARY), summary)
    if average is not None:
        from cfbuild.views.page.heat import drawings

        for name, drawing in drawings(traces[: options.pictures], average, options.metric):
            write_atomic(made.path(name), drawing)
            files[made.file(name)] = 1
    return files, counted


def _told(options: TraceOptions) -> dict[str, Any]:
    names = ("corrupt", "metric", "method", "window", "rows", "seed")
    return {name: getattr(options, name) for name in names}


def _trace_all(tracer: Tracer, facts: Sequence[TracedFact], log: RowLog, progress: Progress) -> None:
    """Trace the facts that the log does not have yet, a chunk at a time."""
    progress("facts", len(log.entries), len(facts))
    restored = 0
    for start in range(len(log.entries), len(facts), FACTS_AT_ONCE):
        counts = [restored]

        def count(done: int, counts: list[int] = counts, before: int = restored) -> None:
            counts.append(before + done)
            progress("restored states", before + done, None)

        made = tracer.trace(facts[start : start + FACTS_AT_ONCE], count)
        log.append(one.as_row() for one in made)
        restored = counts[-1]
        progress("facts", len(log.entries), len(facts))


def _write_released(folder: Path, causal_trace: CausalTrace, options: TraceOptions) -> None:
    """Write a trace with the released code's file names and keys, so that its notebooks read it.

    An attributed trace's scores are its effects on top of the low score.
    """
    import numpy as np

    for kind, effects in causal_trace.maps.items():
        released = {"state": "", "mlp": "mlp", "attention": "attn"}[kind]
        path = folder / f"knowledge_{causal_trace.case_id}{RELEASED_SUFFIX[kind]}.npz"
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


def _page(folder: BuildFolder, options: TraceOptions, material: _Material) -> Path | None:
    """Write report.html of the traced records; return its path, or None if there are no records to show."""
    from cfbuild.pipeline.report import write_page

    if material.read is None and not folder.path("records.jsonl").is_file():
        return None
    try:
        return write_page(folder, options.records, material.read)
    except (BuildStateError, DataError):  # the build's runs are of another file, or its own records are broken
        return None
