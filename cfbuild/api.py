"""The functions of the public API that join several rooms, for a notebook. None of them needs a build folder.

`cfbuild/__init__.py` offers them beside the rooms' own values, and imports each when it is first used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """Return the negative log-likelihood of each continuation of a prompt, in nats per token: the less, the likelier.

    Args:
        lm: A model that `load_model` returned.
        prompt: The text that is continued, such as "LeBron James plays the sport of".
        continuations: Texts that may follow the prompt, such as ["football", "basketball"]. Each stands behind one
            space, which is not part of it, or directly behind the prompt in a script without spaces.

    Returns:
        As many numbers as continuations, each from 0 up: the mean of -log p over the continuation's tokens.

    Raises:
        ModelError: A continuation has no tokens.

    Example:
        `nll(lm, "LeBron James plays the sport of", ["football", "basketball"])` might be `[4.71, 1.08]`.
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

    No true object is given: `kn` takes the token that the model itself finds likeliest.

    Args:
        lm: A model that `load_model` returned.
        prompt: A text with one `{}` for the subject, such as "{} plays the sport of".
        subject: The subject's name, such as "LeBron James".
        target: The new object, without a space in front, such as "football".
        editor: An editor's name, such as "rome" or "memit" (`cfbuild validate-and-score --help` lists them), or
            "module:attribute" for an editor of your own.
        **settings: The editor's settings by name, such as `layer=5`; and `seed` (default 0), `covariance` and
            `covariance_tokens` as in `score`, except that `covariance="build"` means the bundled facts.

    Raises:
        ConfigError: The editor or a setting does not exist, or a value does not fit.
        EditError: The edit failed, for example because it is not finite.

    Example:
        `edit(lm, "{} plays the sport of", subject="LeBron James", target="football", layer=5)`
    """
    opened = _open(lm, editor, _snapshot_corpus, settings)
    (made,) = opened.edit([Request(prompt, subject, target)])
    if made.fault is not None:
        raise EditError(f"{editor} on {subject!r}: {made.fault}")
    return made


@dataclass(frozen=True)
class Scores:
    """The scores of records before and after their edits.

    `report` holds the figures with their intervals, `cases` the scores of each record, in the order of the records.
    """

    report: Report
    cases: tuple[CaseScore, ...]

    def table(self) -> str:
        """Return the paper's table as text: the unedited model on top, the editor below."""
        return ScoreTable.of({self.report.editor: self.report}).as_text()

    def as_dict(self) -> dict[str, Any]:
        """Return the content of report.json: the signature, figures before and after, by relation, and failed edits."""
        return self.report.as_dict()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row of cases.jsonl for each record: its prompts' likelihoods, its texts, the edit's statistics."""
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
    """Return the paper's scores of `records` before and after each is edited into `lm`; the model stays as it is.

    Args:
        lm: A model that `load_model` returned.
        records: Records with distinct case ids, such as `read_records` or `RecordMaker.make` returns.
        editor: An editor's name, or "module:attribute" for an editor of your own, as in `edit`.
        references: Texts with which generated texts are compared (RS), such as `[Reference(...), ...]`. None: no texts
            are generated, and GE and RS are missing.
        batch: The number of records that are edited together, at least 1, by an editor that does so (`memit` edits
            100 by default). Other editors ignore it.
        progress: A function that gets what is being done, how much is done, and the total (None if unknown), such as
            `lambda task, done, total: print(task, done, total)`.
        **settings: The editor's settings by name, such as `layer=5`; and
            `seed` (default 0) of all random choices;
            `covariance`, the text over which C is computed: "build" (default: the true statements of the records and
            references), "none" (no C), a text file, "hub:NAME" (a dataset), or an .npz file that holds C;
            `covariance_tokens`, the number of that text's tokens (default 100,000, or 10 for each number of a key if
            that is more).

    Raises:
        ConfigError: The editor or a setting does not exist, or a value does not fit.
        DataError: Two records have the same case id.

    Example:
        `print(score(lm, read_records("records.jsonl"), "rome", layer=5).table())`
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
        scored = {case.case_id: case for case in map(decode_case, log.rows(log.entries))}
    cases = tuple(scored[record.case_id] for record in records)
    return Scores(Report.of_cases(cases, {**lm.identity, **opened.signature, "records": len(records)}), cases)


def trace(lm: LanguageModel, prompt: str, *, subject: str, others: Sequence[str] = (), **settings: Any) -> CausalTrace:
    """Return the causal trace of what `lm` says after `prompt`; the model stays as it is.

    Args:
        lm: A model that `load_model` returned.
        prompt: A text with one `{}` for the subject, such as "{} plays the sport of".
        subject: The subject's name, such as "LeBron James".
        others: Subjects that may take its place, for `corrupt="swap"`, such as ["Roger Federer", "Pelé"]. The first
            one with as many tokens and another answer is used.
        **settings: Fields of `TraceSettings` by name, such as `kinds=("state",)`, `rows=4` or
            `method="attribution"`. `noise` is by default 3 times the standard deviation of this subject's embeddings.

    Raises:
        ConfigError: A setting does not exist, or a value does not fit.
        DataError: None of `others` fits.

    Example:
        `trace(lm, "{} plays the sport of", subject="LeBron James").effects["state"]` is an array [tokens, layers].
    """
    fact = TracedFact(0, "prompt", prompt, subject, None, tuple((other, None) for other in others))
    trace_settings = _trace_settings(settings)
    (traced,) = Tracer(lm, trace_settings, [subject]).trace([fact])
    if isinstance(traced, Untraced):
        raise DataError(f"none of {len(others)} other subjects has as many tokens as {subject!r} and another answer")
    return traced


