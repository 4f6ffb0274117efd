"""The filter of truthy N-Triples: one regular expression over the bytes of many lines.

Lines have the form in which Wikidata writes them, with single spaces. The expression begins as every line about an item
does, so that it fails soon on other lines, and only the lines that a query needs become objects of Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from cfbuild.sources.dump.query import NO_ITEM, DumpQuery, FactRow, UnitFindings, alternation

ENTITY = rb"<http://www\.wikidata\.org/entity/"
UNKNOWN_TERMS = (b"_:", b"<http://www.wikidata.org/.well-known/genid/")
DAY = re.compile(
    rb'\n<http://wikiba\.se/ontology#Dump> <http://schema\.org/dateModified> "([0-9]{4}-[0-9]{2}-[0-9]{2})T'
)
DAY_BYTES = 1 << 16
"""The bytes at the beginning of a piece in which the dump's day is searched; it stands in the dump's first lines."""
TERM = re.compile(rb'<[^<>"{}|^`\\\x00-\x20]*>|_:[^\s]+|"(?:[^"\\]|\\.)*"(?:@[A-Za-z0-9-]+|\^\^<[^<>"\s]*>)?')
NO_BEGINNING, NO_END = re.compile(rb"\n(?=[^<])"), re.compile(rb"\n(?<! \.\n)")
"""Line breaks before a line that begins with no IRI, and after a line that ends without a full stop."""
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([tbnrf"\'\\])|)')
_LETTERS = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f", '"': '"', "'": "'", "\\": "\\"}


def read_text(raw: bytes) -> str:
    """Return the text of a literal whose bytes between the quotes are `raw`. Raises ValueError if it is broken."""
    text = raw.decode()
    if "\\" not in text:
        if '"' in text:
            raise ValueError("a quote inside a literal")
        return text
    if '"' in _ESCAPE.sub("", text):
        raise ValueError("a quote inside a literal")
    text = _ESCAPE.sub(_character, text)
    text.encode()  # half a character is refused
    return text


def _character(match: re.Match[str]) -> str:
    number = match[1] or match[2]
    if number:
        return chr(int(number, 16))
    if not match[3]:
        raise ValueError("a backslash that begins no escape")
    return _LETTERS[match[3]]


def _lines_of(query: DumpQuery) -> re.Pattern[bytes]:
    names = alternation(query.properties)
    languages = alternation(query.languages)
    return re.compile(
        rb"\n" + ENTITY + rb"Q([1-9][0-9]{0,18})> <http://www\.w(?:"
        rb"ikidata\.org/prop/direct/(" + names + rb")> (?:" + ENTITY + rb"Q([1-9][0-9]{0,18})>|([^\n]+))"
        rb"|3\.org/2(?:(000/01/rdf-schema#label)|004/02/skos/core#altLabel)> \"([^\n]*)\"@(" + languages + rb")"
        rb"|3\.org/2002/07/owl#sameAs> " + ENTITY + rb"Q([1-9][0-9]{0,18})>"
        rb") \.(?=\n)"
    )


def truthy_filter(query: DumpQuery) -> Callable[[bytes, UnitFindings], None]:
    """Return a function that adds the findings in whole lines, each with its line break, to its second argument."""
    find = _lines_of(query).findall
    relations, attributes = (
        {name.encode(): int(name[1:]) for name in names} for names in (query.relations, query.attributes)
    )

    def scan(text: bytes, found: UnitFindings) -> None:
        text = b"\n" + text
        _check_shape(text, found)
        if not found.day and (modified := DAY.search(text, 0, DAY_BYTES)):
            found.day = modified[1].decode()
        for digits, name, value, term, label, raw, language, target in find(text):
            subject = int(digits)
            if name:
                number = int(value) if value else _other_object(term)
                if number is None:
                    found.break_off(term)
                    continue
                if name in relations:
                    found.facts.append(FactRow(relations[name], subject, number))
                if name in attributes and number > 0:
                    found.add(subject, b"%s Q%d" % (name, number))
            elif target:
                found.redirects.append((subject, int(target)))
            elif _is_text(raw):
                found.add(subject, b"%s %s %s" % (b"L" if label else b"A", language, raw))
            else:
                found.break_off(raw)

    return scan


def _is_text(raw: bytes) -> bool:
    if raw.isascii() and b"\\" not in raw and b'"' not in raw:
        return True
    try:
        read_text(raw)
    except ValueError:
        return False
    return True


def _other_object(term: bytes) -> int | None:
    """Return the number of an object that is no item: 0 if nobody knows it, NO_ITEM for a literal; None for no term."""
    if not TERM.fullmatch(term):
        return None
    return 0 if term.startswith(UNKNOWN_TERMS) else NO_ITEM


def _check_shape(text: bytes, found: UnitFindings) -> None:
    """Count the lines that do not begin with a term or do not end with a full stop."""
    starts = {match.end() for match in NO_BEGINNING.finditer(text)}
    starts |= {text.rfind(b"\n", 0, match.start()) + 1 for match in NO_END.finditer(text, 1)}
    for start in sorted(starts):
        line = text[start : text.index(b"\n", start)]
        whole = line.endswith(b" .") and line.startswith(b"_:")
        if not whole and line.strip() and not line.startswith(b"#"):
            found.break_off(line)
