"""The model filter against a slow judge that scores every candidate on its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import updated_world as world

from cfbuild.data import Candidate, Target
from cfbuild.errors import ConfigError
from cfbuild.filter.rank import FilterOptions, RankFilter
from cfbuild.lm.likelihood import Question, score
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.audit import AuditOptions, audit
from cfbuild.pipeline.generate import generate
from cfbuild.store import jsonl

LABELS = ("Paris", "French", "New Zealand", "New Zealand English", "Rome", "German", "Spanish", "Italy")
POOL = tuple(Target(f"Q{number}", label) for number, label in enumerate(LABELS, 1))


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny.make("llama")


def candidates() -> list[Candidate]:
    prompts = ("The capital city of France is", "She speaks", "Rome lies in", "The mother tongue of Danielle is")
    return [
        Candidate(
            case_id=index,
            relation="P36",
            rewrite=prompt,
            target_true=POOL[index],
            draws=tuple(target for target in reversed(POOL) if target != POOL[index]),
            pool=POOL,
            neighborhood=("Berlin lies in", "He speaks"),
        )
        for index, prompt in enumerate(prompts)
    ]


def nll(lm: LanguageModel, prompt: str, target: Target) -> float:
    return score(lm, [Question(lm.encode(prompt), (lm.continuation(target.label),))])[0][0].nll_nats


def ranks(lm: LanguageModel, prompt: str) -> dict[Target, int]:
    ordered = sorted(POOL, key=lambda target: nll(lm, prompt, target))
    return {target: place for place, target in enumerate(ordered, 1)}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_first_draw_that_passes_is_chosen_and_its_numbers_are_kept(lm: LanguageModel, share: float) -> None:
    verdicts = RankFilter(lm, FilterOptions(min_rank_share=share)).judge(candidates())
    for candidate, verdict in zip(candidates(), verdicts, strict=True):
        place, true = ranks(lm, candidate.rewrite), nll(lm, candidate.rewrite, candidate.target_true)
        passing = [
            target
            for target in candidate.draws
            if nll(lm, candidate.rewrite, target) - true >= 1e-3 and place[target] >= share * len(POOL)
        ]
        assert verdict.chosen == (passing[0] if passing else None)
        numbers = verdict.scores if verdict.chosen else verdict.decision.measured
        assert numbers["target_true_rank"] == place[candidate.target_true] and numbers["pool_size"] == len(POOL)
        if verdict.chosen:
            assert numbers["target_new_rank"] == place[verdict.chosen]
            assert numbers["attempts"] == candidate.draws.index(verdict.chosen) + 1
            assert numbers["target_new_nll"] > numbers["target_true_nll"]
        else:
            assert verdict.decision.rule in ("false-object-preferred", "false-object-ranks-high")


def test_a_fact_that_the_model_does_not_know_is_refused_on_demand(lm: LanguageModel) -> None:
    verdicts = RankFilter(lm, FilterOptions(min_rank_share=0, max_true_rank=1)).judge(candidates())
    for candidate, verdict in zip(candidates(), verdicts, strict=True):
        known = ranks(lm, candidate.rewrite)[candidate.target_true] == 1
        assert (verdict.decision.rule == "unknown-fact") == (not known)


def test_neighbors_that_the_model_gets_wrong_refuse_a_draw(lm: LanguageModel) -> None:
    verdicts = RankFilter(lm, FilterOptions(min_rank_share=0, min_neighbors_right=1)).judge(candidates())
    for candidate, verdict in zip(candidates(), verdicts, strict=True):
        true = nll(lm, candidate.rewrite, candidate.target_true)

        def passes(target: Target, candidate: Candidate = candidate, true: float = true) -> bool:
            right = [
                nll(lm, prompt, target) - nll(lm, prompt, candidate.target_true) >= 1e-3
                for prompt in candidate.neighborhood
            ]
            return nll(lm, candidate.rewrite, target) - true >= 1e-3 and all(right)

        passing = [target for target in candidate.draws if passes(target)]
        assert verdict.chosen == (passing[0] if passing else None)
        if verdict.chosen:
            assert verdict.scores["neighbors_right"] == verdict.scores["neighbors"] == 2


def test_a_verdict_does_not_depend_on_the_other_candidates(lm: LanguageModel) -> None:
    judge = RankFilter(lm, FilterOptions(min_neighbors_right=0.5)).judge
    assert [one.chosen for one in judge(candidates())] == [judge([one])[0].chosen for one in candidates()]


def test_a_pool_may_have_more_tokens_than_the_model_has_positions() -> None:
    short = tiny.make("gpt2")
    labels = [f"{first}{last} of the {last}{first}" for first in "abcdefghijkl" for last in "mnopqrstuvwx"]
    pool = tuple(Target(f"Q{number}", label) for number, label in enumerate(labels, 1))
    prompts = ("It is", "The capital city of the whole wide country is")
    cands = [Candidate(place, "P36", prompt, pool[0], pool[1:4], pool) for place, prompt in enumerate(prompts)]
    ids = [short.continuation(label) for label in labels]
    assert len({one[:end] for one in ids for end in range(1, len(one))}) > short.max_tokens
    together = RankFilter(short, FilterOptions(min_rank_share=0)).judge(cands)
    alone = [RankFilter(short, FilterOptions(min_rank_share=0)).judge([one])[0] for one in cands]
    assert [one.chosen for one in together] == [one.chosen for one in alone]
    measured = [one.scores or one.decision.measured for one in together]
    assert {one["pool_size"] for one in measured} == {len(labels)}


@pytest.mark.parametrize("options", [{"min_rank_share": 1.5}, {"min_neighbors_right": -1}, {"max_true_rank": 0}])
def test_thresholds_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        FilterOptions(**options)


def test_what_a_model_believes_of_a_change_is_kept_and_refuses_nothing(lm: LanguageModel) -> None:
    pool = tuple(Target(world.city(number), name) for number, name in enumerate(world.CITIES))
    cands = [
        Candidate(case, world.LIVES, f"{name} lives in", pool[case], (pool[(case + 1) % 6],), pool, is_change=True)
        for case, name in enumerate(("Ann", "Bob", "Cid", "Dora", "Eve", "Finn"))
    ]
    # Thresholds that no candidate could pass.
    verdicts = RankFilter(lm, FilterOptions(min_rank_share=1.0, max_true_rank=1, min_neighbors_right=1.0)).judge(cands)
    beliefs = set()
    for candidate, verdict in zip(cands, verdicts, strict=True):
        assert verdict.chosen == candidate.draws[0]
        (answers,) = score(lm, [Question(lm.encode(candidate.rewrite), tuple(lm.continuation(t.label) for t in pool))])
        best = pool[min(range(len(pool)), key=lambda place: answers[place].nll_nats)]
        expected = "old" if best == candidate.target_true else "new" if best == candidate.draws[0] else "neither"
        assert verdict.scores["believes"] == expected
        beliefs.add(expected)
    assert len(beliefs) > 1


def test_a_build_of_changes_counts_what_the_model_believes(lm: LanguageModel, tmp_path: Path) -> None:
    folder, file = world.build(tmp_path)
    summary = generate(folder, world.options(file, only_updates=True), RankFilter(lm, FilterOptions()))
    assert summary.changes is not None and summary.kept == summary.changes["records"] > 0
    (counts,) = summary.changes["believed"].values()
    assert sum(counts.values()) == summary.kept
    for _, row in jsonl.read_rows(folder.path("records.jsonl")):
        (measured,) = row["meta"]["scores"].values()
        assert measured["believes"] in counts and measured["pool_size"] >= len(world.CITIES)
    assert audit(AuditOptions(folder.path("records.jsonl"), folder)).rules == {}
