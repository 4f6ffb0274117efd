"""The lessons of trained editors: made of records, divided by subject, or of passages of a text file.

A lesson is an edit, other wordings after which it must hold, and texts whose predictions must stay. MEND-CF and KE-CF
learn from records (the paper's Table 4; no code was released for it, so this is cfbuild's definition), MEND and KE from
passages of which the model wrote the end.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cfbuild.data import EntityPrompt, Record
from cfbuild.edit.trained.material import TargetedPrompt
from cfbuild.lm.model import Ids, LanguageModel
from cfbuild.lm.sample import generate
from cfbuild.progress import Progress, silent

TRAIN, VALID = 10_000, 500
"""Records to train on, as the paper says, and to validate on, as many as MEND's trainer; the rest is for tests."""
TEST_SHARE, VALID_SHARE = 0.2, 0.05
"""Least share of a small file that is kept for tests, and the share of it to validate on."""
NEIGHBORS = 4
"""Neighborhood prompts of a record that a lesson uses, drawn once: each more costs a pass through all layers."""
SAMPLED_TOKENS = 10
"""Tokens at the end of a passage that the model wrote, the target, as released."""
CUTS = 3
"""Wordings of a passage: it without a number of its first tokens, drawn once for each."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """An edit to learn from, as tokens.

    `inner` is the edit; `outers` are wordings after which it must hold; `rivals` are `inner` and `outers` with what
    was true before (empty where nothing was); `locality` are texts whose predictions must stay.
    """

    inner: TargetedPrompt
    outers: tuple[TargetedPrompt, ...]
    rivals: tuple[TargetedPrompt, ...]
    locality: tuple[Ids, ...]

    @property
    def examples(self) -> tuple[TargetedPrompt, ...]:
        """The edit and its wordings."""
        return (self.inner, *self.outers)


@dataclass(frozen=True, slots=True)
class Parts:
    """Records to train on, to validate on, and to test on; no subject is in two of them."""

    train: tuple[Record, ...]
    valid: tuple[Record, ...]
    test: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Lessons:
    """Lessons to train and to validate on, and general texts whose predictions must stay."""

    train: tuple[Lesson, ...]
    valid: tuple[Lesson, ...]
    texts: tuple[Ids, ...]

    @property
    def tokens(self) -> set[int]:
        """The tokens of all edits that are trained on."""
        return {token for one in self.train for token in one.inner.prompt + one.inner.target}


def split(records: Sequence[Record], seed: int, train: int = TRAIN, valid: int = VALID) -> Parts:
    """Return the records in three parts of which no two share a subject, by its id or its name.

    `train` and `valid` are the most records to train and to validate on; a fifth at least is for tests.
    """
    groups = list(_by_subject(records))
    random.Random(f"{seed}:split").shuffle(groups)
    sizes = {"valid": min(valid, int(VALID_SHARE * len(records))), "train": train}
    sizes["train"] = min(train, len(records) - sizes["valid"] - math.ceil(TEST_SHARE * len(records)))
    parts: dict[str, list[Record]] = {"valid": [], "train": [], "test": []}
    for group in groups:
        name = next((name for name, size in sizes.items() if len(parts[name]) + len(group) <= size), "test")
        parts[name] += group
    ordered = {name: tuple(sorted(part, key=lambda record: record.case_id)) for name, part in parts.items()}
    return Parts(**ordered)


def _by_subject(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Yield records in groups: those whose subjects have an id or a name in common, also by way of a third."""
    group_of: dict[str, list[Record]] = {}
    for record in records:
        names = [name for name in (record.subject.id, record.subject.label.casefold()) if name]
        merged = [record]
        for group in {id(group_of[name]): group_of[name] for name in names if name in group_of}.values():
            merged = group + merged
        for member in merged:
            for name in (member.subject.id, member.subject.label.casefold()):
                if name:
                    group_of[name] = merged
    seen: set[int] = set()
    for group in group_of.values():
        if id(group) not in seen:
            seen.add(id(group))
            yield group


