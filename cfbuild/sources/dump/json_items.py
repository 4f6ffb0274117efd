"""The filter of the JSON dump, in which each item is a line: it finds the parts that a query needs by searching bytes.

Wikibase writes the sections of an item and the parts of a statement in a fixed order, so a few searches find them; a
key in quotes never occurs inside a text, whose quotes are escaped. A line of another form is parsed as JSON, which
finds the same more slowly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from cfbuild.data import ITEM_ID, UNKNOWN
from cfbuild.facts.dates import of_precision
from cfbuild.sources.dump.query import NO_ITEM, NO_VALUE, DumpQuery, FactRow, UnitFindings, alternation
from cfbuild.sources.statements import DATES, WHOLE

TEXT = rb'[^"\\]*(?:\\.[^"\\]*)*'
HEAD = re.compile(
    rb'\{(?:"pageid":[0-9]+,"ns":[0-9]+,"title":"[^"]*","lastrevid":[0-9]+,"modified":"[^"]*",)?'
    rb'"type":"item","id":"Q([1-9][0-9]{0,18})",'
)
TAIL = re.compile(rb'\}\}(?:,"(?:pageid|ns|title|lastrevid|modified)":(?:[0-9]+|"[^"]*"))*\}\Z')
EMPTY_TAIL = re.compile(rb'(?:\{\}|\[\])(?:,"(?:pageid|ns|title|lastrevid|modified)":(?:[0-9]+|"[^"]*"))*\}\Z')
TAIL_BYTES = 400
"""More bytes than the members in TAIL have after the sitelinks."""
FORMS = (
    re.compile(rb'"labels":(?:\{"[^"]*":\{"language":"[^"]*","value":"|\{\}|\[\])'),
    re.compile(rb'"descriptions":[{\[]'),
    re.compile(rb'"aliases":(?:\{"[^"]*":\[\{"language":"[^"]*","value":"|\{\}|\[\])'),
    re.compile(rb'"claims":(?:\{"P[0-9]+":\[\{"mainsnak":\{"snaktype":"|\{\}|\[\])'),
    re.compile(rb'"sitelinks":[{\[]'),
)
"""The beginnings of an item's sections, in their order."""
NAMES = tuple(form.pattern.split(b":")[0] + b":" for form in FORMS)
VALUE = b',"datavalue":{"value":'
REVISION = re.compile(rb'"lastrevid":([0-9]+)')
MODIFIED = re.compile(rb'"modified":"([0-9]{4}-[0-9]{2}-[0-9]{2})T')
NOT_ITEM = re.compile(rb'\{(?:"[a-z]+":(?:[0-9]+|"[^"]*"),)*?"type":"(?:property|lexeme|mediainfo|entity-schema)",')
JULIAN = "http://www.wikidata.org/entity/Q1985786"
DAY_PRECISION = 11
"""Wikidata's number for the precision of a day."""
_decode = json.JSONDecoder().raw_decode
Statement = tuple[str, int, str, Mapping[str, Any]]
"""A statement of an item: property, number of its object as in FactRow, first letter of its rank, qualifiers."""


def read_text(raw: bytes) -> str:
    """Return the text of a JSON string whose bytes between the quotes are `raw`. Raises ValueError if it is broken."""
    text: str = json.loads(b'"' + raw + b'"') if b"\\" in raw else raw.decode()
    text.encode()  # half a character is refused
    return text


def json_filter(query: DumpQuery) -> Callable[[bytes, UnitFindings], None]:
    """Return a function that adds the findings in whole lines of text to its second argument."""
    reader = _Reader(query)

    def scan(text: bytes, found: UnitFindings) -> None:
        for line in text.split(b"\n"):
            line = line.rstrip(b", \r\t")
            if len(line) > 1:
                reader.line(line, found)
            elif line in (b"[", b"]"):
                found.counts["[" if line == b"[" else "]"] += 1
            elif line:
                found.break_off(line)

    return scan


