"""`cfbuild validate-and-score`: schema and rules first, then an editor on every record, then the paper's table."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cfbuild import __version__
from cfbuild.audit.validate import RowTally, read_valid, violations
from cfbuild.data import CaseScore, Record, Reference, Request
from cfbuild.edit import EDITORS
from cfbuild.edit.corpus import Corpus, of_texts, open_corpus
from cfbuild.edit.covariance import Covariance, key_covariance, load_covariance
from cfbuild.edit.editor import Editor, Setting, check_name, open_editor
from cfbuild.errors import ConfigError, SchemaError
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.sample import sample_contexts
from cfbuild.pipeline.report import write_page
from cfbuild.progress import Progress, silent
from cfbuild.score.cases import score_cases
from cfbuild.score.table import make_report
from cfbuild.score.texts import ReferenceTexts
from cfbuild.store.codec import decode_case, decode_record, decode_reference, encode_case
from cfbuild.store.files import sha256_file, sha256_text
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_values, write_json, write_jsonl
from cfbuild.store.rowlog import RowLog
from cfbuild.store.schema import Violation, conforming

VERB = "validate-and-score"
CASES_AT_ONCE = 16
"""Records edited and scored together: what an interruption loses, at most. The bytes depend on it, so it is fixed."""
DEFAULT_COVARIANCE_TOKENS = 100_000
SHORT = ("layer", "steps", "key_mode")
"""Settings of editors that have an option of their own."""


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What `validate-and-score` can be told; None means the preset's or the editor's.

    `settings` are an editor's by name; `layer`, `steps` and `key_mode` are settings too. `file` is any
    CounterFact-format file, None the build's records. `covariance` is `build`, `none`, an .npz file, a text file or
    `hub:NAME`. `skip_invalid` scores the valid rows of a file that has others.
    """

    file: Path | None = None
    editor: str = "rome"
    limit: int | None = None
    skip_generation: bool = False
    skip_invalid: bool = False
    seed: int = 0
    layer: int | None = None
    key_mode: str | None = None
    steps: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    covariance: str = "build"
    covariance_tokens: int = DEFAULT_COVARIANCE_TOKENS
    restart: bool = False

    def __post_init__(self) -> None:
        check_name(self.editor)
        for name in ("limit", "covariance_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")


def validate(path: Path, tally: RowTally) -> Iterator[Violation]:
    """Everything wrong with a file of records; `tally` counts its rows. Raises DataError if it cannot be read."""
    yield from violations(path, tally)


def evaluate(
    folder: BuildFolder, options: EvaluateOptions, lm: LanguageModel, progress: Progress = silent
) -> dict[str, Any]:
    """Edit and score every record; write cases.jsonl, report.json and report.html; return the report.

    An interrupted run goes on after its last finished chunk, with the same bytes; a finished one is not repeated.
    Raises SchemaError if the file has violations and `skip_invalid` is not set; see also the errors of the editor.
    """
    path = options.file or folder.require("records.jsonl")
    with folder.lock(VERB):
        report = _evaluate(folder, options, lm, path, progress)
        write_page(folder, options.file)
    return report


def _evaluate(
    folder: BuildFolder, options: EvaluateOptions, lm: LanguageModel, path: Path, progress: Progress
) -> dict[str, Any]:
    """What `evaluate` does inside the lock."""
    config = _config(folder, options, lm, path)
    if not folder.begin(VERB, config, restart=options.restart):
        folder.discard(VERB)  # a run may have been killed between its last two steps
        return make_report(_cases(folder), _signature_of(folder))
    records = _records(path, options)
    references = _references(folder)
    editor = make_editor(lm, options, records, references, progress)
    log = RowLog(folder.progress(VERB) / "rows.jsonl")
    _work_off(lm, editor, records, references, options, log, progress)
    signature = _signature(lm, editor, options, path, len(records))
    write_jsonl(folder.path("cases.jsonl"), log.rows(log.entries))
    cases = _cases(folder)
    report = make_report(cases, signature)
    write_json(folder.path("report.json"), report)
    folder.finish(VERB, config, {"cases.jsonl": len(cases), "report.json": 1}, {"signature": signature})
    folder.discard(VERB)
    return report


def _config(folder: BuildFolder, options: EvaluateOptions, lm: LanguageModel, path: Path) -> dict[str, Any]:
    config = {**asdict(options), "file": None, "records": sha256_file(path), "cfbuild": __version__}
    del config["restart"]
    chosen = _chosen(options, lm)
    config |= {name: chosen.pop(name, None) for name in SHORT} | {"settings": chosen}
    config["covariance"] = _covariance_name(options.covariance)
    references = folder.path("references.jsonl")
    return {
        **config,
        "references": sha256_file(references) if references.is_file() else None,
        **lm.identity,
    }


def _asked(options: EvaluateOptions) -> dict[str, Any]:
    """The editor's settings that were asked for, however they were."""
    short = {name: getattr(options, name) for name in SHORT}
    return {**{name: value for name, value in short.items() if value is not None}, **options.settings}


