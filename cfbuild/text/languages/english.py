"""Rules of English wording: indefinite articles, noise in names, words made from names, whole sentences.

If letters alone do not decide, no fault is found.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from cfbuild.text.languages import neutral

ARTICLE = re.compile(r"\b(an?)\Z", re.IGNORECASE)
WORD = re.compile(r"[^\W_]+")
SENTENCE_END = re.compile(r"[.!?][\"'”’)]?(?=\s)")

SILENT_H = ("hour", "honest", "honor", "honour", "heir")
SOUNDED_LIKE_YOU = re.compile(r"(uni(?!n|m)|us(?:e|u|a)|ut[aeio]|eu|ewe|ub?iq|ura|uro|uk|one\b|once\b)", re.IGNORECASE)
UNSURE = ("historic", "histori", "herb", "hotel", "u", "y")
"""Beginnings of words for which usage differs or letters do not decide the sound."""
SPELLED_WITH_VOWEL = frozenset("AEFHILMNORSX")
"""Letters whose names begin with a vowel: an FBI agent."""

DISAMBIGUATION = re.compile(r"\S \((?:[a-z0-9][^()]*|[^()\s]+)\)\Z")
"""A bracket at the end that is one word or begins with a small letter; that of "Girl (Why You Wanna)" is neither."""
_CLASSES = """
    actor actress aircraft airport album anime app architect artist asteroid astronomer athlete author automobile
    award ballet band biologist bishop book botanist brand businessman businesswoman channel character chemist club
    coach college comedian comic comics commune company composer corporation county crater cricketer cyclist
    director district dj economist engineer ensemble ep episode film footballer franchise game genus group hamlet
    helicopter historian insect journal journalist label language league line locomotive magazine manga
    mathematician miniseries missile mixtape motorcycle movie municipality musical musician mythology name
    neighborhood neighbourhood network newspaper novel novelist novella officer opera orchestra organisation
    organization painter painting philosopher photographer physicist plant player poem politician producer program
    programme province publisher railway rapper religion restaurant school scientist score screenwriter sculptor
    sculpture season series show singer single sitcom software song soundtrack species station statue store studio
    submarine suburb surname swimmer team theologian union university video village website wrestler writer
"""
CLASSES = frozenset(_CLASSES.split())
"""Kinds of things, with which brackets distinguish items of the same name: "(Bad Religion album)"."""
_SPEECH = """
    you he she it we they me him us them my your our their i'm i've i'd i'll it's why what who when where how am is
    are was were be do don't does did can't won't let's ain't gonna wanna gotta not never
"""
SPEECH = frozenset(_SPEECH.split())
"""Words of whole sentences, which are in brackets of titles only."""
SPOKEN = re.compile(r"[^\W\d_]+(?:['’][a-z]+)?")
_OPENING = """
    a an my your our this that these those just another i'm it's
