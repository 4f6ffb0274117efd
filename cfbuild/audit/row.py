"""The parts of a record, read from every known format; a value of a wrong type is left out and becomes a fault.

Known formats are CounterFact's (with or without cfbuild's `meta`) and EasyEdit's: `prompt` with the subject in place,
`subject`, `target_new`, `ground_truth`, `rephrase_prompt`, `locality_prompt` (zjunlp/EasyEdit), and KnowEdit's
`rephrase`. For `locality` and `portability` see `Reader.answered`. EasyEdit's result files have the same keys under
`requested_rewrite`, and `pre` and `post` for what was measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cfbuild.audit.reader import CaseId, Prompt, Reader
from cfbuild.data import SLOT, Target
from cfbuild.store.schema.faults import Fault
from cfbuild.text.languages import Language, language
from cfbuild.text.languages.english import split_prefix

PROMPT_GROUPS = ("paraphrase", "neighborhood", "attribute", "generation")
ABOUT_OTHERS = ("neighborhood", "attribute")
TARGETS = ("target_new", "target_true")
REWRITE = "/requested_rewrite"
EASYEDIT = frozenset({"prompt", "subject", "target_new"})
"""Keys by which a request in EasyEdit's format is recognised."""
EASYEDIT_ONLY = frozenset({"ground_truth", "rephrase_prompt", "locality", "portability"})
"""Keys of EasyEdit's requests that CounterFact's `requested_rewrite` does not have."""
STAGES = frozenset({"pre", "post"})
"""Keys of EasyEdit's result files for what was measured before and after the edit."""
NAMED = re.compile(r"(?:.*[/:])?([QP][1-9][0-9]{0,18})")
"""An id by itself or at the end of an address, such as http://www.wikidata.org/entity/Q42 or wd:Q42."""


@dataclass(frozen=True, slots=True)
class RecordParts:
    """The parts of a row; places are JSON pointers into it. Ids and `relation` are Wikidata's, or else empty.

    template: the rewrite prompt with a slot. base: the place of the object with subject, prompt and targets.
    prompts: by the groups of PROMPT_GROUPS. answered: the prompts that have their own answers, by the list's place.
    prefixes: prefix and clean form of each paraphrase, if `meta` has them.
    unread: the faults of values of a wrong type, which the parts lack.
    change: the kind of the real change that the row is about; empty for none.
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
    base: str = ""
    is_counterfact: bool = False
    prompts: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)
    prefixes: tuple[tuple[str, str], ...] = ()
    answered: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)
    unread: tuple[Fault, ...] = ()
    change: str = ""

    @property
    def wording(self) -> Language:
        """Return the rules of the row's language: `meta.language`, or else English."""
        return language(self.language)

    @property
    def rewrite_path(self) -> str:
        """Return the place of the rewrite prompt in the row."""
        return f"{self.base}/prompt"

    @property
    def rewrite(self) -> str:
        """Return the rewrite prompt with the subject in its slot."""
        return self.template.replace(SLOT, self.subject)

    def was_read(self, path: str) -> bool:
        """Return False if the value at `path` is of a wrong type."""
        return all(fault.path != path for fault in self.unread)

    def group(self, name: str) -> tuple[Prompt, ...]:
        """Return the prompts of a group; none if the format has no such group."""
        return self.prompts.get(name, ())

    def split(self, place: int) -> tuple[str, str]:
        """Return prefix and clean form of paraphrase number `place`, from `meta` or split at a sentence's end."""
        if place < len(self.prefixes):
            return self.prefixes[place]
        return split_prefix(self.group("paraphrase")[place].text, self.subject)

    def shown_templates(self) -> set[str]:
        """Return the clean paraphrases that name the subject once, with a slot for it."""
        subject = self.subject
        clean = [self.split(place)[1] for place in range(len(self.group("paraphrase")))] if subject else ()
        return {text.replace(subject, SLOT) for text in clean if text.count(subject) == 1}

    @property
    def edited(self) -> tuple[str, str]:
        """Return what the record edits: subject and relation, or the template if the relation is unknown."""
        return self.subject_id or self.subject, self.relation or self.template

    def target_path(self, target: str, key: str = "str") -> str:
        """Return the place in the row of `target` (`target_true` or `target_new`); `key` is `str` or `id`."""
        if self.is_counterfact:
            return f"{self.base}/{target}/{key}"
        return f"{self.base}/{'ground_truth' if target == 'target_true' else 'target_new'}"


def parts_of(row: Any) -> RecordParts | None:
    """Return the parts of a row, or None if it is no JSON object; a row of no known format is read as CounterFact's."""
    if not isinstance(row, dict):
        return None
    if "requested_rewrite" not in row:
        return _easyedit(row, row, "") if row.keys() >= EASYEDIT else _counterfact(row)
    request = row["requested_rewrite"]
    return _easyedit(row, request, REWRITE) if _is_result(row, request) else _counterfact(row)


