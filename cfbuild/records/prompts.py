"""The prompts of a record that are scored, each with its two targets."""

from __future__ import annotations

from cfbuild.data import Record, Target
from cfbuild.records.kinds import KINDS
from cfbuild.records.kinds.choices import LETTERS


def prompts_of(record: Record) -> list[tuple[str, str, Target, Target]]:
    """Return (group, text, new target, true target) of every prompt that is scored, in the record's order."""
    own = [
        ("rewrite", record.rewrite),
        *(("paraphrase", paraphrase.text) for paraphrase in record.paraphrases),
        *(("neighborhood", prompt.text) for prompt in record.neighborhood),
        *(("attribute", prompt.text) for prompt in record.attribute),
    ]
    beyond = [(group, one) for group, prompts in record.groups.items() for one in prompts]
    return [
        *((group, text, record.target_new, record.target_true) for group, text in own),
        *((group, one.text, one.target_new, one.target_true) for group, one in beyond),
    ]


def choices_of(kind: str, new: Target, true: Target) -> list[str]:
    """Return what may follow a prompt of a kind: its two targets, or every letter of a question with options."""
    return list(LETTERS) if kind == "multiple_choice" else [new.label, true.label]


def stays_true(group: str) -> bool:
    """Return True if after the edit the true target should stay likelier after a group's prompts."""
    return group == "neighborhood" or (group in KINDS and KINDS[group].stays_true)