"""
OPENING = frozenset(_OPENING.split())
"""First words of brackets that are a part of a title: "(A Love Song)"; not "the", with which names of bands begin."""
FULL_STOP = re.compile(r"(?<![.\w])[^\W\d_]{3,}[aeiou]\.\Z")
"""A full stop that ends no abbreviation: no abbreviation of four letters and more ends in a vowel."""
DERIVED = re.compile(r"(?:s|es|an|ans|ian|ians|n|ns|ic|ics|ism|ist|ists|ish|ese|i|is)\Z")
"""Endings of words made from a name: Satires, Devonian, Abrahamic, Venezuelan, Marxism, Japanese, Iraqi."""
STEM = 4
"""The fewest letters of a stem: words with a shorter beginning in common are too often not related."""
BROKEN_SPACE = re.compile(r"\s\s|\s[,.;:!?](?=\s|\Z)|\s['’]s\b|\(\s|\s\)")
REPEATED = re.compile(r"\b(a|an|the|of|in|is|was|by|to|and)\s+\1\b", re.IGNORECASE)
ABBREVIATED = re.compile(r"\b(?:no|nos|ca|fl|vs|approx|[a-z])\.\Z", re.I)
"""An abbreviation at the end, where a sentence may have been cut in two."""
UNRESOLVED = re.compile(r"(?:he|she|it|they|his|her|hers|its|their|theirs|him|them|this|that|these|those)\b", re.I)
"""Beginnings that refer to an earlier sentence; before a prompt they would seem to be about its subject."""
DESCRIPTION = re.compile(r"(The (?!name\b)[A-Za-z ]+ of \{\}|\{\}['’]s [a-z ]+) (?:is|was)")
"""A template that is a description of its object and a verb: "The birthplace of {} is"."""
BEFORE_DESCRIPTION = re.compile(
    r"(?:\A|\b(?:about|around|at|by|for|from|in|into|near|of|on|past|through|to|visit|with) )\{\}"
)
"""Slots in which a description can be put instead of a name; not that of "The city {} is in"."""
TWO_ARTICLES = re.compile(r"\b(?:a|an|the) (?:a|an|the)\b", re.IGNORECASE)


def article(name: str) -> str | None:
    """Return the indefinite article of `name`, "a" or "an", or None if its letters do not decide."""
    match = WORD.search(name)
    if match is None:
        return None
    word = match[0]
    if len(word) > 1 and word.isupper():
        # Acronyms are read as words (a NASA probe) or letter by letter (an NBA team); both must have the same article.
        spelled, spoken = word[0] in SPELLED_WITH_VOWEL, word[0] in "AEIO"
        return None if spelled != spoken else ("an" if spoken else "a")
    folded = word.casefold()
    if folded.startswith(SILENT_H):
        return "an"
    if SOUNDED_LIKE_YOU.match(folded):
        return "a"
    first = unicodedata.normalize("NFD", folded)[0]
    if folded.startswith(UNSURE) or not first.isascii() or not first.isalpha():
        return None
    return "an" if first in "aeio" else "a"


def clashing_article(prompt: str, name: str) -> str | None:
    """Return the article at the end of `prompt` if `name` needs the other one, or None."""
    # Few templates end in a letter of an article, so most need no search.
    match = ARTICLE.search(prompt) if prompt.endswith(("a", "n", "A", "N")) else None
    needed = article(name) if match else None
    return match[1] if match and needed is not None and match[1].lower() != needed else None


@lru_cache(maxsize=100_000)
def _stems(name: str) -> tuple[str, frozenset[str]]:
    """Return a name in small letters, and the stems from which words may be made if it is a single word."""
    folded = name.casefold()
    stems = (folded, folded.rstrip("aeoy"))
    return folded, frozenset(stem for stem in stems if len(stem) >= STEM and stem.isalpha())


def derived(text: str, name: str) -> str | None:
    """Return a word of `text` that is made from the single word `name`, or None: Devonian from Devon."""
    folded, stems = _stems(name)
    # The most frequent rule, and most texts hold no stem: a loop costs half of what `any` does.
    whole = text.casefold()
    for stem in stems:
        if stem in whole:
            break
    else:
        return None
    for word in WORD.findall(text):
        made = word.casefold()
        if made != folded and any(
            made == stem or (made.startswith(stem) and DERIVED.fullmatch(made[len(stem) :])) for stem in stems
        ):
            return str(word)
    return None


@lru_cache(maxsize=100_000)
def noise(label: str) -> str | None:
    """Return a part of a name that does not belong to it, such as markup or "(album)", or None."""
    if label.isascii() and label.isalpha():
        return None
    if not (label.isascii() and label.isprintable()) and (found := neutral.control(label)):
        return found
    # Every name of a build is checked here, so calls are few.
    match = neutral.MARKUP.search(label) or DISAMBIGUATION.search(label) or FULL_STOP.search(label)
    if match is None and (parts := neutral.without_bracket(label)) is not None and _is_kind(parts[1]):
        return f"({parts[1]})"
    return match[0].strip() if match else neutral.stray_space(label)


def speaks(words: str) -> bool:
    """Return True if `words` are a part of a sentence, as in the bracket of "Girl (Why You Wanna)"."""
    spoken = [word.replace("’", "'") for word in SPOKEN.findall(words)]
    # In capitals these are other words: US, IT, WHO.
    return any(word.casefold() in SPEECH and not (word.isupper() and len(word) > 1) for word in spoken)


def _is_kind(words: str) -> bool:
    """Return True if `words` end in a kind of things and do not begin like a title: "Bad Religion album"."""
    spoken = [word.casefold() for word in SPOKEN.findall(words)]
    return bool(spoken) and spoken[-1] in CLASSES and spoken[0] not in OPENING


def description(template: str) -> str | None:
    """Return the description in a template: "The birthplace of {}" of "The birthplace of {} is"; or None."""
    match = DESCRIPTION.fullmatch(template)
    return match[1] if match else None


def takes_description(template: str) -> bool:
    """Return True if a description can be put in the slot: no noun before it says what kind of thing it is."""
    return BEFORE_DESCRIPTION.search(template) is not None


def begins_small(label: str) -> bool:
    """Return True if `label` is a common noun, which has a capital where a sentence begins: jazz, not iPhone."""
    return label[:1].islower() and not label[1:2].isupper()


def inside(text: str) -> str:
    """Return a description as it is written inside a sentence: with "the", not "The"."""
    return f"the{text[3:]}" if text.startswith("The ") else text


@lru_cache(maxsize=10_000)
def ungrammatical(prompt: str, slot: str) -> str | None:
    """Return a part of a prompt that is wrong before an object's name, or None."""
    broken = BROKEN_SPACE.search(prompt) or TWO_ARTICLES.search(prompt.replace(slot, "Ann"))
    broken = broken or REPEATED.search(prompt.replace(slot, "Ann")) or re.search(r"\[[XY]\]", prompt)
    if broken:
        return broken[0]
    if prompt.endswith(slot):
        return "nothing between the subject and the object"
    for opening, closing in ("()", "[]", "“”"):
        if prompt.replace(slot, "").count(opening) != prompt.replace(slot, "").count(closing):
            return f"{opening} or {closing} alone"
    return prompt[-1] if prompt and prompt[-1] in "-.;!/" else None


