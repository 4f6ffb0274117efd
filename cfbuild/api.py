"""The functions of the public API that compose organs, for a notebook. Nothing here needs a build folder.

`cfbuild/__init__.py` offers them, and the organs' own values, and imports each when it is first asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cfbuild.audit.validate import read_records as read_record_file
from cfbuild.data import CaseScore, Record, Reference, Request
from cfbuild.edit.corpus import Corpus
from cfbuild.edit.editor import Edit, OpenEditor, open_editor
from cfbuild.edit.supplies import ModelSupplies, build_corpus
from cfbuild.errors import ConfigError, DataError, EditError
from cfbuild.facts.graph import FactGraph
from cfbuild.lm.likelihood import Question
from cfbuild.lm.likelihood import score as score_questions
from cfbuild.lm.model import LanguageModel
from cfbuild.probe.effects import CausalTrace, Untraced
from cfbuild.probe.settings import PROBABILITY, SWAP, TraceSettings
from cfbuild.probe.tracer import TracedFact, Tracer, fact_to_trace
from cfbuild.progress import Progress, silent
from cfbuild.records.builder import Builder
from cfbuild.records.draft import BuildOptions
from cfbuild.records.factset import snapshot
from cfbuild.records.pairs import SubjectPairs
from cfbuild.score.passes import Passes
from cfbuild.score.run_report import Report
from cfbuild.score.table import ScoreTable
from cfbuild.score.texts import ReferenceTexts
from cfbuild.store.codec import decode_case, encode_case, encode_record
from cfbuild.store.files import write_atomic
from cfbuild.store.jsonl import write_json, write_jsonl


def nll(lm: LanguageModel, prompt: str, continuations: Sequence[str]) -> list[float]:
    """Return the mean negative log-likelihood of each of the `continuations` of `prompt`, in nats per token.

    A continuation follows the prompt after one space, as targets do in CounterFact. Example:
    `nll(lm, "LeBron James plays the sport of", ["football", "basketball"])`.
    """
    question = Question(lm.encode(prompt), tuple(lm.continuation(text) for text in continuations))
    (answers,) = score_questions(lm, [question])
    return [answer.nll_nats for answer in answers]


def edit(
    lm: LanguageModel,
    prompt: str,
    *,
    subject: str,
    target: str,
    editor: str = "rome",
    **settings: Any,
) -> Edit:
    """Return the edit that makes `lm` continue `prompt` by `target`; the model stays as it is.

    prompt: text with `{}` for the subject. editor: a name of the table, or "module:attribute" of one's own.
    settings: the editor's by name, such as `layer=5`; `covariance` and `covariance_tokens` (see `score`), and `seed`.
    There is no true object here: `kn` attributes the token that the model itself puts first.

    Raises ConfigError for an editor or a setting that does not exist, EditError if the edit fails.
    """
    opened = _open(lm, editor, _snapshot_corpus, settings)
    (made,) = opened.edit([Request(prompt, subject, target)])
    if made.fault is not None:
        raise EditError(f"{editor} on {subject!r}: {made.fault}")
    return made


@dataclass(frozen=True)
class Scores:
    """The scores of records before and after their edits: figures with intervals, and every case."""

    report: Report
    cases: tuple[CaseScore, ...]

    def table(self) -> str:
        """Return the paper's table as text: the unedited model on top, the editor below."""
        return ScoreTable.of({self.report.editor: self.report}).as_text()

    def as_dict(self) -> dict[str, Any]:
        """Return the content of report.json: signature, figures of both stages, by relation, records without edit."""
        return self.report.as_dict()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row a record, as in cases.jsonl: likelihoods of its prompts, its texts, the edit's statistics."""
        return (dict(encode_case(case)) for case in self.cases)


