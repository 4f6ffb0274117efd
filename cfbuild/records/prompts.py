"""The prompts of a record that are scored, each with its two targets."""

from __future__ import annotations

from cfbuild.data import Record, Target
from cfbuild.records.kinds import KINDS
from cfbuild.records.kinds.choices import LETTERS


def prompts_of(record: Record) -> list[tuple[str, str, Target, Target]]:
    """Return (group, text, new target, true target) of every prompt that is scored, in the record's order."""
    counterfact = [
        ("rewrite", record.rewrite),
        *(("paraphrase", paraphrase.text) for paraphrase in record.paraphrases),
        *(("neighborhood", prompt.text) for prompt in record.neighborhood),
        *(("attribute", prompt.text) for prompt in record.attribute),
    ]
    kinds = [(kind, prompt) for kind, prompts in record.groups.items() for prompt in prompts]
    return [
        *((group, text, record.target_new, record.target_true) for group, text in counterfact),
        *((kind, prompt.text, prompt.target_new, prompt.target_true) for kind, prompt in kinds),
    ]


def choices_of(kind: str, new: Target, true: Target) -> list[str]:
    """Return the possible answers to a prompt of `kind`: its two targets, or the letters of a question with options."""
    return list(LETTERS) if kind == "multiple_choice" else [new.label, true.label]


def stays_true(group: str) -> bool:
    """Return True if the true target should stay likelier than o* after a group's prompts in the edited model."""
    return group == "neighborhood" or (group in KINDS and KINDS[group].stays_true)
