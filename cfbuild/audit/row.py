"""The parts of a record, read alike from every format, and leniently: a value of a wrong type is left out and noted.

Known formats are CounterFact's (with or without cfbuild's `meta`) and EasyEdit's: `prompt` with the subject in place,
`subject`, `target_new`, `ground_truth`, one `rephrase_prompt`, one `locality_prompt` (zjunlp/EasyEdit), and KnowEdit's
`rephrase`, `locality` and `portability`, of which the last two are lists of prompts with their own answers, by kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cfbuild.data import SLOT, Target
from cfbuild.text.languages import Language, language
from cfbuild.text.languages.english import split_prefix

PROMPT_GROUPS = ("paraphrase", "neighborhood", "attribute", "generation")
ABOUT_OTHERS = ("neighborhood", "attribute")
TARGETS = ("target_new", "target_true")
REWRITE = "/requested_rewrite"
EASYEDIT = frozenset({"prompt", "subject", "target_new"})
"""Keys by which a row of EasyEdit's format is recognised."""

CaseId = int | float | str
"""The id of a row: a number, or in files of other makers a text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with its place in the row (`path`, a JSON pointer); `entity` is its entity's id, empty if unknown.

    `answers` are the prompt's own answers, empty if those are the row's targets; with answers, `path` is the place of
    the entry that holds both prompt and answers.
    """

    path: str
    text: str
    entity: str = ""
    answers: tuple[str, ...] = ()

    @property
    def number(self) -> str:
        """The prompt's number in its list, as text; 0 where the format has a single prompt instead of a list."""
        last = self.path.rpartition("/")[2]
        return last if last.isdecimal() else "0"


@dataclass(frozen=True, slots=True)
class RecordParts:
    """The parts of a row. `template` is the rewrite prompt with a slot, and `rewrite_path` its place in the row.

    `answered` are the lists of prompts that have their own answers, by place in the row; `prefixes` are prefix and
    clean form of each paraphrase, if `meta` has them; `unread` are the places of values of a wrong type, which the
    parts lack.
    """

    row: Mapping[str, Any]
    subject: str
    template: str
    target_true: Target
    target_new: Target
    relation: str = ""
    subject_id: str = ""
    case_id: CaseId | None = None
    language: str = "en"
    rewrite_path: str = "/prompt"
    prompts: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)
    prefixes: tuple[tuple[str, str], ...] = ()
    answered: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    @property
    def wording(self) -> Language:
        """The rules of the row's language, which is `meta.language`, or English if the row has none."""
        return language(self.language)

    @property
    def is_counterfact(self) -> bool:
        """True for CounterFact's format, False for EasyEdit's."""
        return self.rewrite_path != "/prompt"

    @property
    def rewrite(self) -> str:
        """The rewrite prompt with the subject in its slot."""
        return self.template.replace(SLOT, self.subject)

    def group(self, name: str) -> tuple[Prompt, ...]:
        """Return the prompts of a group; none if the format has no such group."""
        return self.prompts.get(name, ())

    def split(self, place: int) -> tuple[str, str]:
        """Return prefix and clean form of paraphrase number `place`: as in `meta`, else split where sentences end."""
        if place < len(self.prefixes):
            return self.prefixes[place]
        return split_prefix(self.group("paraphrase")[place].text, self.subject)

    def target_path(self, target: str, key: str = "str") -> str:
        """Return the place in the row of `target` (`target_true` or `target_new`); `key` is `str` or `id`."""
        if self.is_counterfact:
            return f"{REWRITE}/{target}/{key}"
        return "/ground_truth" if target == "target_true" else "/target_new"


def parts_of(row: Any) -> RecordParts | None:
    """Return the parts of a row, or None for a value that is no JSON object.

    A row of no known format is read as CounterFact's; then much is unread.
    """
    if not isinstance(row, dict):
        return None
    is_easyedit = "requested_rewrite" not in row and row.keys() >= EASYEDIT
    return _easyedit(row) if is_easyedit else _counterfact(row)


