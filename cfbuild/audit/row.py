"""A record as an audit sees it: the same parts, whatever format the row has.

Known are CounterFact's rows (with or without cfbuild's `meta`) and EasyEdit's: `prompt` with the subject in place,
`subject`, `target_new`, `ground_truth`, one `rephrase_prompt`, one `locality_prompt` (zjunlp/EasyEdit), and KnowEdit's
`rephrase`, `locality` and `portability`, the latter two being lists of prompts with their own answers, by kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cfbuild.data import SLOT, Target
from cfbuild.text.languages.english import split_prefix

SAID = frozenset({"specificity_plus"})
"""Groups whose prompts name an object on purpose."""
GROUPS = ("paraphrase", "neighborhood", "attribute", "generation")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with its place in the row (a JSON pointer); `entity` is the id of what it is about, where known.

    `answers` are what may follow it, where that is not the row's own targets.
    """

    path: str
    text: str
    entity: str = ""
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """The parts of a row. `template` is the rewrite prompt with a slot, and `rewrite_path` where it stands.

    `asked` are the lists of prompts that have answers of their own, by their place in the row.
    """

    subject: str
    template: str
    target_true: Target
    target_new: Target
    relation: str = ""
    subject_id: str = ""
    case_id: int | None = None
    rewrite_path: str = "/prompt"
    prompts: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)
    prefixes: tuple[tuple[str, str], ...] = ()
    asked: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)

    def group(self, name: str) -> tuple[Prompt, ...]:
        """The prompts of a group, none where the format has no such group."""
        return self.prompts.get(name, ())

    def split(self, place: int) -> tuple[str, str]:
        """Prefix and clean form of a paraphrase: as `meta` tells, else as the sentences' ends do."""
        if place < len(self.prefixes):
            return self.prefixes[place]
        return split_prefix(self.group("paraphrase")[place].text, self.subject)


def sheet_of(row: Any) -> Sheet | None:
    """The parts of a row of a known format; None for anything else."""
    if not isinstance(row, dict):
        return None
    try:
        return _counterfact(row) if "requested_rewrite" in row else _easyedit(row)
    except (KeyError, TypeError, AttributeError):
        return None


def _counterfact(row: Mapping[str, Any]) -> Sheet:
    request = row["requested_rewrite"]
    meta = row.get("meta") or {}
    details = {name: meta.get(name) or () for name in ("neighborhood", "attribute")}
    prompts = {
        group: tuple(
            Prompt(f"/{group}_prompts/{place}", _text(text), _entity(details.get(group, ()), place))
            for place, text in enumerate(row.get(f"{group}_prompts") or ())
        )
        for group in GROUPS
    }
    return Sheet(
        subject=_text(request["subject"]),
        template=_text(request["prompt"]),
        target_true=_target(request["target_true"]),
        target_new=_target(request["target_new"]),
        relation=request.get("relation_id") or "",
        subject_id=meta.get("subject_id") or "",
        case_id=row.get("case_id"),
        rewrite_path="/requested_rewrite/prompt",
        prompts=prompts,
        prefixes=tuple((one["prefix"], one["clean"]) for one in meta.get("paraphrases") or ()),
        asked=dict(_asked("/meta/groups", meta.get("groups"), ("target_new", "target_true"), but=SAID)),
    )


def _easyedit(row: Mapping[str, Any]) -> Sheet:
    subject = _text(row["subject"])
    prompts = {
        "paraphrase": (*_prompts("/rephrase_prompt", row), *_prompts("/rephrase", row)),
        "neighborhood": tuple(_prompts("/locality_prompt", row)),
    }
    return Sheet(
        subject=subject,
        template=_text(row["prompt"]).replace(subject, SLOT, 1),
        target_true=_target(row.get("ground_truth") or ""),
        target_new=_target(row["target_new"]),
        relation=row.get("relation_id") or "",
        case_id=row.get("case_id"),
        prompts=prompts,
        asked=dict(
            one for key in ("locality", "portability") for one in _asked(f"/{key}", row.get(key), ("ground_truth",))
        ),
    )


def _asked(
    path: str, kinds: Any, answers: tuple[str, ...], but: frozenset[str] = frozenset()
) -> Iterator[tuple[str, tuple[Prompt, ...]]]:
    """The prompts of each kind with their answers; a kind is a list of them, or one."""
    for kind, rows in kinds.items() if isinstance(kinds, Mapping) else ():
        some = rows if isinstance(rows, list) else [rows]
        prompts = tuple(
            Prompt(f"{path}/{kind}/{place}", _text(one["prompt"]), answers=_labels(one, answers))
            for place, one in enumerate(some)
        )
        if prompts and kind not in but:
            yield f"{path}/{kind}", prompts


def _labels(row: Mapping[str, Any], keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(label for key in keys if (label := _target(row.get(key) or "").label))


def _prompts(path: str, row: Mapping[str, Any]) -> Iterator[Prompt]:
    value = row.get(path[1:])
    if isinstance(value, str):
        yield Prompt(path, value)
    for place, text in enumerate(value if isinstance(value, list) else ()):
        yield Prompt(f"{path}/{place}", _text(text))


def _target(value: Any) -> Target:
    """EasyEdit has a text, or a list whose first text is the label and the rest are aliases."""
    while isinstance(value, list):
        value = value[0] if value else ""
    return Target(value.get("id") or "", _text(value["str"])) if isinstance(value, dict) else Target("", _text(value))


def _entity(details: Any, place: int) -> str:
    return str(details[place]["entity"]) if place < len(details) else ""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
