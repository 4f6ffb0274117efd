"""Codes: a rater's answers as a line of text, which the last page shows and which is read again here.

A code is `cfs1:STUDY:RATER:ANSWERS:CHECKSUM`. ANSWERS has four letters for each page, with points between pages: the
passages that are most consistent, least consistent, most fluent and least fluent; `-` if there is no answer. CHECKSUM
is the CRC-32 of the text before its colon in eight hex digits: it finds typing errors and does not prevent fraud. Mail
programs may break the line anywhere, and other text may come before and after it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

START = "cfs1"
"""The beginning of a code: the format and its version."""
LETTERS = "ABCDEF"
"""The names of passages, as many as a page may have: nobody ranks more than six texts of 100 tokens."""
OPEN = "-"
"""The letter of a question without an answer."""
QUESTIONS = ("consistency", "fluency")
"""The qualities that a page asks about: which passage has most of it, and which least."""
CODE = re.compile(r"cfs1:([0-9a-f]{12}):([0-9a-z-]{1,20}):([A-Z.-]*):([0-9a-f]{8})", re.IGNORECASE)
"""A code without white space."""
BEGINNING = re.compile(r"cfs\d+:", re.IGNORECASE)
"""The beginning of a code of any version."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The answers in a code: for each page four letters, such as "AB-A"; `origin` is where the code is from."""

    study: str
    rater: str
    pages: tuple[str, ...]
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """A study by which codes are checked: its name, the number of pages by rater, and the passages of a page."""

    study: str
    pages: Mapping[str, int]
    passages: int


@dataclass(frozen=True, slots=True)
class Checked:
    """The answers that count, by rater; `errors` about codes that do not count, `warnings` about others."""

    pages: Mapping[str, tuple[str, ...]]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def code_of(sent: Sent) -> str:
    """Return the code of a rater's answers."""
    body = f"{START}:{sent.study}:{sent.rater}:{'.'.join(sent.pages)}"
    return f"{body}:{zlib.crc32(body.encode()):08x}"


def codes_in(text: str, origin: str) -> tuple[list[Sent], list[str]]:
    """Return the codes in a text, and errors for damaged ones; `origin` is the text's file, for messages."""
    text = re.sub(r"\s+", "", text)
    found, errors = [], []
    for number, at in enumerate(BEGINNING.finditer(text), 1):
        where = origin if number == 1 else f"{origin}, code {number}"
        match = CODE.match(text, at.start())
        if match is None:
            errors.append(f"{where}: the code that begins with {text[at.start() :][:40]} is cut short or damaged")
            continue
        study, rater, answers, found_checksum = match.groups()
        sent = Sent(study.lower(), rater.lower(), tuple(answers.upper().split(".")), where)
        if code_of(sent).rpartition(":")[2] != found_checksum.lower():
            errors.append(f"{where}: the code of rater {sent.rater} does not fit its checksum; ask for it again")
        else:
            found.append(sent)
    if not found and not errors:
        errors.append(f"{origin}: holds no code; expected a text with {START}:... as the page's end gives it")
    return found, errors


def check(sent: Iterable[Sent], expected: Expected) -> Checked:
    """Return the answers of the codes `sent` that count, by rater in the study's order, and all errors and warnings.

    Several codes of a rater are joined, and count once, if no two of their answers differ; otherwise none counts.
    """
    errors: list[str] = []
    by_rater: dict[str, list[Sent]] = {}
    for answers in sent:
        fault = _fault(answers, expected)
        if fault:
            errors.append(f"{answers.origin}: {fault}")
        else:
            by_rater.setdefault(answers.rater, []).append(answers)
    joined: dict[str, tuple[str, ...]] = {}
    warnings: list[str] = []
    for rater in expected.pages:
        if rater not in by_rater:
            continue
        origins = " and ".join(dict.fromkeys(answers.origin for answers in by_rater[rater]))
        pages = _joined([answers.pages for answers in by_rater[rater]])
        if pages is None:
            errors.append(f"{origins}: rater {rater} gave answers that differ; leave out the ones that do not count")
            continue
        if len(by_rater[rater]) > 1:
            warnings.append(f"{origins}: rater {rater} comes more than once without contradiction, and counts once")
        joined[rater] = pages
        warnings += _about_pages(rater, pages, expected.passages)
    missing = [rater for rater in expected.pages if rater not in joined]
    if missing:
        warnings.append(f"no answers of {len(missing)} of {len(expected.pages)} raters: {', '.join(missing)}")
    return Checked(joined, tuple(errors), tuple(warnings))


def answer(page: str, question: int) -> tuple[int, int] | None:
    """Return the places of the passages with most and least, such as (0, 2); None if one is missing or both are equal.

    page: the four letters of a page. question: the place of the question in QUESTIONS.
    """
    most, least = page[2 * question], page[2 * question + 1]
    if OPEN in (most, least) or most == least:
        return None
    return LETTERS.index(most), LETTERS.index(least)


def _fault(sent: Sent, expected: Expected) -> str | None:
    """Return why a code does not belong to the study, or None."""
    if sent.study != expected.study:
        return f"the answers of rater {sent.rater} are of another study, {sent.study}; this one is {expected.study}"
    if sent.rater not in expected.pages:
        return f"rater {sent.rater} is none of this study's"
    count = expected.pages[sent.rater]
    known = {*LETTERS[: expected.passages], OPEN}
    if len(sent.pages) != count or any(len(page) != 4 or not known.issuperset(page) for page in sent.pages):
        return f"rater {sent.rater}: expected {count} pages of four letters out of {''.join(sorted(known))} each"
    return None


def _joined(codes: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return the pages of several codes of a rater as one code's; None if two of their answers differ."""
    pages = []
    for versions in zip(*codes, strict=True):
        letters = [set(answers) - {OPEN} for answers in zip(*versions, strict=True)]
        if any(len(distinct) > 1 for distinct in letters):
            return None
        pages.append("".join(distinct.pop() if distinct else OPEN for distinct in letters))
    return tuple(pages)


def _about_pages(rater: str, pages: Sequence[str], passages: int) -> Iterator[str]:
    """Yield a warning for each question of a rater that does not count."""
    for place, question in enumerate(QUESTIONS):
        pairs = [page[2 * place : 2 * place + 2] for page in pages]
        unanswered = [str(number) for number, pair in enumerate(pairs, 1) if OPEN in pair]
        same = [str(number) for number, pair in enumerate(pairs, 1) if OPEN not in pair and pair[0] == pair[1]]
        if unanswered:
            yield f"rater {rater}: {question} is left open on page {', '.join(unanswered)}"
        if same:
            yield f"rater {rater}: one passage has most and least {question} on page {', '.join(same)}; not counted"