class _Reader:
    """A reader of the lines of a JSON dump."""

    def __init__(self, query: DumpQuery) -> None:
        self._relations = {name: int(name[1:]) for name in query.relations}
        self._attributes = frozenset(query.attributes)
        self._languages = query.languages
        self._properties = frozenset(query.properties)
        self._with_statements = query.statements
        languages = alternation(query.languages)
        named = rb'\{"language":"[^"]*","value":"(' + TEXT + rb')"[^{}]*\}'
        listed = named.replace(b"(" + TEXT, b"(?:" + TEXT)
        self._label = re.compile(rb'"(' + languages + rb')":' + named)
        self._alias = re.compile(rb'"(' + languages + rb')":\[((?:' + listed + rb",?)+)\]")
        self._value = re.compile(rb'"value":"(' + TEXT + rb')"')
        self._statement = re.compile(
            rb'\{"mainsnak":\{"snaktype":"(value|somevalue|novalue)","property":"('
            + alternation(query.properties)
            + rb')"(?:,"hash":"[^"]*")?(?:,"datavalue":\{"value":\{"entity-type":"item",'
            rb'(?:"numeric-id":([1-9][0-9]{0,18})\b,?)?(?:"id":"Q([1-9][0-9]{0,18})")?)?'
        )

    def line(self, line: bytes, found: UnitFindings) -> None:
        """Add the findings in a line; a broken line is counted, and nothing of it is kept."""
        try:
            head = HEAD.match(line)
            if head and (places := self._sections(line, head.end())) and self._item(line, int(head[1]), places, found):
                return
            if NOT_ITEM.match(line) and line.endswith(b"}"):
                found.counts["no item"] += 1
            else:
                self._parsed(json.loads(line), found)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            found.break_off(line)

    def _sections(self, line: bytes, start: int) -> tuple[int, ...] | None:
        """Return the places where the sections FORMS begin; None for a line of another form."""
        places = []
        for name, form in zip(NAMES, FORMS, strict=True):
            start = line.find(name, start)
            if start < 0 or not form.match(line, start):
                return None
            places.append(start)
        tail = line[max(start + len(b'"sitelinks":'), len(line) - TAIL_BYTES) :]
        if not (TAIL.search(tail) or EMPTY_TAIL.match(tail)):
            return None
        return tuple(places)

    def _item(self, line: bytes, number: int, places: Sequence[int], found: UnitFindings) -> bool:
        """Add the findings about an item; return False, with nothing added, if a statement has another form."""
        labels, descriptions, aliases, claims, sitelinks = places
        lines = [b"L %s %s" % match.groups() for match in self._label.finditer(line, labels, descriptions)]
        for match in self._alias.finditer(line, aliases, claims):
            lines += [b"A %s %s" % (match[1], raw) for raw in self._value.findall(match[2])]
        for entry in lines:
            if b"\\" in entry or not entry.isascii():
                read_text(entry.split(b" ", 2)[2])
        statements = []
        for match in self._statement.finditer(line, claims, sitelinks):
            snak, name, numeric, item = match.groups()
            rank = line.find(b'"rank":"', match.end(), sitelinks)
            if rank < 0:
                raise ValueError("a statement without a rank")
            if snak == b"value":
                value = int(item or numeric or NO_ITEM)
                if value == NO_ITEM and not line.startswith(VALUE, match.end()):
                    return False
            else:
                value = 0 if snak == b"somevalue" else NO_VALUE
            qualifiers = self._qualifiers(line, match.end(), rank) if self._with_statements else {}
            statements.append((name.decode(), value, chr(line[rank + 8]), qualifiers))
        lines.append(b"S %d" % line.count(b'"site":"', sitelinks))
        self._keep(number, lines, statements, found)
        ends = line[:200] + line[-TAIL_BYTES:]
        self._keep_page(number, REVISION.search(ends), MODIFIED.search(ends), found)
        return True

    @staticmethod
    def _qualifiers(line: bytes, start: int, stop: int) -> Mapping[str, Any]:
        place = line.find(b'"qualifiers":{', start, stop)
        if place < 0:
            return {}
        qualifiers: Mapping[str, Any] = _decode(line[place + len(b'"qualifiers":') : stop].decode())[0]
        return qualifiers

    def _keep(self, number: int, lines: Sequence[bytes], statements: Sequence[Statement], found: UnitFindings) -> None:
        """Add the lines about the item `number` and its statements."""
        rows, attributes = [], []
        preferred = {name for name, _, rank, _ in statements if rank == "p"}
        for name, value, rank, qualifiers in statements:
            best = rank == ("p" if name in preferred else "n")
            if best and value > 0 and name in self._attributes:
                attributes.append(b"%s Q%d" % (name.encode(), value))
            if name in self._relations and (self._with_statements or (best and value != NO_VALUE)):
                rank_and_dates = (rank.encode(), *_dates(qualifiers)) if self._with_statements else ()
                rows.append(FactRow(self._relations[name], number, value, *rank_and_dates))
        for entry in (*lines, *attributes):
            found.add(number, entry)
        found.facts += rows

    def _keep_page(self, number: int, revision: Any, modified: Any, found: UnitFindings) -> None:
        if revision and self._with_statements:
            found.add(number, b"R " + revision[1])
        if modified:
            found.day = max(found.day, modified[1].decode())

    def _parsed(self, entity: Any, found: UnitFindings) -> None:
        """Add the findings in an entity that was parsed as JSON."""
        if "redirect" in entity:
            moved, target = str(entity["entity"]), str(entity["redirect"])
            if ITEM_ID.match(moved) and ITEM_ID.match(target):
                found.redirects.append((int(moved[1:]), int(target[1:])))
            return
        if not ITEM_ID.match(item := str(entity["id"])):
            found.counts["no item"] += 1
            return
        if entity.get("type", "item") != "item":
            raise ValueError("an item's id with another type")
        labels, aliases, claims = (entity.get(name) or {} for name in ("labels", "aliases", "claims"))
        lines = [_line("L", code, labels[code]["value"]) for code in labels if code in self._languages]
        lines += [
            _line("A", code, alias["value"]) for code in aliases if code in self._languages for alias in aliases[code]
        ]
        statements = [
            _statement(name, claim, self._with_statements)
            for name in claims
            if name in self._properties
            for claim in claims[name]
        ]
        number = int(item[1:])
        if "sitelinks" in entity:
            lines.append(b"S %d" % len(entity["sitelinks"]))
        self._keep(number, lines, statements, found)
        page = json.dumps(
            {name: entity[name] for name in ("lastrevid", "modified") if name in entity}, separators=(",", ":")
        )
        self._keep_page(number, REVISION.search(page.encode()), MODIFIED.search(page.encode()), found)


