"""Batches are cut by padded tokens, and on an accelerator by width as well."""

from __future__ import annotations

import pytest

from cfbuild.lm.batching import ENOUGH_TOKENS, MOST_WIDENING, _plan

WIDTHS = [30, 6, 12, 30, 7, 13, 29, 6, 8]


@pytest.mark.parametrize("budget", (1, 30, 60, 10_000))
@pytest.mark.parametrize("enough", (None, 1, 20, ENOUGH_TOKENS))
def test_every_item_is_in_one_batch_that_fits(budget: int, enough: int | None) -> None:
    batches = list(_plan(WIDTHS, lambda: budget, enough))
    order = [WIDTHS[index] for batch in batches for index in batch]
    assert sorted(index for batch in batches for index in batch) == list(range(len(WIDTHS)))
    assert order == sorted(WIDTHS)
    assert all(len(batch) == 1 or len(batch) * WIDTHS[batch[-1]] <= budget for batch in batches)


def test_a_batch_that_keeps_the_device_busy_takes_nothing_much_wider() -> None:
    widths = [10] * 4 + [11] * 4 + [12] * 2
    assert [len(batch) for batch in _plan(widths, lambda: 1000)] == [10]
    assert [len(batch) for batch in _plan(widths, lambda: 1000, 80)] == [8, 2], "12 is more than 10 by an eighth"
    assert [len(batch) for batch in _plan(widths, lambda: 1000, 89)] == [9, 1], "eight rows of 11 are too few"
    assert 11 <= 10 * MOST_WIDENING < 12