def record_lessons(lm: LanguageModel, parts: Parts, texts: Iterable[str], seed: int, text_tokens: int) -> Lessons:
    """Return lessons from records; `texts` are general ones, of which the first `text_tokens` tokens are used.

    Neighborhood prompts about subjects of the validation or test part are not trained on.
    """
    held_out = _names((*parts.valid, *parts.test))
    return Lessons(
        tuple(_of_record(lm, record, seed, held_out) for record in parts.train),
        tuple(_of_record(lm, record, seed, _names(parts.test)) for record in parts.valid),
        tuple(ids[:text_tokens] for ids in map(lm.encode, texts) if len(ids) > 1),
    )


def _names(records: Iterable[Record]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ids and the names of the records' subjects."""
    records = tuple(records)
    return frozenset(record.subject.id for record in records if record.subject.id), frozenset(
        record.subject.label for record in records
    )


def _of_record(lm: LanguageModel, record: Record, seed: int, held_out: tuple[frozenset[str], frozenset[str]]) -> Lesson:
    new, true = lm.continuation(record.target_new.label), lm.continuation(record.target_true.label)
    clean = dict.fromkeys(one.clean for one in record.paraphrases)
    # A record without paraphrases must at least hold behind another sentence: its first generation prompt serves.
    wordings = list(clean) or [f"{text}. {record.rewrite}" for text in record.generation[:1]] or [record.rewrite]
    prompts = [lm.encode(text) for text in (record.rewrite, *wordings)]
    neighbors = [one for one in record.neighborhood if not _is_about(one, *held_out)]
    drawn = random.Random(f"{seed}:neighbors:{record.case_id}").sample(neighbors, min(NEIGHBORS, len(neighbors)))
    examples = [TargetedPrompt(prompt, new) for prompt in prompts]
    return Lesson(
        examples[0],
        tuple(examples[1:]),
        tuple(TargetedPrompt(prompt, true) for prompt in prompts),
        tuple(lm.encode(one.text) + true for one in drawn),
    )


def _is_about(prompt: EntityPrompt, ids: frozenset[str], names: frozenset[str]) -> bool:
    """Return True if a prompt is about a subject: by its entity, or where that is not known, by its text."""
    return prompt.entity in ids if prompt.entity else any(name in prompt.text for name in names)


def text_lessons(
    lm: LanguageModel,
    texts: Sequence[str],
    seed: int,
    text_tokens: int,
    valid: int = VALID,
    progress: Progress = silent,
) -> Lessons:
    """Return lessons from passages: the last SAMPLED_TOKENS tokens of each are the model's, sampled with the seed.

    A passage is the first `text_tokens` tokens of a text; shorter texts are used whole, those of fewer than
    SAMPLED_TOKENS tokens not at all. The texts themselves are those whose predictions must stay.
    """
    passages = [ids[:text_tokens] for ids in map(lm.encode, texts) if len(ids) >= SAMPLED_TOKENS]
    keys = [f"{seed}:passage:{place}" for place in range(len(passages))]
    written = generate(
        lm,
        passages,
        keys,
        [len(ids) + SAMPLED_TOKENS for ids in passages],
        done=lambda count: progress("passages", count, len(passages)),
    )
    lessons = []
    for place, text in enumerate(written):
        ids = lm.encode(text)
        draw = random.Random(f"{seed}:cut:{place}")
        prompt, target = ids[:-SAMPLED_TOKENS], ids[-SAMPLED_TOKENS:]
        cuts = [draw.randint(0, len(prompt) // 2) for _ in range(CUTS)]
        outers = tuple(TargetedPrompt(prompt[cut:], target) for cut in dict.fromkeys(cuts))
        lessons.append(Lesson(TargetedPrompt(prompt, target), outers, (), (passages[place - 1],)))
    random.Random(f"{seed}:split").shuffle(lessons)
    count = min(valid, max(1, int(VALID_SHARE * len(lessons))))
    return Lessons(tuple(lessons[count:]), tuple(lessons[:count]), tuple(passages))
