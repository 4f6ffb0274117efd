"""ROME at other tokens, and sweeps over layers: points, resumption, the layer that they find, the command."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from scored_build import record

from benchmarks import plain
from cfbuild.data import Request, Target
from cfbuild.edit.covariance import factorise, second_moments
from cfbuild.edit.rome import Rome
from cfbuild.edit.rome.layout import TOKENS, encode_at
from cfbuild.edit.rome.options import RomeOptions
from cfbuild.errors import ConfigError
from cfbuild.lm.model import LanguageModel

CONTEXTS = ("Rome lies in Italy. ", "She speaks English, German. ")
REQUESTS = (
    Request("The mother tongue of {} is", "Danielle Darrieux", "New Zealand English"),
    Request("{} lies in", "Rome", "Germany"),
    Request("Berlin lies in the country of {}", "Zoë Ürgüp", "Italy"),  # its letters are several tokens each
)


# ------------------------------------------------------------------------------------------- ROME at a token


def texts_until(lm: LanguageModel, ids: tuple[int, ...]) -> list[str]:
    """What a row's tokens say up to each of them, the leading ones left out."""
    plain_ids = ids[len(lm.leading_ids) :]
    return [lm.tokenizer.decode(plain_ids[: end + 1]) for end in range(len(plain_ids))]


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("request_", REQUESTS)
def test_tokens_are_found_where_the_text_says(adds_bos: bool, request_: Request) -> None:
    lm = tiny.make("gpt2", adds_bos=adds_bos)
    for context in ("", *CONTEXTS):
        found = {}
        for token in TOKENS:
            ids, found[token] = encode_at(lm, token, request_.prompt, request_.subject, context)
            found[token] -= len(lm.leading_ids)
        said = texts_until(lm, ids)
        before = context + request_.prompt.partition("{}")[0]
        # A token that ends within a letter decodes to a sign of replacement, so only whole letters are compared.
        first = next(
            i
            for i, text in enumerate(said)
            if len(text.rstrip("\N{REPLACEMENT CHARACTER}")) > len(before)
            or (text.endswith("\N{REPLACEMENT CHARACTER}") and len(text) > len(before))
        )
        last = next(i for i, text in enumerate(said) if text.startswith(before + request_.subject))
        end = len(said) - 1
        expected = (first, last, min(last + 1, end), end)
        assert tuple(found.values()) == expected, (context, said)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("token", TOKENS)
def test_rome_at_a_token_is_the_plain_way_at_that_token(family: str, token: str) -> None:
    """Key, value and the KL row's token follow the same rule: whole rows, whole passes, one record at a time."""
    lm = tiny.make(family)
    moments, _ = second_moments(lm, [1], [tiny.WORDS], 400)
    covariance = factorise(moments[1], "words")
    options = RomeOptions(1, CONTEXTS, steps=5, token=token, kl_factor=0.5, clamp_norm_factor=50, learning_rate=0.05)
    for request, edit in zip(REQUESTS, Rome(lm, options, covariance).edit(REQUESTS), strict=True):
        base = record(0, request.subject)
        asked = replace(
            base, prompt=replace(base.prompt, text=request.prompt), target_new=Target("Q1", request.target_new)
        )
        expected = plain.edit(lm, asked, options, covariance).change
        assert edit.delta is not None
        found = edit.delta.only.matrix()
        assert float((found - expected).norm() / expected.norm()) < 2e-3, request


def test_tokens_make_different_edits_and_only_known_ones_are_taken() -> None:
    lm = tiny.make("llama")
    made = [Rome(lm, RomeOptions(1, CONTEXTS, steps=3, token=token)).edit(REQUESTS[:1])[0] for token in TOKENS]
    matrices = [edit.delta.only.matrix() for edit in made if edit.delta is not None]
    assert len(matrices) == len(TOKENS)
    for place, one in enumerate(matrices):
        assert all(not torch.allclose(one, other, atol=1e-4) for other in matrices[place + 1 :])
    usual = Rome(lm, RomeOptions(1, CONTEXTS, steps=3)).edit(REQUESTS[:1])[0]
    assert usual.delta is not None and torch.equal(usual.delta.only.matrix(), matrices[1])
    with pytest.raises(ConfigError, match="subject_last"):
        RomeOptions(1, token="middle")
