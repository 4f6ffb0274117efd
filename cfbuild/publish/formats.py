"""Records as other projects' rows: a function for each format, in the table EXPORTERS; schemas are in `schemas/`.

Prompts are statements that end before the object; formats with questions get these statements, unchanged.
Readers of zsRE files differ: MEND and EasyEdit edit towards `alt`, ROME's reader towards `answers[0]`. We write MEND's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cfbuild.data import Record, Target
from cfbuild.publish.export_input import NO_NAMES, OtherNames
from cfbuild.publish.ripple import rippleedits
from cfbuild.store.codec import encode_record
from cfbuild.store.jsonl import Row

LOC_MARK = "nq question: "
"""The start of `loc` that readers of zsRE files assert."""


def counterfact(record: Record, known: OtherNames = NO_NAMES) -> Row:
    """Return a row of CounterFact's file (Meng et al. 2022): the record without `meta`.

    A missing `pararel_idx` becomes the case id, since readers expect a number.
    """
    row = encode_record(record)
    del row["meta"]
    return row if record.pararel_idx is not None else {**row, "pararel_idx": record.case_id}


def easyedit(record: Record, known: OtherNames = NO_NAMES) -> Row:
    """Return a row of EasyEdit's counterfact-edit file: a single paraphrase and neighborhood prompt, or null."""
    neighbor = record.neighborhood[0].text if record.neighborhood else None
    return {
        "case_id": record.case_id,
        "prompt": record.rewrite,
        "subject": record.subject.label,
        "target_new": record.target_new.label,
        "ground_truth": record.target_true.label,
        "rephrase_prompt": record.paraphrases[0].clean if record.paraphrases else None,
        "locality_prompt": neighbor,
        "locality_ground_truth": record.target_true.label if neighbor is not None else None,
    }


def knowedit(record: Record, known: OtherNames = NO_NAMES) -> Row:
    """Return a row of KnowEdit's wiki_counterfact file (2024): neighbors as locality, the rest as portability.

    The lists Subject_Aliasing and Reasoning, which EasyEdit reads, are there if the record has such prompts.
    """
    new, true = [[record.target_new.label]], [[record.target_true.label]]
    portability = {
        "Subject_Aliasing": _prompts(record, "target_new", "subject_aliases"),
        "Reasoning": _prompts(record, "target_new", "two_hop", "inverse"),
        "Logical_Generalization": [{"prompt": prompt.clean, "ground_truth": new} for prompt in record.paraphrases],
    }
    return {
        "subject": record.subject.label,
        "prompt": record.rewrite,
        "target_new": record.target_new.label,
        "ground_truth": record.target_true.label,
        "rephrase": record.paraphrases[0].clean if record.paraphrases else None,
        "portability": {name: rows for name, rows in portability.items() if rows or name == "Logical_Generalization"},
        "locality": {
            "Relation_Specificity": [
                *({"prompt": prompt.text, "ground_truth": true} for prompt in record.neighborhood),
                *_prompts(record, "target_true", "relation_specificity", "siblings"),
            ],
            "Forgetfulness": _prompts(record, "target_true", "forgetting"),
        },
    }


def _prompts(record: Record, answer: str, *groups: str) -> list[Row]:
    prompts = (prompt for group in groups for prompt in record.groups.get(group, ()))
    return [{"prompt": prompt.text, "ground_truth": [[getattr(prompt, answer).label]]} for prompt in prompts]


def wikibigedit(record: Record, known: OtherNames = NO_NAMES) -> Row:
    """Return a row of WikiBigEdit's file (Thede et al. 2025) as EasyEdit reads it: an alias is a persona."""
    alias, hop = (next(iter(record.groups.get(name, ())), None) for name in ("subject_aliases", "two_hop"))
    neighbor = record.neighborhood[0].text if record.neighborhood else None
    return {
        "tag": record.relation,
        "subject": record.subject.label,
        "update": record.rewrite,
        "ans": record.target_new.label,
        "ground_truth": record.target_true.label,
        "rephrase": record.paraphrases[0].clean if record.paraphrases else record.rewrite,
        "personas": alias.text if alias else None,
        "mhop": hop.text if hop else None,
        "mhop_ans": hop.target_new.label if hop else None,
        "loc": neighbor,
        "loc_ans": record.target_true.label if neighbor is not None else None,
    }