def _chosen(options: EvaluateOptions, lm: LanguageModel) -> dict[str, Any]:
    """What was asked for that the editor would not do anyway; an editor of one's own does not tell what it would."""
    asked = _asked(options)
    if not asked or options.editor not in EDITORS:
        return asked
    bare = Setting(options.editor, lm, {}, contexts=lambda: (), covariance=lambda layer: None)
    usual = open_editor(bare).signature
    return {name: value for name, value in asked.items() if name not in usual or usual[name] != value}


def _cases(folder: BuildFolder) -> list[CaseScore]:
    return list(read_values(folder.path("cases.jsonl"), conforming("cases", decode_case)))


def _covariance_name(spec: str) -> str:
    """What C is computed of, without a path of this machine, and another name when the file changes."""
    path = Path(spec).expanduser()
    if path.is_file():
        return f"{path.name}@{sha256_file(path)[:16]}"
    if spec.endswith(".npz"):
        raise ConfigError(f"covariance {spec}: no such file")
    return spec if spec in ("build", "none") else open_corpus(spec).name


def _records(path: Path, options: EvaluateOptions) -> list[Record]:
    if not options.skip_invalid:
        tally = RowTally()
        found = sum(1 for _ in violations(path, tally))
        if found:
            raise SchemaError(
                f"{path}: {tally.faulty} of {tally.rows} rows have {found} violations; run with --validate-only to see "
                "them, or with --skip-invalid to score the rows that are valid"
            )
    records = [decode_record(row) for row in read_valid(path)]
    return records[: options.limit]


def _references(folder: BuildFolder) -> list[Reference]:
    path = folder.path("references.jsonl")
    return list(read_values(path, conforming("references", decode_reference))) if path.is_file() else []


def make_editor(
    lm: LanguageModel,
    options: EvaluateOptions,
    records: Sequence[Record],
    references: Sequence[Reference],
    progress: Progress,
) -> Editor:
    setting = Setting(
        editor=options.editor,
        lm=lm,
        asked=_asked(options),
        contexts=lambda: sample_contexts(lm, options.seed),
        covariance=lambda layer: _covariance(lm, layer, options, records, references, progress),
    )
    return open_editor(setting)


def _covariance(
    lm: LanguageModel,
    layer: int,
    options: EvaluateOptions,
    records: Sequence[Record],
    references: Sequence[Reference],
    progress: Progress,
) -> Covariance | None:
    if options.covariance == "none":
        return None
    if options.covariance.endswith(".npz"):
        return load_covariance(Path(options.covariance).expanduser(), lm.key_width(layer))
    corpus = _build_corpus(records, references) if options.covariance == "build" else open_corpus(options.covariance)
    return key_covariance(lm, layer, corpus.texts, corpus.name, options.covariance_tokens, progress)


def _build_corpus(records: Sequence[Record], references: Sequence[Reference]) -> Corpus:
    """What the build itself says that is true, each text once, in an order that mixes relations."""
    texts = {reference.text for reference in references}
    for record in records:
        true, new = record.target_true.label, record.target_new.label
        texts |= {f"{record.rewrite} {true}."} | {f"{one.text} {true}." for one in record.paraphrases}
        texts |= {f"{one.text} {true}." for one in record.neighborhood} | {
            f"{one.text} {new}." for one in record.attribute
        }
        texts |= set(record.generation)
    ordered = sorted(texts)
    random.Random("build corpus").shuffle(ordered)
    return of_texts("build", ordered)


def _work_off(
    lm: LanguageModel,
    editor: Editor,
    records: Sequence[Record],
    references: Sequence[Reference],
    options: EvaluateOptions,
    log: RowLog,
    progress: Progress,
) -> None:
    texts = None if options.skip_generation else ReferenceTexts(references)
    progress("records", len(log.entries), len(records))
    for start in range(len(log.entries), len(records), CASES_AT_ONCE):
        chunk = records[start : start + CASES_AT_ONCE]
        requests = [Request(one.prompt.text, one.subject.label, one.target_new.label) for one in chunk]
        edits = editor.edit(requests, partial(_count_edits, progress, start, len(records)))
        cases = score_cases(lm, chunk, edits, options.editor, texts, seed=options.seed)
        log.append(map(encode_case, cases))
        progress("records", start + len(chunk), len(records))


def _count_edits(progress: Progress, before: int, total: int, count: int) -> None:
    progress("edits", before + count, total)


def _signature(lm: LanguageModel, editor: Editor, options: EvaluateOptions, path: Path, count: int) -> dict[str, Any]:
    settings = dict(editor.signature)
    if contexts := settings.get("contexts"):
        settings["contexts"] = f"{len(contexts)}@{sha256_text(chr(0).join(contexts))[:12]}"
    return {
        **lm.identity,
        **settings,
        "records": f"{count}@{sha256_file(path)[:12]}",
        "generation": "none" if options.skip_generation else f"top-k 5, 100 tokens, seed {options.seed}",
    }


def _signature_of(folder: BuildFolder) -> dict[str, Any]:
    signature: dict[str, Any] = folder.manifest()["verbs"][VERB]["signature"]
    return signature
