"""Generated texts against transformers' own sampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks import plain_texts
from benchmarks.measure import timed
from benchmarks.shared import Row, SharedMeasurements
from cfbuild.lm.model import Ids, LanguageModel
from cfbuild.lm.sample import ACCELERATOR_ROWS_PER_BATCH, ROWS_PER_BATCH, generate
from cfbuild.score.cases import GENERATION_TOKENS

TEXT_RECORDS = 32
"""Records whose texts are written together: as many texts as those of a chunk of 16 before their edits and after."""
WIDE = (160, None)
"""Texts of a call that transformers is tried with to find its best; None: all."""
RELEASED_TEXTS = 10
"""Texts of a call of the released code: one record's."""
DRAWS = 2000
"""Draws after one prompt, by which the law of sampling is checked."""
BOUND_REPEATS = 5
"""Measurements of what bounds the texts, of which the fastest counts."""
READ_NUMBERS = 1 << 25
"""Float32 numbers whose reading gives the memory's rate: more than caches hold."""


def texts(shared: SharedMeasurements) -> Row:
    """Texts of 100 tokens against transformers' sampling of one record's at a time."""
    return _texts(shared, "texts of 100 tokens, against transformers at 10 a call", (RELEASED_TEXTS,), 6)


def texts_wide(shared: SharedMeasurements) -> Row:
    """Compare texts with transformers' sampling of as many a call as suit it best."""
    return _texts(shared, "texts of 100 tokens, against transformers at its best", WIDE, 2)


def baseline_seconds_a_token(shared: SharedMeasurements, together: int | None = RELEASED_TEXTS) -> float:
    """Seconds of transformers' sampling for a token, `together` texts a call (or all that `some_prompts` has).

    By token, since short prompts get no more tokens there than the longest one.
    """
    prompts = some_prompts(shared)[:together]
    took = shared.timed(
        f"transformers' {len(prompts)} texts",
        lambda: plain_texts.texts(shared.lm, prompts, GENERATION_TOKENS, seed=0),
    )
    return took.seconds / (len(prompts) * (GENERATION_TOKENS - max(map(len, prompts))))


def some_prompts(shared: SharedMeasurements) -> list[Ids]:
    """Return the generation prompts of some records, spread over all."""
    records = shared.spread(shared.records, min(TEXT_RECORDS, len(shared.records)))
    return [shared.lm.encode(text) for record in records for text in record.generation]


def bound_seconds(lm: LanguageModel, prompts: Sequence[Ids], total_tokens: int) -> float:
    """Return the seconds that texts of `total_tokens` tokens take at least.

    These are their products alone, in the shapes of a step and over the model's own weights, and one reading of the
    keys and values that each token sees, at the rate at which memory is read.
    """
    rows = min(len(prompts), ROWS_PER_BATCH.get(lm.device.type, ACCELERATOR_ROWS_PER_BATCH))
    layers = [module.weight for module in lm.layers.modules() if isinstance(module, nn.Linear)]
    written = sum(total_tokens - len(prompt) for prompt in prompts)
    passed = len(prompts) * (total_tokens - 1)  # nothing follows the last token
    seen = sum(sum(range(len(prompt) + 1, total_tokens)) for prompt in prompts)
    products = passed * _products_seconds(lm, layers, rows) + written * _products_seconds(lm, [_head(lm)], rows)
    return products / rows + seen * bytes_a_token(lm) / _bytes_read_a_second(lm)


def _head(lm: LanguageModel) -> Tensor:
    weight: Tensor = lm.model.get_output_embeddings().weight
    return weight


@torch.no_grad()
def _products_seconds(lm: LanguageModel, weights: Sequence[Tensor], rows: int) -> float:
    """Return the seconds of one product of `rows` rows with each of the weights, one after the other."""
    widths = {weight.shape[1] for weight in weights}
    inputs = {width: torch.randn(rows, width, device=lm.device, dtype=lm.dtype) for width in widths}

    def multiply() -> None:
        for weight in weights:
            lm.libraries.multiply(inputs[weight.shape[1]], weight)

    return min(timed(multiply, lm.device).seconds for _ in range(BOUND_REPEATS))


def bytes_a_token(lm: LanguageModel) -> int:
    """Return the bytes of a token's keys and values in all layers."""
    config = lm.model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * lm.dtype.itemsize)


def _bytes_read_a_second(lm: LanguageModel) -> float:
    numbers = torch.ones(READ_NUMBERS, device=lm.device)
    return 4 * READ_NUMBERS / min(timed(numbers.sum, lm.device).seconds for _ in range(BOUND_REPEATS))


def _texts(shared: SharedMeasurements, name: str, together: Sequence[int | None], at_least: float) -> Row:
    lm, prompts = shared.lm, some_prompts(shared)
    records = min(TEXT_RECORDS, len(shared.records))
    theirs = min(baseline_seconds_a_token(shared, one) for one in together)
    keys = [f"shared:{place}" for place in range(len(prompts))]
    ours = shared.timed(f"{len(prompts)} texts", lambda: generate(lm, prompts, keys, GENERATION_TOKENS))
    drawn = generate(lm, [prompts[0]] * DRAWS, [str(draw) for draw in range(DRAWS)], len(prompts[0]) + 1)
    tokens = [lm.encode(text)[len(prompts[0]) :] for text in drawn]
    distance = plain_texts.chi_square(lm, prompts[0], [one[0] if len(one) == 1 else -1 for one in tokens])
    tokens_written = sum(GENERATION_TOKENS - len(prompt) for prompt in prompts)
    bound = bound_seconds(lm, prompts, GENERATION_TOKENS)
    return Row(
        name,
        theirs * tokens_written / records,
        ours.seconds / records,
        at_least,
        f"chi-square of {DRAWS} next tokens {distance:.1f} (limit {plain_texts.CRITICAL_CHI_SQUARE}); "
        f"{1 / theirs:.0f} and {tokens_written / ours.seconds:.0f} tokens a second, {bound / ours.seconds:.0%} of the "
        f"{tokens_written / bound:.0f} that products alone and reading of keys and values would allow",
        distance < plain_texts.CRITICAL_CHI_SQUARE,
        records,
    )
