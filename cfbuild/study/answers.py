"""A rater's answers as a line of text, with a checksum: what a page hands out, and how it is read again.

`cfs1:STUDY:RATER:ANSWERS:CHECKSUM`. ANSWERS holds four letters a page, with points between: the passage that is most
consistent, the least consistent, the most fluent, the least fluent; `-` stands for no answer. CHECKSUM is the CRC-32 of
all before its colon in eight hex digits: it finds every slip of the hand, and is no protection against fraud. Mail
programs may break the line anywhere, and other text may stand around it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

START = "cfs1"
"""The beginning of a code: the format, and its version."""
LETTERS = "ABCDEF"
"""The names of passages, as many as a page may have: more than six texts of 100 tokens nobody ranks."""
OPEN = "-"
"""The answer to a question that was left out."""
QUESTIONS = ("consistency", "fluency")
"""The questions: of each, which passage has most and which least."""
CODE = re.compile(r"cfs1:([0-9a-f]{12}):([0-9a-z-]{1,20}):([A-Z.-]*):([0-9a-f]{8})", re.IGNORECASE)
"""A code after white space was taken out."""
BEGINNING = re.compile(r"cfs\d+:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sent:
    """The answers that came in a code: of each page the letters of most and least by question, or OPEN."""

    study: str
    rater: str
    pages: tuple[str, ...]
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """A study that answers are checked by: the study's name, each rater's number of pages, and passages of a page."""

    study: str
    pages: Mapping[str, int]
    passages: int


@dataclass(frozen=True, slots=True)
class Checked:
    """Answers that count, by rater, and what is wrong: errors leave out a whole code, warnings do not."""

    pages: Mapping[str, tuple[str, ...]]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def code_of(sent: Sent) -> str:
    """Return the code of a rater's answers."""
    body = f"{START}:{sent.study}:{sent.rater}:{'.'.join(sent.pages)}"
    return f"{body}:{checksum(body)}"


def checksum(body: str) -> str:
    """Return the checksum of a code's text before it, eight hex digits."""
    return f"{zlib.crc32(body.encode()):08x}"


def codes_in(text: str, origin: str) -> tuple[list[Sent], list[str]]:
    """Return the codes in a text, and errors for what looks like a code and is none; `origin` says where it is from."""
    text = re.sub(r"\s+", "", text)
    found, errors = [], []
    for number, at in enumerate(BEGINNING.finditer(text), 1):
        where = origin if number == 1 else f"{origin}, code {number}"
        match = CODE.match(text, at.start())
        if match is None:
            errors.append(f"{where}: the code that begins with {text[at.start() :][:40]} is cut short or damaged")
            continue
        study, rater, answers, given = match.groups()
        sent = Sent(study.lower(), rater.lower(), tuple(answers.upper().split(".")), where)
        if code_of(sent).rpartition(":")[2] != given.lower():
            errors.append(f"{where}: the code of rater {sent.rater} does not fit its checksum; ask for it again")
        else:
            found.append(sent)
    if not found and not errors:
        errors.append(f"{origin}: holds no code; expected a text with {START}:... as the page's end gives it")
    return found, errors


def check(sent: Iterable[Sent], expected: Expected) -> Checked:
    """Return the answers that count, by rater in the study's order, and all errors and warnings.

    Answers that a rater sent twice count once; a code that only goes on from another is taken together with it. Codes
    of a rater that contradict each other are left out.
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
    """Return the places of the passages with most and least, for a place in QUESTIONS; None where that is not known."""
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


def _joined(several: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return a rater's answers of several codes as one; None where they contradict each other."""
    pages = []
    for of_page in zip(*several, strict=True):
        letters = [set(of_question) - {OPEN} for of_question in zip(*map(tuple, of_page), strict=True)]
        if any(len(given) > 1 for given in letters):
            return None
        pages.append("".join(given.pop() if given else OPEN for given in letters))
    return tuple(pages)


def _about_pages(rater: str, pages: Sequence[str], passages: int) -> Iterator[str]:
    """Yield a warning for each question of a rater that does not count."""
    for place, question in enumerate(QUESTIONS):
        given = [page[2 * place : 2 * place + 2] for page in pages]
        left = [str(number) for number, pair in enumerate(given, 1) if OPEN in pair]
        same = [str(number) for number, pair in enumerate(given, 1) if OPEN not in pair and pair[0] == pair[1]]
        if left:
            yield f"rater {rater}: {question} is left open on page {', '.join(left)}"
        if same:
            yield f"rater {rater}: one passage has most and least {question} on page {', '.join(same)}; not counted"
