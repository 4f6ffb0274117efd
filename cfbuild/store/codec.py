"""Conversion of values to the rows of a build's files and back; schemas/ and docs/formats.md explain the keys."""

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
"""The keys of fields that hold an id; all other keys are the fields' names."""

PROMPTS, ANSWERS = "_prompts", "_answers"
"""The ends of the keys of a group's scores and answers in a case's row."""
IN_USE = ("in_use_rewrite", "in_use_paraphrase")
"""The figures of answers, which rows without answers lack."""
OPTIONAL = ("distinct_1", "distinct_2", "perplexity")
"""The figures that rows lack if they were not computed."""
OF_TEXTS = ("generation_entropy", "reference_score", "mentions_target_new")
"""The figures of generated texts, which are null if they were not computed."""
CHANGED_FACT = ("rank", "start", "end", "source")
"""The keys of a fact in the row of a change, beside that of its object."""


def encode_entity(entity: Entity) -> Row:
    """Return an item as a row of entities.jsonl."""
    return {
        "id": entity.id,
        "labels": dict(sorted(entity.labels.items())),
        "aliases": {language: list(names) for language, names in sorted(entity.aliases.items())},
        "attributes": {relation: list(ids) for relation, ids in sorted(entity.attributes.items())},
        "sitelinks": entity.sitelinks,
        **({} if entity.revision is None else {"revision": entity.revision}),
    }


def decode_entity(row: Row) -> Entity:
    """Return the item of a row of entities.jsonl."""
    return Entity(
        id=_shared(row["id"]),
        labels={_shared(language): name for language, name in row["labels"].items()},
        aliases={_shared(language): tuple(names) for language, names in row["aliases"].items()},
        attributes={_shared(relation): tuple(map(_shared, ids)) for relation, ids in row["attributes"].items()},
        sitelinks=row["sitelinks"],
        revision=row.get("revision"),
    )


def _flat(kind: type[Value], **renamed: str) -> tuple[Callable[[Value], Row], Callable[[Row], Value]]:
    """Return the encoder and the decoder of a dataclass of texts, numbers and None; its keys have the fields' order.

    renamed: the keys of fields that do not have the field's name.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    keys = [renamed.get(name, name) for name in names]
    read, read_row = attrgetter(*names), itemgetter(*keys)
    return lambda value: dict(zip(keys, read(value), strict=True)), lambda row: kind(*read_row(row))


encode_fact, _decode_fact = _flat(Fact, **IDS)
encode_reference, decode_reference = _flat(Reference, **IDS)
_encode_paraphrase = _flat(Paraphrase)[0]
_encode_group_prompt, _decode_group_prompt = _flat(GroupPrompt, text="prompt", relation="relation_id")
_encode_shared_class = _flat(SharedClass)[0]
_encode_real_change = _flat(RealChange)[0]
_encode_score, decode_score = _flat(PromptScore)


def encode_change(change: FactChange) -> Row:
    """Return a change as a row of changes.jsonl."""
    return {
        "kind": change.kind,
        "relation_id": change.fact.relation,
        "subject_id": change.fact.subject,
        "old": change.old and _encode_changed(change.old),
        "new": change.new and _encode_changed(change.new),
    }


def decode_change(row: Row) -> FactChange:
    """Return the change of a row of changes.jsonl."""
    pair = {"relation": row["relation_id"], "subject": row["subject_id"]}
    old, new = (
        None if fact is None else Fact(**pair, object=fact["object_id"], **{name: fact[name] for name in CHANGED_FACT})
        for fact in (row["old"], row["new"])
    )
    return FactChange(row["kind"], old, new)


def _encode_changed(fact: Fact) -> Row:
    return {"object_id": fact.object, **{name: getattr(fact, name) for name in CHANGED_FACT}}


def decode_fact(row: Row) -> Fact:
    """Return the fact of a row of facts.jsonl."""
    return _decode_fact({key: _shared(value) for key, value in row.items()})


def _shared(value: Any) -> Any:
    """Return a value of a row; equal texts (an id, a rank, a date) as one object, so that they take memory once."""
    return intern(value) if type(value) is str else value


def encode_template(template: Template) -> Row:
    """Return a template as a row of templates.jsonl."""
    return {
        "relation_id": template.relation,
        "kind": template.kind,
        "text": template.text,
        "origin": template.origin,
        **({"fits": list(template.fits)} if template.fits else {}),
        **({"misfits": list(template.misfits)} if template.misfits else {}),
    }


def decode_template(row: Row) -> Template:
    """Return the template of a row of templates.jsonl."""
    kinds = (tuple(row.get(name, ())) for name in ("fits", "misfits"))
    return Template(row["relation_id"], row["kind"], row["text"], row["origin"], *kinds)


def encode_record(record: Record) -> Row:
    """Return a record as a row of records.jsonl: CounterFact's keys, and everything else under `meta`."""
    return {
        "case_id": record.case_id,
        "pararel_idx": record.pararel_idx,
        "requested_rewrite": {
            "prompt": record.prompt.text,
            "relation_id": record.relation,
            "target_new": _encode_target(record.target_new),
            "target_true": _encode_target(record.target_true),
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
            "paraphrases": list(map(_encode_paraphrase, record.paraphrases)),
            "neighborhood": _encode_sources(record.neighborhood),
            "attribute": _encode_sources(record.attribute),
            "scores": {name: dict(measured) for name, measured in sorted(record.scores.items())},
            **({"shared_class": _encode_shared_class(record.shared_class)} if record.shared_class else {}),
            **({"change": _encode_real_change(record.change)} if record.change else {}),
            **({"groups": _encode_groups(record.groups)} if record.groups else {}),
        },
    }


