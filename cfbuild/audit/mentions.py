"""The names of the entities that prompts are about, read off the prompts where the file does not give them.

A relation's templates are known from rewrites and paraphrases, whose subject is known; a prompt that fits one of them
gives a name. Other templates are found where several prompts differ only in a name. A prompt that fits none of these
gives a name only if it begins with one that was found and goes on as another prompt does after its name. No name is
read off other prompts: with a wrong one a good prompt would get a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from cfbuild.data import SLOT
from cfbuild.text.names import FUNCTION_WORDS

LONGEST_NAME = 12
"""The most words of a name; more mean that the template does not fit."""
TOKEN = re.compile(r"\w+|\s+|[^\w\s]")

ENDING = 4
"""The number of last characters by which the templates that may fit a prompt are found: few end alike."""

Halves = tuple[str, str]
"""A template, as the texts before and after its slot."""


@dataclass(frozen=True)
class Templates:
    """The known templates of a relation."""

    known: frozenset[Halves] = frozenset()

    def ending(self, prompt: str) -> tuple[Halves, ...]:
        """Return the templates that may fit `prompt`: those that end as it does, and those with short ends."""
        return self._by_ending.get(prompt[-ENDING:], ()) + self._by_ending.get("", ())

    @cached_property
    def _by_ending(self) -> dict[str, tuple[Halves, ...]]:
        found: dict[str, tuple[Halves, ...]] = {}
        for head, tail in self.known:
            ending = tail[-ENDING:] if len(tail) >= ENDING else ""
            found[ending] = (*found.get(ending, ()), (head, tail))
        return found

    @cached_property
    def starts(self) -> frozenset[str]:
        """Return the words that follow a name at the beginning of a prompt."""
        return frozenset(_starts(self.known))


def names(prompts: Sequence[str], known: Templates, own: AbstractSet[Halves]) -> list[str | None]:
    """Return the name of the entity that each prompt is about, or None where it cannot be read.

    prompts: those of one record about other entities. known: templates of its relation. own: its own templates.
    """
    fits = [_fits(prompt, (*known.ending(prompt), *own)) for prompt in prompts]
    found = [min(texts, key=lambda name: (len(name), name), default=None) for texts in fits]
    if all(name is not None and not _begins_small(name) for name in found):
        return found
    shared = {halves for pair in combinations(prompts, 2) if (halves := _shared_template(*pair)) is not None}
    found = [_agreed(prompt, name, shared) for prompt, name in zip(prompts, found, strict=True)]
    starts = known.starts.union(_starts(own | shared))
    longest = sorted({name for name in found if name is not None}, key=lambda name: (-len(name), name))
    return [name or _begins(prompt, longest, starts) for prompt, name in zip(prompts, found, strict=True)]


def _starts(templates: Iterable[Halves]) -> Iterator[str]:
    return (TOKEN.findall(tail.strip())[0] for head, tail in templates if not head and tail.strip())


def halves(text: str) -> Halves:
    """Return the texts before and after the slot of a template."""
    head, _, tail = text.partition(SLOT)
    return head, tail


def _fits(prompt: str, templates: Iterable[Halves]) -> set[str]:
    """Return the texts in the slots of the templates that fit a prompt, if they can be names."""
    return {
        name
        for head, tail in templates
        if prompt.startswith(head) and prompt.endswith(tail)
        if _is_name(name := prompt[len(head) : len(prompt) - len(tail)])
    }


def _agreed(prompt: str, known: str | None, shared: Iterable[Halves]) -> str | None:
    """Return the name in a prompt by all templates that fit it, or None if they disagree.

    The name by a known template decides, unless it begins with a small word: "The capital of France" fits "{} is" too.
    """
    if known is not None and not _begins_small(known):
        return known
    fits = {name for name in _fits(prompt, shared) if _ends_as_name(name)} | ({known} if known is not None else set())
    likely = {name for name in fits if not _begins_small(name)} or fits
    # Names that begin alike agree: the words after the shortest belong to the template.
    shortest = min(likely, key=len, default="")
    return shortest if likely and all(name.startswith(shortest) for name in likely) else None


def _begins(prompt: str, found: Iterable[str], starts: Iterable[str]) -> str | None:
    """Return the name that a prompt of an unknown template begins with, or None.

    The next word must follow a name in another prompt, and the rest must have no capital and no digit.
    """
    for name in found:
        rest = prompt[len(name) :]
        if prompt.startswith(name) and rest and rest == rest.lower() and not any(map(str.isdigit, rest)):
            tokens = TOKEN.findall(rest.strip())
            if not rest[0].isalnum() and tokens and tokens[0] in starts:
                return name
    return None


def _is_name(text: str) -> bool:
    words = text.split()
    if text != text.strip() or not words or len(words) > LONGEST_NAME:
        return False
    return not text[0].islower() and text[0].isalnum()


def _ends_as_name(text: str) -> bool:
    """Return True if the last word is not small: a small one may belong to the template."""
    return not text.rsplit(maxsplit=1)[-1].islower()


def _begins_small(name: str) -> bool:
    return name.split(maxsplit=1)[0].lower() in FUNCTION_WORDS


def _shared_template(first: str, second: str) -> Halves | None:
    """Return the template of two prompts that differ only in a name, or None.

    Neither half may have a digit, or a capital but at the beginning of the prompt; the first half must end in a small
    word ("The capital of", not "New").
    """
    words, other_words = TOKEN.findall(first), TOKEN.findall(second)
    head = _common(words, other_words, may_begin_large=True)
    while head and not (words[head - 1].isspace() and head > 1 and _is_small(words[head - 2])):
        head -= 1
    tail = _common(words[::-1], other_words[::-1], may_begin_large=False)
    if not tail:
        return None
    middles = ["".join(parts[head : len(parts) - tail]) for parts in (words, other_words)]
    if middles[0] == middles[1] or not all(_is_name(name) and _ends_as_name(name) for name in middles):
        return None
    return "".join(words[:head]), "".join(words[len(words) - tail :])


def _common(words: Sequence[str], other_words: Sequence[str], may_begin_large: bool) -> int:
    """Return how many equal tokens without capitals and digits begin both; `may_begin_large` exempts the first."""
    count = 0
    for word, other_word in zip(words, other_words, strict=False):
        if word != other_word or not (_is_plain(word) or (may_begin_large and not count)):
            break
        count += 1
    return count


def _is_small(token: str) -> bool:
    return token[0].islower() or token.lower() in FUNCTION_WORDS


def _is_plain(token: str) -> bool:
    return token == token.lower() and not any(map(str.isdigit, token))
