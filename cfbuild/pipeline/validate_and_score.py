"""`cfbuild validate-and-score`: schema and rules first, then an editor on every record, then the paper's table.

Editing and scoring are two passes over each unit of records (a chunk, or a batch that is edited together): the edits
of a unit are kept as work in progress, so a run that is interrupted between them goes on with scoring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from cfbuild import __version__
from cfbuild.audit.validate import RecordFile, read_records
from cfbuild.data import Record, Reference, Request
from cfbuild.edit.editor import Edit, OpenEditor, check_name, editor_spec, open_editor, settled_options
from cfbuild.edit.saved import load_edits, save_edits
from cfbuild.edit.supplies import BUILD, COVARIANCE_TOKENS, ModelSupplies, build_corpus, covariance_name
from cfbuild.errors import ConfigError, DataError, SchemaError
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.report import write_page
from cfbuild.progress import Progress, silent
from cfbuild.score.cases import score_cases
from cfbuild.score.scored import read_cases
from cfbuild.score.table import Report
from cfbuild.score.texts import ReferenceTexts
from cfbuild.store.codec import decode_reference, encode_case
from cfbuild.store.files import sha256_file, sha256_text
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_values, write_json, write_jsonl
from cfbuild.store.rowlog import RowLog
from cfbuild.store.runs import CASES, EDITS, REPORT, VERB, Run, default_name, new_run
from cfbuild.store.schema import conforming

CASES_AT_ONCE = 16
"""Records edited and scored together: what an interruption loses, at most. The bytes depend on it, so it is fixed."""
TOGETHER = 100
"""Records that a batch editor edits together unless `--batch` says otherwise (AlphaEdit's and UltraEdit's number)."""
SHORT = ("layer", "steps", "key_mode")
"""Settings of editors that have an option of their own."""


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What `validate-and-score` can be told; None means the preset's or the editor's.

    `settings` are an editor's by name; `layer`, `steps` and `key_mode` are settings too. `run` names the run (None: the
    editor's name). `batch` is how many records an editor that edits them together gets at a time. `file` is any
    CounterFact-format file, None the build's records. `covariance` is `build`, `none`, an .npz file, a text file or
    `hub:NAME`. `skip_invalid` scores the valid rows of a file that has others; `keep_edits` writes edits.safetensors.
    """

    file: Path | None = None
    run: str | None = None
    editor: str = "rome"
    limit: int | None = None
    batch: int | None = None
    skip_generation: bool = False
    skip_invalid: bool = False
    keep_edits: bool = False
    seed: int = 0
    layer: int | None = None
    key_mode: str | None = None
    steps: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    covariance: str = BUILD
    covariance_tokens: int = COVARIANCE_TOKENS
    restart: bool = False

    def __post_init__(self) -> None:
        check_name(self.editor)
        for name in ("limit", "batch", "covariance_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")

    @property
    def name(self) -> str:
        """The run's name: the one asked for, or the editor's."""
        return self.run or default_name(self.editor)

    @property
    def asked(self) -> dict[str, Any]:
        """The editor's settings that were asked for, however they were."""
        short = {name: getattr(self, name) for name in SHORT}
        return {**{name: value for name, value in short.items() if value is not None}, **self.settings}


def evaluate(
    folder: BuildFolder,
    options: EvaluateOptions,
    lm: LanguageModel,
    progress: Progress = silent,
    read: RecordFile | None = None,
) -> Report:
    """Edit and score every record; write the run's cases.jsonl and report.json, and report.html; return the report.

    `read` is the file of records where it was read before. An interrupted run goes on after its last finished chunk,
    with the same bytes; a finished one is not repeated. Raises SchemaError if the file has violations and
    `skip_invalid` is not set; see also the errors of the editor.
    """
    read = read or read_records(options.file or folder.require("records.jsonl"))
    run = new_run(folder, options.name)
    with folder.lock(VERB):
        report = _evaluate(run, options, lm, read, progress)
        write_page(folder, options.file, read)
    return report


