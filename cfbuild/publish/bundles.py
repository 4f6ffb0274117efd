"""Records as folders that a tool runs as they are: a function for each tool, in the table BUNDLES.

Files that do not depend on the records (code for the tool) are copied from `publish/tools/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from cfbuild.data import SLOT, Record
from cfbuild.publish.export_input import ExportInput
from cfbuild.publish.formats import counterfact
from cfbuild.publish.uniedit import uniedit
from cfbuild.records.multi import free_of_conflicts
from cfbuild.records.pairs import SubjectPairs
from cfbuild.records.prompts import choices_of, prompts_of, stays_true
from cfbuild.store.jsonl import Row, dump_row
from cfbuild.text.scripts import continued


@dataclass(frozen=True, slots=True)
class ToolFile:
    """A file of a folder: its path there, its content, and the number of records or prompts in it."""

    path: str
    content: bytes
    rows: int = 0


def questions(record: Record) -> Iterator[tuple[str, Row]]:
    """Yield (kind, question) of each scored prompt; the right answer is the one that an edit should bring.

    A question has its choices with the space before each, and the place of the right one among them.
    """
    about = {"case_id": record.case_id, "relation_id": record.relation, "language": record.language}
    for kind, text, new, true in prompts_of(record):
        choices, answer = choices_of(kind, new, true), (true if stays_true(kind) else new).label
        spaced = [continued("", choice) for choice in choices]
        yield kind, {**about, "kind": kind, "prompt": text, "choices": spaced, "answer": choices.index(answer)}


def _by_kind(records: Iterable[Record], shape: Callable[[Record, Row], Row]) -> dict[str, list[str]]:
    """Return the lines of each kind of prompt: its questions as the tool's rows, made by `shape`."""
    found: dict[str, list[str]] = {}
    for record in records:
        for kind, row in questions(record):
            found.setdefault(kind, []).append(dump_row(shape(record, row)))
    return found


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


def lm_eval_tasks(given: ExportInput) -> Iterator[ToolFile]:
    """Yield a task of lm-evaluation-harness for each kind of prompt, and a group of all of them called `cfbuild`."""
    found = _by_kind(given.records, lambda record, row: row)
    yield _tool("lm_eval_task.py.txt", "cfbuild_lm_eval.py")
    metrics = "\n".join(METRIC.format(name=name) for name in MEASURED)
    for kind, lines in found.items():
        yield ToolFile(f"cfbuild_{kind}.yaml", TASK.format(kind=kind, metrics=metrics).encode())
        yield _lines(f"data/{kind}.jsonl", lines)
    members = "".join(f"  - cfbuild_{kind}\n" for kind in found)
    yield ToolFile("cfbuild.yaml", f"group: cfbuild\ntask:\n{members}metadata:\n  version: 1.0\n".encode())


def inspect_task(given: ExportInput) -> Iterator[ToolFile]:
    """Yield the task of Inspect, and a file for each kind of prompt, with all names of each choice."""

    def named(record: Record, row: Row) -> Row:
        targets = {target.label: target for _, _, *both in prompts_of(record) for target in both}
        aliases = {label: given.known.other_names(target) for label, target in targets.items()}
        names = [[label, *aliases.get(label, ())] for label in map(str.strip, row["choices"])]
        return {**row, "names": names}

    yield _tool("inspect_task.py.txt", "cfbuild_task.py")
    for kind, lines in _by_kind(given.records, named).items():
        yield _lines(f"data/{kind}.jsonl", lines)


