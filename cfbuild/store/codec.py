"""Conversion of values to rows and back, with the keys that the project's files use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from operator import attrgetter, itemgetter
from sys import intern
from typing import Any

from cfbuild.data import (
    CaseScore,
    Decision,
    Entity,
    EntityPrompt,
    Fact,
    FactChange,
    GroupPrompt,
    Paraphrase,
    PromptScore,
    RealChange,
    Record,
    Reference,
    Rejection,
    SharedClass,
    StageScore,
    Target,
    Template,
)
from cfbuild.errors import DataError
from cfbuild.store.jsonl import Row, Value

IDS = {"relation": "relation_id", "subject": "subject_id", "object": "object_id", "entity": "entity_id"}
"""A flat row's keys for the fields that hold an id; its other keys are the fields' names."""

ANSWERS = "_answers"
"""The end of the key of a group's answers."""
IN_USE = ("in_use_rewrite", "in_use_paraphrase")
"""The keys of figures of answers, which rows without answers do not have."""
OPTIONAL = ("distinct_1", "distinct_2", "perplexity")
"""The keys of figures that a row has only where they were computed."""


def encode_entity(entity: Entity) -> Row:
    return {
        "id": entity.id,
        "labels": dict(sorted(entity.labels.items())),
        "aliases": {language: list(names) for language, names in sorted(entity.aliases.items())},
        "attributes": {relation: list(ids) for relation, ids in sorted(entity.attributes.items())},
        "sitelinks": entity.sitelinks,
        **({} if entity.revision is None else {"revision": entity.revision}),
    }


def decode_entity(row: Row) -> Entity:
    return Entity(
        id=_shared(row["id"]),
        labels={_shared(language): name for language, name in row["labels"].items()},
        aliases={_shared(language): tuple(names) for language, names in row["aliases"].items()},
        attributes={_shared(relation): tuple(map(_shared, ids)) for relation, ids in row["attributes"].items()},
        sitelinks=row["sitelinks"],
        revision=row.get("revision"),
    )


def _flat(kind: type[Value]) -> tuple[Callable[[Value], Row], Callable[[Row], Value]]:
    """Return the functions that turn a value of plain fields (texts, numbers, None) into a row, and a row into it.

    The keys come in the order of the fields.
    """
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    keys = [IDS.get(name, name) for name in names]
    read, read_row = attrgetter(*names), itemgetter(*keys)
    return lambda value: dict(zip(keys, read(value), strict=True)), lambda row: kind(*read_row(row))


encode_fact, _decode_fact = _flat(Fact)
encode_reference, decode_reference = _flat(Reference)
_encode_shared, _ = _flat(SharedClass)
_encode_real = _flat(RealChange)[0]


def encode_change(change: FactChange) -> Row:
    return {
        "kind": change.kind,
        "relation_id": change.fact.relation,
        "subject_id": change.fact.subject,
        "old": change.old and _held(change.old),
        "new": change.new and _held(change.new),
    }


def decode_change(row: Row) -> FactChange:
    pair = {"relation": row["relation_id"], "subject": row["subject_id"]}
    old, new = (
        None if fact is None else Fact(**pair, object=fact["object_id"], **{name: fact[name] for name in HELD})
        for fact in (row["old"], row["new"])
    )
    return FactChange(row["kind"], old, new)


HELD = ("rank", "start", "end", "source")
"""The fields of a change's facts beside the object."""


def _held(fact: Fact) -> Row:
    return {"object_id": fact.object, **{name: getattr(fact, name) for name in HELD}}


def decode_fact(row: Row) -> Fact:
    return _decode_fact({key: _shared(value) for key, value in row.items()})


def _shared(value: Any) -> Any:
    """Return a text that comes in many rows (an id, a rank, a date) as the one object that all of them hold."""
    return intern(value) if type(value) is str else value


def encode_template(template: Template) -> Row:
    return {
        "relation_id": template.relation,
        "kind": template.kind,
        "text": template.text,
        "origin": template.origin,
        **({"fits": list(template.fits)} if template.fits else {}),
        **({"misfits": list(template.misfits)} if template.misfits else {}),
    }


def decode_template(row: Row) -> Template:
    kinds = (tuple(row.get(name, ())) for name in ("fits", "misfits"))
    return Template(row["relation_id"], row["kind"], row["text"], row["origin"], *kinds)


