"""Rows of RippleEdits' files (Cohen et al. 2024): an edit with lists of test cases, by what they test.

Its reader fails at the name of a relation that its own table does not have, so records and prompts of other relations
are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cfbuild.data import GroupPrompt, Record, Target
from cfbuild.publish.export_input import NO_NAMES, OtherNames
from cfbuild.records.prompts import stays_true
from cfbuild.store.jsonl import Row
from cfbuild.text.scripts import stated

RELATION_NAMES: Mapping[str, str] = {
    "P6": "HEAD_OF_GOVERNMENT",
    "P7": "BROTHER",
    "P9": "SISTER",
    "P17": "COUNTRY",
    "P19": "PLACE_OF_BIRTH",
    "P20": "PLACE_OF_DEATH",
    "P21": "SEX_OR_GENDER",
    "P22": "FATHER",
    "P25": "MOTHER",
    "P26": "SPOUSE",
    "P27": "COUNTRY_OF_CITIZENSHIP",
    "P30": "CONTINENT",
    "P35": "HEAD_OF_STATE",
    "P36": "CAPITAL",
    "P37": "OFFICIAL_LANGUAGE",
    "P38": "CURRENCY",
    "P39": "POSITION_HELD",
    "P40": "CHILD",
    "P50": "AUTHOR",
    "P54": "MEMBER_OF_SPORTS_TEAM",
    "P57": "DIRECTOR",
    "P58": "SCREENWRITER",
    "P69": "ALMA_MATER",
    "P84": "ARCHITECT",
    "P85": "ANTHEM",
    "P86": "COMPOSER",
    "P98": "EDITOR",
    "P101": "FIELD_OF_WORK",
    "P103": "NATIVE_LANGUAGE",
    "P106": "OCCUPATION",
    "P108": "EMPLOYER",
    "P112": "FOUNDER",
    "P118": "LEAGUE",
    "P119": "PLACE_OF_BURIAL",
    "P140": "RELIGION",
    "P155": "FOLLOWS",
    "P156": "FOLLOWED_BY",
    "P161": "CAST_MEMBER",
    "P166": "AWARD_RECEIVED",
    "P172": "ETHNIC_GROUP",
    "P569": "DATE_OF_BIRTH",
    "P570": "DATE_OF_DEATH",
    "P1376": "CAPITAL_OF",
    "P3373": "SIBLING",
}
"""The relations that RippleEdits' reader knows, by Wikidata's id (`src/relation.py` of its repository)."""
LISTS = (
    "Relation_Specificity",
    "Logical_Generalization",
    "Subject_Aliasing",
    "Compositionality_I",
    "Compositionality_II",
    "Forgetfulness",
)
"""The lists of test cases that each row has, in its order."""
LIST_OF: Mapping[str, str] = {
    "subject_aliases": "Subject_Aliasing",
    "inverse": "Logical_Generalization",
    "two_hop": "Compositionality_I",
    "relation_specificity": "Relation_Specificity",
    "forgetting": "Forgetfulness",
}
"""The list of each group's prompts; RippleEdits has none for the other groups."""


def rippleedits(record: Record, known: OtherNames = NO_NAMES) -> Row | None:
    """Return a row of RippleEdits' files; None for a record whose relation its reader does not know."""
    if record.relation not in RELATION_NAMES:
        return None
    lists: dict[str, list[Row]] = {name: [] for name in LISTS}
    for group, name in LIST_OF.items():
        lists[name] += _cases(record, group, known)
    return {
        "example_type": "random",
        "edit": {**_fact(record, record.target_new), "previous_fact": _fact(record, record.target_true)},
        **lists,
    }


def _fact(record: Record, target: Target) -> Row:
    return {
        "prompt": stated(record.rewrite, target.label),
        "subject_id": record.subject.id,
        "relation": RELATION_NAMES[record.relation],
        "target_id": target.id,
    }


def _cases(record: Record, group: str, known: OtherNames) -> Iterator[Row]:
    for prompt in record.groups.get(group, ()):
        if prompt.relation in RELATION_NAMES:
            is_two_hop = group == "two_hop"
            answer = prompt.target_true if stays_true(group) else prompt.target_new
            query = _query(prompt.text, prompt.entity, prompt.relation, answer, known)
            yield {
                "test_queries": [_two_hop(record, prompt, known) if is_two_hop else query],
                "test_condition": "OR",
                "condition_queries": _conditions(record, prompt, known) if is_two_hop else [],
            }


def _query(phrase: str, subject: str, relation: str, answer: Target, known: OtherNames) -> Row:
    return {
        "prompt": phrase,
        "answers": [{"value": answer.label, "aliases": known.other_names(answer)}],
        "query_type": "regular",
        "subject_id": subject,
        "relation": RELATION_NAMES[relation],
        "target_ids": [answer.id],
        "phrase": phrase,
    }


def _two_hop(record: Record, prompt: GroupPrompt, known: OtherNames) -> Row:
    """Return the query of a two-hop prompt, whose first hop is the edit."""
    return {
        **_query(prompt.text, record.subject.id, prompt.relation, prompt.target_new, known),
        "query_type": "two_hop",
        "relation": RELATION_NAMES[record.relation],
        "target_ids": [record.target_new.id],
        "second_relation": RELATION_NAMES[prompt.relation],
        "second_hop_target_ids": [prompt.target_new.id],
    }


def _conditions(record: Record, prompt: GroupPrompt, known: OtherNames) -> list[Row]:
    """Return the query of the second hop, which the model must know already; none if its template is not known."""
    text = known.prompt(prompt.template, record.target_new.label)
    return [_query(text, record.target_new.id, prompt.relation, prompt.target_new, known)] if text else []
