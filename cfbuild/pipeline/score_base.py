"""`cfbuild score-base`: what models say before any edit, so that nobody has to compute it again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from cfbuild import __version__
from cfbuild.data import CaseScore, PromptScore, Record, StageScore
from cfbuild.errors import ConfigError
from cfbuild.lm.families import DEFAULT_PRESET
from cfbuild.lm.selection import DEVICE, MODELS, NUMBER_FORMAT
from cfbuild.option import ABOUT_MODEL, option, restart_option
from cfbuild.progress import Progress, silent
from cfbuild.records.prompts import prompts_of, stays_true
from cfbuild.store.codec import decode_record
from cfbuild.store.files import sha256_file, write_atomic
from cfbuild.store.jsonl import Row, read_rows, read_values
from cfbuild.store.rowlog import RowLog
from cfbuild.store.runs import BASE, LIKELIHOODS, Run, new_base
from cfbuild.store.schema import conforming

if TYPE_CHECKING:
    from cfbuild.lm.model import LanguageModel
    from cfbuild.score.metrics import Figure
    from cfbuild.store.folder import BuildFolder

FIGURES = ("target_new_nll", "target_true_nll", "target_new_argmax", "target_true_argmax")
"""The figures of a row's prompt."""


@dataclass(frozen=True, slots=True)
class BaseOptions:
    """Options of `cfbuild score-base`. Raises ConfigError where no model is named, or one comes twice."""

    models: tuple[str, ...] = option(
        (DEFAULT_PRESET,),
        "The models, with commas between: presets, Hub ids, folders or .gguf files; NAME@REVISION for a revision.",
        form=MODELS,
        panel=ABOUT_MODEL,
    )
    device: str = option("auto", "auto, cpu, cuda, ...", panel=ABOUT_MODEL, form=DEVICE)
    dtype: str = option("auto", "auto, float32, bfloat16 or float16.", panel=ABOUT_MODEL, form=NUMBER_FORMAT)
    limit: int | None = option(None, "Score only the first N records.")
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        if not self.models or len(set(self.models)) < len(self.models):
            raise ConfigError(f"--models {','.join(self.models)}: expected models, each once")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit}; expected at least 1")


@dataclass(frozen=True, slots=True)
class BaseScores:
    """A model's scores before any edit: its name and revision, the file of its rows, and the paper's figures."""

    model: str
    revision: str
    file: str
    prompts: int
    figures: Mapping[str, Figure]


def base_name(model: str, revision: str) -> str:
    """Return the name of a model's scores: the last part of its own, and the beginning of its revision."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model.rsplit("/", 1)[-1]).strip("-.") or "model"
    return f"{name[:48]}-{revision.rpartition(':')[2][:8]}"


def score_base(folder: BuildFolder, options: BaseOptions, lm: LanguageModel, progress: Progress = silent) -> BaseScores:
    """Write the likelihoods of both targets after every prompt of the build's records, and what greedy decoding says.

    An interrupted run goes on after its last finished chunk, to the same bytes; a finished one is not repeated. Raises
    BuildStateError for work made with other settings, DataError for a record that is not valid.
    """
    run = new_base(folder, base_name(lm.name, lm.revision))
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
        folder.discard(run.entry)
    return _summary(run, lm)


def _score(log: RowLog, records: Sequence[Record], lm: LanguageModel, progress: Progress) -> None:
    """Add the rows of the records that the log does not have, a chunk of records at a time."""
    from cfbuild.edit.editor import Edit
    from cfbuild.score.cases import score_cases
    from cfbuild.score.passes import cases_at_once

    done = {entry.case_id for entry in log.entries}
    left = [record for record in records if record.case_id not in done]
    at_once = cases_at_once(lm.device)
    for start in range(0, len(left), at_once):
        chunk = left[start : start + at_once]
        cases = score_cases(lm, chunk, [Edit((one.case_id,), None) for one in chunk], "none")
        log.append(row for record, case in zip(chunk, cases, strict=True) for row in _rows(record, case, lm))
        progress("records", len(done) + start + len(chunk), len(records))


def _rows(record: Record, case: CaseScore, lm: LanguageModel) -> Iterator[Row]:
    """Yield a record's prompts with their scores, in the record's order."""
    scores = {kind: iter(found) for kind, found in case.pre.prompts.items()}
    for kind, text, new, true in prompts_of(record):
        score = next(scores[kind])
        yield {
            "case_id": record.case_id,
            "relation_id": record.relation,
            "kind": kind,
            "prompt": text,
            "target_new": new.label,
            "target_true": true.label,
            "answer": true.label if stays_true(kind) else new.label,
            **{name: _rounded(getattr(score, name)) for name in FIGURES},
            "model": lm.name,
            "revision": lm.revision,
        }


def _rounded(value: float | bool) -> float | bool:
    return round(value, 6) if isinstance(value, float) else value


def _summary(run: Run, lm: LanguageModel) -> BaseScores:
    """Return the figures of a finished file, which is read anew."""
    from cfbuild.score.metrics import aggregate

    count, cases = 0, []
    for (case_id, relation), rows in groupby(
        (row for _, row in read_rows(run.path(LIKELIHOODS))), key=lambda row: (row["case_id"], row["relation_id"])
    ):
        prompts: dict[str, tuple[PromptScore, ...]] = {}
        for row in rows:
            count += 1
            score = PromptScore(*(row[name] for name in FIGURES))
            prompts[row["kind"]] = (*prompts.get(row["kind"], ()), score)
        cases.append(CaseScore(case_id, relation, "none", StageScore(prompts), None))
    return BaseScores(lm.name, lm.revision, str(run.path(LIKELIHOODS)), count, aggregate(cases, "pre"))
