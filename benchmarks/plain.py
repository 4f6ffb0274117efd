"""The baseline: ROME, KN's attribution, MEMIT's z, scoring and ranking the way the released code works.

Gradients are taken the plain way too.

One record at a time; every prompt and target is a row of its own; a batch is padded and run whole; logits of every
position exist; an optimisation step is a full forward and backward pass; an edit is added to the weights and taken out
again. It reads what to compute from the package (records, contexts, covariance), and computes nothing with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cfbuild.data import Record
from cfbuild.edit.covariance import Covariance
from cfbuild.edit.rome.layout import encode_at
from cfbuild.edit.rome.optimise import ESSENCE_PROMPT
from cfbuild.edit.rome.options import RomeOptions
from cfbuild.lm.model import Ids, LanguageModel, Weight

ROWS_AT_ONCE = 64
"""Candidates of a ranking that are scored in one pass; a record's prompts are one batch, as released."""


@dataclass(frozen=True, slots=True)
class PlainEdit:
    """An edit by the baseline: v* [d_model] and the change of W [d_out, d_in]."""

    value: Tensor
    change: Tensor


def edit(lm: LanguageModel, record: Record, options: RomeOptions, covariance: Covariance | None) -> PlainEdit:
    """ROME on one record: the key from one pass, the value from `steps` whole passes, the update from one more."""
    prompt, subject = record.prompt.text, record.subject.label
    target = lm.continuation(record.target_new.label)
    rewrites = [encode_at(lm, options.token, prompt, subject, context) for context in ("", *options.contexts)]
    essence = encode_at(lm, options.token, ESSENCE_PROMPT, subject)
    mean_key = _inputs_and_outputs(lm, options.layer, rewrites)[0].mean(dim=0)
    direction = covariance.whiten(mean_key) if covariance else mean_key
    direction = direction / direction.norm()
    rows = [(ids + target[:-1], at) for ids, at in rewrites]
    value = _optimise(lm, options, [*rows, essence], target, lm.projection(options.layer))
    keys, outputs = _inputs_and_outputs(lm, options.layer, rewrites[:1])
    change = torch.outer((value - outputs[0]) / (direction @ keys[0]), direction)
    return PlainEdit(value, change)


def layer_output(lm: LanguageModel, record: Record, options: RomeOptions) -> Tensor:
    """MEMIT's z [d_model] of one record: the output of the whole layer that is wanted, from `steps` whole passes."""
    prompt, subject = record.prompt.text, record.subject.label
    target = lm.continuation(record.target_new.label)
    rewrites = [encode_at(lm, options.token, prompt, subject, context) for context in ("", *options.contexts)]
    rows = [(ids + target[:-1], at) for ids, at in rewrites]
    essence = encode_at(lm, options.token, ESSENCE_PROMPT, subject)
    return _optimise(lm, options, [*rows, essence], target, lm.layers[options.layer])


def gradients(lm: LanguageModel, record: Record, weights: Sequence[Weight]) -> list[Tensor]:
    """Return the gradients [n, d_out] of the target's NLL at each matrix's output where a target token is predicted."""
    prompt, target = lm.encode(record.rewrite), lm.continuation(record.target_new.label)
    outputs: list[Tensor] = []
    hooks = [
        lm.module(weight).register_forward_hook(lambda _, __, output: outputs.append(output)) for weight in weights
    ]
    try:
        embedded = lm.model.get_input_embeddings()(torch.tensor([prompt + target], device=lm.device)).requires_grad_()
        logits = lm.model(inputs_embeds=embedded).logits[0, len(prompt) - 1 : -1].float()
    finally:
        for hook in hooks:
            hook.remove()
    nll = torch.nn.functional.cross_entropy(logits, torch.tensor(target, device=lm.device), reduction="sum")
    found = torch.autograd.grad(nll, outputs)
    return [gradient.reshape(-1, gradient.shape[-1])[len(prompt) - 1 :][: len(target)] for gradient in found]


def _optimise(
    lm: LanguageModel, options: RomeOptions, rows: Sequence[tuple[Ids, int]], target: Ids, module: Any
) -> Tensor:
    rewrites, essence = rows[:-1], rows[-1]
    ids, mask = _pad([ids for ids, _ in rows], lm)
    index = torch.arange(len(rows), device=lm.device)
    at = torch.tensor([last for _, last in rows], device=lm.device)
    labels = torch.full_like(ids, -1)
    for row, (text, _) in enumerate(rewrites):
        labels[row, len(text) - len(target) : len(text)] = torch.tensor(target, device=lm.device)
    delta = torch.zeros(lm.model.config.hidden_size, device=lm.device, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=options.learning_rate)
    origin: Tensor | None = None
    before: Tensor | None = None

    def add(_: object, __: object, returned: Any) -> Any:
        nonlocal origin
        output: Tensor = returned[0] if isinstance(returned, tuple) else returned
        by_row = output.reshape(*ids.shape, -1).clone()
        if origin is None:
            origin = by_row[0, rows[0][1]].detach().clone()
        by_row[index, at] += delta
        moved = by_row.reshape(output.shape)
        return (moved, *returned[1:]) if isinstance(returned, tuple) else moved

    hook = module.register_forward_hook(add)
    try:
        for step in range(options.steps):
            logits = lm.model(input_ids=ids, attention_mask=mask).logits.float()
            log_p = logits.log_softmax(dim=-1)
            chosen = log_p.gather(2, labels.clamp_min(0).unsqueeze(2)).squeeze(2) * (labels >= 0)
            nll = (-chosen.sum(dim=1) / len(target))[: len(rewrites)].mean()
            now = logits[-1, essence[1]].log_softmax(dim=-1)
            before = now.detach() if before is None else before
            divergence = (now.exp() * (now - before)).sum()
            assert origin is not None
            loss = nll + options.kl_factor * divergence + options.weight_decay * delta.norm() / origin.norm() ** 2
            if float(loss.detach()) < options.stop_loss or step == options.steps - 1:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
            limit = options.clamp_norm_factor * origin.norm()
            if delta.norm() > limit:
                with torch.no_grad():
                    delta.mul_(limit / delta.norm())
    finally:
        hook.remove()
    assert origin is not None
    return origin + delta.detach()


