"""Peak memory of processes of their own that do one thing, editing or writing texts, beside what they may take."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from benchmarks import plain_texts
from benchmarks.measure import peak_memory_bytes
from benchmarks.shared import SharedMeasurements
from benchmarks.world import World, fast, requests
from cfbuild.edit.rome import Rome
from cfbuild.lm.sample import generate
from cfbuild.score.cases import GENERATION_TOKENS

LIMIT_WEIGHTS, LIMIT_BYTES = 1.5, 1e9
"""Editing may take this many times the weights, and so much more."""
STEPS = 3
"""Of an edit's up to 20: every step takes the same memory, and it is time that the others take."""
SAMPLED = (12, 300)
"""Records edited: few fill some batches of different widths; many show what batches leave behind."""
WRITTEN = (16,)
"""Records whose texts are written, ten each: the keys and values of all are in memory together."""


def _edit(shared: SharedMeasurements, count: int, editor: Rome) -> None:
    editor.edit(requests(shared.spread(shared.world.records, count)))


def _exact(shared: SharedMeasurements, count: int) -> None:
    _edit(shared, count, shared.world.editor(lambda options: replace(options, steps=STEPS)))


def _fast(shared: SharedMeasurements, count: int) -> None:
    _edit(shared, count, shared.world.editor(lambda options: fast(replace(options, steps=STEPS), shared.lm.device)))


def _prompts(shared: SharedMeasurements, count: int) -> list[tuple[int, ...]]:
    records = shared.spread(shared.world.records, count)
    return [shared.lm.encode(text) for record in records for text in record.generation]


def _texts(shared: SharedMeasurements, count: int) -> None:
    prompts = _prompts(shared, count)
    generate(shared.lm, prompts, [str(place) for place in range(len(prompts))], GENERATION_TOKENS)


def _plain_texts(shared: SharedMeasurements, count: int) -> None:
    plain_texts.texts(shared.lm, _prompts(shared, count), GENERATION_TOKENS, seed=0)


PROBES: Mapping[str, tuple[Callable[[SharedMeasurements, int], None], tuple[int, ...]]] = {
    "exact": (_exact, SAMPLED),
    "fast": (_fast, SAMPLED),
    "texts": (_texts, WRITTEN),
    "transformers_texts": (_plain_texts, WRITTEN),
}
"""The measurements of memory by name: the work, and its number of records."""


def probe(world: World, name: str, count: int) -> int:
    """Do one thing in this process; return the most bytes that it has taken."""
    work, _ = PROBES[name]
    work(SharedMeasurements(world, count, len(world.records)), count)
    return peak_memory_bytes(world.lm.device)


def memory(world: World, given: Mapping[str, Any]) -> dict[str, float]:
    """Peaks in GB by probe and count; `given` are the options of this run of the benchmark."""
    weights = sum(weight.numel() * weight.element_size() for weight in world.lm.model.parameters())
    result = {"weights_gb": weights / 1e9, "limit_gb": (LIMIT_WEIGHTS * weights + LIMIT_BYTES) / 1e9}
    for name, (_, counts) in PROBES.items():
        for count in counts:
            options = {**given, "parts": "memory", "memory-probe": name, "few": count}
            words = [word for option, value in options.items() for word in (f"--{option}", str(value))]
            command = [sys.executable, "-m", "benchmarks", *words]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            result[f"{name}_{count}_records_gb"] = json.loads(done.stdout.splitlines()[-1])["bytes"] / 1e9
    return result
