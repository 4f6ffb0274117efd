"""The whole command, without texts and with the paper's ten a record."""

from __future__ import annotations

import shutil

from benchmarks.measure import Timed
from benchmarks.parts.texts import baseline_seconds_a_token
from benchmarks.shared import Row, SharedMeasurements, mean
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.score.cases import GENERATION_TOKENS
from cfbuild.score.run_report import Report
from cfbuild.store.codec import encode_record
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import write_json

END_TO_END = 30
"""Records of the whole command."""
TIMES_WRITTEN = 2
"""A record's texts are written before the edit and after it."""


def end_to_end(shared: SharedMeasurements) -> Row:
    return _without_texts(shared, "rome", 5)


def end_to_end_fast(shared: SharedMeasurements) -> Row:
    return _without_texts(shared, "rome-fast", 12)


def end_to_end_texts(shared: SharedMeasurements) -> Row:
    return _with_texts(shared, "rome", 6)


def end_to_end_texts_fast(shared: SharedMeasurements) -> Row:
    return _with_texts(shared, "rome-fast", 6)


def _without_texts(shared: SharedMeasurements, editor: str, at_least: float) -> Row:
    count = _count(shared)
    took = _command(shared, editor, skip_generation=True)
    return Row(
        f"validate-and-score over {count} records, no texts, {editor}",
        mean(shared.plain_edits) + mean(shared.plain_scores),
        took.seconds / count,
        at_least,
        _figures_after(took.result, "S"),
        True,
        count,
    )


def _with_texts(shared: SharedMeasurements, editor: str, at_least: float) -> Row:
    count, records = _count(shared), shared.spread(shared.world.records, _count(shared))
    prompts = [shared.lm.encode(text) for record in records for text in record.generation]
    tokens = sum(GENERATION_TOKENS - len(prompt) for prompt in prompts) / count
    texts = TIMES_WRITTEN * tokens * baseline_seconds_a_token(shared)
    took = _command(shared, editor, skip_generation=False)
    return Row(
        f"validate-and-score over {count} records, ten texts each, {editor}",
        mean(shared.plain_edits) + mean(shared.plain_scores) + texts,
        took.seconds / count,
        at_least,
        _figures_after(took.result, "S", "GE", "RS"),
        True,
        count,
    )


def _count(shared: SharedMeasurements) -> int:
    return min(END_TO_END, len(shared.world.records))


def _command(shared: SharedMeasurements, editor: str, *, skip_generation: bool) -> Timed:
    """Return the command's result and seconds in a build of its own, from nothing but records and references."""
    root = shared.world.folder.root.with_name("end-to-end")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(shared.world.folder.root, root)
    folder, file = BuildFolder(root), root / "some-records.json"
    write_json(file, list(map(encode_record, shared.spread(shared.world.records, _count(shared)))))
    options = EvaluateOptions(file=file, editor=editor, skip_generation=skip_generation)
    return shared.timed(f"validate-and-score, {editor}", lambda: evaluate(folder, options, shared.lm))


def _figures_after(report: Report, *names: str) -> str:
    """Return the figures after the edits."""
    figures = report.figures["post"]
    return ", ".join(f"{name} {figures[name].mean:.1f}" for name in names)
