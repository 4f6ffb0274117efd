"""The editors that have a trained network: MEND and KE, each trained on texts or on records."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from cfbuild.data import Request
from cfbuild.edit.editor import Context, Edit, EditorSpec
from cfbuild.edit.trained.artefact import KE as KE_NETWORK
from cfbuild.edit.trained.artefact import MEND as MEND_NETWORK
from cfbuild.edit.trained.ke import KeNetwork
from cfbuild.edit.trained.material import Material, TargetedPrompt, TopLayers, material, targeted
from cfbuild.edit.trained.mend import MendNetwork
from cfbuild.lm.batching import in_batches
from cfbuild.lm.delta import Delta, LowRank
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.model import LanguageModel, Weight
from cfbuild.progress import no_progress


@dataclass(frozen=True, slots=True)
class TrainedOptions:
    """The settings: `trained` is the network's folder, by default the build's own; in an editor it is its digest."""

    trained: str | None = None


@dataclass(frozen=True, slots=True)
class MendOptions(TrainedOptions):
    """MEND's settings.

    `as_released` edits as the released evaluation does: learned rates go to the matrices in the order in which the
    model names these, which may not be the order in training; and the statistics start anew with the first request of
    a call and take in each request before it is edited, so that an edit depends on those before it.
    """

    as_released: bool = False


class TrainedEditor:
    """The editor: its network makes each request's change from the gradient of the request's loss."""

    def __init__(self, lm: LanguageModel, options: TrainedOptions, network: MendNetwork | KeNetwork) -> None:
        self.lm = lm
        self.options = options
        self.network = network

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for each request, in order."""
        examples = [targeted(self.lm, request) for request in requests]
        with fused_layers(self.lm):
            changes = self._changes(examples, done)
        return [
            Edit((place,), delta, statistics={"target_nll_nats": nll, "delta_norm": delta.norm})
            for place, (delta, nll) in enumerate(changes)
        ]

    def _changes(self, examples: Sequence[TargetedPrompt], done: Callable[[int], None]) -> list[tuple[Delta, float]]:
        def work(batch: Sequence[TargetedPrompt]) -> list[tuple[Delta, float]]:
            return _changes(self.lm, self.network, batch)

        return in_batches(self.lm, examples, work, lambda example: len(example.ids), done)


class ReleasedMend(TrainedEditor):
    """MEND with the two faults of its released evaluation (`MendOptions.as_released`)."""

    network: MendNetwork

    def _changes(self, examples: Sequence[TargetedPrompt], done: Callable[[int], None]) -> list[tuple[Delta, float]]:
        network = copy.deepcopy(self.network)
        network.restart_statistics()
        network.train()
        with torch.no_grad():
            network.rates.copy_(network.rates[rates_as_released(self.lm, network.weights)])
        changes = []
        for example in examples:
            changes += _changes(self.lm, network, [example])
            done(len(changes))
        return changes


def rates_as_released(lm: LanguageModel, weights: Sequence[Weight]) -> list[int]:
    """Return for each of `weights` the index of the rate that the released evaluation gives it."""
    order = {id(parameter): place for place, parameter in enumerate(lm.model.parameters())}
    named = sorted(weights, key=lambda weight: order[id(lm.weight(weight))])
    return [named.index(weight) for weight in weights]


@torch.no_grad()
def _changes(
    lm: LanguageModel, network: MendNetwork | KeNetwork, examples: Sequence[TargetedPrompt]
) -> list[tuple[Delta, float]]:
    """Return the change of each example, and the NLL of its target in nats before the change."""
    top = TopLayers(lm, min(weight.layer for weight in network.weights), kept_bytes=0)
    rows = top.rows(tuple(example.ids for example in examples))
    given: Material = material(top, rows, examples, network.weights)
    return [(_copied(delta), float(nll)) for delta, nll in zip(network(given), given.losses, strict=True)]


def _copied(delta: Delta) -> Delta:
    """Return a copy of a delta, which keeps no batch's tensors in memory as views of them would."""
    changes = {
        weight: LowRank(change.keys.clone(), change.values.clone())
        for weight, change in delta.changes.items()
        if isinstance(change, LowRank)
    }
    return Delta(changes)


def _mend(context: Context[MendOptions]) -> TrainedEditor:
    trained = context.trained(MEND_NETWORK, context.options.trained)
    assert isinstance(trained.network, MendNetwork)
    kind = ReleasedMend if context.options.as_released else TrainedEditor
    return kind(context.lm, replace(context.options, trained=trained.digest), trained.network)


def _ke(context: Context[TrainedOptions]) -> TrainedEditor:
    trained = context.trained(KE_NETWORK, context.options.trained)
    return TrainedEditor(context.lm, replace(context.options, trained=trained.digest), trained.network)


MEND: EditorSpec[MendOptions] = EditorSpec(MendOptions, _mend, needs=frozenset({"trained"}))
KE: EditorSpec[TrainedOptions] = EditorSpec(TrainedOptions, _ke, needs=frozenset({"trained"}))