def _evaluate(run: Run, options: EvaluateOptions, lm: LanguageModel, read: RecordFile, progress: Progress) -> Report:
    """Return the report of a run, made or already there; called inside the lock."""
    folder = run.folder
    config = _config(folder, options, lm, read.sha256)
    if not folder.begin(run.entry, config, restart=options.restart):
        folder.discard(run.entry)  # a run may have been killed between its last two steps
        return Report.of_cases(list(read_cases(run)), run.record["signature"])
    if read.violations and not options.skip_invalid:
        raise SchemaError(
            f"{read.path}: {read.tally.faulty} of {read.tally.rows} rows have {len(read.violations)} violations; run "
            "with --validate-only to see them, or with --skip-invalid to score the rows that are valid"
        )
    records = read.records[: options.limit]
    references = _references(folder)
    editor = make_editor(lm, options, records, references, progress)
    job = _Job(run, lm, editor, records, options, progress)
    job.work_off(None if options.skip_generation else ReferenceTexts(references))
    files = job.write()
    signature = _signature(job, read.sha256)
    report = Report.of_cases(list(read_cases(run)), signature)
    write_json(run.path(REPORT), report.as_dict())
    folder.finish(run.entry, config, {**files, run.file(REPORT): 1}, {"signature": signature})
    folder.discard(run.entry)
    return report


def _config(folder: BuildFolder, options: EvaluateOptions, lm: LanguageModel, digest: str) -> dict[str, Any]:
    """Return everything that the run's bytes depend on; `digest` is that of the file of records."""
    spec = editor_spec(options.editor)
    config = {**asdict(options), "file": None, "records": digest, "cfbuild": __version__}
    del config["restart"], config["run"]
    chosen = _chosen(options, lm)
    config |= {name: chosen.pop(name, None) for name in SHORT} | {"settings": chosen}
    config["batch"] = (options.batch or TOGETHER) if spec.together else None
    if "covariance" in spec.needs:
        config["covariance"] = covariance_name(options.covariance)
    else:
        config["covariance"] = config["covariance_tokens"] = None
    references = folder.path("references.jsonl")
    return {
        **config,
        "references": sha256_file(references) if references.is_file() else None,
        **lm.identity,
    }


def _chosen(options: EvaluateOptions, lm: LanguageModel) -> dict[str, Any]:
    """Return what was asked for that the editor would not do anyway."""
    settled_options(options.editor, lm, options.asked)  # refuses what the editor does not know
    usual = settled_options(options.editor, lm, {})
    return {name: value for name, value in options.asked.items() if getattr(usual, name) != value}


def _references(folder: BuildFolder) -> list[Reference]:
    path = folder.path("references.jsonl")
    return list(read_values(path, conforming("references", decode_reference))) if path.is_file() else []


def make_editor(
    lm: LanguageModel,
    options: EvaluateOptions,
    records: Sequence[Record],
    references: Sequence[Reference],
    progress: Progress,
) -> OpenEditor:
    """Return the editor that the options ask for; `records` and `references` are the texts of `--covariance build`."""
    supplies = ModelSupplies(
        lm,
        corpus=lambda: build_corpus(records, references),
        covariance_of=options.covariance,
        tokens=options.covariance_tokens,
        seed=options.seed,
        progress=progress,
    )
    return open_editor(options.editor, lm, options.asked, supplies)