def memit_folder(given: ExportInput) -> Iterator[ToolFile]:
    """Yield the data folder of ROME's and MEMIT's code: records, attribute snippets, and their TF-IDF statistics.

    That code fails at a record without a snippet for its relation and o*. Such records are left out, unless there are
    no snippets at all (then it has to skip generation). `multi_counterfact.json` has no two records that ask for
    different objects of one subject and relation.
    """
    snippets: dict[tuple[str, str], list[Row]] = {}
    for reference in given.references:
        samples = snippets.setdefault((reference.relation, reference.object), [])
        samples.append({"name": reference.name, "text": reference.text})
    usable = [record for record in given.records if not snippets or (record.relation, record.target_new.id) in snippets]
    yield _array("counterfact.json", map(counterfact, usable))
    yield _array("multi_counterfact.json", map(counterfact, free_of_conflicts(usable)))
    rows = (
        {"relation_id": relation, "target_id": target, "samples": samples}
        for (relation, target), samples in snippets.items()
    )
    yield _array("attribute_snippets.json", rows)
    if snippets:
        yield from _statistics([sample["text"] for samples in snippets.values() for sample in samples])


def _statistics(texts: list[str]) -> Iterator[ToolFile]:
    import io

    import numpy as np

    from cfbuild.score.texts import tfidf_statistics

    vocabulary, idf = tfidf_statistics(texts)
    stream = io.BytesIO()
    np.save(stream, idf)
    yield ToolFile("idf.npy", stream.getvalue())
    yield ToolFile("tfidf_vocab.json", json.dumps(vocabulary, ensure_ascii=False, sort_keys=True).encode())


def tracing_files(given: ExportInput) -> Iterator[ToolFile]:
    """Yield the flat rows of counterfact-tracing, and pairs of prompts with the same number of tokens."""
    records = list(given.records)
    yield _lines("tracing.jsonl", map(dump_row, map(flat_row, records)))
    if given.length is not None:
        known = SubjectPairs.of_records(records)
        pairs = (pair for record in records if (pair := _pair(record, known, given.length)) is not None)
        yield _lines("pairs.jsonl", map(dump_row, pairs))


def flat_row(record: Record) -> Row:
    """Return a record as a row of counterfact-tracing; the targets, and a subject inside a text, begin with a space."""
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


def _pair(record: Record, known: SubjectPairs, length: Callable[[str], int]) -> Row | None:
    """Return the record's prompt and the same with the first other subject that gives it as many tokens, if any."""
    tokens = length(record.rewrite)
    for subject, value in known.others(record):
        corrupted = record.prompt.fill(subject)
        if length(corrupted) == tokens:
            return {
                "relation_id": record.relation,
                "prompt": record.rewrite,
                "corrupted_prompt": corrupted,
                "subject": record.subject.label,
                "corrupted_subject": subject,
                "answer": continued("", record.target_true.label),
                "corrupted_answer": continued("", value),
                "tokens": tokens,
            }
    return None


def chat_files(given: ExportInput) -> Iterator[ToolFile]:
    """Yield conversations for fine-tuning: the edits in `train.jsonl`, what should hold after it in the other files."""
    for kind, lines in _by_kind(given.records, _conversation).items():
        yield _lines("train.jsonl" if kind == "rewrite" else f"{kind}.jsonl", lines)


def _conversation(record: Record, row: Row) -> Row:
    answer = row["choices"][row["answer"]].strip()
    return {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": answer}]}


def uniedit_folder(given: ExportInput) -> Iterator[ToolFile]:
    """Yield the one file of UniEdit's folder: an object of rows by case id."""
    rows = {str(record.case_id): uniedit(record, given.known) for record in given.records}
    text = ",\n".join(f"{json.dumps(key)}: {dump_row(row)}" for key, row in rows.items())
    yield ToolFile("cfbuild.json", ("{\n" + text + "\n}\n").encode(), len(rows))


BUNDLES: Mapping[str, Callable[[ExportInput], Iterator[ToolFile]]] = {
    "lm-eval": lm_eval_tasks,
    "inspect": inspect_task,
    "memit": memit_folder,
    "uniedit": uniedit_folder,
    "tracing": tracing_files,
    "chat": chat_files,
}
"""The formats of several files, by the name that `cfbuild export --format` takes."""