class _Reader:
    """A reader of values by type: for a value of another type it notes the place and returns an empty value."""

    def __init__(self) -> None:
        self.unread: list[str] = []

    def text(self, value: Any, path: str) -> str:
        if isinstance(value, str):
            return value
        self.unread.append(path)
        return ""

    def mapping(self, value: Any, path: str) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        self.unread.append(path)
        return {}

    def entries(self, value: Any, path: str) -> list[Any]:
        """Return a list; an absent value gives an empty list."""
        if isinstance(value, list):
            return value
        if value is not None:
            self.unread.append(path)
        return []

    def target(self, value: Any, path: str) -> Target:
        """Return a target; EasyEdit has a text, or a list whose first text is the label and the rest are aliases."""
        while isinstance(value, list):
            value = value[0] if value else ""
        if not isinstance(value, dict):
            return Target("", self.text(value, path))
        return Target(self.text(value.get("id") or "", f"{path}/id"), self.text(value.get("str"), f"{path}/str"))

    def prompts(self, texts: Any, path: str, entities: list[str]) -> Iterator[Prompt]:
        """Yield the prompts of a list; `entities` are their entities' ids in the same order, as far as known."""
        for place, value in enumerate(self.entries(texts, path)):
            if isinstance(value, str):
                yield Prompt(f"{path}/{place}", value, entities[place] if place < len(entities) else "")
            else:
                self.unread.append(f"{path}/{place}")

    def answered(self, kinds: Any, path: str, keys: tuple[str, ...]) -> Iterator[tuple[str, tuple[Prompt, ...]]]:
        """Yield (place, prompts with their answers) of each kind; a kind holds a list of entries, or a single entry.

        keys: the names under which an entry holds its answers.
        """
        for kind, found in kinds.items() if isinstance(kinds, Mapping) else ():
            prompts = tuple(
                prompt
                for place, entry in enumerate(found if isinstance(found, list) else [found])
                if (prompt := self._answered(entry, f"{path}/{kind}/{place}", keys)) is not None
            )
            if prompts:
                yield f"{path}/{kind}", prompts

    def _answered(self, entry: Any, path: str, keys: tuple[str, ...]) -> Prompt | None:
        row = self.mapping(entry, path)
        labels = [self.target(row.get(key) or "", f"{path}/{key}").label for key in keys]
        text = row.get("prompt")
        if isinstance(text, str):
            return Prompt(path, text, answers=tuple(label for label in labels if label))
        self.unread.append(f"{path}/prompt")
        return None


def _counterfact(row: Mapping[str, Any]) -> RecordParts:
    reader = _Reader()
    rewrite = reader.mapping(row.get("requested_rewrite"), REWRITE)
    meta = reader.mapping(row.get("meta") or {}, "/meta")
    entities = {name: _entities(reader, meta, name) for name in ABOUT_OTHERS}
    prompts = {
        name: tuple(reader.prompts(row.get(f"{name}_prompts"), f"/{name}_prompts", entities.get(name, [])))
        for name in PROMPT_GROUPS
    }
    return RecordParts(
        row=row,
        subject=reader.text(rewrite.get("subject"), f"{REWRITE}/subject"),
        template=reader.text(rewrite.get("prompt"), f"{REWRITE}/prompt"),
        target_true=reader.target(rewrite.get("target_true"), f"{REWRITE}/target_true"),
        target_new=reader.target(rewrite.get("target_new"), f"{REWRITE}/target_new"),
        relation=reader.text(rewrite.get("relation_id") or "", f"{REWRITE}/relation_id"),
        subject_id=reader.text(meta.get("subject_id") or "", "/meta/subject_id"),
        case_id=_case_id(row),
        language=reader.text(meta.get("language") or "en", "/meta/language"),
        rewrite_path=f"{REWRITE}/prompt",
        prompts=prompts,
        prefixes=tuple(_prefixes(reader, meta)),
        answered=dict(reader.answered(meta.get("groups"), "/meta/groups", TARGETS)),
        unread=tuple(reader.unread),
    )


def _easyedit(row: Mapping[str, Any]) -> RecordParts:
    reader = _Reader()
    subject = reader.text(row["subject"], "/subject")
    paraphrases = (*_few(reader, row, "rephrase_prompt"), *_few(reader, row, "rephrase"))
    answered = [reader.answered(row.get(key), f"/{key}", ("ground_truth",)) for key in ("locality", "portability")]
    return RecordParts(
        row=row,
        subject=subject,
        template=reader.text(row["prompt"], "/prompt").replace(subject, SLOT, 1),
        target_true=reader.target(row.get("ground_truth") or "", "/ground_truth"),
        target_new=reader.target(row["target_new"], "/target_new"),
        relation=reader.text(row.get("relation_id") or "", "/relation_id"),
        case_id=_case_id(row),
        prompts={"paraphrase": paraphrases, "neighborhood": tuple(_few(reader, row, "locality_prompt"))},
        answered=dict(kind for kinds in answered for kind in kinds),
        unread=tuple(reader.unread),
    )


def _few(reader: _Reader, row: Mapping[str, Any], key: str) -> Iterator[Prompt]:
    """Yield the prompts of a key that holds a text or a list of texts."""
    value = row.get(key)
    if isinstance(value, str):
        yield Prompt(f"/{key}", value)
    elif isinstance(value, list):
        yield from reader.prompts(value, f"/{key}", [])


def _entities(reader: _Reader, meta: Mapping[str, Any], name: str) -> list[str]:
    """Return the ids that `meta` gives for a group's prompts, in their order."""
    entities = []
    for place, entry in enumerate(reader.entries(meta.get(name), f"/meta/{name}")):
        entity = entry.get("entity") if isinstance(entry, dict) else None
        entities.append(entity if isinstance(entity, str) else reader.text(entity, f"/meta/{name}/{place}/entity"))
    return entities


def _prefixes(reader: _Reader, meta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    path = "/meta/paraphrases"
    for place, value in enumerate(reader.entries(meta.get("paraphrases"), path)):
        entry = reader.mapping(value, f"{path}/{place}")
        prefix, clean = (reader.text(entry.get(key), f"{path}/{place}/{key}") for key in ("prefix", "clean"))
        yield prefix, clean


def _case_id(row: Mapping[str, Any]) -> CaseId | None:
    case_id = row.get("case_id")
    return case_id if isinstance(case_id, CaseId) and not isinstance(case_id, bool) else None
