"""Causal traces, exact and by attribution."""

from __future__ import annotations

import numpy as np

from benchmarks.shared import Row, SharedMeasurements, mean
from cfbuild.probe.settings import ATTRIBUTION, EXACT, KINDS


def trace(shared: SharedMeasurements) -> Row:
    """Full traces of the few records: all tokens, all layers, 10 noise rows, states and windows of both parts."""
    ours = shared.traced(EXACT)
    far = max(
        float(np.abs(found.scores[kind] - values).max())
        for found, plain_trace in zip(ours.result, shared.plain_traces, strict=True)
        for kind, values in plain_trace.result.scores.items()
    )
    return Row(
        "causal traces, exact, three kinds",
        mean(shared.plain_traces),
        ours.seconds / len(ours.result),
        6,
        f"probabilities of {len(ours.result)} records equal within {far:.1e} (limit 1e-4)",
        far < 1e-4,
        len(ours.result),
    )


def trace_attribution(shared: SharedMeasurements) -> Row:
    """All effects of the same records from a backward pass; the baseline is the exact way's."""
    ours = shared.traced(ATTRIBUTION)
    pairs = list(zip(ours.result, shared.plain_traces, strict=True))
    far = max(abs(found.low - one.result.low) + abs(found.high - one.result.high) for found, one in pairs)
    correlations = []
    for kind in KINDS:
        exact, attributed = (
            np.concatenate([values.ravel() for values in kinds])
            for kinds in (
                [one.result.scores[kind] - one.result.low for _, one in pairs],
                [found.attributed[kind] for found, _ in pairs],
            )
        )
        correlations.append(f"{kind} {np.corrcoef(exact, attributed)[0, 1]:.2f}")
    return Row(
        "causal traces by attribution, beside exact ones",
        mean(shared.plain_traces),
        ours.seconds / len(ours.result),
        100,
        f"clean and corrupted runs equal within {far:.1e} (limit 1e-4); "
        f"correlation with exact: {', '.join(correlations)}",
        far < 1e-4,
        len(ours.result),
    )
