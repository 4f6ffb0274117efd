"""The names of the entities that prompts are about, read off the prompts where the file does not give them.

A relation's templates are known from rewrites and paraphrases, whose subject is known. A prompt that fits a template
gives a name; a name found in another prompt gives that prompt's template; and so on until nothing new is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations, takewhile

from cfbuild.data import SLOT
from cfbuild.text.names import find_name

LONGEST_NAME = 12
"""The most words of a name; more mean that the template does not really fit."""
SMALL = frozenset({"the", "in", "on", "at", "a", "an", "of", "to", "by", "for", "from", "as", "who", "what", "where"})


class Templates:
    """The templates of each relation that a file's rewrites and paraphrases show."""

    def __init__(self) -> None:
        self._seen: dict[str, Counter[str]] = {}

    def learn(self, relation: str, rewrite: str, clean: Iterable[tuple[str, str]]) -> None:
        """Add the rewrite template of a row, and its (clean paraphrase, subject) pairs."""
        seen = self._seen.setdefault(relation, Counter())
        # A rewrite is sure to be a template; a paraphrase may be a prefix that was cut in the wrong place.
        seen[rewrite] += 2
        seen.update({text.replace(subject, SLOT) for text, subject in clean if text.count(subject) == 1})

    def of(self, relation: str) -> frozenset[str]:
        """Return the templates of `relation` that are a rewrite's, or paraphrases' of more than one row."""
        return frozenset(text for text, count in self._seen.get(relation, Counter()).items() if count > 1)


def names(prompts: Sequence[str], templates: Iterable[str]) -> list[str | None]:
    """Return the name of the entity that each prompt is about, or None where it cannot be read."""
    known = {_halves(text) for text in templates if text.count(SLOT) == 1}
    found: list[str | None] = [None] * len(prompts)
    shared = _leading(prompts)
    while True:
        before = list(found), len(known)
        for place, prompt in enumerate(prompts):
            found[place] = _fit(prompt, known) or find_name(prompt, _longest(found, shared)) or None
        # A template learned here must leave more than a word, or it would fit everything.
        new = {
            _halves(prompt, name)
            for prompt, name in zip(prompts, found, strict=True)
            if name is not None and prompt.count(name) == 1 and len(prompt) - len(name) > 3
        }
        known |= new
        if (found, len(known)) == before:
            return found


def _halves(text: str, slot: str = SLOT) -> tuple[str, str]:
    head, _, tail = text.partition(slot)
    return head, tail


def _longest(found: Iterable[str | None], shared: Iterable[str]) -> list[str]:
    return sorted({*(name for name in found if name), *shared}, key=lambda name: (-len(name), name))


def _fit(prompt: str, templates: Iterable[tuple[str, str]]) -> str | None:
    """Return the shortest name that a template (text before the slot, text after it) leaves of the prompt, or None."""
    fits = []
    for head, tail in templates:
        if prompt.startswith(head) and prompt.endswith(tail) and len(prompt) > len(head) + len(tail):
            name = prompt[len(head) : len(prompt) - len(tail)]
            if _is_name(name):
                fits.append(name)
    return min(fits, key=lambda name: (len(name), name), default=None)


def _is_name(text: str) -> bool:
    words = text.split()
    return text == text.strip() and bool(words) and len(words) <= LONGEST_NAME and not text[0].islower()


def _shared(one: list[str], other: list[str]) -> list[str]:
    """Return the words that both begin with."""
    return [word for word, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]


def _leading(prompts: Sequence[str]) -> set[str]:
    """Return names that two prompts begin with: the words they share, if a small letter follows these in both.

    Commas and words that begin with a small letter are cut off the end of a name.
    """
    found = set()
    worded = [(text, text.replace(",", " ,").split()) for text in prompts]
    for (one, words_of_one), (other, words_of_other) in combinations(worded, 2):
        if words_of_one[:1] == words_of_other[:1]:
            words = _shared(words_of_one, words_of_other)
            while words and (words[-1][0].islower() or words[-1] == ","):
                words = words[:-1]
            name = " ".join(words)
            after = [text[len(name) :].lstrip(" ,")[:1] for text in (one, other)]
            if _is_name(name) and name.lower() not in SMALL and all(mark.islower() for mark in after):
                found.add(name)
    return found
