"""Records as folders of files that a tool runs as they are: a function a tool, in the table BUNDLES.

Files that do not depend on the records (a tool's code) lie in `publish/tools/` and are copied.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import chain
from types import MappingProxyType

from cfbuild.data import SLOT, Record
from cfbuild.publish.formats import counterfact
from cfbuild.publish.handed import Handed
from cfbuild.publish.uniedit import uniedit
from cfbuild.records.multi import free_of_conflicts
from cfbuild.records.pairs import SubjectPairs
from cfbuild.records.prompts import choices_of, prompts_of, stays_true
from cfbuild.store.jsonl import Row, dump_row
from cfbuild.text.scripts import continued


@dataclass(frozen=True, slots=True)
class ToolFile:
    """A file of a folder: its path there and its content; `rows` is how many records or prompts it holds."""

    path: str
    content: bytes
    rows: int = 0


def question_row(record: Record, kind: str, prompt: str, choices: list[str], answer: int) -> Row:
    """Return a prompt as a question: its choices with the space before them, and the place of the right one."""
    about = {"case_id": record.case_id, "relation_id": record.relation, "language": record.language, "kind": kind}
    return {**about, "prompt": prompt, "choices": choices, "answer": answer}


def questions(record: Record) -> Iterator[tuple[str, Row]]:
    """Yield (kind, question) of each prompt that is scored; the right answer is the one that an edit should bring."""
    for kind, text, new, true in prompts_of(record):
        choices, answer = choices_of(kind, new, true), (true if stays_true(kind) else new).label
        spaced = [continued("", one) for one in choices]
        yield kind, question_row(record, kind, text, spaced, choices.index(answer))


def _by_kind(records: Iterable[Record], shape: Callable[[Record, Row], Row]) -> dict[str, list[str]]:
    """Return the lines of each kind of prompt: its questions in a tool's shape."""
    found: dict[str, list[str]] = {}
    for record in records:
        for kind, row in questions(record):
            found.setdefault(kind, []).append(dump_row(shape(record, row)))
    return found


def _as_it_is(record: Record, row: Row) -> Row:
    return row


def _lines(path: str, texts: Iterable[str]) -> ToolFile:
    lines = [f"{text}\n" for text in texts]
    return ToolFile(path, "".join(lines).encode(), len(lines))


def _array(path: str, rows: Iterable[Row]) -> ToolFile:
    texts = [dump_row(row) for row in rows]
    return ToolFile(path, ("[\n" + ",\n".join(texts) + "\n]\n" if texts else "[]\n").encode(), len(texts))


def _tool(name: str, path: str) -> ToolFile:
    return ToolFile(path, resources.files("cfbuild.publish").joinpath("tools").joinpath(name).read_bytes())


TASK = """task: cfbuild_{kind}
custom_dataset: !function cfbuild_lm_eval.load
test_split: test
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
process_results: !function cfbuild_lm_eval.results
metric_list:
{metrics}
metadata:
  version: 1.0
  kind: {kind}
"""
METRIC = """  - metric: {name}
    aggregation: !function cfbuild_lm_eval.mean_by_record
    higher_is_better: true"""
MEASURED = ("acc_per_token", "margin_per_token", "exact", "acc")
"""The figures of a task; the first two are ES and EM on the rewrite prompts, PS and PM on paraphrases, and so on."""


def lm_eval_tasks(material: Handed) -> Iterator[ToolFile]:
    """Yield a task a kind of prompt for lm-evaluation-harness, and a group of all of them called `cfbuild`."""
    found = _by_kind(material.records, _as_it_is)
    yield _tool("lm_eval_task.py.txt", "cfbuild_lm_eval.py")
    metrics = "\n".join(METRIC.format(name=name) for name in MEASURED)
    for kind, lines in found.items():
        yield ToolFile(f"cfbuild_{kind}.yaml", TASK.format(kind=kind, metrics=metrics).encode())
        yield _lines(f"data/{kind}.jsonl", lines)
    members = "".join(f"  - cfbuild_{kind}\n" for kind in found)
    yield ToolFile("cfbuild.yaml", f"group: cfbuild\ntask:\n{members}metadata:\n  version: 1.0\n".encode())


def inspect_task(material: Handed) -> Iterator[ToolFile]:
    """Yield a task file for Inspect, and a file of prompts a kind, with all names of each choice."""

    def named(record: Record, row: Row) -> Row:
        targets = {target.label: target for _, _, *both in prompts_of(record) for target in both}
        labels = map(str.strip, row["choices"])
        beside = {label: material.known.other_names(target) for label, target in targets.items()}
        names = [[label, *beside.get(label, ())] for label in labels]
        return {**row, "names": names}

    yield _tool("inspect_task.py.txt", "cfbuild_task.py")
    for kind, lines in _by_kind(material.records, named).items():
        yield _lines(f"data/{kind}.jsonl", lines)