def trace_records(
    lm: LanguageModel,
    records: Sequence[Record],
    *,
    pairs: Callable[[Record], Sequence[tuple[str, str]]] | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> list[CausalTrace | Untraced]:
    """Return the causal trace of each record's rewrite prompt, or an `Untraced` with the reason why there is none.

    `AverageEffects.of` averages the traces.

    Args:
        lm: A model that `load_model` returned.
        records: Records such as `read_records` returns.
        pairs: For `corrupt="swap"`, a function that returns the other subjects of a record with their objects, such as
            [("Pelé", "football")]; a `RecordMaker` has one, `pairs`. None: the subjects of these records.
        progress: A function as in `score`; it gets the number of restored states.
        **settings: Settings as in `trace`, except that `noise` is measured on the subjects of all records.

    Raises:
        ConfigError: A setting does not exist, or a value does not fit.

    Example:
        `trace_records(lm, records, kinds=("mlp",), window=5)`
    """
    trace_settings = _trace_settings(settings)
    swapped = records if trace_settings.corrupt == SWAP else ()
    others = pairs or SubjectPairs.of_records(swapped, trace_settings.seed).others
    facts = [fact_to_trace(record, others) for record in records]
    tracer = Tracer(lm, trace_settings, [record.subject.label for record in records])
    return tracer.trace(facts, lambda count: progress("restored states", count, None))


@dataclass(frozen=True)
class HeatMap:
    """A drawing of a causal trace as SVG text; a notebook shows it if it is the last value of a cell."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> None:
        """Write the drawing to the SVG file `path`, such as "trace.svg"."""
        write_atomic(Path(path), [self.svg])


def heat_map(trace: CausalTrace, kind: str = "state", metric: str = PROBABILITY) -> HeatMap:
    """Return the heat map of a trace: tokens from top to bottom, layers from left to right.

    Args:
        trace: A trace that `trace` or `trace_records` returned.
        kind: What was restored: "state", "mlp" or "attention", if the trace has it.
        metric: The metric of the trace, "probability" or "logit-difference", for the drawing's words.

    Raises:
        ConfigError: The trace does not have this kind.

    Example:
        `heat_map(trace(lm, "{} lies in", subject="Rome"), "mlp").save("trace.svg")`
    """
    from cfbuild.views.page.heat import heat_map_of  # pages' templates are loaded with it

    if kind not in trace.maps:
        raise ConfigError(f"the trace has no kind {kind!r}; expected one of {', '.join(trace.maps)}")
    return HeatMap(heat_map_of(trace, kind, metric))


def _trace_settings(settings: dict[str, Any]) -> TraceSettings:
    names = [field.name for field in fields(TraceSettings)]
    unknown = sorted(settings.keys() - {*names})
    if unknown:
        raise ConfigError(f"traces have no setting {', '.join(unknown)}; expected some of {', '.join(names)}")
    return TraceSettings(**settings)


def read_records(path: str | Path) -> list[Record]:
    """Return the records of a CounterFact file, in its order.

    Args:
        path: A JSON array or JSON lines, such as "records.jsonl", plain or compressed by gzip, bzip2 or xz.

    Raises:
        DataError: The file cannot be read, or breaks the schema or a rule; the message names the first violation.

    Example:
        `read_records("records.jsonl")[0].rewrite` might be "The mother tongue of Danielle Darrieux is".
    """
    read = read_record_file(Path(path))
    if read.violations:
        raise DataError(f"{read.violations[0]} ({len(read.violations)} violations in all)")
    return read.records


def write_records(records: Sequence[Record], path: str | Path) -> None:
    """Write records as JSON lines, or as one JSON array if the path ends in `.json`.

    A file that is there is replaced once the new one is whole.

    Args:
        records: Records to write, in this order.
        path: The file, such as "records.jsonl".

    Example:
        `write_records(records, "records.json")`
    """
    target, rows = Path(path), list(map(encode_record, records))
    if target.suffix == ".json":
        write_json(target, rows)
    else:
        write_jsonl(target, rows)


def _open(
    lm: LanguageModel,
    editor: str,
    corpus: Callable[[], Corpus],
    settings: Mapping[str, Any],
    progress: Progress = silent,
) -> OpenEditor:
    """Return an editor with supplies for it; `settings` are those of the editor and of its supplies."""
    editor_settings = dict(settings)
    supplies = ModelSupplies(
        lm,
        corpus=corpus,
        covariance_of=editor_settings.pop("covariance", "build"),
        tokens=editor_settings.pop("covariance_tokens", None),
        seed=editor_settings.pop("seed", 0),
        progress=progress,
    )
    return open_editor(editor, lm, editor_settings, supplies)


def _snapshot_corpus() -> Corpus:
    """Return the bundled facts as sentences, over which C is computed if there are no records."""
    facts = snapshot()
    graph = FactGraph(facts.facts, facts.entities, facts.language)
    return build_corpus((), list(Builder(graph, facts.templates, BuildOptions()).references()))
