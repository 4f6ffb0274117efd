"""Distractor prefixes: unrelated sentences that a paraphrase prompt is put behind, as CounterFact's paraphrases are.

CounterFact's own were sampled from a model and are often broken ("... Riley. "). The bundled ones are written for
cfbuild: whole sentences of 5 to 15 words that name nobody and nothing that could be a subject or an object. Others are
cut from texts: reference texts, a file, or what a model wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from random import Random
from typing import Any

from cfbuild.text.languages import Language
from cfbuild.text.languages import language as wording_of
from cfbuild.text.names import SHORT_NAME, find_name

WORDS = range(5, 26)
"""How many words a sentence may have."""
MOST = 2000
"""Sentences that are kept of a text: enough that a record's two differ from the next one's."""
CLOSING = frozenset("\"'”’»“«」』")
"""Quotation marks that may follow the end of a sentence in some language: „So.“ in German, »So.« in Danish."""
BRACKETS = (("(", ")"), ("[", "]"), ("«", "»"))
"""Pairs that a whole sentence has as often open as closed in any language; others differ in which mark opens."""


@cache
def distractor_prefixes() -> tuple[str, ...]:
    """The bundled English sentences, in the file's order."""
    text = resources.files("cfbuild.templates").joinpath("prefixes.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)


def cut_sentences(texts: Iterable[str], language: str, seed: int) -> tuple[str, ...]:
    """Return the sentences of `texts` that can stand alone, each once; a seeded choice of MOST where there are more."""
    pipeline, wording = _pipeline(language), wording_of(language)
    ends = frozenset(pipeline.get_pipe("sentencizer").punct_chars)
    paragraphs = (" ".join(part.split()) for text in texts for part in text.splitlines())
    found = dict.fromkeys(
        sentence.text.strip()
        for document in pipeline.pipe(part for part in paragraphs if part)
        for sentence in document.sents
        if _stands_alone(sentence, ends, wording)
    )
    return tuple(Random(f"{seed}:prefixes").sample(list(found), min(MOST, len(found))))


class Mentions:
    """Tells which of many sentences name one of many things: spaCy's PhraseMatcher over tokens.

    Letter case is ignored, but for names of up to three letters, which are ignored where they are codes (`find_name`).
    """

    def __init__(self, sentences: Sequence[str], language: str) -> None:
        self._pipeline = _pipeline(language)
        self._documents = [self._pipeline.make_doc(one) for one in sentences]

    def without(self, names: Iterable[str]) -> tuple[str, ...]:
        """The sentences that name none of `names`."""
        from spacy.matcher import PhraseMatcher

        matchers = {attribute: PhraseMatcher(self._pipeline.vocab, attr=attribute) for attribute in ("LOWER", "ORTH")}
        for name in {name for name in names if name.strip()}:
            short = len(name) <= SHORT_NAME
            if not (short and name.isascii() and name.islower()):
                matchers["ORTH" if short else "LOWER"].add(name, [self._pipeline.make_doc(name)])
        silent = (one for one in self._documents if not any(matcher(one) for matcher in matchers.values()))
        return tuple(one.text for one in silent)


def without_names(sentences: Iterable[str], names: Sequence[str]) -> tuple[str, ...]:
    """The sentences that name none of `names`, for a few sentences: without spaCy."""
    return tuple(one for one in sentences if find_name(one, names) is None)


def _pipeline(language: str) -> Any:
    """spaCy's tokenizer and sentencizer for a language; those for no language in particular where it has none."""
    import spacy

    try:
        pipeline = spacy.blank(language.partition("-")[0])
    except ImportError:
        pipeline = spacy.blank("xx")
    pipeline.add_pipe("sentencizer")
    return pipeline


def _stands_alone(sentence: Any, ends: frozenset[str], wording: Language) -> bool:
    """Return True for a sentence of a document that is whole, of a fit length, and right by the rules of `wording`.

    `ends` are the marks that may end a sentence.
    """
    text = sentence.text.strip()
    tokens = [token.text for token in sentence if not token.is_space]
    while len(tokens) > 1 and tokens[-1] in CLOSING:
        tokens.pop()
    # An abbreviation keeps its full stop in its token: it may end no sentence at all.
    whole = bool(tokens) and tokens[-1] in ends and wording.sentence_fault(text) is None
    words = sum(any(character.isalnum() for character in token) for token in tokens)
    return whole and words in WORDS and _is_clean(text, ends, wording)


def _is_clean(text: str, ends: frozenset[str], wording: Language) -> bool:
    pairs = all(text.count(opening) == text.count(closing) for opening, closing in BRACKETS)
    return pairs and wording.noise(text.rstrip("".join(ends | CLOSING))) is None
