"""Rules of wording: for each language a file of functions and an entry of LANGUAGES.

A language without a file has the neutral rules, which find no fault with anything that is right in any language.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from cfbuild.text import scripts
from cfbuild.text.languages import (
    arabic,
    dutch,
    english,
    english_articles,
    english_number,
    english_tense,
    french,
    german,
    hindi,
    italian,
    neutral,
    polish,
    portuguese,
    russian,
    spanish,
    turkish,
)

__all__ = ["LANGUAGES", "Language", "language"]


@dataclass(frozen=True, slots=True)
class Language:
    """The rules of a language as functions of texts, by default neutral ones. Equal, hashable and picklable.

    article(name): the indefinite article that a name needs, or None if it is not known.
    article_of_name(label, aliases, classes): the definite article of a name inside a sentence, by its other names and
        the English names of its classes: "the" for Netherlands; empty if there is none.
    is_plural(label, classes): True if a name is plural, by the English names of its classes.
    is_singular(template): True if a verb of a template agrees with a singular name in the slot.
    begins_small(label): True if a name begins with a small letter inside a sentence, as "jazz" does.
    article_clash(prompt, name): the last word of a prompt (an article, a preposition), if the name cannot follow it
        without a change: "a" before "actor"; else None.
    template_fault(text, slot): a part of a prompt that is wrong before an object's name, or None.
    noise(label): a part of a name that does not belong to it, such as markup, or None.
    derived(text, name): a word of a text that is made from a name (Devonian from Devon), or None.
    description(template): the description of its object that a template is without its verb: "The birthplace of {}" of
        "The birthplace of {} is"; else None.
    takes_description(template): True if a description such as "the birthplace of Ann" can be put in the slot.
    inside(description): a description as it is written inside a sentence.
    past(template, year): a template in the present tense, as a question about a past year, or None.
    fragment(text): the reason why a text before a prompt is no whole sentence, or None.
    sentences(text): the sentences of a text in a script without spaces; None (no function) if a tokenizer finds them.
    sentence_fault(text): the reason why a sentence of a longer text cannot be put before a prompt, or None.
    may_own_bracket(words): True if a bracket with these words at the end of a name may be a part of the name.
    governing: the words after which `article_clash` may find a clash; no template has a clashing name after them.
    plural_endings: the endings by which a name's plural may differ from the name.
    """

    code: str
    article: Callable[[str], str | None] = neutral.nothing
    article_of_name: Callable[[str, Sequence[str], Sequence[str]], str] = neutral.empty
    is_plural: Callable[[str, Sequence[str]], bool] = neutral.never
    is_singular: Callable[[str], bool] = neutral.never
    begins_small: Callable[[str], bool] = neutral.never
    article_clash: Callable[[str, str], str | None] = neutral.nothing
    template_fault: Callable[[str, str], str | None] = neutral.nothing
    noise: Callable[[str], str | None] = neutral.noise
    derived: Callable[[str, str], str | None] = neutral.nothing
    description: Callable[[str], str | None] = neutral.nothing
    takes_description: Callable[[str], bool] = neutral.always
    inside: Callable[[str], str] = neutral.unchanged
    past: Callable[[str, int], str | None] = neutral.nothing
    fragment: Callable[[str], str | None] = neutral.nothing
    sentences: Callable[[str], Sequence[str]] | None = None
    sentence_fault: Callable[[str], str | None] = neutral.nothing
    may_own_bracket: Callable[[str], bool] = neutral.always
    governing: frozenset[str] = frozenset()
    plural_endings: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Callable[[str], Language], tuple[str]]:
        return language, (self.code,)


_RULES = (
    Language(
        "en",
        article=english.article,
        article_of_name=english_articles.article_of_name,
        is_plural=english_number.is_plural,
        is_singular=english_number.is_singular,
        begins_small=english.begins_small,
        article_clash=english.clashing_article,
        template_fault=english.ungrammatical,
        noise=english.noise,
        derived=english.derived,
        description=english.description,
        takes_description=english.takes_description,
        inside=english.inside,
        past=english_tense.past,
        fragment=english.fragment,
        sentence_fault=english.sentence_fault,
        may_own_bracket=english.speaks,
        plural_endings=("s", "es"),
    ),
    Language("de", article_clash=german.article_clash, derived=german.MADE.found, governing=german.GOVERNING),
    *(
        Language(
            code,
            article_clash=rules.article_clash,
            noise=neutral.noise_with_small_bracket,
            derived=rules.MADE.found,
            governing=rules.GOVERNING,
        )
        for code, rules in (("nl", dutch), ("pl", polish), ("ru", russian))
    ),
    *(
        Language(
            code,
            article_clash=rules.article_clash,
            template_fault=rules.template_fault,
            noise=neutral.noise_with_small_bracket,
            derived=rules.MADE.found,
            governing=rules.GOVERNING,
        )
        for code, rules in (("es", spanish), ("fr", french), ("it", italian), ("pt", portuguese))
    ),
    Language("ar", derived=arabic.derived),
    Language("hi", derived=hindi.derived),
    Language("tr", derived=turkish.MADE.found),
    *(
        Language(code, sentences=scripts.sentences)
        for code in ("gan", "ja", "km", "lo", "lzh", "my", "th", "wuu", "yue", "zh")
    ),
)
LANGUAGES: Mapping[str, Language] = MappingProxyType({rules.code: rules for rules in _RULES})
"""The languages with rules of their own, by the first part of their code: "en" is also for "en-gb"."""


@lru_cache(maxsize=1000)
def language(code: str) -> Language:
    """Return the rules of the language `code`, such as "en" or "pt-br"; neutral ones if there are none."""
    return LANGUAGES.get(code.partition("-")[0].lower()) or Language(code)
