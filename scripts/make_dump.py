"""Make a Wikidata-like dump of any size, and write down what a right reader must find in it.

The same seed and number of items make the same world, as truthy N-Triples or as a JSON dump, plain, gz or bz2. Each
item is drawn from its own seed, so the dump is written as a stream. It has what makes real dumps hard: labels in many
languages and `mul`, aliases, redirects, ranks, unknown and no values, qualifiers, dates of every precision, sitelinks,
lexemes, properties, broken lines, an item of 3 MB, Unicode plain and escaped, objects by Zipf, and objects that the
dump does not describe. `facts`, `entities` and `counts` say what is to be found, without a word of cfbuild's code.

    python scripts/make_dump.py --format truthy --mb 3000 --expected expected.jsonl dump.nt.bz2
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import IO, Any, NamedTuple

WD = "http://www.wikidata.org/entity/"
WDT = "http://www.wikidata.org/prop/direct/"
XSD = "http://www.w3.org/2001/XMLSchema#"
DATA = "https://www.wikidata.org/wiki/Special:EntityData/"
DUMP = "http://wikiba.se/ontology#Dump"
LABELS = (
    "http://www.w3.org/2000/01/rdf-schema#label",
    "http://www.w3.org/2004/02/skos/core#prefLabel",
    "http://schema.org/name",
)
ALIAS = "http://www.w3.org/2004/02/skos/core#altLabel"
DESCRIPTION = "http://schema.org/description"
SAME_AS = "http://www.w3.org/2002/07/owl#sameAs"
TYPE = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"
NOVALUE = "http://www.wikidata.org/prop/novalue/"
GREGORIAN, JULIAN = WD + "Q1985727", WD + "Q1985786"
DAY = "2026-10-28"
"""The day of the dump."""
UNKNOWN = "unknown"

BYTES_AN_ITEM = {"truthy": 5_050, "json": 7_550}
"""About how many bytes of text an item takes."""
HUGE_BYTES = 3_000_000
"""The bytes of text of the largest item: the largest of Wikidata's are of that size."""

ITEM_CHANCES = {
    "P31": 0.97, "P17": 0.5, "P131": 0.3, "P21": 0.25, "P27": 0.25, "P19": 0.2, "P106": 0.25, "P103": 0.08,
    "P36": 0.05, "P30": 0.05, "P279": 0.04, "P361": 0.04, "P69": 0.1, "P735": 0.25, "P1343": 0.15, "P2860": 0.2,
}  # fmt: skip
"""Relations between items and the share of items that have one; about Wikidata's own, the rare ones made less rare."""
OTHER_CHANCES = {
    "P569": 0.3, "P18": 0.2, "P625": 0.3, "P1082": 0.2, "P856": 0.15, "P1476": 0.2, "P214": 0.3, "P646": 0.3,
    "P227": 0.2, "P244": 0.2, "P356": 0.4, "P698": 0.3, "P1433": 0.0, "P5008": 0.3, "P7859": 0.3, "P2671": 0.2,
}  # fmt: skip
"""Properties with other values: times, files, coordinates, quantities, texts, and identifiers of other catalogues."""
QUALIFIERS = ("P580", "P582", "P585")


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


LATIN = _listed("en de fr es it nl pl pt sv ca da nb fi hu cs tr en-gb de-at sl ga ast")
OTHERS = {
    "ru": "cyrillic", "uk": "cyrillic", "bg": "cyrillic", "el": "greek", "ar": "arabic", "fa": "arabic", "he": "hebrew",
    "ja": "kana", "zh": "han", "ko": "hangul", "hi": "devanagari", "bn": "bengali",
}  # fmt: skip
"""The languages of names; those that are not in Latin letters with their alphabet."""
ALPHABETS = {
    "cyrillic": "абвгдежзиклмнопрстуфхцчшщыьэюя",
    "greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "kana": "アイウエオカキクケコサシスセソタチツテト",
    "han": "中国人大学城市山水北南東西京海上天地江河",
    "hangul": "가나다라마바사아자차카타파하서울부산",
    "devanagari": "अआइईउऊएऐओऔकखगघचछजझटठडढ",
    "bengali": "অআইঈউঊএঐওঔকখগঘচছজঝটঠ",
}
SYLLABLES = _listed(
    "ba be bo da de do fa fi ga go ha hi ka ke ko la le li lo ma me mo na ne no pa po ra re ri ro sa se si ta te to va "
    "ve za zo ör ñé çu"
)
ODD = (
    'say "so"',
    "back\\slash",
    "tab\there",
    "two\nlines",
    "emoji 😀 𝔘",
    "dot ends .",
    '"@en .',
    '","claims":{',
    "{brace",
)
"""Texts that a reader of bytes may stumble over."""


