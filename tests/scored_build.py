"""Small build folders with scores that no model made: records, cases and a manifest written through the codec."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cfbuild.data import (
    CaseScore,
    Decision,
    EntityPrompt,
    Fact,
    Paraphrase,
    PromptScore,
    Record,
    Reference,
    Rejection,
    SharedClass,
    StageScore,
    Target,
    Template,
)
from cfbuild.records.spread import Spread
from cfbuild.score.run_report import Report
from cfbuild.store import codec, files, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.runs import CASES, REPORT, VERB, Run, new_run

CITIES = ("Oslo", "Lima", "Cairo", "Quito", "Hanoi", "Accra", "Sofia", "Berlin", "Paris", "Rome")
RELATIONS = ("P19", "P36", "P103", "P937")
WORDS = "the a of in and house street quiet old river home she he they walk to from"
HOSTILE = (
    '<img src="x" onerror="document.title=\'owned\'">',
    "</script><script>document.title='owned'</script>",
    "abc\u202etxt.exe\u202c",
    "\x1b[31mred\x1b[0m \x9b2J \x07",
    'O\'Brien & "Söhne" <b>',
    "{{ 7*7 }} {% raw %}",
    "=cmd|' /C calc'!A0 \u2066isolate\u2069",
    "<!--<script>",
)


def record(number: int, subject: str | None = None, relation: str | None = None, entity: int | None = None) -> Record:
    """Return a record of a seeded subject; several may be given the same `entity`."""
    draw = random.Random(f"record:{number}")
    relation = relation or RELATIONS[number % len(RELATIONS)]
    parts = ("Ada", "Bo", "Chen", "Dina", "Edda"), ("Lang", "Moe", "Ngo")
    name = subject or f"{' '.join(map(draw.choice, parts))} {number}"
    true, new = draw.sample(range(len(CITIES)), 2)
    near = [f"Neighbour {number % 7} {place}" for place in range(10)]
    return Record(
        case_id=number,
        relation=relation,
        prompt=Template(relation, "rewrite", "{} lives in the city of", "test"),
        subject=Target(f"Q{1000 + (number if entity is None else entity)}", name),
        target_true=Target(f"Q{1 + true}", CITIES[true]),
        target_new=Target(f"Q{1 + new}", CITIES[new]),
        paraphrases=(
            Paraphrase("It rained all day.", f"The home of {name} is in", "t1"),
            Paraphrase("", f"The house of {name} stands in", "t2"),
        ),
        neighborhood=tuple(
            EntityPrompt(f"{each} lives in the city of", f"Q{500_000 + i}", "t0") for i, each in enumerate(near)
        ),
        attribute=tuple(EntityPrompt(f"Other {i} lives in the city of", f"Q{600_000 + i}", "t0") for i in range(10)),
        generation=tuple(f"{start} {name} is" for start in ("The garden of", "A day with", "The street of")) * 3
        + (f"The garden of {name} is",),
        source="test",
        scores={
            "tiny": {
                "target_true_nll": round(draw.uniform(0, 3), 4),
                "target_new_nll": round(draw.uniform(4, 12), 4),
                "target_new_rank": draw.randint(6, 10),
                "target_true_rank": 1,
                "pool_size": 10,
            }
        },
        shared_class=SharedClass("Q515", 1, None) if number % 3 else SharedClass(None, None, "none-shares"),
    )


def case(record: Record, fault: str | None = None, editor: str = "rome") -> CaseScore:
    """Return answers that a model could have given before and after an edit: before it the same for all editors."""
    draw = random.Random(f"case:{record.case_id}")
    groups = {
        "rewrite": 1,
        "paraphrase": len(record.paraphrases),
        "neighborhood": len(record.neighborhood),
        "attribute": len(record.attribute),
    }
    words = WORDS.split()

    def stage(edited: bool, draw: random.Random = draw) -> StageScore:
        def prompt(group: str) -> PromptScore:
            believes = edited and ((group in ("rewrite", "paraphrase") and draw.random() < 0.95) or draw.random() < 0.1)
            new, true = (
                (draw.uniform(0, 1), draw.uniform(2, 6)) if believes else (draw.uniform(4, 12), draw.uniform(0, 3))
            )
            return PromptScore(round(new, 4), round(true, 4), new < 0.5, true < 0.5)

        city = (record.target_new if edited else record.target_true).label
        texts = tuple(f"{start} in {city}, {' '.join(draw.choices(words, k=70))}." for start in record.generation)
        scores = {group: tuple(prompt(group) for _ in range(count)) for group, count in groups.items()}
        return StageScore(scores, texts, draw.uniform(4, 6), draw.uniform(0, 0.5), float(edited))

    edit = {"updates": draw.randint(5, 20), "delta_norm": draw.uniform(2, 40), "u_dot_key": draw.uniform(1, 9)}
    before = stage(False)
    after = draw if editor == "rome" else random.Random(f"case:{record.case_id}:{editor}")
    return CaseScore(
        record.case_id, record.relation, editor, before, None if fault else stage(True, after), edit, fault
    )


def write_scored(
    root: Path,
    records: Sequence[Record],
    *,
    scored: bool = True,
    rejected: int = 12,
    distinct: int = 1000,
    runs: Sequence[str] = ("rome",),
    earlier: bool = False,
) -> BuildFolder:
    """Write a build folder as generate and validate-and-score leave it; the last case of every 20 has a fault.

    `runs` are editors' names, a run each; with `earlier` the one run lies at the top, as an earlier cfbuild left it.
    Beyond `distinct` records the same scores come again, which saves minutes where there are very many.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = BuildFolder(root)
    jsonl.write_jsonl(folder.path("records.jsonl"), map(codec.encode_record, records))
    rejections = [
        Rejection(
            9000 + i,
            Fact("P19", f"Q{7000 + i}", "Q1"),
            HOSTILE[i % len(HOSTILE)],
            "Oslo",
            Decision(False, rule, {"n": i}),
        )
        for i in range(rejected)
        for rule in ("unknown-fact" if i % 3 else "object-in-subject",)
    ]
    jsonl.write_jsonl(folder.path("rejected.jsonl"), map(codec.encode_rejection, rejections))
    texts = [Reference("P19", "Q1", "Q9", "Nina", f"Nina was born in Oslo, {i}.", licence="CC0-1.0") for i in range(3)]
    jsonl.write_jsonl(folder.path("references.jsonl"), map(codec.encode_reference, texts))
    spread = Spread()
    list(spread.counting(map(codec.encode_record, records)))
    rules = Counter(one.decision.rule for one in rejections)
    by_rule = {rule: rules[rule] for rule in ("object-in-subject", "unknown-fact")}
    folder.finish("fetch", {"source": "test", "language": "en", "seed": 0, "templates": ["builtin"]}, {}, {"facts": {}})
    folder.finish(
        "generate",
        {
            "build": {"seed": 0},
            "language": "en",
            "model_filter": {"model": "tiny", "revision": "abc", "min_rank_share": 0.5},
        },
        {"records.jsonl": len(records), "rejected.jsonl": rejected, "references.jsonl": len(texts)},
        {
            "filtered": True,
            "facts": len(records) + rejected,
            "kept": len(records),
            "rejected": rejected,
            "by_rule": by_rule,
            **spread.as_dict(),
        },
    )
    if scored:
        for name in runs:
            write_run(Run(folder, name, VERB, "") if earlier else new_run(folder, name), records, name, distinct)
    return folder


