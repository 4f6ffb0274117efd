"""`cfbuild score-base`: the likelihoods that unedited models give to the targets of every prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from cfbuild import __version__
from cfbuild.data import CaseScore, PromptScore, Record, StageScore
from cfbuild.errors import ConfigError, check_least
from cfbuild.lm.families import DEFAULT_PRESET
from cfbuild.lm.selection import MODELS, device_option, dtype_option
from cfbuild.option import ABOUT_MODEL, option, restart_option
from cfbuild.progress import Progress, silent
from cfbuild.records.prompts import prompts_of, stays_true
from cfbuild.store.codec import decode_record, decode_score, encode_score
from cfbuild.store.files import sha256_file, write_atomic
from cfbuild.store.jsonl import Row, read_rows, read_values
from cfbuild.store.rowlog import RowLog
from cfbuild.store.runs import BASE, LIKELIHOODS, Run, new_run
from cfbuild.store.schema import conforming

if TYPE_CHECKING:
    from cfbuild.lm.model import LanguageModel
    from cfbuild.score.metrics import Figure
    from cfbuild.store.folder import BuildFolder


@dataclass(frozen=True, slots=True)
class BaseOptions:
    """Options of `cfbuild score-base`. Raises ConfigError if no model is named, or the same model twice."""

    models: tuple[str, ...] = option(
        (DEFAULT_PRESET,),
        "Comma-separated models: presets, Hub ids, folders or .gguf files; NAME@REVISION for a revision.",
        form=MODELS,
        panel=ABOUT_MODEL,
    )
    device: str = device_option()
    dtype: str = dtype_option()
    limit: int | None = option(None, "Score only the first N records. [default: all]")
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        if not self.models or len(set(self.models)) < len(self.models):
            raise ConfigError(f"--models {','.join(self.models)}: expected models, each once")
        check_least(self, limit=1)


@dataclass(frozen=True, slots=True)
class BaseScores:
    """A model's scores before any edit: the path of its rows, the number of prompts, and the paper's figures."""

    model: str
    revision: str
    file: str
    prompts: int
    figures: Mapping[str, Figure]


def base_name(model: str, revision: str) -> str:
    """Return the name of a model's scores, such as `gpt2-xl-15ea56de`: its last part and its revision's beginning."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model.rsplit("/", 1)[-1]).strip("-.") or "model"
    return f"{name[:48]}-{revision.rpartition(':')[2][:8]}"


def score_base(folder: BuildFolder, options: BaseOptions, lm: LanguageModel, progress: Progress = silent) -> BaseScores:
    """Write the likelihoods of both targets after every prompt of the build's records; return the model's scores.

    Raises BuildStateError for work made with other settings, DataError for a record that is not valid.
    """
    run = new_run(folder, base_name(lm.name, lm.revision), BASE)
    path = folder.require("records.jsonl")
    config = {"records": sha256_file(path), "limit": options.limit, "cfbuild": __version__, **lm.identity}
    with folder.lock(BASE):
        if folder.begin(run.entry, config, restart=options.restart):
            records = list(read_values(path, conforming("record", decode_record)))[: options.limit]
            log = RowLog(folder.progress(run.entry) / LIKELIHOODS)
            _score(log, records, lm, progress)
            run.path(LIKELIHOODS).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(run.path(LIKELIHOODS), log.lines(log.entries))
            folder.finish(run.entry, config, {run.file(LIKELIHOODS): len(log.entries)}, {"arithmetic": lm.arithmetic})
    return _summary(run, lm)


def _score(log: RowLog, records: Sequence[Record], lm: LanguageModel, progress: Progress) -> None:
    """Score the records that the log lacks, a chunk at a time, and append their rows to it."""
    from cfbuild.edit.editor import Edit
    from cfbuild.score.cases import score_cases
    from cfbuild.score.passes import cases_at_once

    done = {entry.case_id for entry in log.entries}
    unscored = [record for record in records if record.case_id not in done]
    at_once = cases_at_once(lm.device)
    for start in range(0, len(unscored), at_once):
        chunk = unscored[start : start + at_once]
        cases = score_cases(lm, chunk, [Edit((record.case_id,), None) for record in chunk], "none")
        log.append(row for record, case in zip(chunk, cases, strict=True) for row in _rows(record, case, lm))
        progress("records", len(done) + start + len(chunk), len(records))


def _rows(record: Record, case: CaseScore, lm: LanguageModel) -> Iterator[Row]:
    scores = {kind: iter(scored) for kind, scored in case.pre.prompts.items()}
    for kind, text, new, true in prompts_of(record):
        yield {
            "case_id": record.case_id,
            "relation_id": record.relation,
            "kind": kind,
            "prompt": text,
            "target_new": new.label,
            "target_true": true.label,
            "answer": true.label if stays_true(kind) else new.label,
            **encode_score(next(scores[kind])),
            "model": lm.name,
            "revision": lm.revision,
        }


def _summary(run: Run, lm: LanguageModel) -> BaseScores:
    from cfbuild.score.metrics import aggregate

    count, cases = 0, []
    for (case_id, relation), rows in groupby(
        (row for _, row in read_rows(run.path(LIKELIHOODS))), key=lambda row: (row["case_id"], row["relation_id"])
    ):
        prompts: dict[str, tuple[PromptScore, ...]] = {}
        for row in rows:
            count += 1
            prompts[row["kind"]] = (*prompts.get(row["kind"], ()), decode_score(row))
        cases.append(CaseScore(case_id, relation, "none", StageScore(prompts), None))
    return BaseScores(lm.name, lm.revision, str(run.path(LIKELIHOODS)), count, aggregate(cases, "pre"))
