"""The whole command, without texts and with the paper's ten a record."""

from __future__ import annotations

import shutil

from benchmarks.bench import Bench, Row, mean
from benchmarks.measure import Timed
from benchmarks.parts.texts import baseline_seconds_a_token
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


def end_to_end(bench: Bench) -> Row:
    return _without_texts(bench, "rome", 5)


def end_to_end_fast(bench: Bench) -> Row:
    return _without_texts(bench, "rome-fast", 12)


def end_to_end_texts(bench: Bench) -> Row:
    return _with_texts(bench, "rome", 6)


def end_to_end_texts_fast(bench: Bench) -> Row:
    return _with_texts(bench, "rome-fast", 6)


def _without_texts(bench: Bench, editor: str, at_least: float) -> Row:
    count = _count(bench)
    took = _command(bench, editor, skip_generation=True)
    return Row(
        f"validate-and-score over {count} records, no texts, {editor}",
        mean(bench.plain_edits) + mean(bench.plain_scores),
        took.seconds / count,
        at_least,
        _told(took.result, "S"),
        True,
        count,
    )


def _with_texts(bench: Bench, editor: str, at_least: float) -> Row:
    count, records = _count(bench), bench.spread(bench.world.records, _count(bench))
    prompts = [bench.lm.encode(text) for record in records for text in record.generation]
    tokens = sum(GENERATION_TOKENS - len(prompt) for prompt in prompts) / count
    texts = TIMES_WRITTEN * tokens * baseline_seconds_a_token(bench)
    took = _command(bench, editor, skip_generation=False)
    return Row(
        f"validate-and-score over {count} records, ten texts each, {editor}",
        mean(bench.plain_edits) + mean(bench.plain_scores) + texts,
        took.seconds / count,
        at_least,
        _told(took.result, "S", "GE", "RS"),
        True,
        count,
    )


def _count(bench: Bench) -> int:
    return min(END_TO_END, len(bench.world.records))


def _command(bench: Bench, editor: str, *, skip_generation: bool) -> Timed:
    """The command's result and seconds in a build of its own, from nothing but records and references."""
    root = bench.world.folder.root.with_name("end-to-end")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(bench.world.folder.root, root)
    folder, file = BuildFolder(root), root / "some-records.json"
    write_json(file, list(map(encode_record, bench.spread(bench.world.records, _count(bench)))))
    options = EvaluateOptions(file=file, editor=editor, skip_generation=skip_generation)
    return bench.timed(f"validate-and-score, {editor}", lambda: evaluate(folder, options, bench.lm))


def _told(report: Report, *names: str) -> str:
    """The figures after the edits."""
    figures = report.figures["post"]
    return ", ".join(f"{name} {figures[name].mean:.1f}" for name in names)