def write_run(run: Run, records: Sequence[Record], editor: str, distinct: int = 1000, **signature: object) -> None:
    """Write cases and report of a run of the build's records, as validate-and-score leaves them."""
    scored = [
        case(each, "the edit is not finite" if number % 20 == 19 else None, editor)
        for number, each in enumerate(records[:distinct])
    ]
    rows = list(map(codec.encode_case, scored))
    cases = [
        {**rows[number % len(rows)], "case_id": each.case_id, "relation_id": each.relation}
        for number, each in enumerate(records)
    ]
    run.path(CASES).parent.mkdir(parents=True, exist_ok=True)
    jsonl.write_jsonl(run.path(CASES), cases)
    settings = {"model": "tiny", "revision": "abc", "editor": editor, **signature}
    jsonl.write_json(run.path(REPORT), Report.of_cases(scored, settings).as_dict() | {"cases": len(cases)})
    run.folder.finish(
        run.entry,
        {"records": files.sha256_file(run.folder.path("records.jsonl")), "editor": editor, "seed": 0},
        {run.file(CASES): len(cases), run.file(REPORT): 1},
        {"signature": settings},
    )


def records(count: int, *, hostile: bool = False) -> list[Record]:
    """Return `count` records; with `hostile` the first few have names that attack whoever shows them."""
    names = HOSTILE if hostile else ()
    return [record(number, names[number] if number < len(names) else None) for number in range(count)]
