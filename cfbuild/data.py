"""The values that all rooms share: immutable dataclasses that check themselves and know of no file and no model.

Ids are Wikidata's (`Q42`, `P36`). A label is an item's name in the language of the build.
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
"""The place of the subject's name in a template."""
ITEM_ID = re.compile(r"Q[1-9][0-9]{0,18}\Z")
PROPERTY_ID = re.compile(r"P[1-9][0-9]{0,18}\Z")
"""The forms of Wikidata's ids. 19 digits fit into 64 bits."""

UNKNOWN = "unknown"
"""An object or a date that exists and is not known: Wikidata's "unknown value"."""

Measured = Mapping[str, "int | float | str | bool | None"]
"""Figures that a rule or an editor measured, by name, such as {"rank": 37}."""

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


def id_number(entity_id: str) -> int:
    """Return the number in an id, by which ids are sorted: 42 for `Q42`, 0 for UNKNOWN."""
    return 0 if entity_id == UNKNOWN else int(entity_id[1:])


def article_before(text: str, article: str) -> str:
    """Return a template's text with `article` before its slot: "{} lies in" and "the" give "The {} lies in"."""
    first = article[:1].upper() + article[1:] if text.startswith(SLOT) else article
    return text.replace(SLOT, f"{first} {SLOT}") if article else text


@dataclass(frozen=True, slots=True)
class Entity:
    """An item: its labels and aliases by language code, and the ids that its attributes (P31, P21) have, by property.

    `sitelinks` is the number of wikis with a page about it, `revision` the revision of its Wikidata page; None where
    unknown. Raises DataError for an id that is no item's.
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
    """A statement (subject, relation, object) in ids; the object is UNKNOWN if only its existence is known.

    `rank` ("preferred", "normal", "deprecated") and the dates `start` and `end` (`facts/dates.py`) are None where the
    source does not give them. Facts are ordered by relation, subject, object. Raises DataError for a wrong id.
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
    """A change of a subject's object under a relation: the fact before and the fact after, of which one may be None.

    `kind` is a key of KINDS in `facts/changes.py`.
    """

    kind: str
    old: Fact | None
    new: Fact | None

    @property
    def fact(self) -> Fact:
        """Return the fact after the change, or the one before if there is none."""
        fact = self.new or self.old
        assert fact is not None
        return fact


@dataclass(frozen=True, slots=True)
class Template:
    """A text with one slot for the subject, such as "{} lies in", which ends before the object (kind `rewrite`).

    Any text may follow one of the kind `generation`. `origin` says where the template is from, `fits` names the kinds
    of subject that it may be about (empty: any), `misfits` those that it may not (`facts/subjects.py`).

    Raises TemplateError unless the text holds exactly one `{}`, no other brace, no line break or other control
    character, and no white space at its ends.
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
        """Return the relation and a digest of kind and text, such as `P36-1f6e03a9bc`."""
        return _template_id(self.relation, self.kind, self.text)

    def suits(self, kinds: frozenset[str]) -> bool:
        """Return True if the template may be about a subject of these `kinds` (none: of unknown kind)."""
        return kinds.isdisjoint(self.misfits) and (not self.fits or not kinds.isdisjoint(self.fits))

    def with_article(self, article: str) -> Template:
        """Return the template with `article` before its slot (`article_before`)."""
        return replace(self, text=article_before(self.text, article)) if article else self

    def fill(self, subject: str) -> str:
        """Return the text with `subject` in its slot."""
        return self.text.replace(SLOT, subject)


@lru_cache(maxsize=10_000)  # more templates than a build has; each serves hundreds of prompts
def _template_id(relation: str, kind: TemplateKind, text: str) -> str:
    digest = hashlib.sha256(f"{kind}\n{text}".encode()).hexdigest()[:10]
    return f"{relation}-{digest}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A text about the item `entity`, of which (entity, relation, object) holds; RS compares generated texts with it.

    `name` is the item's label. The title, revision and url of the text's page are None if it is from none.
    """

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
    """An item as a record has it: its id (empty if unknown) and its label."""

    id: str
    label: str


@dataclass(frozen=True, slots=True)
class EntityPrompt:
    """A prompt about the item `entity`, which is not the record's subject; `template` is the id of its template."""

    text: str
    entity: str
    template: str


@dataclass(frozen=True, slots=True)
class Paraphrase:
    """A paraphrase prompt: an unrelated sentence `prefix` (may be empty) and `clean`, the template filled in."""

    prefix: str
    clean: str
    template: str

    @property
    def text(self) -> str:
        """Return the prompt as the record has it: the prefix and a space, if there is one, and the clean form."""
        return f"{self.prefix} {self.clean}" if self.prefix else self.clean