def memit_folder(material: Handed) -> Iterator[ToolFile]:
    """Yield the data folder of ROME's and MEMIT's code: records, attribute snippets, and its TF-IDF statistics.

    Their evaluation of texts stops at a record for whose (r, o*) there is no snippet: such records are left out, unless
    there are no snippets at all (then it has to skip generation). `multi_counterfact.json` has no two records that ask
    for different objects of one subject and relation.
    """
    texts: dict[tuple[str, str], list[Row]] = {}
    for reference in material.references:
        found = texts.setdefault((reference.relation, reference.object), [])
        found.append({"name": reference.name, "text": reference.text})
    usable = [one for one in material.records if not texts or (one.relation, one.target_new.id) in texts]
    yield _array("counterfact.json", map(counterfact, usable))
    yield _array("multi_counterfact.json", map(counterfact, free_of_conflicts(usable)))
    snippets = (
        {"relation_id": relation, "target_id": target, "samples": samples}
        for (relation, target), samples in texts.items()
    )
    yield _array("attribute_snippets.json", snippets)
    if texts:
        yield from _statistics([row["text"] for rows in texts.values() for row in rows])


def _statistics(texts: list[str]) -> Iterator[ToolFile]:
    import io

    import numpy as np

    from cfbuild.score.texts import tfidf_statistics

    vocabulary, idf = tfidf_statistics(texts)
    stream = io.BytesIO()
    np.save(stream, idf)
    yield ToolFile("idf.npy", stream.getvalue())
    yield ToolFile("tfidf_vocab.json", json.dumps(vocabulary, ensure_ascii=False, sort_keys=True).encode())


def tracing_files(material: Handed) -> Iterator[ToolFile]:
    """Yield the flat rows of counterfact-tracing, and pairs of prompts that have as many tokens."""
    records = list(material.records)
    yield _lines("tracing.jsonl", map(dump_row, map(flat_row, records)))
    if material.length is not None:
        pairs = SubjectPairs.of_records(records)
        found = chain.from_iterable(_pairs(one, pairs, material.length) for one in records)
        yield _lines("pairs.jsonl", map(dump_row, found))


def flat_row(record: Record) -> Row:
    """Return a record as a row of counterfact-tracing; targets, and a subject inside a text, begin with a space."""
    before, after = record.prompt.text.split(SLOT)
    space = before[len(before.rstrip()) :]
    return {
        "relation": record.prompt.text,
        "relation_prefix": before.rstrip(),
        "relation_suffix": after,
        "prompt": record.rewrite,
        "relation_id": record.relation,
        "target_false_id": record.target_new.id,
        "target_true_id": record.target_true.id,
        "target_true": continued("", record.target_true.label),
        "target_false": continued("", record.target_new.label),
        "subject": f"{space}{record.subject.label}",
    }


def _pairs(record: Record, known: SubjectPairs, length: Callable[[str], int]) -> Iterator[Row]:
    """Yield the first other subject with which the record's prompt has as many tokens, in the seed's order."""
    tokens = length(record.rewrite)
    for subject, value in known.others(record):
        corrupted = record.prompt.fill(subject)
        if length(corrupted) == tokens:
            yield {
                "relation_id": record.relation,
                "prompt": record.rewrite,
                "corrupted_prompt": corrupted,
                "subject": record.subject.label,
                "corrupted_subject": subject,
                "answer": continued("", record.target_true.label),
                "corrupted_answer": continued("", value),
                "tokens": tokens,
            }
            return


def chat_files(material: Handed) -> Iterator[ToolFile]:
    """Yield conversations for fine-tuning: `train.jsonl` has the edits, the other files what should hold after it."""
    for kind, lines in _by_kind(material.records, _conversation).items():
        yield _lines("train.jsonl" if kind == "rewrite" else f"{kind}.jsonl", lines)


def _conversation(record: Record, row: Row) -> Row:
    said = row["choices"][row["answer"]].strip()
    return {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": said}]}


def uniedit_folder(material: Handed) -> Iterator[ToolFile]:
    """Yield the one file of UniEdit's folder: an object of rows by case id."""
    rows = {str(record.case_id): uniedit(record, material.known) for record in material.records}
    text = ",\n".join(f"{json.dumps(key)}: {dump_row(row)}" for key, row in rows.items())
    yield ToolFile("cfbuild.json", ("{\n" + text + "\n}\n").encode(), len(rows))


BUNDLES: Mapping[str, Callable[[Handed], Iterator[ToolFile]]] = MappingProxyType(
    {
        "lm-eval": lm_eval_tasks,
        "inspect": inspect_task,
        "memit": memit_folder,
        "uniedit": uniedit_folder,
        "tracing": tracing_files,
        "chat": chat_files,
    }
)
"""The formats of several files, by the name that `cfbuild export --format` takes."""
