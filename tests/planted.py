"""Records with a known fault: a clean row, and for each kind of fault a function that plants it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from small_world import item

from cfbuild.build import Builder, BuildOptions, cases
from cfbuild.codec import encode_record
from cfbuild.data import Entity, Fact, Template
from cfbuild.filter.rules import RuleContext, judge_fact, judge_target
from cfbuild.graph import FactGraph
from cfbuild.templates.prefixes import distractor_prefixes

Row = dict[str, Any]
TEXTS = ("{} lives in", "The home of {} is in", "{}, who resides in", "{} has a house in", "The house of {} stands in")
STARTS = ("Every morning, {}", "The neighbors of {}", "From the window, {} sees")
CITIES = ("Oslo", "Lima", "Cairo", "Quito", "Hanoi", "Accra", "Sofia")
FIRST = ("Ann", "Bob", "Cid", "Dora", "Eve", "Finn", "Gus", "Hans", "Ida", "Jon", "Kai", "Lou", "Max", "Nell", "Otto")
LAST = ("Abel", "Berg", "Cole", "Dahl", "Ek", "Frey", "Gray", "Holm", "Iversen", "Jung", "Kern", "Lund", "Moss", "Nye")
RELATION = "P551"
CITY, STATE, PERSON = 515, 7275, 5
WIDE, NOISY, FORMER, STOLEN = 90, 91, 92, 93
"""A country around the first city, a noisily named city, a city where somebody lived, and another country."""


def people() -> Iterator[str]:
    """As many names as there are pairs, with letters that occur in real ones."""
    for number, first in enumerate(FIRST):
        for last in LAST:
            for middle in ("", "de la ", "Ó ", "J. R. ", "van der ", "M. "):
                yield f"{first} {middle}{last}" if (number + len(last)) % 2 else f"{first}-Lee {middle}{last}"


def clean_world() -> tuple[FactGraph, list[Template]]:
    entities = [
        Entity(f"Q{11 + n}", {"en": name}, {"en": (f"{name} City",)}, {"P31": (f"Q{CITY}",)})
        for n, name in enumerate(CITIES)
    ]
    entities += [item(CITY, "city"), item(STATE, "sovereign state"), item(PERSON, "human")]
    entities += [
        Entity(f"Q{one}", {"en": name}, {}, {"P31": (f"Q{STATE}",)})
        for one, name in ((WIDE, "Norway"), (STOLEN, "Chad"))
    ]
    entities += [replace(item(NOISY, "Bergen (city)")), item(FORMER, "Turin")]
    facts = [Fact("P17", "Q11", f"Q{WIDE}"), Fact("P17", "Q12", f"Q{STOLEN}")]
    for number, name in enumerate(people()):
        subject = f"Q{1000 + number}"
        entities.append(Entity(subject, {"en": name}, {}, {"P31": (f"Q{PERSON}",)}))
        facts.append(Fact(RELATION, subject, f"Q{11 + number % len(CITIES)}"))
        facts.append(Fact(RELATION, subject, f"Q{FORMER}", rank="normal", end="1999"))
    prompts = [Template(RELATION, "rewrite", text, "test") for text in TEXTS]
    return FactGraph(facts, entities), prompts + [Template(RELATION, "generation", text, "test") for text in STARTS]


def clean_rows(graph: FactGraph, prompts: list[Template], count: int) -> list[Row]:
    builder = Builder(graph, prompts, BuildOptions(), lambda relation: distractor_prefixes())
    context = RuleContext(graph, {RELATION: TEXTS})
    rows = []
    for case_id, fact in cases(graph):
        if fact.relation == RELATION and judge_fact(fact, context).kept:
            draft = builder.draft(
                case_id, fact, lambda one, target: None if judge_target(one, target, context).kept else "x"
            )
            rows.append(encode_record(builder.record(draft, draft.draws[0])))
        if len(rows) == count:
            break
    return rows


def plain(row: Row) -> Row:
    """The row as CounterFact would have it: without `meta`, the prefixes only in the texts."""
    row = {**row, "pararel_idx": 1}
    del row["meta"]
    return row


def _rewrite(key: str, value: object) -> Callable[[Row], None]:
    def plant(row: Row) -> None:
        row["requested_rewrite"][key] = value

    return plant


def _target(key: str, **parts: str) -> Callable[[Row], None]:
    return lambda row: row["requested_rewrite"][key].update(parts)


def _prefix(text: str) -> Callable[[Row], None]:
    def plant(row: Row) -> None:
        old, subject = row["paraphrase_prompts"][0], row["requested_rewrite"]["subject"]
        text_ = text.replace("SUBJECT", subject).replace("TRUE", row["requested_rewrite"]["target_true"]["str"])
        clean = row["meta"]["paraphrases"][0]["clean"] if "meta" in row else old[old.index(". ") + 2 :]
        row["paraphrase_prompts"][0] = f"{text_} {clean}"
        if "meta" in row:
            row["meta"]["paraphrases"][0]["prefix"] = text_

    return plant


def _lacks_subject(row: Row) -> None:
    row["paraphrase_prompts"][1] = "No one on the ground was injured.  v"


def _lacks_subject_in_generation(row: Row) -> None:
    row["generation_prompts"][1] = "The neighbors of somebody else"


def _duplicate(row: Row) -> None:
    row["neighborhood_prompts"][4] = row["neighborhood_prompts"][2]


def _repeat_generation(row: Row) -> None:
    row["generation_prompts"].append(row["generation_prompts"][0])


def _own(row: Row) -> None:
    row["neighborhood_prompts"][0] = row["paraphrase_prompts"][0]


def _repeat_entity(group: str) -> Callable[[Row], None]:
    def plant(row: Row) -> None:
        prompts = row[f"{group}_prompts"]
        template = next(text for text in TEXTS if _name(prompts[3], text))
        name = _name(prompts[3], template)
        other = next(text for text in TEXTS if text != template)
        prompts[7] = other.replace("{}", name)
        if "meta" in row:
            row["meta"][group][7] = dict(row["meta"][group][3])

    return plant


def _name(prompt: str, template: str) -> str:
    head, tail = template.split("{}")
    fits = prompt.startswith(head) and prompt.endswith(tail)
    return prompt[len(head) : len(prompt) - len(tail)] if fits else ""


def _article(row: Row) -> None:
    row["requested_rewrite"]["prompt"] = "{} is a"
    row["requested_rewrite"]["target_true"].update(str="actor")
    row["requested_rewrite"]["target_new"].update(str="poet")


def _broken(row: Row) -> None:
    row["requested_rewrite"]["prompt"] = "{} 's home is the the"


def _subject(text: str) -> Callable[[Row], None]:
    """Rename the subject in the row's every text."""

    def plant(row: Row) -> None:
        request = row["requested_rewrite"]
        old, new = (
            request["subject"],
            text.replace("TRUE", request["target_true"]["str"]).replace("NEW", request["target_new"]["str"]),
        )
        request["subject"] = new
        for group in ("paraphrase_prompts", "generation_prompts"):
            row[group] = [prompt.replace(old, new) for prompt in row[group]]
        for one in row.get("meta", {}).get("paraphrases", ()):
            one["clean"] = one["clean"].replace(old, new)

    return plant


