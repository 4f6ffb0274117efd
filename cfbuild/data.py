"""The values that flow through cfbuild: frozen, hashable where they can be, and free of behaviour beyond validation.

Ids are Wikidata's (`Q42`, `P36`). A label is text in the build's language. Nothing here knows of files or models.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from cfbuild.errors import DataError, TemplateError

SLOT = "{}"
ITEM_ID = re.compile(r"Q[1-9][0-9]{0,18}\Z")
PROPERTY_ID = re.compile(r"P[1-9][0-9]{0,18}\Z")
"""The forms of Wikidata's ids: ASCII digits, few enough that no library refuses to read them as a number."""


UNKNOWN = "unknown"
"""A value or a date that exists and that nobody knows: Wikidata's "unknown value"."""

Measured = Mapping[str, "int | float | str | bool | None"]
"""The figures that a rule measured, by name, kept beside its decision."""

TemplateKind = Literal["rewrite", "generation"]


def item_id(text: str) -> str:
    """Return `text` if it is an item id such as `Q42`; raise DataError otherwise."""
    if not ITEM_ID.match(text):
        raise DataError(f"{text!r} is not an item id; expected Q followed by a number, such as Q42")
    return text


def property_id(text: str) -> str:
    """Return `text` if it is a property id such as `P36`; raise DataError otherwise."""
    if not PROPERTY_ID.match(text):
        raise DataError(f"{text!r} is not a property id; expected P followed by a number, such as P36")
    return text


def id_number(id_: str) -> int:
    """Return the number in an id, by which ids are ordered; 0 for an unknown value."""
    return 0 if id_ == UNKNOWN else int(id_[1:])


def article_before(text: str, article: str) -> str:
    """Return `text` with `article` before its slot, with a capital letter where that begins the text."""
    first = article[:1].upper() + article[1:] if text.startswith(SLOT) else article
    return text.replace(SLOT, f"{first} {SLOT}") if article else text


@dataclass(frozen=True, slots=True)
class Entity:
    """An item: its labels and aliases by language, and the attribute statements that rules need (P31, P21).

    `sitelinks` is the number of wikis with a page about it, `revision` that of the item's page; None where unknown.
    """

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sitelinks: int | None = None
    revision: int | None = None

    def __post_init__(self) -> None:
        item_id(self.id)


@dataclass(frozen=True, slots=True, order=True)
class Fact:
    """One statement (s, r, o); o is UNKNOWN where it is known only that s has another object than those named.

    `rank` and the dates `start`/`end` (`facts/dates.py`) are None where the source does not give them.
    """

    relation: str
    subject: str
    object: str
    rank: str | None = None
    start: str | None = None
    end: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        property_id(self.relation)
        item_id(self.subject)
        if self.object != UNKNOWN:
            item_id(self.object)


