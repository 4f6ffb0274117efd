"""Training of an editor."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import plain_mend
from benchmarks.shared import Row, SharedMeasurements, mean
from cfbuild.edit.trained.artefact import new_network
from cfbuild.edit.trained.lessons import record_lessons, split
from cfbuild.edit.trained.training import Training, TrainingSettings
from cfbuild.lm.fused import fused_layers

MEND_EDITS, MEND_RANK, MEND_TEXT_TOKENS = 10, 256, 24
"""Edits of a training step, rank and tokens of a general text: the defaults of `train-editor`."""
STEPS_TIMED = 3


def mend(shared: SharedMeasurements) -> Row:
    """Compare a step of MEND's training, on lessons met before: a training meets each again and again."""
    lm, records = shared.lm, shared.records[: 4 * MEND_EDITS]
    lessons = record_lessons(lm, split(records, 0), [record.rewrite for record in records], 0, MEND_TEXT_TOKENS)
    network: Any = new_network("mend", lm, 0, MEND_RANK)
    settings = TrainingSettings(MEND_EDITS, MEND_EDITS, 1e-5, 2e-5, 0.1, MEND_EDITS, MEND_EDITS, 0)
    training = Training(lm, network, network.weights, lessons, settings)
    drawn = training.draw(0)

    def step() -> tuple[float, list[Any]]:
        edit, locality = training.losses(drawn)
        loss = settings.edit_weight * edit + locality
        return float(loss.detach()), list(torch.autograd.grad(loss, [*network.parameters()]))

    with fused_layers(lm):
        network.train()
        step()  # the running statistics and the states below the edited layers
        network.eval()
        turns = [shared.timed("MEND steps", step) for _ in range(STEPS_TIMED)]
    theirs = shared.timed("baseline MEND step", lambda: plain_mend.gradients(lm, network, drawn, settings.edit_weight))
    ours = turns[0].result
    far = max(
        float((gradient - plain_gradient).norm() / plain_gradient.norm().clamp_min(1e-12))
        for gradient, plain_gradient in zip(ours[1], theirs.result[1], strict=True)
        if float(plain_gradient.norm()) > 0
    )
    return Row(
        f"step of MEND's training, an edit, rank {MEND_RANK}",
        theirs.seconds / len(drawn),
        mean(turns) / len(drawn),
        5,
        f"loss {theirs.result[0]:.4f} and {ours[0]:.4f}, gradients equal within {far:.1e} relative (limit 1e-2)",
        far < 1e-2,
        len(drawn),
    )