def _is_result(row: Mapping[str, Any], request: Any) -> bool:
    """Return True for a row of EasyEdit's result files."""
    if not isinstance(request, dict) or "target_true" in request or not request.keys() >= EASYEDIT:
        return False
    return not isinstance(request["target_new"], dict) and bool(EASYEDIT_ONLY & request.keys() or STAGES & row.keys())


def _counterfact(row: Mapping[str, Any]) -> RecordParts:
    reader = Reader()
    rewrite = reader.mapping(row.get("requested_rewrite"), REWRITE)
    meta = reader.mapping(row.get("meta"), "/meta", optional=True)
    prompts = {
        name: tuple(reader.prompts(row.get(f"{name}_prompts"), f"/{name}_prompts", _entities(reader, meta, name)))
        for name in PROMPT_GROUPS
    }
    reader.number(row.get("pararel_idx"), "/pararel_idx")
    for key in ("source", "template_origin"):
        reader.text(meta.get(key), f"/meta/{key}", optional=True)
    reader.mapping(meta.get("scores"), "/meta/scores", optional=True)
    change = reader.mapping(meta.get("change"), "/meta/change", optional=True)
    return RecordParts(
        row=row,
        subject=reader.text(rewrite.get("subject"), f"{REWRITE}/subject"),
        template=reader.text(rewrite.get("prompt"), f"{REWRITE}/prompt"),
        target_true=_known(reader.target(rewrite.get("target_true"), f"{REWRITE}/target_true")),
        target_new=_known(reader.target(rewrite.get("target_new"), f"{REWRITE}/target_new")),
        relation=_relation(reader, rewrite, REWRITE),
        subject_id=wikidata_id(reader.text(meta.get("subject_id"), "/meta/subject_id", optional=True)),
        case_id=reader.case_id(row.get("case_id"), "/case_id"),
        language=reader.text(meta.get("language"), "/meta/language", optional=True) or "en",
        base=REWRITE,
        is_counterfact=True,
        prompts=prompts,
        prefixes=tuple(_prefixes(reader, meta)),
        answered=dict(reader.groups(meta.get("groups"), "/meta/groups", TARGETS)),
        change=reader.text(change.get("kind"), "/meta/change/kind") if change else "",
        unread=tuple(reader.unread),
    )


def _easyedit(row: Mapping[str, Any], request: Mapping[str, Any], base: str) -> RecordParts:
    reader = Reader()
    subject = reader.text(request["subject"], f"{base}/subject")
    paraphrases = [one for key in ("rephrase_prompt", "rephrase") for one in reader.few(request.get(key), base, key)]
    answered = [reader.answered(request.get(key), f"{base}/{key}") for key in ("locality", "portability")]
    reader.target(request.get("locality_ground_truth"), f"{base}/locality_ground_truth", optional=True)
    return RecordParts(
        row=row,
        subject=subject,
        template=_slotted(reader.text(request["prompt"], f"{base}/prompt"), subject),
        target_true=_known(reader.target(request.get("ground_truth"), f"{base}/ground_truth", optional=True)),
        target_new=_known(reader.target(request["target_new"], f"{base}/target_new")),
        relation=_relation(reader, request, base),
        case_id=reader.case_id(row.get("case_id"), "/case_id"),
        base=base,
        prompts={
            "paraphrase": tuple(paraphrases),
            "neighborhood": tuple(reader.few(request.get("locality_prompt"), base, "locality_prompt")),
        },
        answered=dict(kind for kinds in answered for kind in kinds),
        unread=tuple(reader.unread),
    )


@lru_cache(maxsize=10_000)
def wikidata_id(text: str) -> str:
    """Return the Wikidata id in `text`, alone or at the end of an address, or an empty text."""
    found = NAMED.fullmatch(text)
    return found[1] if found else ""


def _known(target: Target) -> Target:
    """Return a target whose id is Wikidata's or empty."""
    return Target(wikidata_id(target.id), target.label)


def _relation(reader: Reader, request: Mapping[str, Any], base: str) -> str:
    return wikidata_id(reader.text(request.get("relation_id"), f"{base}/relation_id", optional=True))


def _slotted(prompt: str, subject: str) -> str:
    return prompt.replace(subject, SLOT, 1) if subject else prompt


def _entities(reader: Reader, meta: Mapping[str, Any], name: str) -> list[str]:
    """Return the ids of the entities of a group's prompts in `meta`, in order."""
    path = f"/meta/{name}"
    found = []
    for place, value in enumerate(reader.entries(meta.get(name), path) if name in ABOUT_OTHERS else ()):
        entry = reader.mapping(value, f"{path}/{place}")
        _, entity = reader.texts(entry, ("template", "entity"), f"{path}/{place}")
        found.append(wikidata_id(entity))
    return found


def _prefixes(reader: Reader, meta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    path = "/meta/paraphrases"
    for place, value in enumerate(reader.entries(meta.get("paraphrases"), path)):
        entry = reader.mapping(value, f"{path}/{place}")
        reader.text(entry.get("template"), f"{path}/{place}/template", optional=True)
        prefix, clean = (reader.text(entry.get(key), f"{path}/{place}/{key}") for key in ("prefix", "clean"))
        yield prefix, clean
