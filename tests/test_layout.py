"""Batches of edits: as few as the budget allows, and none of what is left over."""

from __future__ import annotations

import pytest
import tiny

from cfbuild.edit.rome.layout import SHARE_OF_BUDGET, CutText, Plan, even_batches
from cfbuild.lm.batching import token_budget

PRODUCTS = tuple(SHARE_OF_BUDGET)


def plan(index: int, tokens: float) -> Plan:
    """Return a plan of one row, which costs a token of its own beside those it has."""
    return Plan(index, (CutText((), (0,) * (int(tokens) - 1), ()),))


@pytest.mark.parametrize("products", PRODUCTS)
def test_what_would_be_left_over_is_spread(products: str) -> None:
    lm = tiny.make("llama")
    budget = token_budget(lm) * SHARE_OF_BUDGET[products]
    assert budget >= 100  # or rounding a tenth of it to tokens decides
    plans = [plan(index, budget / 10) for index in range(11)]
    assert sorted(len(part) for part in even_batches(lm, plans, products)) == [5, 6]


@pytest.mark.parametrize("products", PRODUCTS)
def test_every_plan_is_in_one_batch_and_batches_keep_to_the_budget(products: str) -> None:
    lm = tiny.make("llama")
    budget = token_budget(lm) * SHARE_OF_BUDGET[products]
    plans = [plan(index, budget * (1 + 7 * index % 40) / 60) for index in range(97)]
    parts = even_batches(lm, plans, products)
    assert sorted(one.index for part in parts for one in part) == list(range(97))
    assert all(sum(one.cost for one in part) <= budget for part in parts)
    widths = [one.width for part in parts for one in part]
    assert widths == sorted(widths)


def test_a_plan_beyond_the_budget_is_a_batch_by_itself() -> None:
    lm = tiny.make("llama")
    plans = [plan(0, 10), plan(1, 2 * token_budget(lm)), plan(2, 10)]
    assert [[one.index for one in part] for part in even_batches(lm, plans, "float32")] == [[0, 2], [1]]


def test_no_plans_are_no_batches() -> None:
    assert even_batches(tiny.make("llama"), [], "float32") == []