def score(
    lm: LanguageModel,
    records: Sequence[Record],
    editor: str = "rome",
    *,
    references: Sequence[Reference] | None = None,
    batch: int | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> Scores:
    """Edit `lm` by each record and return the paper's scores before and after; the model stays as it is.

    references: texts that generations are compared with (RS); None writes no texts, so there is no GE and RS.
    batch: how many records an editor that edits them together gets at a time. settings: the editor's by name;
    `seed`; `covariance`: `build` (the records' and references' own true statements), `none`, a text file, `hub:NAME` or
    an .npz file with C; `covariance_tokens`.

    Raises ConfigError for an editor or a setting that does not exist, DataError for records that share a case id.
    """
    if len({record.case_id for record in records}) != len(records):
        raise DataError("two records have the same case_id; give each its own")
    seed = settings.get("seed", 0)
    opened = _open(lm, editor, lambda: build_corpus(records, references or ()), settings, progress)
    texts = None if references is None else ReferenceTexts(references)
    with tempfile.TemporaryDirectory(prefix="cfbuild-") as folder:
        passes = Passes(Path(folder), lm, opened, records, batch=batch, texts=texts, seed=seed, progress=progress)
        passes.work_off()
        log = passes.log()
        found = {case.case_id: case for case in map(decode_case, log.rows(log.entries))}
    cases = tuple(found[record.case_id] for record in records)
    return Scores(Report.of_cases(cases, {**lm.identity, **opened.signature, "records": len(records)}), cases)


def trace(lm: LanguageModel, prompt: str, *, subject: str, others: Sequence[str] = (), **settings: Any) -> CausalTrace:
    """Return the causal trace of what `lm` says after `prompt`; the model stays as it is.

    prompt: text with `{}` for the subject. others: with `corrupt="swap"`, subjects that may take its place: the first
    with as many tokens and another answer does. settings: fields of `TraceSettings` by name, such as `kinds=("state",)`
    or `method="attribution"`; `noise` is by default measured on this subject alone.

    Raises ConfigError for a setting that does not exist or makes no sense, DataError if none of `others` fits.
    """
    fact = TracedFact(0, "prompt", prompt, subject, None, tuple((other, None) for other in others))
    chosen = _trace_settings(settings)
    (made,) = Tracer.of(lm, chosen, [subject]).trace([fact])
    if isinstance(made, Untraced):
        raise DataError(f"none of {len(others)} other subjects has as many tokens as {subject!r} and another answer")
    return made


def trace_records(
    lm: LanguageModel,
    records: Sequence[Record],
    *,
    pairs: Callable[[Record], Sequence[tuple[str, str]]] | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> list[CausalTrace | Untraced]:
    """Return the causal trace of each record's rewrite prompt, or an `Untraced` that says why there is none.

    pairs: with `corrupt="swap"`, a function from a record to other subjects with their objects, such as a
    `RecordMaker`'s `pairs`; by default they are these records' own. settings: as in `trace`, but noise is measured on
    all of the records' subjects. `AverageEffects.of` averages traces. Raises ConfigError as `trace` does.
    """
    chosen = _trace_settings(settings)
    others = pairs or SubjectPairs.of_records(records if chosen.corrupt == SWAP else (), chosen.seed).others
    facts = [fact_to_trace(record, others) for record in records]
    tracer = Tracer.of(lm, chosen, [record.subject.label for record in records])
    return tracer.trace(facts, lambda count: progress("restored states", count, None))


@dataclass(frozen=True)
class HeatMap:
    """A drawing of a causal trace, which a notebook shows where it is the last value of a cell."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> None:
        """Write the drawing as an SVG file."""
        write_atomic(Path(path), [self.svg])


def heat_map(trace: CausalTrace, kind: str = "state", metric: str = PROBABILITY) -> HeatMap:
    """Return the heat map of a trace: the token against the layer at which something was restored.

    trace: what `trace` or `trace_records` returned. kind: one of those that were restored: `state`, `mlp` or
    `attention`. metric: the one that was traced by. Raises ConfigError for a kind that the trace does not have.
    """
    from cfbuild.views.page.heat import heat_map_of  # pages' templates are loaded with it

    if kind not in trace.maps:
        raise ConfigError(f"the trace has no kind {kind!r}; expected one of {', '.join(trace.maps)}")
    return HeatMap(heat_map_of(trace, kind, metric))


def _trace_settings(settings: dict[str, Any]) -> TraceSettings:
    known = [one.name for one in fields(TraceSettings)]
    unknown = sorted(settings.keys() - {*known})
    if unknown:
        raise ConfigError(f"traces have no setting {', '.join(unknown)}; expected some of {', '.join(known)}")
    return TraceSettings(**settings)


def read_records(path: str | Path) -> list[Record]:
    """Return the records of the CounterFact file `path` (a JSON array or JSON lines).

    Raises DataError naming the first violation if the file breaks the schema or a rule, or cannot be read.
    """
    read = read_record_file(Path(path))
    if read.violations:
        raise DataError(f"{read.violations[0]} ({len(read.violations)} violations in all)")
    return read.records


def write_records(records: Sequence[Record], path: str | Path) -> None:
    """Write records as JSON lines, or as one JSON array where the path ends in `.json`; the file is replaced whole."""
    target, rows = Path(path), list(map(encode_record, records))
    if target.suffix == ".json":
        write_json(target, rows)
    else:
        write_jsonl(target, rows)


def _open(
    lm: LanguageModel, editor: str, corpus: Any, settings: dict[str, Any], progress: Progress = silent
) -> OpenEditor:
    """Return an editor with supplies for it; of `settings`, what supplies are made by is taken out."""
    asked = dict(settings)
    supplies = ModelSupplies(
        lm,
        corpus=corpus,
        covariance_of=asked.pop("covariance", "build"),
        tokens=asked.pop("covariance_tokens", None),
        seed=asked.pop("seed", 0),
        progress=progress,
    )
    return open_editor(editor, lm, asked, supplies)


def _snapshot_corpus() -> Corpus:
    """Return the bundled facts as sentences: what C is computed over where there are no records."""
    facts = snapshot()
    graph = FactGraph(facts.facts, facts.entities, facts.language)
    return build_corpus((), list(Builder(graph, facts.templates, BuildOptions()).references()))
