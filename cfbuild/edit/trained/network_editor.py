"""The editors of the table that a trained network answers for: MEND and KE, each trained on texts or on records."""

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
from cfbuild.edit.trained.material import Material, TargetedPrompt, TopLayers, material
from cfbuild.edit.trained.mend import MendNetwork
from cfbuild.lm.batching import in_batches
from cfbuild.lm.delta import Delta, LowRank
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.model import LanguageModel, Weight
from cfbuild.progress import no_progress


@dataclass(frozen=True, slots=True)
class TrainedOptions:
    """The setting of an editor with a trained network.

    `trained` is the network's folder, by default the build's own; once the editor is made, the network's digest.
    """

    trained: str | None = None


@dataclass(frozen=True, slots=True)
class MendOptions(TrainedOptions):
    """MEND's settings.

    `as_released` edits as the released evaluation does: the learned rates are handed out in the order in which the
    model names its weights, whatever their order in training was, and the running statistics start anew with the
    first request of a call and take in each request before it is edited, so that an edit depends on those before it.
    """

    as_released: bool = False


class TrainedEditor:
    """The editor: it answers each request by the change that its network makes of the request's own gradient."""

    def __init__(self, lm: LanguageModel, options: TrainedOptions, network: MendNetwork | KeNetwork) -> None:
        self.lm = lm
        self.options = options
        self.network = network

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for each request, in order; `done` gets their number as they come."""
        examples = [
            TargetedPrompt(
                self.lm.encode_subject(request.prompt, request.subject)[0], self.lm.continuation(request.target_new)
            )
            for request in requests
        ]
        with fused_layers(self.lm):
            made = self._made(examples, done)
        return [
            Edit((place,), delta, statistics={"target_nll_nats": nll, "delta_norm": delta.norm})
            for place, (delta, nll) in enumerate(made)
        ]

    def _made(self, examples: Sequence[TargetedPrompt], done: Callable[[int], None]) -> list[tuple[Delta, float]]:
        return in_batches(
            self.lm,
            examples,
            lambda part: _changes(self.lm, self.network, part),
            lambda example: len(example.ids),
            done,
        )


class ReleasedMend(TrainedEditor):
    """MEND with the two faults of its released evaluation."""

    network: MendNetwork

    def _made(self, examples: Sequence[TargetedPrompt], done: Callable[[int], None]) -> list[tuple[Delta, float]]:
        network = copy.deepcopy(self.network)
        network.restart_statistics()
        network.train()
        with torch.no_grad():
            network.rates.copy_(network.rates[rates_as_released(self.lm, network.weights)])
        made = []
        for example in examples:
            made += _changes(self.lm, network, [example])
            done(len(made))
        return made


def rates_as_released(lm: LanguageModel, weights: Sequence[Weight]) -> list[int]:
    """Return for each weight the place of the rate that the released evaluation gives it.

    It hands them out in the order of the model's parameters, to weights that had them in another order in training.
    """
    order = {id(parameter): place for place, parameter in enumerate(lm.model.parameters())}
    named = sorted(weights, key=lambda weight: order[id(lm.weight(weight))])
    return [named.index(weight) for weight in weights]


@torch.no_grad()
def _changes(
    lm: LanguageModel, network: MendNetwork | KeNetwork, examples: Sequence[TargetedPrompt]
) -> list[tuple[Delta, float]]:
    """Return the change of each example, and the NLL of its target before it in nats."""
    top = TopLayers(lm, min(weight.layer for weight in network.weights), kept_bytes=0)
    seen: Material = material(top, top.rows(tuple(one.ids for one in examples)), examples, network.weights)
    return [(_own(delta), float(nll)) for delta, nll in zip(network(seen), seen.losses, strict=True)]


def _own(delta: Delta) -> Delta:
    """Return a delta whose tensors are not parts of a batch's, which they would keep in memory."""
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