def encode_record(record: Record) -> Row:
    """Return a record as a CounterFact row: CounterFact's keys first, everything else under `meta`."""
    return {
        "case_id": record.case_id,
        "pararel_idx": record.pararel_idx,
        "requested_rewrite": {
            "prompt": record.prompt.text,
            "relation_id": record.relation,
            "target_new": {"str": record.target_new.label, "id": record.target_new.id},
            "target_true": {"str": record.target_true.label, "id": record.target_true.id},
            "subject": record.subject.label,
        },
        "paraphrase_prompts": [paraphrase.text for paraphrase in record.paraphrases],
        "neighborhood_prompts": [prompt.text for prompt in record.neighborhood],
        "attribute_prompts": [prompt.text for prompt in record.attribute],
        "generation_prompts": list(record.generation),
        "meta": {
            "subject_id": record.subject.id,
            "language": record.language,
            "source": record.source,
            "template_origin": record.prompt.origin,
            "paraphrases": [
                {"prefix": paraphrase.prefix, "clean": paraphrase.clean, "template": paraphrase.template}
                for paraphrase in record.paraphrases
            ],
            "neighborhood": [{"entity": prompt.entity, "template": prompt.template} for prompt in record.neighborhood],
            "attribute": [{"entity": prompt.entity, "template": prompt.template} for prompt in record.attribute],
            "scores": {name: dict(measured) for name, measured in sorted(record.scores.items())},
            **({"shared_class": _encode_shared(record.shared_class)} if record.shared_class else {}),
            **({"change": _encode_real(record.change)} if record.change else {}),
            **({"groups": _encode_groups(record.groups)} if record.groups else {}),
        },
    }


def _encode_groups(groups: Mapping[str, Iterable[GroupPrompt]]) -> Row:
    return {
        name: [
            {
                "prompt": prompt.text,
                "target_new": {"str": prompt.target_new.label, "id": prompt.target_new.id},
                "target_true": {"str": prompt.target_true.label, "id": prompt.target_true.id},
                "entity": prompt.entity,
                "relation_id": prompt.relation,
                "template": prompt.template,
            }
            for prompt in prompts
        ]
        for name, prompts in groups.items()
    }


def _decode_groups(row: Row) -> dict[str, tuple[GroupPrompt, ...]]:
    return {
        name: tuple(
            GroupPrompt(
                prompt_row["prompt"],
                _target(prompt_row["target_new"]),
                _target(prompt_row["target_true"]),
                prompt_row["entity"],
                prompt_row["relation_id"],
                prompt_row["template"],
            )
            for prompt_row in prompts
        )
        for name, prompts in row.items()
    }


def encode_rejection(rejection: Rejection) -> Row:
    return {
        "case_id": rejection.case_id,
        "relation_id": rejection.fact.relation,
        "subject_id": rejection.fact.subject,
        "object_id": rejection.fact.object,
        "subject": rejection.subject,
        "object": rejection.object,
        "rule": rejection.decision.rule,
        "measured": dict(rejection.decision.measured),
    }


def decode_rejection(row: Row) -> Rejection:
    """Return the rejection of a row; the fact's rank, dates and source are not in it."""
    return Rejection(
        case_id=row["case_id"],
        fact=Fact(row["relation_id"], row["subject_id"], row["object_id"]),
        subject=row["subject"],
        object=row["object"],
        decision=Decision(False, row["rule"], row["measured"]),
    )


def decode_record(row: Row) -> Record:
    """Return the record of a row written by `encode_record`, or of any CounterFact row (which has no `meta`).

    Without `meta` the subject's id, the entities of prompts and the split of a paraphrase into prefix and clean form
    are unknown: ids are empty and the whole paraphrase counts as clean.

    Raises DataError if `meta` has more or fewer entries than there are prompts.
    """
    request = row["requested_rewrite"]
    meta = row.get("meta") or {}
    relation = request["relation_id"]
    return Record(
        case_id=row["case_id"],
        relation=relation,
        prompt=Template(relation, "rewrite", request["prompt"], meta.get("template_origin", "")),
        subject=Target(meta.get("subject_id", ""), request["subject"]),
        target_true=_target(request["target_true"]),
        target_new=_target(request["target_new"]),
        paraphrases=_paraphrases(*_beside(row, meta, "paraphrases", "paraphrase_prompts")),
        neighborhood=_entity_prompts(*_beside(row, meta, "neighborhood", "neighborhood_prompts")),
        attribute=_entity_prompts(*_beside(row, meta, "attribute", "attribute_prompts")),
        generation=tuple(row.get("generation_prompts", ())),
        language=meta.get("language", "en"),
        source=meta.get("source", ""),
        scores=meta.get("scores", {}),
        groups=_decode_groups(meta.get("groups", {})),
        pararel_idx=row.get("pararel_idx"),
        shared_class=SharedClass(**meta["shared_class"]) if "shared_class" in meta else None,
        change=RealChange(**meta["change"]) if "change" in meta else None,
    )