@dataclass(frozen=True, slots=True)
class FactChange:
    """A change of what holds of a subject under a relation: the fact before, and the one after (None: there is none).

    `kind` is a key of KINDS in `facts/changes.py`.
    """

    kind: str
    old: Fact | None
    new: Fact | None

    @property
    def fact(self) -> Fact:
        """The newer fact, or the older one where there is none."""
        fact = self.new or self.old
        assert fact is not None
        return fact


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt with one slot for the subject; the object (kind `rewrite`) or any continuation (`generation`) follows.

    `fits` names the kinds of subject that it may be about (empty for any), `misfits` those that it may not
    (`facts/subjects.py`). Raises TemplateError unless the text holds exactly one bare `{}`, no other brace, no line
    break or other control character, and no white space at its ends.
    """

    relation: str
    kind: TemplateKind
    text: str
    origin: str
    fits: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        property_id(self.relation)
        if self.kind not in ("rewrite", "generation"):
            raise TemplateError(f"template {self.text!r}: kind {self.kind!r} is neither rewrite nor generation")
        if self.text.count(SLOT) != 1 or set("{}") & set(self.text.replace(SLOT, "")):
            raise TemplateError(f"template {self.text!r} must hold exactly one {SLOT} and no other brace")
        if self.text != self.text.strip() or not self.text.isprintable():
            raise TemplateError(f"template {self.text!r} has white space at an end, or a control character")

    @property
    def id(self) -> str:
        """A stable name: the relation and a digest of kind and text."""
        return _template_id(self.relation, self.kind, self.text)

    def suits(self, kinds: frozenset[str]) -> bool:
        """Return True if the template may be about a subject of these kinds; about one of none, if it fits any."""
        return kinds.isdisjoint(self.misfits) and (not self.fits or not kinds.isdisjoint(self.fits))

    def for_all(self) -> Template:
        """Return the template without a word on whom it fits: a record's file does not keep that either."""
        return replace(self, fits=(), misfits=())

    def with_article(self, article: str) -> Template:
        """Return the template with `article` before its slot, in capitals where the text begins; itself if empty."""
        return replace(self, text=article_before(self.text, article)) if article else self

    def fill(self, subject: str) -> str:
        """Return the text with `subject` in the slot, by plain replacement."""
        return self.text.replace(SLOT, subject)


@lru_cache(maxsize=10_000)  # more than a build has templates, of which each serves hundreds of prompts
def _template_id(relation: str, kind: TemplateKind, text: str) -> str:
    digest = hashlib.sha256(f"{kind}\n{text}".encode()).hexdigest()[:10]
    return f"{relation}-{digest}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A text about an entity of which (entity, relation, object) holds; RS compares generations with it."""

    relation: str
    object: str
    entity: str
    name: str
    text: str
    title: str | None = None
    revision: int | None = None
    url: str | None = None
    licence: str = "CC0-1.0"


@dataclass(frozen=True, slots=True)
class Target:
    """An item as the record names it: its id and label."""

    id: str
    label: str


@dataclass(frozen=True, slots=True)
class EntityPrompt:
    """A filled template about another entity than the record's subject."""

    text: str
    entity: str
    template: str


@dataclass(frozen=True, slots=True)
class Paraphrase:
    """A paraphrase prompt: an unrelated `prefix` sentence (maybe empty) and the clean form."""

    prefix: str
    clean: str
    template: str

    @property
    def text(self) -> str:
        """The prompt in the record: prefix, one space, clean form; the clean form alone where the prefix is empty."""
        return f"{self.prefix} {self.clean}" if self.prefix else self.clean


@dataclass(frozen=True, slots=True)
class GroupPrompt:
    """A prompt beyond CounterFact's with its own targets: the object that an edit to o* brings, and the one before.

    `entity` is the item that the prompt names, `relation` the one it asks about, `template` what it was filled from.
    """

    text: str
    target_new: Target
    target_true: Target
    entity: str
    relation: str
    template: str


@dataclass(frozen=True, slots=True)
class SharedClass:
    """The class that o* shares with the true object, `steps` above it (1: its own); None where they share none.

    `fallback` says why that is not a class of the true object as near as any object shares: `class-unknown` (the true
    object has no class), `none-shares` (no object of the relation shares any), `nearer-refused` (those that share a
    nearer one were refused by rules or the model); None where it is.
    """

    id: str | None
    steps: int | None
    fallback: str | None