def _line(kind: str, code: str, text: str) -> bytes:
    raw = json.dumps(text, ensure_ascii=False)[1:-1]
    return f"{kind} {code} {raw}".encode()


def _statement(name: str, claim: Any, with_qualifiers: bool) -> Statement:
    snak = claim["mainsnak"]
    number = NO_VALUE if snak["snaktype"] == "novalue" else 0
    if snak["snaktype"] == "value":
        value = snak["datavalue"]["value"]
        number = NO_ITEM
        if isinstance(value, dict) and value.get("entity-type") == "item":
            number = int(value["id"][1:]) if "id" in value else int(value["numeric-id"])
    return name, number, claim["rank"][0], claim.get("qualifiers", {}) if with_qualifiers else {}


def _dates(qualifiers: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return the first start and the last end among the qualifiers, as `statements.py` does."""
    dates = {name: list(_known_dates(qualifiers.get(code, ()))) for name, code in DATES.items()}
    starts, ends = dates["start"] or dates["at"], dates["end"]
    known = [end for end in ends if end != UNKNOWN]
    return min(starts, default="").encode(), max(known or ends, default="").encode()


def _known_dates(snaks: Iterable[Any]) -> Iterable[str]:
    """Yield the dates of the snaks of a qualifier but those of no value; UNKNOWN for a date that nobody knows."""
    for snak in snaks:
        if snak["snaktype"] == "somevalue":
            yield UNKNOWN
        elif snak["snaktype"] == "value":
            yield date_of(snak["datavalue"]["value"])


def date_of(value: Mapping[str, Any]) -> str:
    """Return a date of Wikibase's JSON as precise as it is known, as Wikidata's RDF has it.

    value: {"time": "+1952-03-11T00:00:00Z", "precision": 11, "calendarmodel": ...}. RDF has Gregorian dates where the
    day is known, and the year 0 for 1 BC.
    """
    text, precision = str(value["time"]), int(value["precision"])
    sign, day = text[:1], text[1:].split("T", maxsplit=1)[0]
    if sign not in "+-" or not WHOLE.match(day):
        return UNKNOWN
    year, month, number = (int(part) for part in day.split("-"))
    year = -year if sign == "-" else year
    if precision >= DAY_PRECISION and value.get("calendarmodel") == JULIAN and month and number:
        year, month, number = _gregorian(year + (year < 0), month, number)
        year -= year <= 0  # back to years without a year 0, as in JSON
    year += year < 0
    signed = f"{'-' if year < 0 else ''}{abs(year):04d}"
    return of_precision(f"{signed}-{max(month, 1):02d}-{max(number, 1):02d}", precision)


def _gregorian(year: int, month: int, day: int) -> tuple[int, int, int]:
    """Return the Gregorian date of a Julian one, both with a year 0, by astronomers' count of days."""
    shift = (14 - month) // 12
    y, m = year + 4_800 - shift, month + 12 * shift - 3
    count = day + (153 * m + 2) // 5 + 365 * y + y // 4 - 32_083 - 1_721_426 + 1
    cycles = 0
    while count < 1:  # Python's dates begin with the year 1; the calendar repeats every 400 years of 146,097 days
        count, cycles = count + 146_097, cycles + 1
    while count > date.max.toordinal():
        count, cycles = count - 146_097, cycles - 1
    gregorian = date.fromordinal(count)
    return gregorian.year - 400 * cycles, gregorian.month, gregorian.day
