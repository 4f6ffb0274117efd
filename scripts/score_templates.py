"""Measure how natural templates are to a language model: ours against ParaRel's, on the same facts.

    python scripts/score_templates.py --build BUILD --pararel FOLDER

BUILD is a folder as `cfbuild fetch` writes it; FOLDER holds ParaRel's pattern files (P17.jsonl, ...). A few facts of
each relation are drawn by the seed. Each is put into the first rewrite templates of both sets: ours as records use
them, those that fit the subject and with its article; ParaRel's as `cfbuild fetch --templates pararel` takes them,
those that end in the object. Two figures in nats per token, means over a relation's prompts and then over relations:
what the true object costs after the prompt, and what the prompt itself costs. Lower is better: a prompt that a model
does not answer says nothing about what it knows.

A random half of the relations is held out from whoever writes templates: `--part written` shows the other half, to look
at while writing, `--part held-out` this one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cfbuild.data import Fact, Template, id_number
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import RELATIONS
from cfbuild.facts.subjects import with_number
from cfbuild.lm.families import DEFAULT_PRESET
from cfbuild.lm.likelihood import Question, score
from cfbuild.lm.load import load
from cfbuild.lm.model import LanguageModel
from cfbuild.records.factset import read_facts
from cfbuild.records.pools import is_usable
from cfbuild.sources.pararel import Files
from cfbuild.templates import builtin
from cfbuild.templates.patterns import templates as pararel_templates

OURS, THEIRS = "cfbuild", "pararel"
OBJECT, PROMPT = "object", "prompt"
PARTS = ("all", "written", "held-out")
SPLIT_SEED = 15
"""The seed of the half that is held out: one for everybody, or it would not be held out."""


@dataclass(frozen=True, slots=True)
class TemplatePrompt:
    """A filled template of a set and the label that is to follow it."""

    set: str
    relation: str
    text: str
    value: str


def held_out(relations: Sequence[str]) -> frozenset[str]:
    """Return the half of `relations` that is held out."""
    ordered = sorted(relations, key=id_number)
    return frozenset(Random(SPLIT_SEED).sample(ordered, len(ordered) // 2))


def part_of(relations: Sequence[str], part: str) -> list[str]:
    """Return the relations of a part, ordered by number."""
    aside = held_out(relations)
    return [one for one in sorted(relations, key=id_number) if part == "all" or (one in aside) == (part == "held-out")]


def drawn(graph: FactGraph, relation: str, count: int, seed: int) -> list[Fact]:
    """Return at most `count` facts of a relation whose subject and object have names, drawn by the seed."""
    facts = graph.facts_of(relation)
    named = [one for one in facts if is_usable(graph.label(one.subject)) and is_usable(graph.label(one.object))]
    return Random(f"{seed}:{relation}").sample(named, min(count, len(named)))


def prompts_about(
    fact: Fact, graph: FactGraph, sets: Mapping[str, Sequence[Template]], most: int
) -> Iterator[TemplatePrompt]:
    """Yield the prompts of a fact: the first `most` templates of each set that fit its subject."""
    kinds, article = graph.subject_kinds(fact.subject), graph.article(fact.subject)
    subject, value = graph.label(fact.subject) or "", graph.label(fact.object) or ""
    for name, templates in sets.items():
        fitting = [template for template in templates if template.suits(kinds)][:most]
        for template in fitting:
            text = template.with_article(article if name == OURS else "").fill(subject)
            yield TemplatePrompt(name, fact.relation, text, value)


def costs(lm: LanguageModel, prompts: Sequence[TemplatePrompt]) -> list[tuple[float, float]]:
    """Return (object, prompt) of each prompt in nats per token.

    A prompt's first token, which follows nothing, costs 0.
    """
    first = len(lm.leading_ids) + 1
    ids = [lm.encode(one.text) for one in prompts]
    values = [lm.continuation(one.value) for one in prompts]
    # One pass for both: a prompt's tokens are the beginning of a prompt with its object.
    questions = [
        Question(tokens[:first], (tokens[first:], tokens[first:] + value))
        for tokens, value in zip(ids, values, strict=True)
    ]
    found = []
    for question, value, (text, whole) in zip(questions, values, score(lm, questions), strict=True):
        shorter, longer = map(len, question.continuations)
        nats = text.nll_nats * shorter
        found.append(((whole.nll_nats * longer - nats) / len(value), nats / (shorter + 1)))
    return found


Table = dict[str, dict[str, dict[str, float]]]
"""Figures by relation, set and what is measured."""


def table(prompts: Sequence[TemplatePrompt], measured: Sequence[tuple[float, float]]) -> Table:
    """Return the means over each relation's prompts; a relation is left out where a set has none."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for prompt, pair in zip(prompts, measured, strict=True):
        found.setdefault(prompt.relation, {}).setdefault(prompt.set, []).append(pair)
    return {
        relation: {
            name: {OBJECT: mean(pair[0] for pair in pairs), PROMPT: mean(pair[1] for pair in pairs)}
            for name, pairs in sets.items()
        }
        for relation, sets in found.items()
        if sets.keys() == {OURS, THEIRS}
    }


