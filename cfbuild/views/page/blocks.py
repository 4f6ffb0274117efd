"""The page's data: columns of the list of records, and compressed blocks of the details of opened records."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from typing import Any

from cfbuild.data import CaseScore, GroupPrompt, Record, StageScore
from cfbuild.text.safe import visible

RECORDS_A_BLOCK = 40
"""Records in a block: few enough to unpack at once, many enough to compress well."""
MANY_RECORDS = 2000
TEXTS_OF_MANY = 3
"""Generated texts of each record on a page of more than MANY_RECORDS, which says so: all texts would be 200 MB."""


def to_json(value: Any) -> str:
    """Return a value as JSON for a script element: without `<`, `>` and `&`, so that nothing in it ends the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def most_texts(count: int) -> int | None:
    """Return the number of generated texts of each record on a page of `count` records; None for all of them."""
    return TEXTS_OF_MANY if count > MANY_RECORDS else None


def packed(texts: Iterable[str]) -> Iterator[str]:
    """Yield the JSON texts in compressed blocks of RECORDS_A_BLOCK, in base64."""
    texts = iter(texts)
    while block := list(islice(texts, RECORDS_A_BLOCK)):
        # No time in the header, so that the same records give the same bytes.
        body = gzip.compress(f"[{','.join(block)}]".encode("utf-8", "replace"), compresslevel=6, mtime=0)
        yield base64.b64encode(body).decode()


def record_details(record: Record) -> dict[str, Any]:
    """Return the details of an opened record that are the same for every run."""
    prompts = {
        "rewrite": [record.rewrite],
        "paraphrase": [prompt.text for prompt in record.paraphrases],
        "neighborhood": [prompt.text for prompt in record.neighborhood],
        "attribute": [prompt.text for prompt in record.attribute],
        **{group: [_question(prompt, record) for prompt in prompts] for group, prompts in record.groups.items()},
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


def case_details(case: CaseScore, texts: int | None) -> dict[str, Any]:
    """Return the details of an opened record in a run. texts: the most generated texts (None: all)."""
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
    """Return [NLL of o*, NLL of the true object] of each prompt by group; the page turns them into probabilities."""
    return {
        group: [[round(score.target_new_nll, 3), round(score.target_true_nll, 3)] for score in scores]
        for group, scores in stage.prompts.items()
    }


def _texts(case: CaseScore, most: int | None) -> list[list[str]]:
    after = case.post.generations if case.post else ()
    return _pairs(case.pre.generations[:most], after[:most])


def _answers(case: CaseScore) -> dict[str, list[list[str]]]:
    post = case.post.answers if case.post else {}
    return {group: _pairs(texts, post.get(group, ())) for group, texts in case.pre.answers.items()}


def _pairs(before: Sequence[str], after: Sequence[str]) -> list[list[str]]:
    """Return [before, after] of each text; after is empty if the edit failed."""
    shown = zip_longest(before, after[: len(before)], fillvalue="")
    return [[visible(text), visible(text_after)] for text, text_after in shown]


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else visible(value) if isinstance(value, str) else value
