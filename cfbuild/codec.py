"""Values to JSON rows and back, JSONL files, atomic writes, digests: the only place that turns values into bytes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from cfbuild.data import (
    CaseScore,
    Decision,
    Entity,
    EntityPrompt,
    Fact,
    GroupPrompt,
    Paraphrase,
    PromptScore,
    Record,
    Reference,
    Rejection,
    StageScore,
    Target,
    Template,
)
from cfbuild.errors import CfbuildError, DataError

Row = dict[str, Any]
Value = TypeVar("Value")

LONGEST_LINE = 1 << 24
"""Bytes of one line, or of one JSON document; CounterFact's rows have about 2,000. What is longer is not kept."""
LONGEST_NUMBER = 300
"""Characters of a whole number: what a float can hold, and far below what takes Python long to read."""
BOM = b"\xef\xbb\xbf"
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def dump_row(row: Mapping[str, Any]) -> str:
    """One row as one line of compact JSON, keys in the order given, NaN refused."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def write_atomic(path: Path, chunks: Iterable[str]) -> None:
    """Write text beside `path`, flush it to the disk, then put it in place: readers see the old file or the new one."""
    _sweep(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8", newline="\n") as stream:
            stream.writelines(chunks)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _sweep(path: Path) -> None:
    """Remove what killed processes left of their writing of `path`."""
    for part in path.parent.glob(".*.part"):
        name, _, process = part.name[1:].removesuffix(".part").rpartition(".")
        if name == path.name and process.isdecimal() and not _runs(int(process)):
            part.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether another process of this number runs."""
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return process != os.getpid()


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows atomically, one a line; return how many."""
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for row in rows:
            count += 1
            yield dump_row(row) + "\n"

    write_atomic(path, lines())
    return count


def write_json(path: Path, value: Any) -> None:
    """Write one indented JSON document atomically."""
    write_atomic(path, [json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n"])


def read_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield (number, bytes) of each line, without a byte order mark; None for a line longer than LONGEST_LINE.

    Raises DataError if the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            number = 0
            while line := stream.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                    while (line := stream.readline(1 << 16)) and not line.endswith(b"\n"):
                        pass
                    yield number, None
                else:
                    yield number, line.removeprefix(BOM) if number == 1 else line
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of a JSONL file. Raises DataError naming the line of anything that is no JSON object."""
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        if line is None:
            raise DataError(f"{where}: is longer than {LONGEST_LINE} bytes; expected one JSON object a line")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: is not UTF-8 text (byte {error.start} of the line)") from error
        if text.strip():
            yield number, parse_row(text, where)


def read_json(path: Path) -> Any:
    """One JSON document. Raises DataError naming the file if it cannot be read, is too long, or is no JSON."""
    try:
        with path.open("rb") as stream:
            body = stream.read(LONGEST_LINE)
        text = body.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    if len(body) == LONGEST_LINE:
        raise DataError(f"{path}: is longer than {LONGEST_LINE} bytes")
    return parse_json(text, str(path))


def parse_row(line: str, where: str) -> Row:
    """Parse one JSON object. Raises DataError with `where` for broken JSON, NaN, or another type than an object."""
    row = parse_json(line, where)
    if not isinstance(row, dict):
        raise DataError(f"{where}: got a JSON {type(row).__name__}, expected an object")
    return row


def parse_json(text: str, where: str) -> Any:
    """Parse JSON as DECODER does, without half characters (lone surrogates). Raises DataError with `where`."""
    try:
        value = DECODER.decode(text)
        if SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: holds half a character (a lone surrogate)") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: is not JSON ({error})") from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a whole number of {len(digits)} characters; expected at most {LONGEST_NUMBER}")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in row if names.count(name) > 1)!r} comes twice")
    return row


DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole, object_pairs_hook=_unique
)
"""JSON, strictly: finite numbers, and each key of an object once."""


