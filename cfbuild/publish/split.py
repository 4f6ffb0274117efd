"""The division into train, validation and test by subject: a subject's records are all in the same split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cfbuild.data import Record
from cfbuild.option import seed_option

SHARES: Mapping[str, float] = {"test": 0.1, "validation": 0.1}
"""The share of the subjects in each split but `train`, which has the rest; with three or more none is empty."""


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """Options of the division into splits."""

    seed: int = seed_option()


def split_by_subject(records: Iterable[Record], seed: int) -> dict[int, str]:
    """Return the split of each case id; it depends on the seed and the subjects only, never on their order."""
    subjects: dict[str, list[int]] = {}
    for record in records:
        subjects.setdefault(record.subject.id or record.subject.label, []).append(record.case_id)
    ordered = sorted(subjects, key=lambda subject: hashlib.sha256(f"{seed}:split:{subject}".encode()).digest())
    splits: dict[int, str] = {}
    start = 0
    for name, share in SHARES.items():
        count = max(1, round(share * len(ordered))) if len(ordered) > len(SHARES) else 0
        splits |= {case_id: name for subject in ordered[start : start + count] for case_id in subjects[subject]}
        start += count
    return splits | {case_id: "train" for subject in ordered[start:] for case_id in subjects[subject]}