@dataclass(frozen=True)
class _Job:
    """One run at work: its records, its editor, and its unfinished files."""

    run: Run
    lm: LanguageModel
    editor: OpenEditor
    records: Sequence[Record]
    options: EvaluateOptions
    progress: Progress

    @property
    def folder(self) -> Path:
        """Where what is unfinished lies."""
        return self.run.folder.progress(self.run.entry)

    def log(self) -> RowLog:
        """Return the log of finished cases."""
        return RowLog(self.folder / "rows.jsonl")

    def units(self) -> list[list[Record]]:
        """Return the records that are edited by one call each: fixed chunks, or batches that are edited together."""
        if self.editor.together:
            return batches(self.records, self.options.batch or TOGETHER)
        places = range(0, len(self.records), CASES_AT_ONCE)
        return [list(self.records[start : start + CASES_AT_ONCE]) for start in places]

    def work_off(self, texts: ReferenceTexts | None) -> None:
        """Edit and score what is not scored yet, unit by unit."""
        log = self.log()
        scored = {entry.case_id for entry in log.entries}
        edited = 0
        self.progress("records", len(scored), len(self.records))
        for number, unit in enumerate(self.units()):
            left = [record for record in unit if record.case_id not in scored]
            if left or (self.options.keep_edits and not self._edits_file(number).is_file()):
                self._score(log, left, self._edits(number, unit, edited), texts)
            if not self.options.keep_edits:
                self._edits_file(number).unlink(missing_ok=True)
            edited += len(unit)

    def _edits_file(self, number: int) -> Path:
        return self.folder / f"edits-{number:06d}.safetensors"

    def _edits(self, number: int, unit: Sequence[Record], before: int) -> dict[int, Edit]:
        """Return the edit of each record of a unit by case id, made now or before an interruption."""
        file = self._edits_file(number)
        case_ids = [record.case_id for record in unit]
        if file.is_file():
            try:
                return _by_case(load_edits(file), case_ids)
            except DataError:
                file.unlink()  # cut short by whatever ended the run: made again
        requests = [request_of(record) for record in unit]
        made = self.editor.edit(requests, partial(_count_edits, self.progress, before, len(self.records)))
        named = [replace(edit, records=tuple(case_ids[place] for place in edit.records)) for edit in made]
        save_edits(file, named)
        return _by_case(named, case_ids)

    def _score(
        self, log: RowLog, left: Sequence[Record], edits: Mapping[int, Edit], texts: ReferenceTexts | None
    ) -> None:
        for start in range(0, len(left), CASES_AT_ONCE):
            chunk = left[start : start + CASES_AT_ONCE]
            own = [edits[record.case_id] for record in chunk]
            cases = score_cases(self.lm, chunk, own, self.editor.name, texts, seed=self.options.seed)
            log.append(map(encode_case, cases))
            self.progress("records", len(log.entries), len(self.records))

    def write(self) -> dict[str, int]:
        """Put the run's cases, in the records' order, and its edits in place; return how many rows each file has."""
        log = self.log()
        place = {record.case_id: number for number, record in enumerate(self.records)}
        entries = sorted(log.entries, key=lambda entry: place[entry.case_id])
        self.run.path(CASES).parent.mkdir(parents=True, exist_ok=True)
        files = {self.run.file(CASES): write_jsonl(self.run.path(CASES), log.rows(entries))}
        if self.options.keep_edits:
            edits = [edit for number in range(len(self.units())) for edit in load_edits(self._edits_file(number))]
            save_edits(self.run.path(EDITS), edits)
            files[self.run.file(EDITS)] = len(edits)
        return files


def batches(records: Sequence[Record], size: int) -> list[list[Record]]:
    """Return records in batches of `size` that are edited together, in order, no two of a batch about one (s, r).

    A record whose fact another of the batch is about goes into a later batch: one edit cannot make both true.
    """
    filled: list[list[Record]] = []
    facts: list[set[tuple[str, str]]] = []
    first_open = 0
    for record in records:
        fact = (record.subject.id or record.subject.label, record.relation)
        number = first_open
        while number < len(filled) and (len(filled[number]) >= size or fact in facts[number]):
            number += 1
        if number == len(filled):
            filled.append([])
            facts.append(set())
        filled[number].append(record)
        facts[number].add(fact)
        while first_open < len(filled) and len(filled[first_open]) >= size:
            first_open += 1
    return filled


def request_of(record: Record) -> Request:
    """Return what an editor is asked for a record."""
    return Request(record.prompt.text, record.subject.label, record.target_new.label)


def _by_case(edits: Sequence[Edit], case_ids: Sequence[int]) -> dict[int, Edit]:
    found = {case_id: edit for edit in edits for case_id in edit.records}
    if set(found) != set(case_ids):
        raise DataError("edits of other records than the unit's")
    return found


def _count_edits(progress: Progress, before: int, total: int, count: int) -> None:
    progress("edits", before + count, total)


def _signature(job: _Job, digest: str) -> dict[str, Any]:
    """Return everything that the run's figures depend on, in words short enough for a report."""
    settings = dict(job.editor.signature)
    if contexts := settings.get("contexts"):
        settings["contexts"] = f"{len(contexts)}@{sha256_text(chr(0).join(contexts))[:12]}"
    options = job.options
    together = {"batch": options.batch or TOGETHER} if job.editor.together else {}
    return {
        **job.lm.identity,
        **settings,
        **together,
        "records": f"{len(job.records)}@{digest[:12]}",
        "generation": "none" if options.skip_generation else f"top-k 5, 100 tokens, seed {options.seed}",
    }
