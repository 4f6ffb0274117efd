"""The baseline of texts: transformers' own sampling, and the law that both sides draw by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cfbuild.lm.model import Ids, LanguageModel
from cfbuild.lm.steps import TOP_K

CRITICAL_CHI_SQUARE = 18.47
"""The value that a chi-square of TOP_K - 1 = 4 degrees of freedom exceeds with probability 0.001."""


@torch.no_grad()
def texts(lm: LanguageModel, prompts: Sequence[Ids], total_tokens: int, seed: int) -> Tensor:
    """Prompts continued to `total_tokens` tokens in one call, padded on the left, as token ids."""
    width = max(map(len, prompts))
    ids = torch.tensor([(0,) * (width - len(prompt)) + prompt for prompt in prompts], device=lm.device)
    real = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=lm.device)
    torch.manual_seed(seed)
    written: Tensor = lm.model.generate(
        input_ids=ids,
        attention_mask=real,
        do_sample=True,
        top_k=TOP_K,
        temperature=1.0,
        top_p=1.0,
        repetition_penalty=1.0,
        # As many for all, so that no row goes on longer than the longest prompt's.
        min_new_tokens=total_tokens - width,
        max_new_tokens=total_tokens - width,
        pad_token_id=0,
    )
    return written


@torch.no_grad()
def chi_square(lm: LanguageModel, prompt: Ids, drawn: Sequence[int]) -> float:
    """Pearson's chi-square of next tokens that were drawn after a prompt, against the model's TOP_K likeliest."""
    logits = lm.model(torch.tensor([prompt], device=lm.device)).logits[0, -1].double()
    top = logits.topk(TOP_K)
    expected = top.values.softmax(dim=0) * len(drawn)
    counts = torch.tensor([drawn.count(int(token)) for token in top.indices], device=lm.device)
    if int(counts.sum()) < len(drawn):
        return float("inf")  # a token that is none of them
    return float(((counts - expected) ** 2 / expected).sum())
