"""Rules of wording, language by language: a file of functions and a line in the table LANGUAGES each.

A language without a file has the neutral rules, which object to nothing that could be right in some language.
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
    """The rules of one language as functions of texts, each neutral unless given. Equal, hashable and picklable.

    article(name): the indefinite article that a name needs, or None.
    article_of_name(label, aliases, classes): the definite article that a name has inside a sentence, by its other names
    and its classes' English names ("the" for Netherlands); empty for none.
    is_plural(label, classes): whether a name is plural, by its classes' English names.
    is_singular(template): whether a verb of a template agrees with a name in the singular in its slot.
    begins_small(label): whether a name is written with a small letter that begins no sentence.
    article_clash(prompt, name): the word that a prompt ends in (an article, a preposition), if the name cannot follow
    it as it is, or None.
    template_fault(text, slot): what is broken in a prompt that an object's name follows, or None; `slot` marks the
    subject.
    noise(label): what does not belong in a name, or None.
    derived(text, name): a word of the text that is made from the name (Devonian from Devon), or None.
    description(template): the definite description of its object that a template is, but for its verb, or None.
    takes_description(template): True if a description such as "the birthplace of Ann" can stand in its slot.
    inside(description): a description as it is written inside a sentence.
    past(template, year): a template in the present as it asks about a year that is over, or None.
    fragment(text): why a text in front of a prompt is no whole sentence, or None.
    sentences(text): the sentences of a text in a script without spaces; None where the tokenizer tells them.
    sentence_fault(text): why a sentence cut from a longer text cannot be put alone in front of a prompt, or None.
    may_own_bracket(words): whether a bracket with these words at the end of a name may be part of the name.
    governing: the words that some names cannot follow as they are (`article_clash`); no template has such a name behind
    them, be it the subject's or the object's.
    plural_endings: the endings that a name's plural may have beside the name.
    """

    code: str
    article: Callable[[str], str | None] = neutral.no_article
    article_of_name: Callable[[str, Sequence[str], Sequence[str]], str] = neutral.no_article_of_name
    is_plural: Callable[[str, Sequence[str]], bool] = neutral.never
    is_singular: Callable[[str], bool] = neutral.never
    begins_small: Callable[[str], bool] = neutral.never
    article_clash: Callable[[str, str], str | None] = neutral.no_clash
    template_fault: Callable[[str, str], str | None] = neutral.no_template_fault
    noise: Callable[[str], str | None] = neutral.noise
    derived: Callable[[str, str], str | None] = neutral.no_derived_word
    description: Callable[[str], str | None] = neutral.no_description
    takes_description: Callable[[str], bool] = neutral.takes_description
    inside: Callable[[str], str] = neutral.unchanged
    past: Callable[[str, int], str | None] = neutral.no_past
    fragment: Callable[[str], str | None] = neutral.no_sentence_fault
    sentences: Callable[[str], Sequence[str]] | None = None
    sentence_fault: Callable[[str], str | None] = neutral.no_sentence_fault
    may_own_bracket: Callable[[str], bool] = neutral.always
    governing: frozenset[str] = frozenset()
    plural_endings: tuple[str, ...] = ()


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
    Language("de", article_clash=german.article_clash, derived=german.derived, governing=german.GOVERNING),
    *(
        Language(
            code,
            article_clash=rules.article_clash,
            noise=neutral.noise_with_small_bracket,
            derived=rules.derived,
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
            derived=rules.derived,
            governing=rules.GOVERNING,
        )
        for code, rules in (("es", spanish), ("fr", french), ("it", italian), ("pt", portuguese))
    ),
    *(Language(code, derived=rules.derived) for code, rules in (("ar", arabic), ("hi", hindi), ("tr", turkish))),
    *(
        Language(code, sentences=scripts.sentences)
        for code in ("gan", "ja", "km", "lo", "lzh", "my", "th", "wuu", "yue", "zh")
    ),
)
LANGUAGES: Mapping[str, Language] = MappingProxyType({rules.code: rules for rules in _RULES})
"""The languages that have rules of their own, by the first part of their code: "en" serves "en-gb" too."""


@lru_cache(maxsize=1000)
def language(code: str) -> Language:
    """Return the rules of the language `code`, such as "en" or "pt-br"; the neutral ones if it has none of its own."""
    return LANGUAGES.get(code.partition("-")[0].lower()) or Language(code)