def _encode_target(target: Target) -> Row:
    return {"str": target.label, "id": target.id}


def _encode_sources(prompts: Iterable[EntityPrompt]) -> list[Row]:
    return [{"entity": prompt.entity, "template": prompt.template} for prompt in prompts]


def _encode_groups(groups: Mapping[str, Iterable[GroupPrompt]]) -> Row:
    return {
        name: [_with_targets(_encode_group_prompt(prompt), _encode_target) for prompt in prompts]
        for name, prompts in groups.items()
    }


def _decode_groups(row: Row) -> dict[str, tuple[GroupPrompt, ...]]:
    return {
        name: tuple(_decode_group_prompt(_with_targets(prompt, _decode_target)) for prompt in prompts)
        for name, prompts in row.items()
    }


def _with_targets(row: Row, convert: Callable[[Any], Any]) -> Row:
    return {**row, "target_new": convert(row["target_new"]), "target_true": convert(row["target_true"])}


def encode_rejection(rejection: Rejection) -> Row:
    """Return a rejection as a row of rejected.jsonl."""
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
    """Return the rejection of a row of rejected.jsonl, which lacks the fact's rank, dates and source."""
    return Rejection(
        case_id=row["case_id"],
        fact=Fact(row["relation_id"], row["subject_id"], row["object_id"]),
        subject=row["subject"],
        object=row["object"],
        decision=Decision(False, row["rule"], row["measured"]),
    )


def decode_record(row: Row) -> Record:
    """Return the record of a row of records.jsonl, or of any CounterFact file, whose rows have no `meta`.

    Without `meta` all ids but those of the targets are empty, and a paraphrase prompt counts as clean from its
    beginning.

    Raises DataError if `meta` has more or fewer entries for a kind of prompt than there are prompts.
    """
    request = row["requested_rewrite"]
    meta = row.get("meta") or {}
    relation = request["relation_id"]
    return Record(
        case_id=row["case_id"],
        relation=relation,
        prompt=Template(relation, "rewrite", request["prompt"], meta.get("template_origin", "")),
        subject=Target(meta.get("subject_id", ""), request["subject"]),
        target_true=_decode_target(request["target_true"]),
        target_new=_decode_target(request["target_new"]),
        paraphrases=tuple(
            Paraphrase(part["prefix"], part["clean"], part["template"])
            for _, part in _with_details(row, meta, "paraphrases", "paraphrase_prompts")
        ),
        neighborhood=_entity_prompts(_with_details(row, meta, "neighborhood", "neighborhood_prompts")),
        attribute=_entity_prompts(_with_details(row, meta, "attribute", "attribute_prompts")),
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
    """Return a case as a row of cases.jsonl."""
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
    """Return the case of a row of cases.jsonl."""
    return CaseScore(
        case_id=row["case_id"],
        relation=row["relation_id"],
        editor=row["editor"],
        pre=_decode_stage(row["pre"]),
        post=_decode_stage(row["post"]) if row["post"] else None,
        edit=row["edit"],
        fault=row["fault"],
    )


def encode_score(score: PromptScore) -> Row:
    """Return a prompt's score as in a row of cases.jsonl."""
    return {name: _rounded(value) for name, value in _encode_score(score).items()}


def _encode_stage(stage: StageScore) -> Row:
    return {
        **{f"{group}{PROMPTS}": list(map(encode_score, scores)) for group, scores in stage.prompts.items()},
        "generations": list(stage.generations),
        **{name: _rounded(getattr(stage, name)) for name in OF_TEXTS},
        **{f"{group}{ANSWERS}": list(texts) for group, texts in stage.answers.items()},
        **({name: _rounded(getattr(stage, name)) for name in IN_USE} if stage.answers else {}),
        **{name: _rounded(value) for name in OPTIONAL if (value := getattr(stage, name)) is not None},
    }


def _decode_stage(row: Row) -> StageScore:
    return StageScore(
        prompts={
            name[: -len(PROMPTS)]: tuple(map(decode_score, scores))
            for name, scores in row.items()
            if name.endswith(PROMPTS)
        },
        generations=tuple(row["generations"]),
        answers={name[: -len(ANSWERS)]: tuple(texts) for name, texts in row.items() if name.endswith(ANSWERS)},
        **{name: row[name] for name in OF_TEXTS},
        **{name: row.get(name) for name in (*IN_USE, *OPTIONAL)},
    )


def _rounded(value: Any) -> Any:
    # Float32 sums of other batches differ before the sixth decimal, so more decimals would only be noise.
    return round(value, 6) if isinstance(value, float) else value


def _decode_target(row: Row) -> Target:
    return Target(row.get("id", ""), row["str"])


def _with_details(row: Row, meta: Row, name: str, key: str) -> list[tuple[str, Row]]:
    """Return the prompts under `key` of a row, each with its details under `name` of `meta`, empty ones if it has none.

    Raises DataError if there are more or fewer details than prompts.
    """
    texts, details = list(row.get(key, ())), meta.get(name)
    if details is None:
        return [(text, {"prefix": "", "clean": text, "entity": "", "template": ""}) for text in texts]
    if len(details) != len(texts):
        raise DataError(f"/meta/{name}: got {len(details)} entries; expected {len(texts)}, one for each of {key}")
    return list(zip(texts, details, strict=True))


def _entity_prompts(detailed: Iterable[tuple[str, Row]]) -> tuple[EntityPrompt, ...]:
    return tuple(EntityPrompt(text, part["entity"], part["template"]) for text, part in detailed)
