"""Records and rejects as lines for a terminal."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from cfbuild.data import CaseScore, Record, Rejection, StageScore, id_number
from cfbuild.errors import ConfigError, check_least
from cfbuild.option import WORD, option, seed_option
from cfbuild.records.prompts import prompts_of
from cfbuild.templates.builtin import relations
from cfbuild.text.safe import visible
from cfbuild.text.scripts import isolated

Chosen = TypeVar("Chosen", Record, Rejection)
Paint = Callable[[str, str], str]
"""A function from a text and its kind (`subject`, `true`, `new`, `head`, `soft`) to the text to print."""

TEXTS_SHOWN = 2
"""Generated texts of a record that are shown."""
ELLIPSIS_AT = 300
"""Characters of a generated text that are shown."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice of records to show; by default all. Raises ConfigError if `sample` is below 1."""

    case: int | None = option(None, "Show the record with this case id.")
    relation: str | None = option(
        None, "Show records of this relation only, such as P36.", form=WORD.naming_all(relations)
    )
    sample: int | None = option(None, "Show a random sample of N records. [default: all]")
    seed: int = seed_option()

    def __post_init__(self) -> None:
        check_least(self, sample=1)


def choose(items: Iterable[Chosen], choice: Choice) -> list[Chosen]:
    """Return the chosen records or rejects in their order. Raises ConfigError if there are none."""
    everything = list(items)
    chosen = [
        item
        for item in everything
        if (choice.case is None or item.case_id == choice.case)
        and (choice.relation is None or relation_of(item) == choice.relation)
    ]
    if not chosen:
        known = sorted({relation_of(item) for item in everything}, key=id_number)
        options = (("case", choice.case), ("relation", choice.relation))
        chosen_by = " and ".join(f"{name} {value}" for name, value in options if value is not None)
        raise ConfigError(
            f"none of {len(everything)} rows has {chosen_by or 'anything to show'}; "
            f"there are rows of {', '.join(known) or 'no relation'}"
        )
    if choice.sample is None or choice.sample >= len(chosen):
        return chosen
    places = sorted(random.Random(f"{choice.seed}:show").sample(range(len(chosen)), choice.sample))
    return [chosen[place] for place in places]


def relation_of(item: Record | Rejection) -> str:
    """Return the relation of a record or of a reject's fact."""
    return item.relation if isinstance(item, Record) else item.fact.relation


def record_lines(record: Record, case: CaseScore | None, paint: Paint, run: str | None = None) -> Iterator[str]:
    """Yield the lines of a record, its probabilities before and after the edit, and its first generated texts.

    case: its scores in the run called `run` (None: without a run). Control characters are made visible.
    """
    head = f"case {record.case_id}  {record.relation}  {_name(record.subject.label)} ({record.subject.id or 'no id'})"
    yield paint(head, "head")
    true, new = _name(record.target_true.label), _name(record.target_new.label)
    yield f"  true {paint(true, 'true')} ({record.target_true.id})  o* {paint(new, 'new')} ({record.target_new.id})"
    for model, measured in record.scores.items():
        shown = ", ".join(f"{name} {_short(value)}" for name, value in measured.items())
        yield paint(f"  {visible(model)}: {shown}", "soft")
    if case and case.fault:
        yield paint(f"  no edit: {visible(case.fault)}", "new")
    if case:
        named = f"   run {visible(run)}" if run else ""
        yield paint(f"  P(o*) before > after   P(true) before > after{named}", "soft")
    yield from _prompts(record, case, paint)
    yield from _texts(record, case, paint)


def _prompts(record: Record, case: CaseScore | None, paint: Paint) -> Iterator[str]:
    columns = _probabilities(case) if case else iter(())
    last = None
    for group, text, new, true in prompts_of(record):
        if group != last:
            yield paint(f"  {group}", "soft")
            last = group
        has_own = (new, true) != (record.target_new, record.target_true)
        targets = paint(f"  ({_name(new.label)}, before: {_name(true.label)})", "soft") if has_own else ""
        yield f"    {next(columns, '')}{_marked(text, record, paint)}{targets}"


def _probabilities(case: CaseScore) -> Iterator[str]:
    for group, before in case.pre.prompts.items():
        after = case.post.prompts.get(group, ()) if case.post else ()
        for place, score in enumerate(before):
            edited = after[place] if place < len(after) else None
            new, true = _percent(score.target_new_nll), _percent(score.target_true_nll)
            new_after, true_after = (
                (_percent(edited.target_new_nll), _percent(edited.target_true_nll)) if edited else ("-", "-")
            )
            yield f"{new:>6} > {new_after:>6}   {true:>6} > {true_after:>6}   "


def _texts(record: Record, case: CaseScore | None, paint: Paint) -> Iterator[str]:
    stages: tuple[tuple[str, StageScore | None], ...] = (("before", case.pre), ("after", case.post)) if case else ()
    if not any(stage and stage.generations for _, stage in stages):
        yield paint("  generation", "soft")
        for prompt in dict.fromkeys(record.generation):
            yield f"    {_marked(prompt, record, paint)}"
        return
    for place in range(min(TEXTS_SHOWN, len(record.generation))):
        for name, stage in stages:
            if stage and place < len(stage.generations):
                text = " ".join(stage.generations[place].split())
                cut = text if len(text) <= ELLIPSIS_AT else text[:ELLIPSIS_AT] + " ..."
                yield f"  {paint(f'{name:<6}', 'soft')} {_marked(cut, record, paint)}"


def rejection_lines(rejection: Rejection, paint: Paint) -> Iterator[str]:
    """Yield the lines of a reject: the fact, and the rule that rejected it with its measurements."""
    fact = rejection.fact
    subject, value = rejection.subject or "(no label)", rejection.object or "(no label)"
    items = f"{_name(subject)} ({fact.subject}) -> {_name(value)} ({fact.object})"
    yield paint(f"case {rejection.case_id}  {fact.relation}  {items}", "head")
    shown = ", ".join(f"{name} {_short(number)}" for name, number in rejection.decision.measured.items())
    yield f"  {paint(rejection.decision.rule, 'new')}  {shown}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _name(str(value))


def _percent(nll: float) -> str:
    share = 100 * math.exp(-nll)
    return f"{share:.1f}%" if share >= 0.05 else "<0.1%"


def _marked(text: str, record: Record, paint: Paint) -> str:
    """Return the text with the subject and both targets painted, each where it first occurs."""
    shown = visible(text).replace("\n", " ")
    spans: list[tuple[int, int, str]] = []
    names = (("subject", record.subject), ("new", record.target_new), ("true", record.target_true))
    for kind, target in names:
        name = visible(target.label)
        start = shown.find(name) if name else -1
        if start >= 0 and all(start >= end or start + len(name) <= begin for begin, end, _ in spans):
            spans.append((start, start + len(name), kind))
    painted = shown
    for start, end, kind in sorted(spans, reverse=True):
        painted = painted[:start] + paint(painted[start:end], kind) + painted[end:]
    return isolated(painted)


def _name(text: str) -> str:
    """Return a name with its control characters visible and its writing direction kept from the rest of the line."""
    return isolated(visible(text))
