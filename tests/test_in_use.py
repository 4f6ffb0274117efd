"""Answers in use: when an answer ends, what it names, and that decoding is greedy under every kind of edit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import tiny
import torch
from scored_build import record

from cfbuild.data import CaseScore, Entity, Record, StageScore, Target
from cfbuild.edit.editor import Edit
from cfbuild.lm.delta import Delta, Dense, LowRank, applied
from cfbuild.lm.model import Ids, LanguageModel, Weight
from cfbuild.lm.sample import answer
from cfbuild.score.cases import score_cases
from cfbuild.score.in_use import Ending, ObjectNames
from cfbuild.score.metrics import aggregate
from cfbuild.score.passes import request_of
from cfbuild.score.texts import Writing
from cfbuild.store.codec import decode_case, encode_case
from cfbuild.store.schema import schema_faults
from cfbuild.text.names import name_place

ROME, PARIS = Target("Q1", "Rome"), Target("Q2", "Paris")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" Rome. The city", "Rome."),
        (" Rome", "Rome"),
        (" Rome.", "Rome."),
        (" Rome\nNext", "Rome"),
        ("\nRome", ""),
        (" called “Rome.” It", "called “Rome.”"),
        (" St. Louis. He", "St. Louis."),
        (" J. R. R. Tolkien! So", "J. R. R. Tolkien!"),
        (" the U.S. and", "the U.S. and"),
        (" so it is. He", "so it is."),
        (" Warner Bros. Records. He", "Warner Bros. Records."),
        (" 3.5 km away. It", "3.5 km away."),
        ("東京です。次", "東京です。"),
    ],
)
def test_an_answer_ends_with_its_sentence_but_not_within_a_name(text: str, answer: str) -> None:
    ending = ObjectNames().ending([replace(record(1), target_new=Target("Q9", "Warner Bros. Records"))])
    assert ending.heads == ("warner bros",) and ending.answer(text) == answer


def test_a_name_in_the_build_keeps_its_full_stop_and_others_do_not() -> None:
    assert Ending().answer(" Warner Bros. Records. He") == "Warner Bros."


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Rome", True),
        ("the city of ROME, not Paris", True),
        ("Paris, once Rome", False),
        ("Romeo", False),
        ("the Eternal City", True),
        ("nothing of the kind", False),
        ("", False),
        ("the capital", False),  # a name that both have
        ("the capital, Rome", True),
    ],
)
def test_an_answer_is_right_that_names_the_object_before_the_other(answer: str, right: bool) -> None:
    names = ObjectNames({"Q1": ("Rome", "Eternal City", "the capital"), "Q2": ("Paris", "the capital")})
    assert names.is_right(answer, ROME, PARIS) is right


def test_the_longer_of_two_names_at_one_place_counts() -> None:
    mexico, city = Target("Q3", "Mexico"), Target("Q4", "Mexico City")
    assert not ObjectNames().is_right("in Mexico City", mexico, city)
    assert ObjectNames().is_right("in Mexico City", city, mexico)
    assert ObjectNames().is_right("in Mexico, near it", mexico, city)


def test_the_place_of_a_name_is_in_the_casefolded_text_also_of_short_ones() -> None:
    assert name_place("Straße to Rio", ["Rio"]) == (len("strasse to "), -3)
    assert name_place("Straße to Lima", ["Lima"]) == (len("strasse to "), -4)
    assert name_place("de jure", ["de"]) is None


def test_aliases_are_those_of_the_records_language() -> None:
    german = replace(record(1), target_new=ROME, target_true=PARIS, language="de")
    rome = Entity("Q1", {"en": "Rome", "de": "Rom"}, {"en": ("Eternal City",), "de": ("Ewige Stadt",)}, {}, 0)
    names = ObjectNames.of([german], [rome, Entity("Q77", {"de": "Ulm"}, {}, {}, 0)])
    assert dict(names.aliases) == {"Q1": ("Rom", "Ewige Stadt")}
    assert names.is_right("die Ewige Stadt", ROME, PARIS) and not names.is_right("the Eternal City", ROME, PARIS)


def greedy(lm: LanguageModel, prompt: Ids, most: int, delta: Delta | None, ended: Ending) -> str:
    """Return a text decoded the plain way: whole texts, one token at a time, with the change put into the weights."""
    ids = list(prompt)
    for _ in range(most):
        with torch.no_grad():
            token = int(lm.model(torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)
        text = lm.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
        if token == lm.tokenizer.eos_token_id or ended.has_come(text):
            break
    return str(lm.tokenizer.decode(ids, skip_special_tokens=True))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_answers_in_a_batch_are_those_of_plain_greedy_decoding_under_each_edit(family: str) -> None:
    lm = tiny.make(family, adds_bos=family == "llama")
    draw = torch.Generator().manual_seed(1)
    prompts = [lm.encode(text) for text in ("The mother tongue of", "Berlin lies in", "She speaks", "Paris is a", "He")]
    out, width = lm.shape(Weight(1))
    low = LowRank(torch.randn(2, width, generator=draw), torch.randn(2, out, generator=draw))
    dense = Dense(0.5 * torch.randn(out, width, generator=draw))
    deltas = [Delta.of(1, low), None, Delta.of(1, dense), Delta.of(2, dense), None]
    # Half the vocabulary ends an answer, so that rows leave the batch at many steps.
    stops = {lm.tokenizer.decode([one]) for one in range(1, 330, 2)}

    class Halves(Ending):
        def has_come(self, text: str) -> bool:
            return any(text.endswith(stop) for stop in stops if stop) and len(text) > 3

    given = answer(lm, prompts, 12, Halves().has_come, deltas)
    plain = []
    for prompt, delta in zip(prompts, deltas, strict=True):
        if delta is None:
            plain.append(greedy(lm, prompt, 12, None, Halves()))
        else:
            with applied(lm, delta):
                plain.append(greedy(lm, prompt, 12, delta, Halves()))
    assert given == plain
    assert len({len(text) for text in plain}) > 1  # they end at different steps


def chained(texts: dict[str, str]) -> LanguageModel:
    """Return a model that continues the last token of each key by its text, token for token, whatever came before."""
    lm = tiny.make("gpt2", n_embd=64, tie_word_embeddings=False)
    following = {}
    for start, text in texts.items():
        ids = (lm.encode(start)[-1], *lm.continuation(text), lm.tokenizer.eos_token_id)
        for before, after in pairwise(ids):
            assert following.setdefault(before, after) == after, f"{texts} share a token"
    base = lm.model.transformer
    base.wpe.weight.zero_()
    for layer in base.h:
        for part in (layer.attn.c_proj, layer.mlp.c_proj):
            part.weight.zero_()
            part.bias.zero_()
    states = base.ln_f(base.wte.weight)
    head = torch.zeros_like(lm.model.lm_head.weight)
    for before, after in following.items():
        head[after] += states[before]
    lm.model.lm_head.weight.copy_(head)
    return lm


def about(number: int, prompt: str, new: str, true: str) -> Record:
    known = record(number, subject="Ada")
    return replace(
        known,
        prompt=replace(known.prompt, text="{} " + prompt),
        paraphrases=tuple(replace(each, prefix="", clean=f"Ada, {prompt}") for each in known.paraphrases[:1]),
        target_new=Target("Q1", new),
        target_true=Target("Q2", true),
        neighborhood=(),
        attribute=(),
    )


def test_a_planted_models_answers_are_scored_before_and_after() -> None:
    lm = chained({"speaks": "German"})
    records = [about(1, "speaks", "German", "French"), about(2, "speaks", "French", "German")]
    untouched = Delta.of(1, Dense(torch.zeros(lm.shape(Weight(1)))))
    edits = [Edit((0,), untouched), Edit((1,), None, prefix="She speaks French. ")]
    cases = score_cases(lm, records, edits, "own", Writing(names=ObjectNames()))
    for case, right in zip(cases, (1.0, 0.0), strict=True):
        for stage in (case.pre, case.post):
            assert stage is not None and stage.answers == {"rewrite": ("German",), "paraphrase": ("German",)}
            assert stage.in_use_rewrite == stage.in_use_paraphrase == right and stage.generations == ()
    figures = aggregate(cases, "post")
    assert figures["in_use_rewrite"].mean == 50 and figures["in_use_paraphrase"].cases == 2


def test_a_case_with_answers_is_a_row_and_an_old_row_still_reads() -> None:
    stage = StageScore(
        {}, answers={"rewrite": ("Rome",), "paraphrase": ("a", "b")}, in_use_rewrite=1.0, in_use_paraphrase=0.0
    )
    case = CaseScore(1, "P36", "rome", stage, None)
    row = encode_case(case)
    assert schema_faults(row, "cases") == [] and decode_case(row) == case
    old = encode_case(CaseScore(1, "P36", "rome", StageScore({}), None))
    assert not [name for name in old["pre"] if "in_use" in name or "answers" in name]
    assert decode_case(old).pre.in_use_rewrite is None


def test_a_request_has_the_rewrite_prompt(tmp_path: Path) -> None:
    spoken = about(1, "speaks", "German", "French")
    assert request_of(spoken).prompt.format("Ada") == spoken.rewrite