def overall(figures: Table) -> dict[str, dict[str, float]]:
    """Return the means over relations by set and what is measured."""
    return {
        name: {what: mean(sets[name][what] for sets in figures.values()) for what in (OBJECT, PROMPT)}
        for name in (OURS, THEIRS)
    }


def lines(figures: Table, aside: frozenset[str]) -> Iterator[str]:
    """Yield a Markdown table, the relations in which ours are worst beside ParaRel's first."""
    yield "| relation | object: ours | ParaRel's | prompt: ours | ParaRel's |"
    yield "|---|---:|---:|---:|---:|"
    by_gap = sorted(figures, key=lambda name: figures[name][THEIRS][OBJECT] - figures[name][OURS][OBJECT])
    for relation in by_gap:
        known = RELATIONS.get(relation)
        name = f"{relation} {known.name if known else ''}".strip() + (" (held out)" if relation in aside else "")
        yield f"| {name} | {_cells(figures[relation])} |"
    yield f"| mean of {len(figures)} | {_cells(overall(figures))} |"


def _cells(sets: Mapping[str, Mapping[str, float]]) -> str:
    return " | ".join(f"{sets[name][what]:.2f}" for what in (OBJECT, PROMPT) for name in (OURS, THEIRS))


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True, help="a build folder with facts.jsonl and entities.jsonl")
    parser.add_argument("--pararel", required=True, help="a folder with ParaRel's pattern files")
    parser.add_argument(
        "--model", default=DEFAULT_PRESET, help="a preset (default %(default)s), a folder, a .gguf file, or a Hub id"
    )
    parser.add_argument("--facts", type=int, default=4, help="facts of each relation (default 4)")
    parser.add_argument("--templates", type=int, default=6, help="templates of each set (default 6)")
    parser.add_argument("--seed", type=int, default=0, help="draws the facts (default 0)")
    parser.add_argument("--part", choices=PARTS, default="all", help="which relations (default all)")
    parser.add_argument("--relations", default="", help="comma-separated property ids (default: all of the part)")
    parser.add_argument("--json", action="store_true", help="print figures and prompts as JSON")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    facts = read_facts(options.build)
    graph, files = FactGraph(facts.facts, facts.entities, facts.language), Files(options.pararel, None)
    relations = sorted({*graph.relations} & {*builtin.relations()} & {*files.relations()}, key=id_number)
    prompts: list[TemplatePrompt] = []
    chosen = frozenset(options.relations.split(",")) if options.relations else frozenset(relations)
    if not chosen <= {*part_of(relations, options.part)}:
        sys.exit(f"--relations {options.relations}: expected some of {', '.join(part_of(relations, options.part))}")
    for relation in (one for one in part_of(relations, options.part) if one in chosen):
        ours = [with_number(one, graph.wording) for one in builtin.templates(relation) if one.kind == "rewrite"]
        sets = {OURS: ours, THEIRS: pararel_templates(relation, files.patterns(relation))[0]}
        for fact in drawn(graph, relation, options.facts, options.seed):
            prompts += prompts_about(fact, graph, sets, options.templates)
    measured = costs(load(options.model), prompts)
    figures = table(prompts, measured)
    if options.json:
        print(json.dumps(as_json(options, figures, prompts, measured, relations), indent=1, ensure_ascii=False))
    else:
        print("\n".join(lines(figures, held_out(relations))))
    return 0


def as_json(
    options: argparse.Namespace,
    figures: Table,
    prompts: Sequence[TemplatePrompt],
    measured: Sequence[tuple[float, float]],
    relations: Sequence[str],
) -> dict[str, object]:
    """Return the options, the figures and every prompt with its two costs, as JSON values."""
    return {
        "model": options.model,
        "seed": options.seed,
        "part": options.part,
        "held_out": sorted(held_out(relations), key=id_number),
        "overall": overall(figures),
        "relations": figures,
        "prompts": [
            {
                "set": prompt.set,
                "relation": prompt.relation,
                "prompt": prompt.text,
                "object": prompt.value,
                OBJECT + "_nats": value,
                PROMPT + "_nats": text,
            }
            for prompt, (value, text) in zip(prompts, measured, strict=True)
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
