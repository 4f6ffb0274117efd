"""The division into train, validation and test by subject: a subject's records are all in the same split."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cfbuild.option import seed_option
from cfbuild.store.digests import random_keys

SPLITS = ("train", "validation", "test")
SHARES: Mapping[str, float] = {"test": 0.1, "validation": 0.1}
"""The share of the subjects in each split but `train`, which has the rest; with three subjects no split is empty."""
DRAWN = (*SHARES, "train")
"""The splits in the order in which subjects are drawn for them."""


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """Options of the division into splits."""

    seed: int = seed_option()


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The split of each case id, in 9 bytes for each.

    case_ids: an array, sorted. drawn: an array of the places of their splits in DRAWN.
    """

    case_ids: Any
    drawn: Any

    def places(self, case_ids: Any) -> Any:
        """Return an array of the place in DRAWN of each case id's split, -1 for an id that is in none."""
        import numpy

        ids = numpy.asarray(case_ids, numpy.int64)
        if not len(self.case_ids):
            return numpy.full(len(ids), -1)
        at = numpy.searchsorted(self.case_ids, ids).clip(max=len(self.case_ids) - 1)
        return numpy.where(self.case_ids[at] == ids, self.drawn[at], -1)


def split_by_subject(subjects: Iterable[tuple[int, str]], seed: int) -> Splits:
    """Return the split of each case id, which depends on the seed and the subjects only, not on their order.

    subjects: (case id, id or label of its subject). Raises OverflowError for a case id of more than 64 bits.
    """
    import numpy

    case_ids = array("q")

    def texts() -> Iterator[str]:
        for case_id, subject in subjects:
            case_ids.append(int(case_id))  # 2.0 is a whole number for JSON Schema
            yield f"{seed}:split:{subject}"

    numbers = random_keys(texts())
    ids, first = numpy.unique(numpy.asarray(case_ids), return_index=True)
    return Splits(ids, numpy.searchsorted(_ends(numpy.unique(numbers)), numbers[first], side="right").astype("i1"))


def _ends(distinct: Any) -> list[int]:
    """Return the first number after each split of SHARES. distinct: the subjects' numbers, ascending."""
    counts = [max(1, round(share * len(distinct))) if len(distinct) > len(SHARES) else 0 for share in SHARES.values()]
    return [distinct[sum(counts[: place + 1])] for place in range(len(counts))] if len(distinct) else []
