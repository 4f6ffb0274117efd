"""Distractor prefixes: unrelated sentences before a paraphrase prompt, as in CounterFact's paraphrases.

CounterFact's were sampled from a model and are often broken ("... Riley. "). The bundled ones are written for cfbuild:
whole sentences of 5 to 15 words that name no possible subject or object. Others are cut from texts: reference texts, a
file, or texts that a model wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from random import Random
from typing import Any

from cfbuild.text.languages import Language
from cfbuild.text.languages import language as wording_of
from cfbuild.text.names import SHORT_NAME, find_name
from cfbuild.text.scripts import SENTENCE_END

WORDS = range(5, 26)
"""The number of words that a sentence may have."""
CHARACTERS = range(10, 61)
"""The number of letters that a sentence may have in a script without spaces: WORDS of about two letters each."""
MOST = 2000
"""The most sentences that are kept: enough that two records seldom have the same."""
SENTENCE_ENDS = frozenset("。｡！？!?။។")
"""Marks that end a sentence in a script without spaces."""
CLOSING = frozenset("\"'”’»“«」』")
"""Quotation marks that may follow the end of a sentence in some language: „So.“ in German, »So.« in Danish."""
BRACKETS = (("(", ")"), ("[", "]"), ("«", "»"), ("「", "」"), ("『", "』"), ("（", "）"))
"""Marks that are balanced in a whole sentence of any language; which marks open other pairs depends on the language."""


@cache
def distractor_prefixes() -> tuple[str, ...]:
    """Return the bundled English sentences, in the file's order."""
    text = resources.files("cfbuild.templates").joinpath("prefixes.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)


def cut_sentences(texts: Iterable[str], language: str, seed: int) -> tuple[str, ...]:
    """Return the sentences of `texts` in a `language` that make sense alone, each once, at most MOST by the seed."""
    lines = (" ".join(part.split()) for text in texts for part in text.splitlines())
    paragraphs = (line for line in lines if line)
    wording = wording_of(language)
    found = dict.fromkeys(_unspaced(paragraphs, wording) if wording.sentences else _spaced(paragraphs, wording))
    return tuple(Random(f"{seed}:prefixes").sample(list(found), min(MOST, len(found))))


def _spaced(paragraphs: Iterable[str], wording: Language) -> Iterator[str]:
    """Yield the sentences that make sense alone, cut by spaCy's tokenizer and sentencizer."""
    pipeline = _pipeline(wording.code)
    ends = frozenset(pipeline.get_pipe("sentencizer").punct_chars)
    for document in pipeline.pipe(paragraphs):
        yield from (cut.text.strip() for cut in document.sents if _makes_sense_alone(cut, ends, wording))


def _unspaced(paragraphs: Iterable[str], wording: Language) -> Iterator[str]:
    """Yield the sentences that make sense alone in a script without spaces; letters are counted, not words."""
    sentences = (sentence for text in paragraphs for sentence in (wording.sentences or list)(text))
    for sentence in sentences:
        whole = SENTENCE_END.search(sentence) is not None and wording.sentence_fault(sentence) is None
        if whole and sum(map(str.isalpha, sentence)) in CHARACTERS and _is_clean(sentence, SENTENCE_ENDS, wording):
            yield sentence


class Mentions:
    """A search for many names in many sentences, by spaCy's PhraseMatcher over tokens.

    Letter case is ignored, except in names of up to SHORT_NAME letters; of those, lower-case ones are not searched for,
    as in `find_name`. language: the sentences'.
    """

    def __init__(self, sentences: Sequence[str], language: str) -> None:
        self._pipeline = _pipeline(language)
        self._documents = [self._pipeline.make_doc(one) for one in sentences]

    def without(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the sentences that contain none of `names`."""
        from spacy.matcher import PhraseMatcher

        matchers = {attribute: PhraseMatcher(self._pipeline.vocab, attr=attribute) for attribute in ("LOWER", "ORTH")}
        for name in {name for name in names if name.strip()}:
            is_short = len(name) <= SHORT_NAME
            if not (is_short and name.isascii() and name.islower()):
                matchers["ORTH" if is_short else "LOWER"].add(name, [self._pipeline.make_doc(name)])
        return tuple(
            document.text for document in self._documents if not any(matcher(document) for matcher in matchers.values())
        )


def without_names(sentences: Iterable[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return the sentences that contain none of `names`, found without spaCy: faster for few sentences."""
    return tuple(one for one in sentences if find_name(one, names) is None)


def _pipeline(language: str) -> Any:
    """Return spaCy's tokenizer and sentencizer for a language, or the multi-language ones if spaCy has none for it."""
    import spacy

    try:
        pipeline = spacy.blank(language.partition("-")[0])
    except ImportError:
        pipeline = spacy.blank("xx")
    pipeline.add_pipe("sentencizer")
    return pipeline


def _makes_sense_alone(sentence: Any, ends: frozenset[str], wording: Language) -> bool:
    """Return whether a spaCy sentence is whole, by the marks `ends`, of a fit length, and right in its language."""
    text = sentence.text.strip()
    tokens = [token.text for token in sentence if not token.is_space]
    while len(tokens) > 1 and tokens[-1] in CLOSING:
        tokens.pop()
    # An abbreviation keeps its full stop in its token, and may not end the sentence.
    whole = bool(tokens) and tokens[-1] in ends and wording.sentence_fault(text) is None
    words = sum(any(character.isalnum() for character in token) for token in tokens)
    return whole and words in WORDS and _is_clean(text, ends, wording)


def _is_clean(text: str, ends: frozenset[str], wording: Language) -> bool:
    pairs = all(text.count(opening) == text.count(closing) for opening, closing in BRACKETS)
    return pairs and wording.noise(text.rstrip("".join(ends | CLOSING))) is None
