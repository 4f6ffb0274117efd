"""Records with a known fault: a clean row, and for each kind of fault a function that plants it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from small_world import cases, item, rewrites

from cfbuild.audit.validate import RowTally, _examine
from cfbuild.data import Entity, Fact, Template
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.rules import RuleContext, judge_fact, judge_target
from cfbuild.records.builder import Builder
from cfbuild.records.draft import BuildOptions
from cfbuild.store.codec import encode_record
from cfbuild.store.schema.faults import Fault, Located
from cfbuild.templates.sentences import distractor_prefixes

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
TWINS, LONGER = (94, 95), 96
"""Two cities of one name, and one whose name ends in the first city's."""
OSLO, LIMA = 11, 12
BORN = "P19"
"""A relation whose prompts speak of persons."""
PART = "P527"
"""A relation of which never all objects are told."""
KNOWN = 20
"""Sitelinks of everybody in the clean world."""
FAULTY = {
    "deprecated-fact": 5001,
    "outranked-fact": 5002,
    "several-objects": 5003,
    "ambiguous-subject": 5004,
    "ambiguous-object": 5006,
    "object-kind": 5007,
    "subject-kind": 5008,
    "same-name": 5009,
    "target-same-name": 5010,
    "target-in-true": 5011,
    "missing-label": 5012,
    "popularity": 5013,
    "open-relation": 5014,
    "future-fact": 5015,
}
"""Subjects of which something is wrong, by the rule that says so."""


def faults_of(row: Any) -> list[Fault]:
    """Return what validation finds in a row, as the only one of a file."""
    ((_, faults),) = _examine(Path("row.jsonl"), [Located(1, row)], RowTally())
    return faults


def faulty_facts() -> Iterator[Fact]:
    """Yield the facts of the faulty subjects: mostly that they live in the first city."""
    ids = {rule: f"Q{number}" for rule, number in FAULTY.items()}
    first, second = f"Q{OSLO}", f"Q{LIMA}"
    yield Fact(RELATION, ids["deprecated-fact"], first, rank="deprecated")
    yield Fact(RELATION, ids["future-fact"], first, rank="normal", start="2999-01-20")
    yield Fact(RELATION, ids["outranked-fact"], first, rank="normal")
    yield Fact(RELATION, ids["outranked-fact"], second, rank="preferred")
    yield Fact(RELATION, ids["several-objects"], second)
    yield Fact(RELATION, ids["ambiguous-object"], f"Q{TWINS[0]}")
    yield Fact(RELATION, "Q5020", f"Q{TWINS[1]}")
    yield Fact(RELATION, ids["object-kind"], f"Q{STOLEN}")
    yield Fact(BORN, ids["subject-kind"], first)
    yield Fact(PART, ids["open-relation"], first)
    apart = {"deprecated-fact", "outranked-fact", "ambiguous-object", "object-kind", "subject-kind", "open-relation"}
    apart.add("future-fact")
    yield from (Fact(RELATION, one, first) for rule, one in ids.items() if rule not in apart)


def faulty_entities() -> Iterator[Entity]:
    person, city = {"P31": (f"Q{PERSON}",)}, {"P31": (f"Q{CITY}",)}
    aliases = {"same-name": "Oslo City", "target-same-name": "Lima City"}
    for rule, number in FAULTY.items():
        classes = city if rule == "subject-kind" else person
        names = {"en": (aliases[rule],)} if rule in aliases else {}
        labels = {} if rule == "missing-label" else {"en": _faulty_name(rule)}
        yield Entity(f"Q{number}", labels, names, classes, 1 if rule == "popularity" else KNOWN)
    yield Entity("Q5005", {"en": _faulty_name("ambiguous-subject").upper()}, {}, person, KNOWN)
    yield Entity("Q5020", {"en": "Zed Other"}, {}, person, KNOWN)
    yield from (Entity(f"Q{one}", {"en": "Springfield"}, {}, city) for one in TWINS)
    yield Entity(f"Q{LONGER}", {"en": "New Oslo"}, {}, city)


def _faulty_name(rule: str) -> str:
    return "Zed " + rule.replace("-", " ").title().replace(" ", "")


def people() -> Iterator[str]:
    """Yield as many names as there are pairs, with letters that occur in real ones."""
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
    countries = ((WIDE, "Norway"), (STOLEN, "Chad"))
    entities += [Entity(f"Q{number}", {"en": name}, {}, {"P31": (f"Q{STATE}",)}) for number, name in countries]
    entities += [replace(item(NOISY, "Bergen (city)")), item(FORMER, "Turin")]
    facts = [Fact("P17", "Q11", f"Q{WIDE}"), Fact("P17", "Q12", f"Q{STOLEN}")]
    for number, name in enumerate(people()):
        subject = f"Q{1000 + number}"
        entities.append(Entity(subject, {"en": name}, {}, {"P31": (f"Q{PERSON}",)}, KNOWN))
        facts.append(Fact(RELATION, subject, f"Q{11 + number % len(CITIES)}"))
        facts.append(Fact(RELATION, subject, f"Q{FORMER}", rank="normal", end="1999"))
    entities += faulty_entities()
    facts += faulty_facts()
    prompts = [Template(RELATION, "rewrite", text, "test") for text in TEXTS]
    return FactGraph(facts, entities), prompts + [Template(RELATION, "generation", text, "test") for text in STARTS]


