"""Dates of statements, as precise as they are known, and comparisons of them with a day or a year.

A date is written as in ISO 8601, `2026-03-01`, `2026-03` or `2026`, and a less precise one as in EDTF (ISO 8601-2):
`202X` is a decade, `20XX` a century. UNKNOWN is a date that exists and that nobody knows; None means no date.
"""

from __future__ import annotations

import re

from cfbuild.data import UNKNOWN

ASSUMED_TODAY = "2026-11-26"
"""The day for which facts hold in a build that does not record the day of its fetch; builds since then do."""

DATE = re.compile(r"(-?)([0-9]{1,16}X{0,3})(?:-([0-9]{2}))?(?:-([0-9]{2}))?\Z")
NEW_YEAR, NEW_YEARS_EVE = "-01-01", "-12-31"
MILLENNIUM, DECADE, YEAR, MONTH = 6, 8, 9, 10
"""Wikidata's numbers for precisions below a day (Wikibase's data model)."""


def of_precision(day: str, precision: int | None) -> str:
    """Return a date as precise as it is known.

    day: a whole date, as Wikidata's RDF writes every date; the year 2026 is 2026-01-01.
    precision: Wikidata's number; if None, a first of January is taken for its year, which it mostly is.
    """
    year, _, rest = day.rpartition("-")[0].rpartition("-")
    if precision is None:
        return year if day.endswith(NEW_YEAR) else day
    if precision > MONTH:
        return day
    if precision == MONTH:
        return f"{year}-{rest}"
    if precision == YEAR:
        return year
    if precision < MILLENNIUM or year.startswith("-"):
        return UNKNOWN
    unsure = YEAR - precision
    # Wikidata's century of 2000 is the twentieth, of 2001 the twenty-first.
    known = int(year) - (1 if precision < DECADE else 0)
    return f"{known:04d}"[:-unsure] + "X" * unsure


def is_over(end: str | None, today: str) -> bool:
    """Return True if the last possible day of `end` has passed, or nobody knows the day."""
    if end is None:
        return False
    last = _day(end, "9", 12, 31)
    return last is None or last < _today(today)


def is_to_come(start: str | None, today: str) -> bool:
    """Return True if the first possible day of `start` is yet to come."""
    first = _day(start, "0", 1, 1) if start is not None else None
    return first is not None and first > _today(today)


def covers(start: str | None, end: str | None, year: int) -> bool:
    """Return True if a fact from `start` to `end` surely held on every day of a year."""
    if start in (None, UNKNOWN) or end in (None, UNKNOWN):
        return False
    return is_over(start, f"{year:04d}{NEW_YEAR}") and is_to_come(end, f"{year:04d}{NEW_YEARS_EVE}")


def misses(start: str | None, end: str | None, year: int) -> bool:
    """Return True if a fact from `start` to `end` surely held on no day of a year."""
    ended = end not in (None, UNKNOWN) and is_over(end, f"{year:04d}{NEW_YEAR}")
    return ended or is_to_come(start, f"{year:04d}{NEW_YEARS_EVE}")


def years_between(start: str | None, end: str | None) -> range:
    """Return the years between those of `start` and `end`; empty if either year is unknown."""
    days = [_day(date, "0", 1, 1) if date and "X" not in date else None for date in (start, end)]
    first, last = (day[0] if day else 0 for day in days)
    return range(first + 1, last) if all(days) and first > 0 else range(0)


def _day(date: str, digit: str, month: int, day: int) -> tuple[int, int, int] | None:
    """Return a date's year, month and day; None if the text is no date.

    digit, month, day: stand in for what the date leaves open; `digit` for each X.
    """
    match = DATE.match(date)
    if match is None:
        return None
    year = int(match[2].replace("X", digit))
    return -year if match[1] else year, int(match[3] or month), int(match[4] or day)


def _today(text: str) -> tuple[int, int, int]:
    year, month, day = map(int, text.split("-"))
    return year, month, day
