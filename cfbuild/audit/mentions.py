"""The names of the entities that prompts are about, read off the prompts where the file does not give them.

A relation's templates are known from rewrites and paraphrases, whose subject is known; a prompt that fits a template
gives a name. Of templates that no rewrite shows, those are found that several prompts share with different names in
their slot. What fits none of these is read only where it begins with a name that was found and goes on as another
prompt does behind its name. All else stays unread: a wrong name would put a good prompt under suspicion.
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
"""The most words of a name; more mean that the template does not really fit."""
TOKEN = re.compile(r"\w+|\s+|[^\w\s]")

ENDING = 4
"""Characters at the end of a template by which those that may fit a prompt are found: few end alike."""

Halves = tuple[str, str]
"""A template, as the texts before and after its slot."""


@dataclass(frozen=True)
class Templates:
    """Texts that are known to be templates of a relation."""

    known: frozenset[Halves] = frozenset()

    def ending(self, prompt: str) -> tuple[Halves, ...]:
        """Return the templates that may fit a prompt: those that end as it does, and those with short ends."""
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
        """The words that follow a name at the beginning of a prompt."""
        return frozenset(_starts(self.known))


def names(prompts: Sequence[str], known: Templates, own: AbstractSet[Halves]) -> list[str | None]:
    """Return the name of the entity that each prompt is about, or None where it cannot be read.

    prompts: of one relation, of which `known` are templates, and `own` those of the prompts' record.
    """
    found = [_shortest(prompt, (*known.ending(prompt), *own)) for prompt in prompts]
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
    """Return the names that templates leave of a prompt."""
    return {
        name
        for head, tail in templates
        if prompt.startswith(head) and prompt.endswith(tail)
        if _is_name(name := prompt[len(head) : len(prompt) - len(tail)])
    }


def _shortest(prompt: str, templates: Iterable[Halves]) -> str | None:
    return min(_fits(prompt, templates), key=lambda name: (len(name), name), default=None)


def _agreed(prompt: str, known: str | None, shared: Iterable[Halves]) -> str | None:
    """Return the name that all templates leave of a prompt, or None if they differ.

    A known template decides, unless its name begins as a template does: "The capital of France" fits "{} is" too.
    """
    if known is not None and not _begins_small(known):
        return known
    fits = {name for name in _fits(prompt, shared) if _ends_as_name(name)} | ({known} if known is not None else set())
    likely = {name for name in fits if not _begins_small(name)} or fits
    # One inside another at its beginning: what follows the shorter name is a template's.
    shortest = min(likely, key=len, default="")
    return shortest if likely and all(name.startswith(shortest) for name in likely) else None


def _begins(prompt: str, found: Iterable[str], starts: Iterable[str]) -> str | None:
    """Return the name that a prompt of an unknown template begins with, or None.

    What follows must begin as in another prompt, and hold nothing that may belong to a name: a capital or a digit.
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
    """Return True if the last word of a name is no small one, which might as well be the template's."""
    return not text.rsplit(maxsplit=1)[-1].islower()


def _begins_small(name: str) -> bool:
    return _is_function_word(name.split(maxsplit=1)[0])


def _is_function_word(word: str) -> bool:
    return word.lower() in FUNCTION_WORDS


def _shared_template(first: str, second: str) -> Halves | None:
    """Return the template of two prompts that differ in one place, where each has a name; None if they are not such.

    Neither half may hold what could belong to a name: of capitals only the first letter of the prompt, no digit; and
    what stands before the slot ends in a small word ("The capital of", not "New").
    """
    words, others = TOKEN.findall(first), TOKEN.findall(second)
    head = _common(words, others)
    while head and not (words[head - 1].isspace() and head > 1 and _is_small(words[head - 2])):
        head -= 1
    tail = _common_tail(words, others)
    if not tail:
        return None
    middles = ["".join(parts[head : len(parts) - tail]) for parts in (words, others)]
    if middles[0] == middles[1] or not all(_is_name(name) and _ends_as_name(name) for name in middles):
        return None
    return "".join(words[:head]), "".join(words[len(words) - tail :])


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many tokens both begin with, but for names."""
    count = 0
    for mine, theirs in zip(first, second, strict=False):
        if mine != theirs or (count and not _is_plain(mine)):
            break
        count += 1
    return count


def _common_tail(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many tokens both end in, but for names."""
    count = 0
    for mine, theirs in zip(reversed(first), reversed(second), strict=False):
        if mine != theirs or not _is_plain(mine):
            break
        count += 1
    return count


def _is_small(token: str) -> bool:
    return token[0].islower() or _is_function_word(token)


def _is_plain(token: str) -> bool:
    return token == token.lower() and not any(map(str.isdigit, token))