def _inputs_and_outputs(lm: LanguageModel, layer: int, rows: Sequence[tuple[Ids, int]]) -> tuple[Tensor, Tensor]:
    """W's input and output at the edit's token of each row, from a whole pass."""
    ids, mask = _pad([ids for ids, _ in rows], lm)
    seen: list[tuple[Tensor, Tensor]] = []
    hook = lm.projection(layer).register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
    try:
        with torch.no_grad():
            lm.model(input_ids=ids, attention_mask=mask)
    finally:
        hook.remove()
    index, at = range(len(rows)), [last for _, last in rows]
    inputs, outputs = (one.reshape(*ids.shape, -1)[index, at] for one in seen[0])
    return inputs, outputs


def attribute(lm: LanguageModel, prompt: Ids, target: Ids, steps: int) -> Tensor:
    """KN's attributions of W's inputs [layers, d_in]: a layer and token at a time, `steps` whole texts are a batch."""
    total = torch.zeros(len(lm.layers), lm.key_width(0), device=lm.device)
    for place, token in enumerate(target):
        text = prompt + target[:place]
        for layer in range(len(lm.layers)):
            total[layer] += _attribute_layer(lm, text, token, layer, steps) / len(target)
    return total


def _attribute_layer(lm: LanguageModel, text: Ids, token: int, layer: int, steps: int) -> Tensor:
    ids = torch.tensor([text], device=lm.device)
    neurons, _ = _inputs_and_outputs(lm, layer, [(text, len(text) - 1)])  # [1, d_in]
    scaled = (torch.linspace(0, 1, steps, device=lm.device)[:, None] * neurons).requires_grad_()

    def put(_: object, args: tuple[Tensor]) -> tuple[Tensor]:
        by_row = args[0].reshape(steps, len(text), -1).clone()
        by_row[:, -1] = scaled
        return (by_row.reshape(args[0].shape),)

    hook = lm.projection(layer).register_forward_pre_hook(put)
    try:
        logits = lm.model(input_ids=ids.expand(steps, -1)).logits.float()
    finally:
        hook.remove()
    probability = logits[:, -1].softmax(dim=-1)[:, token].sum()
    (gradient,) = torch.autograd.grad(probability, scaled)
    return neurons[0] * gradient.mean(dim=0)


@contextmanager
def edited(lm: LanguageModel, layer: int, change: Tensor) -> Iterator[None]:
    """While open, the weights hold the change."""
    weight = lm.projection(layer).weight
    assert isinstance(weight, Tensor)
    kept = weight.detach().clone()
    with torch.no_grad():
        weight += change.T if lm.family.projection_is_transposed else change
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def score(lm: LanguageModel, prompts: Sequence[str], targets: Sequence[str]) -> list[list[float]]:
    """Return the mean NLL in nats of each target after each prompt: every pair is a row, all rows are one batch."""
    continuations = [lm.continuation(target) for target in targets]
    pairs = [(lm.encode(prompt), continuation) for prompt in prompts for continuation in continuations]
    flat = _score_rows(lm, pairs)
    return [flat[start : start + len(targets)] for start in range(0, len(flat), len(targets))]


def rank(lm: LanguageModel, prompt: str, pool: Sequence[str]) -> list[float]:
    """Return the mean NLL of every object of a pool after one prompt: every object is a row."""
    ids = lm.encode(prompt)
    pairs = [(ids, lm.continuation(label)) for label in pool]
    parts = [pairs[start : start + ROWS_AT_ONCE] for start in range(0, len(pairs), ROWS_AT_ONCE)]
    return [nll for part in parts for nll in _score_rows(lm, part)]


def _score_rows(lm: LanguageModel, pairs: Sequence[tuple[Ids, Ids]]) -> list[float]:
    ids, mask = _pad([prompt + continuation for prompt, continuation in pairs], lm)
    with torch.no_grad():
        logits = lm.model(input_ids=ids, attention_mask=mask).logits.float()
    answers = []
    for row, (prompt, continuation) in enumerate(pairs):
        total = 0.0
        for place, token in enumerate(continuation):
            total -= float(logits[row, len(prompt) + place - 1].log_softmax(dim=0)[token])
        answers.append(total / len(continuation))
    return answers


def _pad(rows: Sequence[Ids], lm: LanguageModel) -> tuple[Tensor, Tensor]:
    """Rows filled up on the right, and the mask of real tokens, both [batch, width]."""
    width = max(map(len, rows))
    ids = torch.tensor([row + (0,) * (width - len(row)) for row in rows], device=lm.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=lm.device)
    return ids, mask