def zsre(record: Record, known: OtherNames = NO_NAMES) -> Row:
    """Return a row of MEND's zsRE file (Mitchell et al. 2022): `alt` is o*, `answers` hold the true object."""
    neighbor = record.neighborhood[0].text if record.neighborhood else record.rewrite
    return {
        "subject": record.subject.label,
        "src": record.rewrite,
        "pred": record.target_true.label,
        "rephrase": record.paraphrases[0].clean if record.paraphrases else record.rewrite,
        "alt": record.target_new.label,
        "answers": [record.target_true.label],
        "loc": LOC_MARK + neighbor,
        "loc_ans": record.target_true.label,
        "cond": f"{record.target_true.label} >> {record.target_new.label} || {record.rewrite}",
    }


def mquake(record: Record, known: OtherNames = NO_NAMES) -> Row:
    """Return a row in the manner of MQuAKE-CF (Zhong et al. 2023), with the one hop that a record has."""
    subject, relation = record.subject, record.relation
    true, new = record.target_true, record.target_new
    clozes = [record.rewrite, *(prompt.clean for prompt in record.paraphrases)]
    return {
        "case_id": record.case_id,
        "requested_rewrite": [
            {
                "prompt": record.prompt.text,
                "relation_id": relation,
                "target_new": {"str": new.label, "id": new.id},
                "target_true": {"str": true.label, "id": true.id},
                "subject": subject.label,
                "question": record.rewrite,
            }
        ],
        "questions": clozes,
        "answer": true.label,
        "answer_alias": known.other_names(true),
        "new_answer": new.label,
        "new_answer_alias": known.other_names(new),
        "single_hops": [_hop(record, true, known)],
        "new_single_hops": [_hop(record, new, known)],
        "orig": {
            "triples": [[subject.id, relation, true.id]],
            "triples_labeled": [[subject.label, relation, true.label]],
            "new_triples": [[subject.id, relation, new.id]],
            "new_triples_labeled": [[subject.label, relation, new.label]],
            "edit_triples": [[subject.id, relation, new.id]],
        },
    }


def _hop(record: Record, answer: Target, known: OtherNames) -> Row:
    others = known.other_names(answer)
    return {"question": record.rewrite, "cloze": record.rewrite, "answer": answer.label, "answer_alias": others}


def bmike(records: Mapping[str, Record]) -> Row:
    """Return a row in the manner of BMIKE-53 (Nie et al. 2025): a case's records by language, each like MEND's zsRE.

    `loc` has no mark, and `portability` has a two-hop question, or null.
    """
    return {code: _in_language(record) for code, record in records.items()}


def _in_language(record: Record) -> Row:
    hop = next(iter(record.groups.get("two_hop", ())), None)
    question = None if hop is None else {"New Question": hop.text, "New Answer": hop.target_new.label}
    row = zsre(record)
    return {"case_id": record.case_id, **row, "loc": row["loc"].removeprefix(LOC_MARK), "portability": question}


EXPORTERS: Mapping[str, Callable[[Record, OtherNames], Row | None]] = {
    "counterfact": counterfact,
    "easyedit": easyedit,
    "knowedit": knowedit,
    "zsre": zsre,
    "mquake": mquake,
    "wikibigedit": wikibigedit,
    "rippleedits": rippleedits,
}
"""The formats of a single JSON array, by the name that `cfbuild export --format` takes; None leaves the record out."""
ALIGNED_EXPORTERS: Mapping[str, Callable[[Mapping[str, Record]], Row]] = {"bmike": bmike}
"""The formats of records in several languages, whose rows are made of a case's records by language."""
