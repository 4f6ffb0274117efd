"""The page's data: columns of the list of records, and compressed blocks of the details of opened records."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

from cfbuild.data import CaseScore, GroupPrompt, Record, StageScore
from cfbuild.records.kinds import KINDS
from cfbuild.score.metrics import case_values
from cfbuild.text.safe import visible

RECORDS_A_BLOCK = 40
"""Records in a block: few enough to unpack at once, many enough that their likeness compresses."""
MANY_RECORDS = 2000
TEXTS_OF_MANY = 3
"""Generated texts of each record on a page of more than MANY_RECORDS, which says so: all would be 200 MB."""
SHOWN = ("ES", "PS", "NS")


def to_json(value: Any) -> str:
    """Return JSON for a script element: without `<`, `>` and `&`, so nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def record_columns(records: Sequence[Record]) -> dict[str, Any]:
    """Return the columns of the list of records that are the same for every run, each a list."""
    return {
        "case": [record.case_id for record in records],
        "relation": [record.relation for record in records],
        "subject": [visible(record.subject.label) for record in records],
        "true": [visible(record.target_true.label) for record in records],
        "new": [visible(record.target_new.label) for record in records],
        "block": RECORDS_A_BLOCK,
        "groups": {name: name.replace("_", " ").capitalize() for name in KINDS},
        "all_texts": most_texts(len(records)) is None,
    }


def run_columns(records: Sequence[Record], cases: Mapping[int, CaseScore]) -> dict[str, Any]:
    """Return the columns of the list of records for a run, each a list; `cases` are the run's by case id."""
    scored = [cases[record.case_id] for record in records if record.case_id in cases]
    places = {case.case_id: place for place, case in enumerate(scored)}
    table: dict[str, Any] = {"fault": [_fault(cases.get(record.case_id)) for record in records]}
    at = [places.get(record.case_id) for record in records]
    for stage in ("pre", "post"):
        values = case_values(scored, stage)
        for name in SHOWN:
            table[f"{name}_{stage}"] = [None if place is None else _whole(values[name][place]) for place in at]
    return table


def most_texts(count: int) -> int | None:
    """Return the number of generated texts of each record on a page of `count` records; None for all of them."""
    return TEXTS_OF_MANY if count > MANY_RECORDS else None


def record_blocks(records: Sequence[Record]) -> Iterator[str]:
    """Return an iterator over compressed details that no run changes: RECORDS_A_BLOCK records a block, in order."""
    return _packed(map(_record_details, records))


def run_blocks(records: Sequence[Record], cases: Mapping[int, CaseScore]) -> Iterator[str]:
    """Return an iterator over a run's compressed details, in the same blocks; null for a record not scored."""
    texts = most_texts(len(records))
    found = (cases.get(record.case_id) for record in records)
    return _packed(case and _case_details(case, texts) for case in found)


def _packed(rows: Iterable[object]) -> Iterator[str]:
    rows = iter(rows)
    while block := list(islice(rows, RECORDS_A_BLOCK)):
        # No clock in the header: the same records give the same bytes.
        packed = gzip.compress(to_json(block).encode("utf-8", "replace"), compresslevel=6, mtime=0)
        yield base64.b64encode(packed).decode()


def _fault(case: CaseScore | None) -> str | None:
    return visible(case.fault) if case and case.fault else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _record_details(record: Record) -> dict[str, Any]:
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
        "prompts": {group: [visible(text) for text in texts] for group, texts in prompts.items()},
        "generation": [visible(text) for text in record.generation],
        "scores": {
            visible(model): {name: _short(value) for name, value in measured.items()}
            for model, measured in record.scores.items()
        },
    }


def _case_details(case: CaseScore, texts: int | None) -> dict[str, Any]:
    return {
        "pre": _probabilities(case.pre),
        "post": _probabilities(case.post) if case.post else None,
        "texts": _texts(case, texts),
        "edit": {name: _short(value) for name, value in case.edit.items()},
        **({"answers": _answers(case)} if case.pre.answers else {}),
    }


def _question(prompt: GroupPrompt, record: Record) -> str:
    """Return a prompt's text, followed by its targets if they are not the record's."""
    if (prompt.target_new, prompt.target_true) == (record.target_new, record.target_true):
        return prompt.text
    return f"{prompt.text} ({prompt.target_new.label}, before: {prompt.target_true.label})"


def _probabilities(stage: StageScore) -> dict[str, list[list[float]]]:
    """Return NLLs in nats of (o*, o_c) by group and prompt; the page turns them into probabilities."""
    return {
        group: [[round(one.target_new_nll, 3), round(one.target_true_nll, 3)] for one in scores]
        for group, scores in stage.prompts.items()
    }


def _texts(case: CaseScore, most: int | None) -> list[list[str]]:
    """Return [before, after] of the first `most` generated texts (None: all); after is empty if the edit failed."""
    before = case.pre.generations[:most]
    after = case.post.generations[:most] if case.post else ()
    return [[visible(text), visible(after[i]) if i < len(after) else ""] for i, text in enumerate(before)]


def _answers(case: CaseScore) -> dict[str, list[list[str]]]:
    """Return [before, after] of each answer by group; after is empty if the edit failed."""
    post = case.post.answers if case.post else {}
    return {
        group: [
            [visible(text), visible(after) if after is not None else ""]
            for text, after in zip_longest(texts, post.get(group, ()))
        ]
        for group, texts in case.pre.answers.items()
    }


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else visible(value) if isinstance(value, str) else value