def clean_rows(graph: FactGraph, prompts: list[Template], count: int) -> list[Row]:
    builder = Builder(graph, prompts, BuildOptions(), lambda relation: distractor_prefixes())
    context = RuleContext(graph, {RELATION: rewrites(RELATION, TEXTS)})
    rows = []
    for case_id, fact in cases(graph):
        if fact.relation == RELATION and judge_fact(fact, context).kept:

            def refusal(judged: Fact, target: str) -> str | None:
                return None if judge_target(judged, target, context).kept else "x"

            draft = builder.draft(case_id, fact, refusal)
            rows.append(encode_record(builder.record(draft, draft.draws[0])))
        if len(rows) == count:
            break
    return rows


def plain(row: Row) -> Row:
    """Return the row as CounterFact would have it: without `meta`, the prefixes only in the texts."""
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
        sentence = text.replace("SUBJECT", subject).replace("TRUE", row["requested_rewrite"]["target_true"]["str"])
        clean = row["meta"]["paraphrases"][0]["clean"] if "meta" in row else old[old.index(". ") + 2 :]
        row["paraphrase_prompts"][0] = f"{sentence} {clean}"
        if "meta" in row:
            row["meta"]["paraphrases"][0]["prefix"] = sentence

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


def _edge_space(row: Row) -> None:
    row["attribute_prompts"][5] += " "


def _same_name(row: Row) -> None:
    request = row["requested_rewrite"]
    request["target_new"]["str"] = request["target_true"]["str"].lower()


def _repeat_entity(group: str) -> Callable[[Row], None]:
    def plant(row: Row) -> None:
        prompts = row[f"{group}_prompts"]
        template = next(text for text in TEXTS if _name(prompts[3], text))
        name = _name(prompts[3], template)
        second = next(text for text in TEXTS if text != template)
        prompts[7] = second.replace("{}", name)
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
        old, targets = request["subject"], (request["target_true"]["str"], request["target_new"]["str"])
        new = text.replace("TRUE", targets[0]).replace("NEW", targets[1])
        request["subject"] = new
        for group in ("paraphrase_prompts", "generation_prompts"):
            row[group] = [prompt.replace(old, new) for prompt in row[group]]
        for paraphrase in row.get("meta", {}).get("paraphrases", ()):
            paraphrase["clean"] = paraphrase["clean"].replace(old, new)

    return plant


def _neighbor_named(row: Row) -> None:
    name = f"Bank of {row['requested_rewrite']['target_true']['str']}"
    row["neighborhood_prompts"][0] = f"{name} lives in"
    row.get("meta", {}).get("neighborhood", [{}])[0].clear()
    if "meta" in row:
        row["meta"]["neighborhood"][0] = {"entity": "Q999999", "template": ""}


def _grouped(change: Callable[[list[Row]], None]) -> Callable[[Row], None]:
    """Break the prompts of a group beyond CounterFact's."""

    def plant(row: Row) -> None:
        request = row["requested_rewrite"]
        answers = {key: dict(request[key]) for key in ("target_new", "target_true")}
        texts = [f"{name} has a house in" for name in ("Zed One", "Zed Two")]
        about = {"entity": "Q5020", "relation_id": RELATION, "template": "t"}
        prompts = [{"prompt": text, **answers, **about} for text in texts]
        change(prompts)
        row["meta"]["groups"] = {"subject_aliases": prompts}

    return plant


def _twice(prompts: list[Row]) -> None:
    prompts[1] = prompts[0]


def _given_away(prompts: list[Row]) -> None:
    prompts[0]["prompt"] = f"The man from {prompts[0]['target_true']['str']} lives in"


def _noisy_answer(prompts: list[Row]) -> None:
    prompts[1]["target_new"]["str"] = "Lima (city)"


def _same_answers(prompts: list[Row]) -> None:
    prompts[1]["target_new"]["str"] = prompts[1]["target_true"]["str"].upper()


def _spaced(prompts: list[Row]) -> None:
    prompts[0]["prompt"] += " "


def _wrong_answer(row: Row) -> None:
    """Ask whether the subject has o*, and have No follow from the edit."""
    request = row["requested_rewrite"]
    new = request["target_new"]
    prompt = f"Is it right that {request['subject']} lives in {new['str']}? Answer:"
    answers = {key: {"str": text, "id": new["id"]} for key, text in (("target_new", "No"), ("target_true", "Yes"))}
    about = {"entity": "Q5020", "relation_id": RELATION, "template": "t"}
    row["meta"]["groups"] = {"yes_no": [{"prompt": prompt, **answers, **about}]}