def encode_case(case: CaseScore) -> Row:
    return {
        "case_id": case.case_id,
        "relation_id": case.relation,
        "editor": case.editor,
        "fault": case.fault,
        "edit": {name: _rounded(value) for name, value in case.edit.items()},
        "pre": _encode_stage(case.pre),
        "post": _encode_stage(case.post) if case.post else None,
    }


def decode_case(row: Row) -> CaseScore:
    return CaseScore(
        case_id=row["case_id"],
        relation=row["relation_id"],
        editor=row["editor"],
        pre=_decode_stage(row["pre"]),
        post=_decode_stage(row["post"]) if row["post"] else None,
        edit=row["edit"],
        fault=row["fault"],
    )


def _encode_stage(stage: StageScore) -> Row:
    return {
        **{
            f"{group}_prompts": [
                {
                    "target_new_nll": _rounded(score.target_new_nll),
                    "target_true_nll": _rounded(score.target_true_nll),
                    "target_new_argmax": score.target_new_argmax,
                    "target_true_argmax": score.target_true_argmax,
                }
                for score in scores
            ]
            for group, scores in stage.prompts.items()
        },
        "generations": list(stage.generations),
        "generation_entropy": _rounded(stage.generation_entropy),
        "reference_score": _rounded(stage.reference_score),
        "mentions_target_new": _rounded(stage.mentions_target_new),
        **{f"{group}{ANSWERS}": list(texts) for group, texts in stage.answers.items()},
        **({name: _rounded(getattr(stage, name)) for name in IN_USE} if stage.answers else {}),
        **{name: _rounded(value) for name in OPTIONAL if (value := getattr(stage, name)) is not None},
    }


def _decode_stage(row: Row) -> StageScore:
    suffix = "_prompts"
    return StageScore(
        prompts={
            name[: -len(suffix)]: tuple(PromptScore(**score) for score in scores)
            for name, scores in row.items()
            if name.endswith(suffix)
        },
        generations=tuple(row["generations"]),
        generation_entropy=row["generation_entropy"],
        reference_score=row["reference_score"],
        mentions_target_new=row["mentions_target_new"],
        answers={name[: -len(ANSWERS)]: tuple(texts) for name, texts in row.items() if name.endswith(ANSWERS)},
        **{name: row.get(name) for name in (*IN_USE, *OPTIONAL)},
    )


def _rounded(value: Any) -> Any:
    # Between batches, float32 sums agree on fewer than six decimals; more would only print noise.
    return round(value, 6) if isinstance(value, float) else value


def _target(row: Row) -> Target:
    return Target(row.get("id", ""), row["str"])


def _beside(row: Row, meta: Row, name: str, key: str) -> tuple[list[str], list[Row] | None]:
    """Return the prompts of a row and what `meta` says of each; None if it says nothing.

    Raises DataError if there are more or fewer entries than prompts.
    """
    texts, details = list(row.get(key, ())), meta.get(name)
    if details is not None and len(details) != len(texts):
        raise DataError(f"/meta/{name}: got {len(details)} entries; expected {len(texts)}, one for each of {key}")
    return texts, details


def _paraphrases(texts: Iterable[str], details: Iterable[Row] | None) -> tuple[Paraphrase, ...]:
    if details is None:
        return tuple(Paraphrase("", text, "") for text in texts)
    return tuple(Paraphrase(one["prefix"], one["clean"], one["template"]) for one in details)


def _entity_prompts(texts: Iterable[str], details: Iterable[Row] | None) -> tuple[EntityPrompt, ...]:
    if details is None:
        return tuple(EntityPrompt(text, "", "") for text in texts)
    return tuple(EntityPrompt(text, one["entity"], one["template"]) for text, one in zip(texts, details, strict=True))
