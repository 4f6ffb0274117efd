"""The baseline of a training step of MEND: the whole model three times, the change of each weight formed densely.

One edit at a time, as the released trainer: forward and backward of the whole model for the edit, another whole pass
under the changed weights for its wording and for the text that must stay, and a whole pass without. The network itself
is the package's, so that only the model's passes are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from cfbuild.edit.trained.material import Material, Tokens
from cfbuild.edit.trained.training import Drawn
from cfbuild.lm.model import LanguageModel, Weight


def gradients(
    lm: LanguageModel, network: Any, drawn: Sequence[Drawn], edit_weight: float
) -> tuple[float, list[Tensor]]:
    """Return the loss of a step over the edits `drawn`, and its gradient to each parameter of the network."""
    parameters = [*network.parameters()]
    total, sums = 0.0, [torch.zeros_like(parameter) for parameter in parameters]
    for part in drawn:
        loss = _loss(lm, network, part, edit_weight) / len(drawn)
        for kept, gradient in zip(sums, torch.autograd.grad(loss, parameters), strict=True):
            kept += gradient
        total += float(loss.detach())
    return total, sums


def _loss(lm: LanguageModel, network: Any, drawn: Drawn, edit_weight: float) -> Tensor:
    inner, outer = drawn.lesson.inner, drawn.lesson.outers[drawn.wording]
    seen = material_of(lm, network.weights, inner)
    (delta,) = network(seen)
    names = {id(parameter): name for name, parameter in lm.model.named_parameters()}
    changed = {}
    for weight, change in delta.changes.items():
        original, matrix = lm.weight(weight), change.matrix()
        changed[names[id(original)]] = original + (matrix.T if lm.is_transposed(weight) else matrix)
    logits = functional_call(lm.model, changed, (torch.tensor([outer.prompt + outer.target], device=lm.device),)).logits
    target = torch.tensor(outer.target, device=lm.device)
    edit = torch.nn.functional.cross_entropy(logits[0, len(outer.prompt) - 1 : -1].float(), target)
    text = torch.tensor([drawn.texts[drawn.place]], device=lm.device)
    with torch.no_grad():
        before = lm.model(text).logits[0].float().log_softmax(dim=-1)
    after = functional_call(lm.model, changed, (text,)).logits[0].float().log_softmax(dim=-1)
    loss: Tensor = edit_weight * edit + (before.exp() * (before - after)).sum(dim=-1).mean()
    return loss


def material_of(lm: LanguageModel, weights: Sequence[Weight], inner: Any) -> Material:
    """Return x and the gradient of every token of an edit, by a whole pass and autograd through all of it."""
    seen: dict[Weight, tuple[Tensor, Tensor]] = {}

    def keep(weight: Weight) -> Any:
        def hook(_: object, args: tuple[Tensor, ...], output: Tensor) -> None:
            output.retain_grad()
            seen[weight] = args[0].detach(), output

        return hook

    handles = [lm.module(weight).register_forward_hook(keep(weight)) for weight in weights]
    try:
        ids = torch.tensor([inner.prompt + inner.target], device=lm.device)
        embedded = lm.model.get_input_embeddings()(ids).requires_grad_()
        logits = lm.model(inputs_embeds=embedded).logits[0, len(inner.prompt) - 1 : -1].float()
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(inner.target, device=lm.device))
        torch.autograd.backward(loss)
    finally:
        for handle in handles:
            handle.remove()
    tokens = {}
    for weight, (inputs, output) in seen.items():
        assert output.grad is not None
        inputs, gradient = (one.reshape(-1, one.shape[-1]) for one in (inputs, output.grad))
        kept = (inputs != 0).any(dim=1) & (gradient != 0).any(dim=1)
        tokens[weight] = Tokens(inputs[kept], gradient[kept], (int(kept.sum()),))
    return Material((inner.prompt + inner.target,), tokens, torch.zeros(1))