def read_values(path: Path, decode: Callable[[Row], Value]) -> Iterator[Value]:
    """Decode every row of a JSONL file. Raises DataError naming file and line for a row that does not decode."""
    for number, row in read_rows(path):
        try:
            yield decode(row)
        except (KeyError, TypeError, ValueError, AttributeError, CfbuildError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{path}:{number}: {what}") from error


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_text(text: str) -> str:
    """Hex digest of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


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
        id=row["id"],
        labels=row["labels"],
        aliases={language: tuple(names) for language, names in row["aliases"].items()},
        attributes={relation: tuple(ids) for relation, ids in row["attributes"].items()},
        sitelinks=row["sitelinks"],
        revision=row.get("revision"),
    )


def encode_fact(fact: Fact) -> Row:
    return {
        "relation_id": fact.relation,
        "subject_id": fact.subject,
        "object_id": fact.object,
        "rank": fact.rank,
        "start": fact.start,
        "end": fact.end,
        "source": fact.source,
    }


def decode_fact(row: Row) -> Fact:
    return Fact(
        relation=row["relation_id"],
        subject=row["subject_id"],
        object=row["object_id"],
        rank=row["rank"],
        start=row["start"],
        end=row["end"],
        source=row["source"],
    )


def encode_template(template: Template) -> Row:
    return {
        "relation_id": template.relation,
        "kind": template.kind,
        "text": template.text,
        "origin": template.origin,
    }


def decode_template(row: Row) -> Template:
    return Template(relation=row["relation_id"], kind=row["kind"], text=row["text"], origin=row["origin"])


def encode_reference(reference: Reference) -> Row:
    return {
        "relation_id": reference.relation,
        "object_id": reference.object,
        "entity_id": reference.entity,
        "name": reference.name,
        "text": reference.text,
        "title": reference.title,
        "revision": reference.revision,
        "url": reference.url,
        "licence": reference.licence,
    }


def decode_reference(row: Row) -> Reference:
    return Reference(
        relation=row["relation_id"],
        object=row["object_id"],
        entity=row["entity_id"],
        name=row["name"],
        text=row["text"],
        title=row["title"],
        revision=row["revision"],
        url=row["url"],
        licence=row["licence"],
    )


def encode_record(record: Record) -> Row:
    """A record as CounterFact's row, unchanged keys first, everything else under `meta`."""
    return {
        "case_id": record.case_id,
        "pararel_idx": None,
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
                {"prefix": one.prefix, "clean": one.clean, "template": one.template} for one in record.paraphrases
            ],
            "neighborhood": [{"entity": one.entity, "template": one.template} for one in record.neighborhood],
            "attribute": [{"entity": one.entity, "template": one.template} for one in record.attribute],
            "scores": {name: dict(measured) for name, measured in sorted(record.scores.items())},
            **({"groups": _encode_groups(record.groups)} if record.groups else {}),
        },
    }


def _encode_groups(groups: Mapping[str, Iterable[GroupPrompt]]) -> Row:
    return {
        name: [
            {
                "prompt": one.text,
                "target_new": {"str": one.target_new.label, "id": one.target_new.id},
                "target_true": {"str": one.target_true.label, "id": one.target_true.id},
                "entity": one.entity,
                "relation_id": one.relation,
                "template": one.template,
            }
            for one in prompts
        ]
        for name, prompts in groups.items()
    }


def _decode_groups(row: Row) -> dict[str, tuple[GroupPrompt, ...]]:
    return {
        name: tuple(
            GroupPrompt(
                one["prompt"],
                _target(one["target_new"]),
                _target(one["target_true"]),
                one["entity"],
                one["relation_id"],
                one["template"],
            )
            for one in prompts
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
    """A rejection from its row, which does not keep the fact's rank, dates and source."""
    return Rejection(
        case_id=row["case_id"],
        fact=Fact(row["relation_id"], row["subject_id"], row["object_id"]),
        subject=row["subject"],
        object=row["object"],
        decision=Decision(False, row["rule"], row["measured"]),
    )


def decode_record(row: Row) -> Record:
    """A record from a row written by `encode_record`, or from any CounterFact row (which has no `meta`).

    Without `meta` the subject's id, the entities behind prompts and the split of a paraphrase into prefix and clean
    form are unknown: ids are empty and the whole paraphrase counts as clean.
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
        paraphrases=_paraphrases(row["paraphrase_prompts"], meta.get("paraphrases")),
        neighborhood=_entity_prompts(row.get("neighborhood_prompts", ()), meta.get("neighborhood")),
        attribute=_entity_prompts(row.get("attribute_prompts", ()), meta.get("attribute")),
        generation=tuple(row.get("generation_prompts", ())),
        language=meta.get("language", "en"),
        source=meta.get("source", ""),
        scores=meta.get("scores", {}),
        groups=_decode_groups(meta.get("groups", {})),
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
    )


def _rounded(value: Any) -> Any:
    # Six decimals are beyond what float32 sums agree on between batches; more would only print noise.
    return round(value, 6) if isinstance(value, float) else value


def _target(row: Row) -> Target:
    return Target(row.get("id", ""), row["str"])


def _paraphrases(texts: Iterable[str], details: Iterable[Row] | None) -> tuple[Paraphrase, ...]:
    if details is None:
        return tuple(Paraphrase("", text, "") for text in texts)
    return tuple(Paraphrase(one["prefix"], one["clean"], one["template"]) for one in details)


def _entity_prompts(texts: Iterable[str], details: Iterable[Row] | None) -> tuple[EntityPrompt, ...]:
    texts = list(texts)
    if details is None:
        return tuple(EntityPrompt(text, "", "") for text in texts)
    return tuple(EntityPrompt(text, one["entity"], one["template"]) for text, one in zip(texts, details, strict=True))