@dataclass(frozen=True, slots=True)
class GroupPrompt:
    """A prompt beyond CounterFact's, with the object that is right after the edit and the one that was before.

    `entity` is the item that the prompt names, `relation` the one it asks about, `template` the id of its template.
    """

    text: str
    target_new: Target
    target_true: Target
    entity: str
    relation: str
    template: str


@dataclass(frozen=True, slots=True)
class SharedClass:
    """The class that o* shares with the true object, `steps` above that (1: its own class); None if they share none.

    `fallback` says why no nearer class is shared: `class-unknown` (the true object has none), `none-shares` (no object
    of the relation shares one), `nearer-refused` (the objects that share a nearer one were refused by rules or by the
    model); None if the class is the nearest that an object of the relation shares.
    """

    id: str | None
    steps: int | None
    fallback: str | None


@dataclass(frozen=True, slots=True)
class RealChange:
    """The change in the world that a record is about: its true object held before, its new object holds now.

    `kind` is `replaced` or `corrected` (KINDS in `facts/changes.py`); `start` is the date from which the new object
    holds, `end` the date until which the true object did; None where the source does not give it.
    """

    kind: str
    start: str | None
    end: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """A CounterFact record (paper section 3.4 and appendix): a false fact and all prompts that test an edit to it.

    `generation` holds the generation prompts, `groups` the prompts of further kinds by kind, `scores` the figures of
    the filter by the model's name. `pararel_idx` is the fact's index in ParaRel, in CounterFact's own rows.
    `shared_class` is None if the file does not tell. A record with a `change` is about a real change: its new object
    is not false, it holds now.
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
        """Return the rewrite prompt with the subject filled in."""
        return self.prompt.fill(self.subject.label)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an editor: make the model continue `prompt`, with `subject` in its slot, by `target_new`.

    `target_true` is the true object (None if unknown), `paraphrases` are paraphrase prompts without their prefix; both
    are for editors that look at what the model knows.
    """

    prompt: str
    subject: str
    target_new: str
    target_true: str | None = None
    paraphrases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptScore:
    """A prompt's NLL of each target, in nats per token, and whether greedy decoding would write that target."""

    target_new_nll: float
    target_true_nll: float
    target_new_argmax: bool
    target_true_argmax: bool


@dataclass(frozen=True, slots=True)
class StageScore:
    """The scores that a model gives a record, before or after an edit; None for a figure that was not computed.

    prompts: by group (`rewrite`, `paraphrase`, ...) the scores of its prompts, in the record's order.
    generations: the texts written from the generation prompts, which they begin with.
    generation_entropy: the mean n-gram entropy of the generations, in bits.
    reference_score: the TF-IDF cosine of the generations with the reference texts of (r, o*), 0 to 1.
    mentions_target_new: the share of generations that name o* after their prompt.
    answers: by group the text that the model writes after each prompt.
    in_use_rewrite, in_use_paraphrase: the shares of right answers.
    distinct_1, distinct_2: distinct words, and pairs of words, for each word of the generations after their prompts.
    perplexity: of the fixed text.
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
    """A record's scores before and after an edit. `edit` holds the editor's statistics, `fault` why `post` is None."""

    case_id: int
    relation: str
    editor: str
    pre: StageScore
    post: StageScore | None
    edit: Measured = field(default_factory=dict)
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision about a candidate: kept or not, the deciding rule's name, and the figures that it measured."""

    kept: bool
    rule: str
    measured: Measured = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fact for a model filter to judge: its rewrite prompt, its true object, and false objects to choose from.

    `draws` are the false objects in the order in which they are tried. `pool` holds the objects among which o* is
    ranked, each name once; one with an empty id is never drawn. Candidates whose true objects are of the same kinds
    share one tuple, so that it is prepared once. `neighborhood` are the neighborhood prompts. `is_change` is True for a
    real change: its only draw holds now, and nothing is refused.
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
    """A model filter's verdict on a candidate.

    `chosen` is the first draw that passes; if none does, it is None and `decision` is about the last one. `scores` goes
    into the record's `meta.scores` under the model's name; its `attempts` is the number of draws that were tried.
    """

    chosen: Target | None
    decision: Decision
    scores: Measured = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A fact that became no record, the labels of its subject and object (None if it has none), and the decision."""

    case_id: int
    fact: Fact
    subject: str | None
    object: str | None
    decision: Decision
