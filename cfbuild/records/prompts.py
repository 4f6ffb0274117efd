"""The prompts of a record that are scored, each with its two targets."""

from __future__ import annotations

from cfbuild.data import Record, Target
from cfbuild.records.groups import GROUPS


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


def stays_true(group: str) -> bool:
    """Return True if after the edit the true target should stay likelier after a group's prompts."""
    return group == "neighborhood" or (group in GROUPS and GROUPS[group].stays_true)
