"""In-context editing on tiny random models: a prefix that is read and never written, and no weight that changes."""

from __future__ import annotations

import pytest
import scored_build
import tiny

from cfbuild.data import Reference, Request
from cfbuild.edit.ike import InContext, InContextOptions
from cfbuild.lm.likelihood import Question, score
from cfbuild.records.prompts import prompts_of
from cfbuild.score.cases import score_cases
from cfbuild.score.texts import ReferenceTexts, Writing


def test_the_fact_stands_in_front_of_every_prompt_and_in_no_text() -> None:
    lm = tiny.make("gpt2", n_positions=512, max_position_embeddings=512)
    record = scored_build.record(3)
    request = Request(record.prompt.text, record.subject.label, record.target_new.label)
    (edit,) = InContext(InContextOptions("Fact: ")).edit([request])
    stated = f"Fact: {record.subject.label} lives in the city of {record.target_new.label}. "
    assert (edit.prefix, edit.delta, edit.fault, edit.records) == (stated, None, None, (0,))

    before = tiny.digest(lm)
    references = ReferenceTexts([Reference(record.relation, record.target_new.id, "Q1", "x", "A text of a city.")])
    (case,) = score_cases(lm, [record], [edit], "ike", Writing(references))
    assert tiny.digest(lm) == before and case.post is not None and case.fault is None
    for stage, prefix in ((case.pre, ""), (case.post, stated)):
        got = [one for scores in stage.prompts.values() for one in scores]
        for answer, (_, text, new, true) in zip(got, prompts_of(record), strict=True):
            question = Question(lm.encode(prefix + text), (lm.continuation(new.label), lm.continuation(true.label)))
            (expected,) = score(lm, [question])
            assert [answer.target_new_nll, answer.target_true_nll] == pytest.approx(
                [one.nll_nats for one in expected], abs=1e-4
            )
    for text, prompt in zip(case.post.generations, record.generation, strict=True):
        assert text.startswith(prompt)
    assert case.pre.generations != case.post.generations


def test_a_fact_that_ends_in_a_full_stop_gets_no_second() -> None:
    (edit,) = InContext(InContextOptions("")).edit([Request("{} works for", "Ann", "Acme Inc.")])
    assert edit.prefix == "Ann works for Acme Inc. "
