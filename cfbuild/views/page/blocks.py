"""The page's data: columns that are searched at once, and compressed blocks of what an opened record shows."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cfbuild.data import CaseScore, GroupPrompt, Record, StageScore
from cfbuild.records.groups import GROUPS
from cfbuild.score.metrics import case_values
from cfbuild.text.safe import visible

RECORDS_A_BLOCK = 40
"""Few enough that a block unpacks at once, many enough that their likeness compresses."""
MANY_RECORDS = 2000
TEXTS_OF_MANY = 3
"""Above so many records, so many generated texts of each are on the page, which says so: all would be 200 MB."""
SHOWN = ("ES", "PS", "NS")


def to_json(value: Any) -> str:
    """JSON that can stand in a script element: no `<` and no `&`, so nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def columns(records: Sequence[Record], cases: Mapping[int, CaseScore]) -> dict[str, Any]:
    """What the list of records shows, a list a column."""
    scored = [cases[record.case_id] for record in records if record.case_id in cases]
    places = {case.case_id: place for place, case in enumerate(scored)}
    table: dict[str, Any] = {
        "case": [record.case_id for record in records],
        "relation": [record.relation for record in records],
        "subject": [visible(record.subject.label) for record in records],
        "true": [visible(record.target_true.label) for record in records],
        "new": [visible(record.target_new.label) for record in records],
        "fault": [_fault(cases.get(record.case_id)) for record in records],
        "block": RECORDS_A_BLOCK,
        "groups": {name: name.replace("_", " ").capitalize() for name in GROUPS},
    }
    for stage in ("pre", "post"):
        values = case_values(scored, stage)
        for name in SHOWN:
            column = [places.get(record.case_id) for record in records]
            table[f"{name}_{stage}"] = [_whole(values[name][at]) if at is not None else None for at in column]
    return table


def blocks(records: Sequence[Record], cases: Mapping[int, CaseScore]) -> Iterator[str]:
    """Compressed details, RECORDS_A_BLOCK records a block, in the records' order."""
    texts = TEXTS_OF_MANY if len(records) > MANY_RECORDS else None
    for start in range(0, len(records), RECORDS_A_BLOCK):
        some = records[start : start + RECORDS_A_BLOCK]
        rows = [_details(record, cases.get(record.case_id), texts) for record in some]
        # No clock in the header: the same records give the same bytes.
        packed = gzip.compress(to_json(rows).encode("utf-8", "replace"), compresslevel=6, mtime=0)
        yield base64.b64encode(packed).decode()


def _fault(case: CaseScore | None) -> str | None:
    return visible(case.fault) if case and case.fault else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _details(record: Record, case: CaseScore | None, texts: int | None) -> dict[str, Any]:
    prompts = {
        "rewrite": [record.rewrite],
        "paraphrase": [one.text for one in record.paraphrases],
        "neighborhood": [one.text for one in record.neighborhood],
        "attribute": [one.text for one in record.attribute],
        **{group: [_question(one, record) for one in prompts] for group, prompts in record.groups.items()},
    }
    return {
        "ids": [record.subject.id, record.target_true.id, record.target_new.id],
        "source": visible(record.source),
        "prompts": {group: [visible(text) for text in some] for group, some in prompts.items()},
        "pre": _probabilities(case.pre) if case else None,
        "post": _probabilities(case.post) if case and case.post else None,
        "generation": [visible(text) for text in record.generation],
        "texts": _texts(case, texts),
        "all_texts": texts is None,
        "edit": {name: _short(value) for name, value in case.edit.items()} if case else {},
        "scores": {
            visible(model): {name: _short(value) for name, value in measured.items()}
            for model, measured in record.scores.items()
        },
    }


def _question(prompt: GroupPrompt, record: Record) -> str:
    """A prompt, with its targets where they are not the record's."""
    if (prompt.target_new, prompt.target_true) == (record.target_new, record.target_true):
        return prompt.text
    return f"{prompt.text} ({prompt.target_new.label}, before: {prompt.target_true.label})"


def _probabilities(stage: StageScore) -> dict[str, list[list[float]]]:
    """NLLs in nats of (o*, o_c) by group and prompt; the page turns them into probabilities."""
    return {
        group: [[round(one.target_new_nll, 3), round(one.target_true_nll, 3)] for one in scores]
        for group, scores in stage.prompts.items()
    }


def _texts(case: CaseScore | None, most: int | None) -> list[list[str]]:
    """(before, after) of each generated text; after is empty where the edit failed."""
    if case is None:
        return []
    before = case.pre.generations[:most]
    after = case.post.generations[:most] if case.post else ()
    return [[visible(text), visible(after[i]) if i < len(after) else ""] for i, text in enumerate(before)]


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else visible(value) if isinstance(value, str) else value
