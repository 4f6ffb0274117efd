"""Generated texts against transformers' own sampling."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import plain_texts
from benchmarks.shared import Row, SharedMeasurements
from cfbuild.lm.model import Ids
from cfbuild.lm.sample import generate
from cfbuild.score.cases import GENERATION_TOKENS

TEXT_RECORDS = 32
"""Records whose texts are written together: as many texts as those of a chunk of 16 before their edits and after."""
WIDE = (160, None)
"""Texts of a call that transformers is tried with to find its best; None: all."""
RELEASED_TEXTS = 10
"""Texts of a call of the released code: one record's."""
DRAWS = 2000
"""Draws after one prompt, by which the law of sampling is checked."""


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
    return Row(
        name,
        theirs * tokens_written / records,
        ours.seconds / records,
        at_least,
        f"chi-square of {DRAWS} next tokens {distance:.1f} (limit {plain_texts.CRITICAL_CHI_SQUARE}); "
        f"{1 / theirs:.0f} and {tokens_written / ours.seconds:.0f} tokens a second",
        distance < plain_texts.CRITICAL_CHI_SQUARE,
        records,
    )