def split_prefix(prompt: str, subject: str) -> tuple[str, str]:
    """Return the sentences before a prompt (none if it does not name `subject`) and the prompt itself."""
    place = prompt.rfind(subject)
    if place < 0 or not subject:
        return "", prompt
    ends = [match.end() for match in SENTENCE_END.finditer(prompt, 0, place)]
    if not ends:
        return "", prompt
    return prompt[: ends[-1]].strip(), prompt[ends[-1] :].strip()


def fragment(prefix: str) -> str | None:
    """Return the reason why the form of a prefix is not that of a whole sentence, or None."""
    words = WORD.findall(prefix)
    first = next((character for character in prefix if character.isalnum()), "")
    if first.islower():
        return "begins with a small letter"
    if not re.search(r"[.!?][\"'”’)]?\Z", prefix):
        return "does not end as a sentence"
    if len(words) < 2:
        return "is a single word"
    if not any(word[0].islower() for word in words if word[0].isalpha()):
        return "holds names or a title only"
    return None


def sentence_fault(text: str) -> str | None:
    """Return the reason why a sentence of a longer `text` cannot be put before a prompt, or None."""
    quotes = text.count('"') % 2 == 0 and text.count("“") == text.count("”")
    if UNRESOLVED.match(text):
        return "refers to a sentence before it"
    if ABBREVIATED.search(text):
        return "may end in an abbreviation"
    if BROKEN_SPACE.search(text) or not quotes:
        return "has a broken space or a quotation mark alone"
    return fragment(text)