class Time(NamedTuple):
    """A date of Wikibase: its time as JSON has it, its precision, and whether it is told in the Julian calendar."""

    text: str
    precision: int
    julian: bool = False


@dataclass(frozen=True)
class Statement:
    """A statement: `value` is an item's number, a lexeme's id, a text or a Time; None where `snak` is no value."""

    value: Any
    snak: str = "value"
    rank: str = "normal"
    qualifiers: dict[str, list[Time | str]] = field(default_factory=dict)
    """Qualifiers by property; the texts `somevalue` and `novalue` are such values."""


@dataclass(frozen=True)
class Item:
    number: int
    labels: dict[str, str]
    descriptions: dict[str, str]
    aliases: dict[str, list[str]]
    claims: dict[str, list[Statement]]
    sitelinks: int
    revision: int


@dataclass(frozen=True)
class World:
    """The world of a seed. `broken` is the chance of a broken line after an item; `huge` tells to have one of 3 MB."""

    seed: int = 0
    items: int = 1_000
    broken: float = 0.01
    huge: bool = True

    def redirect(self, number: int) -> int | None:
        """Return the number that `number` redirects to, maybe another redirect; None if it is an item."""
        if number <= 60 or number % 29 != 7 or number > self.items:
            return None
        return number - 29 if number % 3 == 0 and number > 100 else self._rng(number, 5).randrange(1, 60)

    def final(self, number: int) -> int:
        """Return the number of the item that `number` leads to."""
        while (target := self.redirect(number)) is not None:
            number = target
        return number

    @property
    def huge_number(self) -> int:
        """Return the number of the item of 3 MB; 0 for none."""
        return self.items // 2 - (self.redirect(self.items // 2) is not None) if self.huge else 0

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the items in the dump's order, which is nearly theirs; redirects among them."""
        for start in range(1, self.items + 1, 64):
            block = list(range(start, min(start + 64, self.items + 1)))
            self._rng(start, 3).shuffle(block)
            yield from block

    def _rng(self, number: int, stream: int) -> Random:
        return Random((self.seed << 48) + (number << 4) + stream)

    @lru_cache(1_024)  # noqa: B019
    def item(self, number: int) -> Item:
        """Return the item of a number, drawn from its own seed."""
        rng = self._rng(number, 0)
        labels, descriptions, aliases = _texts(rng, number)
        claims: dict[str, list[Statement]] = {}
        for name, chance in ITEM_CHANCES.items():
            if rng.random() < chance:
                claims[name] = self._statements(rng, name)
        for name, chance in OTHER_CHANCES.items():
            if rng.random() < chance:
                claims[name] = [Statement(_other(rng, name))]
        if number == self.huge_number:
            claims["P2860"] = [Statement(rng.randrange(1, self.items)) for _ in range(HUGE_BYTES // 112)]
        order = list(claims)
        rng.shuffle(order)
        return Item(
            number,
            labels,
            descriptions,
            aliases,
            {name: claims[name] for name in order},
            int(rng.paretovariate(0.8)) % 300 if rng.random() < 0.3 else 0,
            rng.randrange(1_000_000, 2_000_000_000),
        )

    def _statements(self, rng: Random, name: str) -> list[Statement]:
        found = []
        for _ in range(1 if rng.random() < 0.85 else rng.randrange(2, 5)):
            drawn = rng.random()
            if drawn < 0.94:
                value, snak = self._object(rng, name), "value"
            elif drawn < 0.95:
                value, snak = f"L{rng.randrange(1, 999)}", "value"
            else:
                value, snak = None, "somevalue" if drawn < 0.98 else "novalue"
            rank = rng.choices(("normal", "preferred", "deprecated"), (90, 6, 4))[0]
            qualifiers = _qualifiers(rng) if rng.random() < 0.2 else {}
            found.append(Statement(value, snak, rank, qualifiers))
        return found

    def _object(self, rng: Random, name: str) -> int:
        """Return the number of an object: Zipf over the relation's own order of the items, some not in the dump."""
        if rng.random() < 0.003:
            return self.items + rng.randrange(1, 50)
        rank = int(self.items ** rng.random())
        return (rank * 7_919 + int(name[1:]) * 104_729) % self.items + 1 if rank > 40 else rank


def _word(rng: Random) -> str:
    return "".join(rng.choices(SYLLABLES, k=rng.randrange(2, 5))).capitalize()


@lru_cache
def _words(script: str) -> list[str]:
    rng = Random(f"words:{script}")
    if script == "latin":
        return [_word(rng) for _ in range(4_000)]
    return ["".join(rng.choices(ALPHABETS[script], k=rng.randrange(2, 7))) for _ in range(2_000)]


def _texts(rng: Random, number: int) -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
    """Return labels, descriptions and aliases by language."""
    latin = _words("latin")
    name = f"{rng.choice(latin)} {rng.choice(latin)}"
    if rng.random() < 0.04:
        name = f"{name} {rng.choice(ODD)}"
    count = min(int(rng.paretovariate(0.9)), 30)
    languages = rng.sample((*LATIN[1:], *OTHERS), count)
    labels = {} if rng.random() < 0.15 else {"en": name}
    if (not labels and rng.random() < 0.7) or rng.random() < 0.05:
        labels["mul"] = name if rng.random() < 0.5 else rng.choice(latin)
    for code in languages:
        labels[code] = name if code in LATIN else f"{rng.choice(_words(OTHERS[code]))} {number}"
    kind = rng.choice(latin[:40])
    described = rng.sample((*LATIN, *OTHERS), rng.randrange(2, 31))
    descriptions = {c: f"{kind} in {c}" if c in LATIN else _words(OTHERS[c])[number % 40] for c in described}
    aliases: dict[str, list[str]] = {}
    for code in ("en", "mul", *languages[:2]):
        if rng.random() < 0.2:
            aliases[code] = [f"{rng.choice(latin)} {rng.randrange(99)}" for _ in range(rng.randrange(1, 4))]
    return labels, descriptions, aliases


def _other(rng: Random, name: str) -> Any:
    if name == "P569":
        return _time(rng)
    if name == "P625":
        return round(rng.uniform(-90, 90), 5), round(rng.uniform(-180, 180), 5)
    if name == "P1082":
        return rng.randrange(10**6)
    return f"{rng.choice(_words('latin'))}{rng.randrange(10**8)}"


def _time(rng: Random) -> Time:
    year, precision = rng.randrange(1_000, 2_030), rng.choice((7, 8, 9, 9, 9, 10, 11, 11, 11))
    if rng.random() < 0.03:
        return Time(f"-{rng.randrange(1, 999):04d}-03-15T00:00:00Z", rng.choice((9, 11)))
    month = rng.randrange(1, 13) if precision > 9 else 0
    day = rng.randrange(1, 29) if precision > 10 else 0
    return Time(f"+{year:04d}-{month:02d}-{day:02d}T00:00:00Z", precision, precision == 11 and year < 1583)


def _qualifiers(rng: Random) -> dict[str, list[Time | str]]:
    found: dict[str, list[Time | str]] = {}
    for name in QUALIFIERS:
        if rng.random() < 0.5:
            drawn = rng.random()
            found[name] = ["somevalue" if drawn < 0.04 else "novalue"] if drawn < 0.07 else [_time(rng)]
            if rng.random() < 0.1:
                found[name].append(_time(rng))
    return found


# What a right reader finds.


def truthy(statements: Iterable[Statement]) -> list[Statement]:
    """Return the statements of the best rank: the preferred, or the normal where none is."""
    stated = list(statements)
    best = "preferred" if any(one.rank == "preferred" for one in stated) else "normal"
    return [one for one in stated if one.rank == best]


def _plain_date(time: Time) -> str:
    """Return a date as facts.jsonl has it: as precise as it is known, by the Gregorian calendar, 1 BC the year 0."""
    sign, year, month, day = time.text[0], int(time.text[1:5]), int(time.text[6:8]), int(time.text[9:11])
    if time.julian:  # days between the calendars, for the years that are made here
        shift = year // 100 - year // 400 - 2 if (month, day) > (2, 28) else (year - 1) // 100 - (year - 1) // 400 - 2
        lengths = [31, 28 + (year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)), *([31, 30, 31, 30, 31] * 2)]
        lengths = [*lengths[:2], 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        day += shift
        if day > lengths[month - 1]:
            day, month = day - lengths[month - 1], month + 1
        if month > 12:
            year, month = year + 1, 1
    if sign == "-":
        year -= 1
    text = f"{'-' if sign == '-' and year else ''}{year:04d}"
    known = year - 1 if time.precision == 7 else year
    return {
        11: f"{text}-{month:02d}-{day:02d}",
        10: f"{text}-{month:02d}",
        9: text,
        8: f"{year // 10:03d}X",
        7: f"{known // 100:02d}XX",
    }[time.precision]


def _dates(statement: Statement, name: str) -> list[str]:
    values = statement.qualifiers.get(name, [])
    return [UNKNOWN if one == "somevalue" else _plain_date(one) for one in values if one != "novalue"]  # type: ignore[arg-type]


def facts(world: World, form: str, relations: Iterable[str], statements: bool = False) -> list[dict[str, Any]]:
    """Return the facts that a reader must find, as the rows of facts.jsonl, in their order."""
    found: dict[str, list[dict[str, Any]]] = {
        relation: [] for relation in sorted(relations, key=lambda relation: int(relation[1:]))
    }
    gone = lost(world, form)
    for number in range(1, world.items + 1):
        if world.redirect(number) is None and number not in gone:
            item = world.item(number)
            for relation, rows in found.items():
                rows += _facts_of(world, item, relation, form, statements)
    return [row for rows in found.values() for row in rows]


def _facts_of(world: World, item: Item, relation: str, form: str, statements: bool) -> list[dict[str, Any]]:
    def resolved(statement: Statement) -> str | None:
        if statement.snak != "value":
            return UNKNOWN if statement.snak == "somevalue" else None
        if isinstance(statement.value, str):
            return None
        return f"Q{world.final(statement.value) if form == 'truthy' else statement.value}"

    stated = item.claims.get(relation, [])
    plain = {resolved(statement) for statement in truthy(stated)} - {None}
    if not plain - {UNKNOWN}:
        return []
    rows = set()
    for statement in stated if statements else truthy(stated):
        value = resolved(statement)
        if value is None:
            continue
        starts = _dates(statement, "P580") or _dates(statement, "P585")
        ends = [end for end in _dates(statement, "P582") if end != UNKNOWN] or _dates(statement, "P582")
        more = (statement.rank, min(starts, default=""), max(ends, default="")) if statements else ("", "", "")
        rows.add((0 if value == UNKNOWN else int(value[1:]), value, *more))
    return [
        {
            "relation": relation,
            "subject": f"Q{item.number}",
            "object": value,
            **{name: text for name, text in (("rank", rank), ("start", start), ("end", end)) if text},
        }
        for _, value, rank, start, end in sorted(rows)
    ]


def entity(world: World, form: str, number: int, chain: tuple[str, ...], attributes: Iterable[str]) -> dict[str, Any]:
    """Return what a reader must find about an item in the first language of `chain`, the others standing in for it."""
    if not 0 < number <= world.items or world.redirect(number) is not None or number in lost(world, form):
        return {"id": f"Q{number}"}
    item = world.item(number)
    label = next((item.labels[code] for code in chain if code in item.labels), None)
    aliases = sorted({name for code in chain for name in item.aliases.get(code, ())})
    held = {}
    for name in attributes:
        values = {one.value for one in truthy(item.claims.get(name, [])) if isinstance(one.value, int)}
        final = {world.final(one) for one in values} if form == "truthy" else values
        if final:
            held[name] = [f"Q{one}" for one in sorted(final)]
    return {
        "id": f"Q{number}",
        **({"labels": {chain[0]: label}} if label is not None else {}),
        **({"aliases": {chain[0]: aliases}} if aliases else {}),
        **({"attributes": held} if held else {}),
        **({"sitelinks": item.sitelinks} if form == "json" else {}),
    }


def lost(world: World, form: str) -> frozenset[int]:
    """Return the numbers of the items whose only line is broken: one of the JSON dump."""
    number = world.items - 3
    number -= world.redirect(number) is not None
    return frozenset({number} - {world.huge_number}) if form == "json" and world.broken else frozenset()


# How it is written.


class Chunk(NamedTuple):
    """Whole lines of a dump, and what they are: item, redirect, broken, no item, or frame (the dump's own lines)."""

    text: bytes
    kind: str


def _n_triples_text(text: str, escaped: bool) -> str:
    for plain, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(plain, written)
    if not escaped or text.isascii():
        return text
    return "".join(c if c.isascii() else f"\\u{ord(c):04X}" if ord(c) < 0x10000 else f"\\U{ord(c):08X}" for c in text)


def truthy_lines(world: World) -> Iterator[Chunk]:
    """Yield the dump as chunks of N-Triples, an entity each."""
    yield Chunk(
        f"<{DUMP}> <http://creativecommons.org/ns#license> <http://creativecommons.org/publicdomain/zero/1.0/> .\n"
        f'<{DUMP}> <http://schema.org/dateModified> "{DAY}T21:00:00Z"^^<{XSD}dateTime> .\n'.encode(),
        "frame",
    )
    for number in world.numbers():
        rng = world._rng(number, 1)
        target = world.redirect(number)
        if target is not None:
            yield Chunk(f"<{WD}Q{number}> <{SAME_AS}> <{WD}Q{target}> .\n".encode(), "redirect")
            continue
        yield Chunk(_triples(world.item(number), rng.random() < 0.7), "item")
        if rng.random() < 0.02:
            yield Chunk(_lexeme_triples(rng), "no item")
        if rng.random() < world.broken:
            yield Chunk(rng.choice(BROKEN_TRIPLES).replace(b"Q0", b"Q%d" % number), "broken")


BROKEN_TRIPLES = (
    f"<{WD}Q0> <{WDT}P36> <{WD}Q9\n".encode(),
    f"<{WD}Q0> <{WDT}P36> <{WD}Q8> \n".encode(),
    f'<{WD}Q0> <{LABELS[0]}> "half \\u12G4"@en .\n'.encode(),
    f'<{WD}Q0> <{LABELS[0]}> "bytes \xff\xfe"@en .\n'.encode("latin-1"),
    f'{WD}Q0> <{LABELS[0]}> "no beginning"@en .\n'.encode(),
    b"\x00\x01\x02 garbage\n",
)
"""Broken lines of N-Triples, each told as such."""


def _triples(item: Item, escaped: bool) -> bytes:
    subject = f"<{WD}Q{item.number}>"
    data = f"<{DATA}Q{item.number}>"
    lines = [
        f"{data} <{TYPE}> <http://schema.org/Dataset> .",
        f"{data} <http://schema.org/about> {subject} .",
        f'{data} <http://schema.org/version> "{item.revision}"^^<{XSD}integer> .',
        f'{data} <http://schema.org/dateModified> "2026-10-0{item.number % 9 + 1}T00:00:00Z"^^<{XSD}dateTime> .',
        f"{subject} <{TYPE}> <http://wikiba.se/ontology#Item> .",
    ]
    for code, text in item.labels.items():
        written = _n_triples_text(text, escaped)
        lines += [f'{subject} <{name}> "{written}"@{code} .' for name in LABELS]
    for code, text in item.descriptions.items():
        lines.append(f'{subject} <{DESCRIPTION}> "{_n_triples_text(text, escaped)}"@{code} .')
    for code, texts in item.aliases.items():
        lines += [f'{subject} <{ALIAS}> "{_n_triples_text(text, escaped)}"@{code} .' for text in texts]
    for name, stated in item.claims.items():
        lines += [_triple(subject, name, statement, place) for place, statement in enumerate(truthy(stated))]
    return ("\n".join(lines) + "\n").encode()


def _triple(subject: str, name: str, statement: Statement, place: int) -> str:
    if statement.snak == "novalue":
        return f"{subject} <{TYPE}> <{NOVALUE}{name}> ."
    if statement.snak == "somevalue":
        return f"{subject} <{WDT}{name}> _:{name}x{place:030x} ."
    return f"{subject} <{WDT}{name}> {_object_term(name, statement.value)} ."


def _object_term(name: str, value: Any) -> str:
    if isinstance(value, int) and name in ITEM_CHANCES:
        return f"<{WD}Q{value}>"
    if isinstance(value, Time):
        return f'"{value.text.lstrip("+").replace("-00", "-01")}"^^<{XSD}dateTime>'
    if isinstance(value, tuple):
        return f'"Point({value[1]} {value[0]})"^^<http://www.opengis.net/ont/geosparql#wktLiteral>'
    if isinstance(value, int):
        return f'"+{value}"^^<{XSD}decimal>'
    if value.startswith("L") and value[1:].isdigit():
        return f"<{WD}{value}>"
    return f'"{value}"'


def _lexeme_triples(rng: Random) -> bytes:
    lexeme = f"<{WD}L{rng.randrange(1, 99_999)}>"
    return (
        f"{lexeme} <{TYPE}> <http://www.w3.org/ns/lemon/ontolex#LexicalEntry> .\n"
        f'{lexeme} <{LABELS[0]}> "{rng.choice(_words("latin"))}"@en .\n'
        f"{lexeme} <{WDT}P31> <{WD}Q{rng.randrange(1, 40)}> .\n"
        f'<{WD}P{rng.randrange(1, 9_999)}> <{LABELS[0]}> "a property"@en .\n'
    ).encode()


def json_lines(world: World) -> Iterator[Chunk]:
    """Yield the dump as chunks of JSON lines, an entity each, `[` and `]` around them."""
    yield Chunk(b"[\n", "frame")
    numbers = [one for one in world.numbers() if world.redirect(one) is None]
    gone = lost(world, "json")
    for number in numbers:
        rng = world._rng(number, 2)
        end = b"\n" if number == numbers[-1] else b",\n"
        line = _dumped(_json_item(world.item(number)), rng.random() < 0.7)
        yield Chunk(line[: len(line) // 2] + b"\n", "broken") if number in gone else Chunk(line + end, "item")
        if end == b"\n":
            break
        if rng.random() < 0.02:
            yield Chunk(_dumped(_json_lexeme(rng)) + b",\n", "no item")
        if rng.random() < world.broken:
            yield Chunk(rng.choice(BROKEN_JSON), "broken")
    yield Chunk(b"]\n", "frame")


def _dumped(value: Any, escaped: bool = True) -> bytes:
    return json.dumps(value, ensure_ascii=escaped, separators=(",", ":")).encode()


BROKEN_JSON = (
    b'{"type":"item","id":"Q1","labels":{"en":{"language":"en","value":"half\n',
    b'{"type":"item","id":"Q1","labels":{"en":{"language":"en","value":"x"}},"claims":{"P36":[{"mainsnak":{\n',
    b"\x00\x01 garbage,\n",
    b'{"type":"item","labels":{}},\n',
)
"""Broken lines of the JSON dump, each told as such; the last is an item without an id."""


def _json_item(item: Item) -> dict[str, Any]:
    sites = (f"{place:03d}wiki" for place in range(item.sitelinks))
    title = item.labels.get("en", f"Q{item.number}")
    return {
        "type": "item",
        "id": f"Q{item.number}",
        "labels": {code: {"language": code, "value": text} for code, text in item.labels.items()},
        "descriptions": {code: {"language": code, "value": text} for code, text in item.descriptions.items()},
        "aliases": {
            code: [{"language": code, "value": text} for text in texts] for code, texts in item.aliases.items()
        },
        "claims": {
            name: [_json_statement(name, one, f"Q{item.number}", place) for place, one in enumerate(stated)]
            for name, stated in item.claims.items()
        },
        "sitelinks": {site: {"site": site, "title": title, "badges": []} for site in sites},
        "pageid": item.number + 100,
        "ns": 0,
        "title": f"Q{item.number}",
        "lastrevid": item.revision,
        "modified": f"2026-10-0{item.number % 9 + 1}T00:00:00Z",
    }


def _json_statement(name: str, statement: Statement, subject: str, place: int) -> dict[str, Any]:
    digest = f"{place:08x}-{name}"
    made: dict[str, Any] = {"mainsnak": _snak(name, statement.value, statement.snak), "type": "statement"}
    if statement.qualifiers:
        made["qualifiers"] = {
            name: [{**_qualifier(name, value), "hash": digest} for value in values]
            for name, values in statement.qualifiers.items()
        }
        made["qualifiers-order"] = list(statement.qualifiers)
    made |= {"id": f"{subject}${digest}-4C5D-A4C3-4F2B7E1D9A00", "rank": statement.rank}
    if place % 2 == 0 and name != "P2860":
        # References name wanted properties too: a reader of bytes must not take them for statements.
        snaks = {"P248": [_snak("P248", 36_578, "value")], "P17": [_snak("P17", 30, "value")]}
        made["references"] = [{"hash": digest * 3, "snaks": snaks, "snaks-order": list(snaks)}]
    return made


def _qualifier(name: str, value: Time | str) -> dict[str, Any]:
    return _snak(name, None, value) if isinstance(value, str) else _snak(name, value, "value")


def _snak(name: str, value: Any, snak: str) -> dict[str, Any]:
    if snak != "value":
        return {"snaktype": snak, "property": name, "datatype": "time" if name in QUALIFIERS else "wikibase-item"}
    if isinstance(value, Time):
        calendar = JULIAN if value.julian else GREGORIAN
        timestamp = {"time": value.text, "timezone": 0, "before": 0, "after": 0, "precision": value.precision}
        data, kind = {"value": {**timestamp, "calendarmodel": calendar}, "type": "time"}, "time"
    elif isinstance(value, tuple):
        point = {"latitude": value[0], "longitude": value[1], "altitude": None, "precision": 0.001, "globe": WD + "Q2"}
        data, kind = {"value": point, "type": "globecoordinate"}, "globe-coordinate"
    elif isinstance(value, int) and (name in ITEM_CHANCES or name == "P248"):
        held = {"entity-type": "item", "numeric-id": value, "id": f"Q{value}"}
        data, kind = {"value": held, "type": "wikibase-entityid"}, "wikibase-item"
    elif isinstance(value, int):
        data, kind = {"value": {"amount": f"+{value}", "unit": "1"}, "type": "quantity"}, "quantity"
    elif name in ITEM_CHANCES:
        held = {"entity-type": "lexeme", "numeric-id": int(value[1:]), "id": value}
        data, kind = {"value": held, "type": "wikibase-entityid"}, "wikibase-lexeme"
    else:
        data, kind = {"value": value, "type": "string"}, "external-id"
    return {"snaktype": "value", "property": name, "datavalue": data, "datatype": kind}


def _json_lexeme(rng: Random) -> dict[str, Any]:
    number = rng.randrange(1, 99_999)
    claims = {"P31": [_json_statement("P31", Statement(rng.randrange(1, 40)), f"L{number}", 1)]}
    if rng.random() < 0.5:
        label = {"en": {"language": "en", "value": "a property"}}
        return {"type": "property", "datatype": "string", "id": f"P{number}", "labels": label, "claims": claims}
    lemma = {"en": {"language": "en", "value": rng.choice(_words("latin"))}}
    return {"type": "lexeme", "id": f"L{number}", "lemmas": lemma, "claims": claims, "forms": [], "senses": []}


LINES: dict[str, Callable[[World], Iterator[Chunk]]] = {"truthy": truthy_lines, "json": json_lines}


def counts(world: World, form: str) -> Counter[str]:
    """Return the number of chunks of each kind: items, redirects, broken lines, entities that are no items."""
    return Counter(chunk.kind for chunk in LINES[form](world))


def write(world: World, form: str, out: IO[bytes], packing: str = "plain", *, level: int = 9, streams: int = 1) -> int:
    """Write the dump; return the number of bytes of its text.

    packing: plain, gz (one stream) or bz2, whose blocks have `level` times 100 kB and which may be `streams`
    concatenated ones of about equal size.
    """
    total = 0
    if packing == "bz2":
        share = max(1, world.items // streams)
        packer = bz2.BZ2Compressor(level)
        for place, chunk in enumerate(LINES[form](world), 1):
            total += len(chunk.text)
            out.write(packer.compress(chunk.text))
            if place % share == 0 and place // share < streams:
                out.write(packer.flush())
                packer = bz2.BZ2Compressor(level)
        out.write(packer.flush())
        return total
    stream = gzip.GzipFile("", "wb", min(level, 6), out, mtime=0) if packing == "gz" else out
    for chunk in LINES[form](world):
        total += len(chunk.text)
        stream.write(chunk.text)
    if stream is not out:
        stream.close()
    return total


def expected(world: World, form: str, relations: Iterable[str], chain: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield what is to be found as rows: the facts, then every item that the dump describes, then the counts."""
    yield from facts(world, form, relations)
    for number in range(1, world.items + 1):
        row = entity(world, form, number, chain, relations)
        if len(row) > 1:
            yield row
    yield {"counts": counts(world, form)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="file to write; .bz2 and .gz pack it")
    parser.add_argument("--format", choices=sorted(LINES), default="truthy")
    parser.add_argument("--mb", type=float, default=10, help="about so many MB of text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--level", type=int, default=9, help="of bz2 and gz")
    parser.add_argument("--streams", type=int, default=1, help="concatenated streams of bz2")
    parser.add_argument("--expected", type=Path, help="file for what is to be found, as JSON lines")
    parser.add_argument("--relations", default=",".join(ITEM_CHANCES), help="relations of the expected facts")
    parser.add_argument("--chain", default="en,mul", help="languages of the expected names, the first preferred")
    given = parser.parse_args()
    world = World(given.seed, max(10, int(given.mb * 1e6 / BYTES_AN_ITEM[given.format])))
    packing = {".bz2": "bz2", ".gz": "gz"}.get(given.out.suffix, "plain")
    with given.out.open("wb") as out:
        size = write(world, given.format, out, packing, level=given.level, streams=given.streams)
    if given.expected is not None:
        with given.expected.open("w", encoding="utf-8") as rows:
            for row in expected(world, given.format, given.relations.split(","), tuple(given.chain.split(","))):
                rows.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{given.out}: {world.items:,} items, {size:,} bytes of text, {given.out.stat().st_size:,} packed")


if __name__ == "__main__":
    main()