@dataclass(frozen=True, slots=True)
class RealChange:
    """The change in the world that a record is about: its true object held, its new object holds now.

    `kind` is `replaced` or `corrected` (KINDS in `facts/changes.py`); `start` is the date since which the new object
    holds, `end` that on which the other one's time was over, None where it is not told.
    """

    kind: str
    start: str | None
    end: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """A CounterFact record (paper section 3.4 and appendix): a false fact and every prompt that tests it.

    `pararel_idx` is the fact's index in ParaRel; only CounterFact's own rows have one. `shared_class` is None in rows
    that do not say. A record with a `change` is about a real one: its new object is no false one, and holds now.
    """

    case_id: int
    relation: str
    prompt: Template
    subject: Target
    target_true: Target
    target_new: Target
    paraphrases: tuple[Paraphrase, ...]
    neighborhood: tuple[EntityPrompt, ...]
    attribute: tuple[EntityPrompt, ...]
    generation: tuple[str, ...]
    language: str = "en"
    source: str = ""
    scores: Mapping[str, Measured] = field(default_factory=dict)
    groups: Mapping[str, tuple[GroupPrompt, ...]] = field(default_factory=dict)
    pararel_idx: int | None = None
    shared_class: SharedClass | None = None
    change: RealChange | None = None

    @property
    def rewrite(self) -> str:
        """The rewrite prompt with its subject in place."""
        return self.prompt.fill(self.subject.label)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an editor: make the model continue `prompt`, with `subject` in its slot, by `target_new`.

    Editors that look at what the model knows get the true object too, where it is known, and paraphrases of the prompt
    with the subject filled in and nothing before them.
    """

    prompt: str
    subject: str
    target_new: str
    target_true: str | None = None
    paraphrases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptScore:
    """A prompt's NLL of each target in nats per token, and whether each is the text that greedy decoding would give."""

    target_new_nll: float
    target_true_nll: float
    target_new_argmax: bool
    target_true_argmax: bool


@dataclass(frozen=True, slots=True)
class StageScore:
    """The scores that a model gives a record, before or after an edit.

    `prompts` holds the scores of each group of prompts, in the record's order; `generations` the texts written from the
    generation prompts, prompt included; `generation_entropy` their mean n-gram entropy in bits; `reference_score` their
    TF-IDF cosine with the reference texts of (r, o*); `mentions_target_new` the share of generations that name o* after
    their prompt. `answers` holds what the model says by itself after each prompt of a group; `in_use_rewrite` and
    `in_use_paraphrase` are the shares of right ones. `distinct_1` and `distinct_2` are the distinct words and pairs of
    words of the generations behind their prompts, for each of their words; `perplexity` is that of the fixed text.
    """

    prompts: Mapping[str, tuple[PromptScore, ...]]
    generations: tuple[str, ...] = ()
    generation_entropy: float | None = None
    reference_score: float | None = None
    mentions_target_new: float | None = None
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    in_use_rewrite: float | None = None
    in_use_paraphrase: float | None = None
    distinct_1: float | None = None
    distinct_2: float | None = None
    perplexity: float | None = None


@dataclass(frozen=True, slots=True)
class CaseScore:
    """A record's scores before and after an edit, and the editor's statistics; `fault` is why there is no `post`."""

    case_id: int
    relation: str
    editor: str
    pre: StageScore
    post: StageScore | None
    edit: Measured = field(default_factory=dict)
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A rule's decision about a candidate: kept or not, the rule's name, and the figures that it measured."""

    kept: bool
    rule: str
    measured: Measured = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rewrite for a model filter to judge: its true object, and the false objects in the order they are tried.

    `pool` holds all that could be said there, each name once; o* is ranked among them. An object whose id is not known
    has an empty one, and is never drawn. Candidates with true objects of the same kinds share one pool object, so it
    can be prepared once. `is_change` is True where the only draw holds now, and the true object held before: nothing
    is refused then.
    """

    case_id: int
    relation: str
    rewrite: str
    target_true: Target
    draws: tuple[Target, ...]
    pool: tuple[Target, ...]
    neighborhood: tuple[str, ...] = ()
    is_change: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A model filter's answer for one candidate.

    `chosen` is the first draw that passes, or None with the reason of the last one in `decision`. `scores` goes into
    the record's `meta.scores` under the model's name; `attempts` in it is the number of draws that were examined.
    """

    chosen: Target | None
    decision: Decision
    scores: Measured = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A fact that became no record, with its names where it has any, and the decision that rejected it."""

    case_id: int
    fact: Fact
    subject: str | None
    object: str | None
    decision: Decision