def _neighbor_named(row: Row) -> None:
    name = f"Bank of {row['requested_rewrite']['target_true']['str']}"
    row["neighborhood_prompts"][0] = f"{name} lives in"
    row.get("meta", {}).get("neighborhood", [{}])[0].clear()
    if "meta" in row:
        row["meta"]["neighborhood"][0] = {"entity": "Q999999", "template": ""}


def _second_edit(row: Row) -> None:
    """Taken by the caller: the row is put beside its clean self."""
    row["requested_rewrite"]["target_new"] = {"str": "Perth", "id": "Q8"}
    row["case_id"] += 1_000_000


FAULTS: list[tuple[str, Callable[[Row], None]]] = [
    ("lacks-subject", _lacks_subject),
    ("lacks-subject", _lacks_subject_in_generation),
    ("lacks-subject", _rewrite("prompt", "Somebody lives in")),
    ("prefix-fragment", _prefix("and the old Riley house.")),
    ("prefix-fragment", _prefix("Houston, Tex: Anson Jones Press.")),
    ("prefix-fragment", _prefix("Indeed!")),
    ("prefix-mention", _prefix("Nobody had ever heard of SUBJECT.")),
    ("prefix-mention", _prefix("The train to TRUE was late.")),
    ("duplicate-prompt", _duplicate),
    ("repeated-generation", _repeat_generation),
    ("repeated-entity", _repeat_entity("neighborhood")),
    ("repeated-entity", _repeat_entity("attribute")),
    ("own-prompt", _own),
    ("label-noise", _target("target_new", str="Lima (city)")),
    ("label-noise", _target("target_true", str="<i>Oslo</i>")),
    ("label-noise", _target("target_new", str="Li\u00adma")),
    ("qid-label", _target("target_new", str="Q42")),
    ("object-in-subject", _subject("Bank of TRUE")),
    ("target-in-subject", _subject("Bank of NEW")),
    ("object-in-neighbor", _neighbor_named),
    ("article", _article),
    ("template-grammar", _broken),
    ("symmetric-relation", _rewrite("relation_id", "P47")),
]
"""What can be told from the row alone."""


def _same(row: Row) -> None:
    row["requested_rewrite"]["target_new"] = dict(row["requested_rewrite"]["target_true"])


def _neighbor_of_other(row: Row) -> None:
    row["meta"]["neighborhood"][2] = row["meta"]["attribute"][2]


def _attribute_of_other(row: Row) -> None:
    row["meta"]["attribute"][2] = row["meta"]["neighborhood"][2]


AGAINST_FACTS: list[tuple[str, Callable[[Row], None]]] = [
    ("same-targets", _same),
    ("target-true", _target("target_new", str="Turin", id=f"Q{FORMER}")),
    ("target-kind", _target("target_new", str="Peru", id=f"Q{WIDE}")),
    ("target-noise", _target("target_new", str="Bergen (city)", id=f"Q{NOISY}")),
    ("ended-fact", _target("target_true", str="Turin", id=f"Q{FORMER}")),
    ("neighbor-has-target", _neighbor_of_other),
    ("neighbor-lacks-object", _neighbor_of_other),
    ("neighbor-lacks-object", _attribute_of_other),
]
"""What takes the build's facts to tell."""


def planted(row: Row, plant: Callable[[Row], None]) -> Row:
    row = copy.deepcopy(row)
    plant(row)
    return row
