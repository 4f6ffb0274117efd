"""The lessons that trained editors learn from: an edit, other wordings of it, and texts whose predictions must stay.

MEND-CF and KE-CF learn from records (the paper's Table 4; no code was released for it, so this is cfbuild's own
definition), MEND and KE from passages of texts whose last tokens the model wrote.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cfbuild.data import EntityPrompt, Record
from cfbuild.edit.trained.material import TargetedPrompt
from cfbuild.lm.model import Ids, LanguageModel
from cfbuild.lm.sample import generate
from cfbuild.progress import Progress, silent

TRAIN, VALID = 10_000, 500
"""The most records to train on, as in the paper, and to validate on, as in MEND's trainer; the others are for tests."""
TEST_SHARE, VALID_SHARE = 0.2, 0.05
"""The least share of a file that is kept for tests, and the largest share to validate on."""
NEIGHBORS = 4
"""The neighborhood prompts of a record that a lesson has, drawn at random: each takes a pass through all layers."""
SAMPLED_TOKENS = 10
"""The tokens that the model writes at the end of a passage, which are the target, as released."""
CUTS = 3
"""The wordings of a passage, each without a random number of the passage's first tokens."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """An edit to learn from, as tokens.

    `inner` is the edit, `outers` are wordings to which it must carry over. `rivals` are both with the true object
    (empty for passages, which have none). `locality` are texts whose predictions must stay.
    """

    inner: TargetedPrompt
    outers: tuple[TargetedPrompt, ...]
    rivals: tuple[TargetedPrompt, ...]
    locality: tuple[Ids, ...]

    @property
    def examples(self) -> tuple[TargetedPrompt, ...]:
        """Return the edit and its wordings."""
        return (self.inner, *self.outers)

    @property
    def texts(self) -> tuple[Ids, ...]:
        """Return all texts that run in training: the edit, its wordings, and those whose predictions must stay."""
        return (*(example.ids for example in self.examples), *self.locality)


@dataclass(frozen=True, slots=True)
class Parts:
    """Records to train on, to validate on and to test on, no two of the parts with a subject in common."""

    train: tuple[Record, ...]
    valid: tuple[Record, ...]
    test: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Lessons:
    """Lessons to train and to validate on, and general texts, as tokens, whose predictions must stay."""

    train: tuple[Lesson, ...]
    valid: tuple[Lesson, ...]
    texts: tuple[Ids, ...]

    @property
    def tokens(self) -> set[int]:
        """Return the tokens of all edits that are trained on."""
        return {token for lesson in self.train for token in lesson.inner.prompt + lesson.inner.target}


def split(records: Sequence[Record], seed: int, train: int = TRAIN, valid: int = VALID) -> Parts:
    """Return the records in three parts, no two with a subject in common by its id or its name.

    `train` and `valid` are the most records of these parts; the part for tests gets at least a fifth.
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
    """Yield records in groups: those whose subjects share an id or a name, also by way of a third record."""
    group_of: dict[str, list[Record]] = {}
    for record in records:
        merged = [record]
        for group in {id(group_of[name]): group_of[name] for name in _names(record) if name in group_of}.values():
            merged = group + merged
        group_of.update((name, merged) for member in merged for name in _names(member))
    yield from {id(group): group for group in group_of.values()}.values()


def _names(record: Record) -> list[str]:
    return [name for name in (record.subject.id, record.subject.label.casefold()) if name]


def record_lessons(lm: LanguageModel, parts: Parts, texts: Iterable[str], seed: int, text_tokens: int) -> Lessons:
    """Return lessons from records, and general ones from the first `text_tokens` tokens of each of `texts`.

    Neighborhood prompts about subjects of later parts (of validation and tests for training) are left out.
    """
    not_trained, tested = _about_subjects((*parts.valid, *parts.test)), _about_subjects(parts.test)
    return Lessons(
        tuple(_of_record(lm, record, seed, not_trained) for record in parts.train),
        tuple(_of_record(lm, record, seed, tested) for record in parts.valid),
        tuple(ids[:text_tokens] for ids in map(lm.encode, texts) if len(ids) > 1),
    )


def _about_subjects(records: Sequence[Record]) -> Callable[[EntityPrompt], bool]:
    """Return a test if a prompt is about a subject of records, by its item, or if that is not known, by its text."""
    ids = {record.subject.id for record in records if record.subject.id}
    names = {record.subject.label for record in records}
    return lambda prompt: prompt.entity in ids if prompt.entity else any(name in prompt.text for name in names)


def _of_record(lm: LanguageModel, record: Record, seed: int, is_held_out: Callable[[EntityPrompt], bool]) -> Lesson:
    new, true = lm.continuation(record.target_new.label), lm.continuation(record.target_true.label)
    clean = dict.fromkeys(prompt.clean for prompt in record.paraphrases)
    # Without paraphrases the wording is the rewrite prompt after another sentence, the first generation prompt.
    wordings = list(clean) or [f"{text}. {record.rewrite}" for text in record.generation[:1]] or [record.rewrite]
    prompts = [lm.encode(text) for text in (record.rewrite, *wordings)]
    neighbors = [prompt for prompt in record.neighborhood if not is_held_out(prompt)]
    drawn = random.Random(f"{seed}:neighbors:{record.case_id}").sample(neighbors, min(NEIGHBORS, len(neighbors)))
    examples = [TargetedPrompt(prompt, new) for prompt in prompts]
    return Lesson(
        examples[0],
        tuple(examples[1:]),
        tuple(TargetedPrompt(prompt, true) for prompt in prompts),
        tuple(lm.encode(prompt.text) + true for prompt in drawn),
    )


def text_lessons(
    lm: LanguageModel,
    texts: Sequence[str],
    seed: int,
    text_tokens: int,
    valid: int = VALID,
    progress: Progress = silent,
) -> Lessons:
    """Return lessons from texts, at most `valid` of them to validate on.

    A passage is the first `text_tokens` tokens of a text of at least SAMPLED_TOKENS. The model writes SAMPLED_TOKENS
    more, and the last SAMPLED_TOKENS of the whole are the target. The passages' predictions must stay.
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
