"""Rules of English wording that need no model: articles, noise in names, words made from names, whole sentences.

Every rule is careful: where the letters alone do not decide, it finds nothing wrong.
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
"""Beginnings before which usage differs or the letters do not decide the sound."""
SPELLED_WITH_VOWEL = frozenset("AEFHILMNORSX")
"""Letters whose names begin with a vowel: an FBI agent, a BBC programme."""

DISAMBIGUATION = re.compile(r"\S \((?:[a-z0-9][^()]*|[^()\s]+)\)\Z")
"""A bracket at the end that is one word or begins with a small letter: not that of "Girl (Why You Wanna)"."""
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
"""Words for kinds of things with which brackets tell namesakes apart: "(Bad Religion album)", "(TV series)"."""
_SPEECH = """
    you he she it we they me him us them my your our their i'm i've i'd i'll it's why what who when where how am is
    are was were be do don't does did can't won't let's ain't gonna wanna gotta not never
"""
SPEECH = frozenset(_SPEECH.split())
"""Words of whole sentences, which a bracket of a title may hold and one that tells namesakes apart does not."""
SPOKEN = re.compile(r"[^\W\d_]+(?:['’][a-z]+)?")
_OPENING = """
    a an my your our this that these those just another i'm it's
"""
OPENING = frozenset(_OPENING.split())
"""First words of brackets that are titles themselves: "(A Love Song)"; not "the", with which bands begin."""
FULL_STOP = re.compile(r"(?<![.\w])[^\W\d_]{3,}[aeiou]\.\Z")
"""A full stop that ends no abbreviation: those of four letters and more do not end in a vowel."""
DERIVED = re.compile(r"(?:s|es|an|ans|ian|ians|n|ns|ic|ics|ism|ist|ists|ish|ese|i|is)\Z")
"""Endings of words made from a name: Satires, Devonian, Abrahamic, Venezuelan, Marxism, Japanese, Iraqi."""
STEM = 4
"""Fewest letters of a name for a word that begins with it to be made from it."""
BROKEN_SPACE = re.compile(r"\s\s|\s[,.;:!?](?=\s|\Z)|\s['’]s\b|\(\s|\s\)")
REPEATED = re.compile(r"\b(a|an|the|of|in|is|was|by|to|and)\s+\1\b", re.IGNORECASE)
ABBREVIATED = re.compile(r"\b(?:no|nos|ca|fl|vs|approx|[a-z])\.\Z", re.I)
"""Ends at which the sentencizer may have cut a sentence in two."""
UNRESOLVED = re.compile(r"(?:he|she|it|they|his|her|hers|its|their|theirs|him|them|this|that|these|those)\b", re.I)
"""Beginnings that refer to a sentence before: in front of a prompt they would seem to speak of its subject."""
DESCRIPTION = re.compile(r"(The (?!name\b)[A-Za-z ]+ of \{\}|\{\}['’]s [a-z ]+) (?:is|was)")
"""A template that is a definite description of its object and a verb: "The birthplace of {} is"."""
BEFORE_DESCRIPTION = re.compile(
    r"(?:\A|\b(?:about|around|at|by|for|from|in|into|near|of|on|past|through|to|visit|with) )\{\}"
)
"""Places in which a description can stand as well as a name: not that of "The city {} is in"."""
TWO_ARTICLES = re.compile(r"\b(?:a|an|the) (?:a|an|the)\b", re.IGNORECASE)


def article(name: str) -> str | None:
    """Return the indefinite article that `name` needs, or None where its letters do not decide."""
    match = WORD.search(name)
    if match is None:
        return None
    word = match[0]
    if len(word) > 1 and word.isupper():
        # Acronyms are read as words (a NASA probe) or letter by letter (an NBA team): only agreement of both decides.
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
    """Return the article that `prompt` ends in, if `name` needs the other one, or None."""
    # Few templates end in a letter of an article.
    match = ARTICLE.search(prompt) if prompt.endswith(("a", "n", "A", "N")) else None
    needed = article(name) if match else None
    return match[1] if match and needed is not None and match[1].lower() != needed else None


@lru_cache(maxsize=100_000)
def _stems(name: str) -> tuple[str, frozenset[str]]:
    """Return a name without letter case, and what words may be made from if it is a single word."""
    folded = name.casefold()
    stems = (folded, folded.rstrip("aeoy"))
    return folded, frozenset(stem for stem in stems if len(stem) >= STEM and stem.isalpha())


def derived(text: str, name: str) -> str | None:
    """Return a word of `text` that is made from the single word `name`, or None: Devonian from Devon."""
    folded, stems = _stems(name)
    # Most texts hold none of the stems, and no rule is asked as often: a loop costs half of what `any` does.
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
    """Return what does not belong in a name: a control, markup, a suffix that distinguishes namesakes; or None."""
    if label.isascii() and label.isalpha():
        return None
    if not (label.isascii() and label.isprintable()) and (found := neutral.control(label)):
        return found
    # Every name of a build is checked here: as few calls as possible.
    match = neutral.MARKUP.search(label) or DISAMBIGUATION.search(label) or FULL_STOP.search(label)
    if match is None and (parts := neutral.without_bracket(label)) is not None and _is_kind(parts[1]):
        return f"({parts[1]})"
    return match[0].strip() if match else neutral.stray_space(label)


def speaks(words: str) -> bool:
    """Return True if `words` are part of what somebody says, as in the bracket of "Girl (Why You Wanna)"."""
    said = [word.replace("’", "'") for word in SPOKEN.findall(words)]
    # In capitals these are other words: US, IT, WHO.
    return any(word.casefold() in SPEECH and not (word.isupper() and len(word) > 1) for word in said)


def _is_kind(words: str) -> bool:
    """Return True if `words` end in a kind of things and do not begin as a title does: "Bad Religion album"."""
    said = [word.casefold() for word in SPOKEN.findall(words)]
    return bool(said) and said[-1] in CLASSES and said[0] not in OPENING


def description(template: str) -> str | None:
    """Return the definite description in a template that is one and a verb ("The birthplace of {} is"), or None."""
    match = DESCRIPTION.fullmatch(template)
    return match[1] if match else None


def takes_description(template: str) -> bool:
    """Return True if a description can stand in the slot: nothing before it says what kind of thing is named."""
    return BEFORE_DESCRIPTION.search(template) is not None


def begins_small(label: str) -> bool:
    """Return True if `label` is a common noun, which begins no sentence as it is: jazz, but not iPhone."""
    return label[:1].islower() and not label[1:2].isupper()


def inside(text: str) -> str:
    """Return a description as it is written inside a sentence: "The" keeps its capital at the beginning only."""
    return f"the{text[3:]}" if text.startswith("The ") else text


@lru_cache(maxsize=10_000)
def ungrammatical(prompt: str, slot: str) -> str | None:
    """Return what is broken in a prompt that an object's name follows, or None; `slot` marks the subject."""
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
    """Return the sentences in front of a prompt and the prompt itself, which names `subject`.

    There is no prefix where the prompt does not name it.
    """
    place = prompt.rfind(subject)
    if place < 0 or not subject:
        return "", prompt
    ends = [match.end() for match in SENTENCE_END.finditer(prompt, 0, place)]
    if not ends:
        return "", prompt
    return prompt[: ends[-1]].strip(), prompt[ends[-1] :].strip()


def fragment(prefix: str) -> str | None:
    """Return why a prefix is no whole sentence, or None: it may still be none, but nothing in its form says so."""
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
    """Return why a sentence that was cut from a text cannot be put in front of a prompt, or None."""
    quotes = text.count('"') % 2 == 0 and text.count("“") == text.count("”")
    if UNRESOLVED.match(text):
        return "refers to a sentence before it"
    if ABBREVIATED.search(text):
        return "may end in an abbreviation"
    if BROKEN_SPACE.search(text) or not quotes:
        return "has a broken space or a quotation mark alone"
    return fragment(text)