def _second_edit(row: Row) -> None:
    """Give the row, a copy that stays beside its original, another o* and number."""
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
    ("slot", _rewrite("prompt", "{} and {} live in")),
    ("slot", _rewrite("prompt", "Somebody lives in")),
    ("edge-space", _rewrite("prompt", "{} lives in ")),
    ("edge-space", _target("target_new", str=" Lima")),
    ("edge-space", _edge_space),
    ("same-targets", _same_name),
    ("label-noise", _target("target_new", str="Lima (city)")),
    ("label-noise", _target("target_true", str="<i>Oslo</i>")),
    ("label-noise", _subject("Web of Life (TV series)")),
    ("label-noise", _subject("Generator (Bad Religion album)")),
    ("qid-label", _target("target_new", str="fr")),
    ("label-noise", _target("target_new", str="Li\u00adma")),
    ("qid-label", _target("target_new", str="Q42")),
    ("object-in-subject", _subject("Bank of TRUE")),
    ("target-in-subject", _subject("Bank of NEW")),
    ("object-in-neighbor", _neighbor_named),
    ("article", _article),
    ("template-grammar", _broken),
    ("symmetric-relation", _rewrite("relation_id", "P47")),
]
"""Faults that the row alone shows."""
IN_META: list[tuple[str, Callable[[Row], None]]] = [
    ("meta-length", lambda row: row["meta"]["attribute"].pop()),
    ("meta-paraphrase", lambda row: row["meta"]["paraphrases"][1].update(prefix="Nobody came.")),
    ("lacks-subject", lambda row: row["meta"]["paraphrases"][1].update(clean="Somebody lives in")),
    ("own-entity", lambda row: row["meta"]["neighborhood"][3].update(entity=row["meta"]["subject_id"])),
    ("shared-entity", lambda row: row["meta"]["attribute"][2].update(entity=row["meta"]["neighborhood"][0]["entity"])),
]
"""Faults that a row with cfbuild's `meta` shows."""
IN_GROUPS: list[tuple[str, Callable[[Row], None]]] = [
    ("duplicate-prompt", _grouped(_twice)),
    ("answer-in-prompt", _grouped(_given_away)),
    ("label-noise", _grouped(_noisy_answer)),
    ("same-targets", _grouped(_same_answers)),
    ("edge-space", _grouped(_spaced)),
    ("wrong-answer", _wrong_answer),
]
"""The same, where a row has groups beyond CounterFact's."""


def _same(row: Row) -> None:
    row["requested_rewrite"]["target_new"] = dict(row["requested_rewrite"]["target_true"])


def _about_faulty(rule: str, new: tuple[str, int] = ("Cairo", 13)) -> Callable[[Row], None]:
    """Make the row's every text one about the subject of which `rule` says that something is wrong."""
    true = {"ambiguous-object": ("Springfield", TWINS[0]), "object-kind": ("Chad", STOLEN)}.get(rule, ("Oslo", OSLO))

    def plant(row: Row) -> None:
        _subject(_faulty_name(rule))(row)
        row["meta"]["subject_id"] = f"Q{FAULTY[rule]}"
        request = row["requested_rewrite"]
        request["target_true"], request["target_new"] = ({"str": name, "id": f"Q{one}"} for name, one in (true, new))
        request["relation_id"] = {"subject-kind": BORN, "open-relation": PART}.get(rule, RELATION)

    return plant


def _neighbor_of_other(row: Row) -> None:
    row["meta"]["neighborhood"][2] = row["meta"]["attribute"][2]


def _neighbor_noisy(row: Row) -> None:
    row["meta"]["neighborhood"][2]["entity"] = f"Q{NOISY}"


def _attribute_of_other(row: Row) -> None:
    row["meta"]["attribute"][2] = row["meta"]["neighborhood"][2]


AGAINST_FACTS: list[tuple[str, Callable[[Row], None]]] = [
    ("same-targets", _same),
    ("target-true", _target("target_new", str="Turin", id=f"Q{FORMER}")),
    ("target-kind", _target("target_new", str="Peru", id=f"Q{WIDE}")),
    ("target-noise", _target("target_new", str="Bergen (city)", id=f"Q{NOISY}")),
    ("ended-fact", _target("target_true", str="Turin", id=f"Q{FORMER}")),
    ("label-noise", _neighbor_noisy),
    ("neighbor-has-target", _neighbor_of_other),
    ("neighbor-lacks-object", _neighbor_of_other),
    ("neighbor-lacks-object", _attribute_of_other),
    *((rule, _about_faulty(rule)) for rule in FAULTY if not rule.startswith("target-")),
    ("target-same-name", _about_faulty("target-same-name", ("Lima", LIMA))),
    ("target-in-true", _about_faulty("target-in-true", ("New Oslo", LONGER))),
]
"""Faults that only the build's facts show."""


def planted(row: Row, plant: Callable[[Row], None]) -> Row:
    row = copy.deepcopy(row)
    plant(row)
    return row
