from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import cases, graph_of, item, templates, world

from cfbuild.data import Fact, Record, Template
from cfbuild.errors import ConfigError, TemplateError
from cfbuild.facts.graph import FactGraph
from cfbuild.records.builder import Builder
from cfbuild.records.draft import BuildOptions, Draft
from cfbuild.text.names import find_name

PREFIXES = ("The door was open.", "It rained all day in Oslo.", "Nobody came.")


def build_all(options: BuildOptions, graph: FactGraph | None = None) -> list[tuple[Draft, Record]]:
    graph = graph or FactGraph(*world())
    builder = Builder(graph, [*templates("P551"), *templates("P937")], options, lambda relation: PREFIXES)
    drafts = [builder.draft(case_id, fact) for case_id, fact in cases(graph)]
    return [(draft, builder.record(draft, draft.draws[0])) for draft in drafts]


def draft_of(graph: FactGraph, subject: int, value: int, **options: int) -> tuple[Builder, Draft]:
    builder = Builder(graph, templates("P551"), BuildOptions(**options))
    return builder, builder.draft(0, Fact("P551", f"Q{subject}", f"Q{value}"))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(), per_entity=st.integers(1, 4), max_draws=st.integers(1, 9))
def test_every_record_keeps_its_promises_whatever_the_options(seed: int, per_entity: int, max_draws: int) -> None:
    graph = FactGraph(*world(60))
    options = BuildOptions(seed=seed, prompts_per_entity=per_entity, max_draws=max_draws)
    for draft, record in build_all(options, graph):
        relation, subject = record.relation, record.subject.id
        true = graph.values(subject, relation)
        assert record.target_true.id in true
        assert 0 < len(draft.draws) == len(set(draft.draws)) <= max_draws
        assert not set(true) & {target.id for target in draft.draws}
        for prompt in record.neighborhood:
            held = graph.values(prompt.entity, relation)
            assert prompt.entity != subject and record.target_true.id in held
            assert not set(held) & {target.id for target in draft.draws}
        for prompt in record.attribute:
            held = graph.values(prompt.entity, relation)
            assert prompt.entity != subject and record.target_new.id in held and record.target_true.id not in held
        for prompts in (record.neighborhood, record.attribute):
            assert len({prompt.text for prompt in prompts}) == len(prompts) <= 10
            assert max(Counter(prompt.entity for prompt in prompts).values(), default=0) <= per_entity
        assert len(record.generation) == len(set(record.generation)) == 4
        assert len({record.rewrite, *(one.clean for one in record.paraphrases)}) == 3
        names = [*graph.names(record.target_true.id), *graph.names(record.target_new.id)]
        assert all(one.prefix in PREFIXES and find_name(one.prefix, names) is None for one in record.paraphrases)


def test_all_ten_possible_neighbors_are_taken() -> None:
    graph = graph_of(
        {**{n: f"Person {n}" for n in range(100, 111)}, 1: "Oslo", 2: "Lima", 200: "Ann"},
        [*((n, 1) for n in range(100, 111)), (200, 2)],
    )
    _, draft = draft_of(graph, 100, 1)
    assert {prompt.entity for prompt in draft.neighborhood} == {f"Q{n}" for n in range(101, 111)}


def test_entities_come_again_only_where_there_are_too_few_and_as_often_as_allowed() -> None:
    graph = graph_of(
        {100: "Ann", 101: "Bob", 102: "Cid", 200: "Dan", 1: "Oslo", 2: "Lima"}, [(100, 1), (101, 1), (102, 1), (200, 2)]
    )
    for cap, count in ((1, 2), (3, 6), (9, 8)):
        _, draft = draft_of(graph, 100, 1, prompts_per_entity=cap)
        assert len({prompt.text for prompt in draft.neighborhood}) == len(draft.neighborhood) == count


def test_a_neighbor_is_not_named_like_the_subject_nor_like_another() -> None:
    labels = {100: "Ann", 101: "ann", 102: "Ann Lee", 103: "Bob", 104: "bob", 200: "Dan", 1: "Oslo", 2: "Lima"}
    graph = graph_of(labels, [*((n, 1) for n in range(100, 105)), (200, 2)])
    _, draft = draft_of(graph, 100, 1)
    assert len(draft.neighborhood) == 1 and "ob" in draft.neighborhood[0].text


def test_neighbors_with_one_value_come_first_and_none_is_named_after_it() -> None:
    labels = {100: "Ann", 101: "Bob", 102: "Oslo Cid", 103: "Eve", 200: "Dan", 1: "Oslo", 2: "Lima", 3: "Rome"}
    graph = graph_of(labels, [(100, 1), (101, 1), (101, 3), (102, 1), (103, 1), (200, 2)])
    chosen = [draft_of(graph, 100, 1, neighborhood=n)[1].neighborhood for n in (1, 2, 3)]
    assert [[prompt.entity for prompt in prompts] for prompts in chosen] == [
        ["Q103"],
        ["Q103", "Q101"],
        ["Q103", "Q101"],
    ]


def test_an_object_of_a_neighbor_is_never_drawn() -> None:
    graph = graph_of(
        {100: "Ann", 101: "Bob", 200: "Dan", 1: "Oslo", 2: "Lima", 3: "Rome"}, [(100, 1), (101, 1), (101, 3), (200, 2)]
    )
    _, draft = draft_of(graph, 100, 1)
    assert [target.label for target in draft.draws] == ["Lima"]


def test_no_draw_shares_a_name_with_a_true_object_or_lacks_a_label() -> None:
    entities = [
        item(1, "Oslo", "Kristiania"),
        item(2, "Christiania", "KRISTIANIA"),
        item(3, None),
        item(4, "Q4"),
        item(5, "Lima"),
        item(6, "Lima"),
        *(item(n, f"Person {n}") for n in range(100, 108)),
    ]
    pairs = [(100, 1), (101, 2), (102, 3), (103, 4), (104, 5), (105, 6), (106, 6)]
    graph = FactGraph((Fact("P551", f"Q{s}", f"Q{o}") for s, o in pairs), entities)
    builder, draft = draft_of(graph, 100, 1)
    assert [target.id for target in draft.draws] == ["Q6"]
    assert [target.id for target in builder.pools.objects("P551")] == ["Q6", "Q1", "Q2"]


def test_objects_are_drawn_by_frequency() -> None:
    """Check that first draws of many subjects follow the counts, to 3 standard deviations of a binomial."""
    labels = {1: "Oslo", 2: "Lima", 3: "Rome", **{n: f"Person {n}" for n in range(100, 1100)}}
    pairs = [(n, 1) for n in range(100, 700)] + [(n, 2) for n in range(700, 1000)] + [(n, 3) for n in range(1000, 1100)]
    graph = graph_of(labels, pairs)
    builder = Builder(graph, templates("P551"), BuildOptions(neighborhood=0))
    first = Counter(builder.draft(0, Fact("P551", f"Q{n}", "Q1")).draws[0].label for n in range(100, 700))
    assert abs(first["Lima"] - 450) < 3 * (600 * 0.75 * 0.25) ** 0.5


def test_a_refused_object_is_counted_and_the_next_is_drawn() -> None:
    graph = FactGraph(*world(30))
    builder = Builder(graph, templates("P551"), BuildOptions())
    fact = graph.facts_of("P551")[1]
    free = builder.draft(0, fact)
    refused = builder.draft(0, fact, lambda _, target: "no-" + target.label if target == free.draws[0] else None)
    assert refused.draws == free.draws[1:]
    assert refused.refused == {f"no-{free.draws[0].label}": 1}


def test_a_draft_does_not_depend_on_what_else_is_built() -> None:
    graph = FactGraph(*world())
    alone = Builder(graph, templates("P937")[::-1], BuildOptions(), lambda relation: PREFIXES)
    for draft, record in build_all(BuildOptions())[-5:]:
        again = alone.draft(draft.case_id, draft.fact)
        assert again == draft and alone.record(again, again.draws[0]) == record


def test_other_seeds_build_other_records() -> None:
    first, second = (build_all(BuildOptions(seed=seed)) for seed in (0, 1))
    assert sum(a[1] == b[1] for a, b in zip(first, second, strict=True)) < len(first) / 10


def test_generation_prompts_are_distinct_and_take_generation_templates_first() -> None:
    graph = FactGraph(*world(30))
    own = [Template("P551", "generation", f"{{}} {text}", "test") for text in ("goes", "sees", "says")]
    builder = Builder(graph, [*templates("P551"), *own], BuildOptions())
    draft = builder.draft(0, graph.facts_of("P551")[0])
    assert sorted(text.split()[-1] for text in draft.generation[:3]) == ["goes", "says", "sees"]
    filled = {template.fill(draft.subject.label) for template in templates("P551")}
    assert set(draft.generation[3:]) == filled and len(draft.generation) == 3 + len(filled)


def test_references_say_each_fact_once() -> None:
    graph = FactGraph(*world(30))
    references = list(Builder(graph, templates("P551"), BuildOptions()).references())
    assert len(references) == len(graph.facts_of("P551"))
    for reference in references:
        assert reference.text.endswith(f" {graph.label(reference.object)}.") and reference.name in reference.text


def test_prefixes_run_out_rather_than_name_an_object() -> None:
    graph = graph_of({100: "Ann", 200: "Dan", 1: "Oslo", 2: "Lima"}, [(100, 1), (200, 2)])
    builder = Builder(
        graph, templates("P551"), BuildOptions(), lambda _: ("We saw OSLO.", "We saw Lima.", "We saw Ann.")
    )
    assert [one.prefix for one in builder.draft(0, Fact("P551", "Q100", "Q1")).paraphrases] == ["", ""]


def test_too_few_templates_unusable_labels_and_no_draws_are_refused() -> None:
    graph = graph_of({100: None, 200: "Dan", 1: "Oslo", 2: "Lima"}, [(100, 1), (200, 2)])
    with pytest.raises(TemplateError, match="Q100 has the label None"):
        draft_of(graph, 100, 1)
    with pytest.raises(TemplateError, match="P551 has 2 rewrite templates for Q200; expected at least 3"):
        Builder(graph, templates("P551", 2), BuildOptions()).draft(0, Fact("P551", "Q200", "Q2"))
    with pytest.raises(ConfigError, match="max_draws is 0"):
        BuildOptions(max_draws=0)


@pytest.mark.parametrize(
    ("text", "names", "found"),
    [
        ("Honda Civic", ["Honda"], "Honda"),
        ("honda civic", ["Hyundai", "HONDA"], "HONDA"),
        ("Hondas", ["Honda"], None),
        ("Charles de Gaulle", ["de"], None),
        ("US Airways", ["US"], "US"),
        ("Tell us more", ["US"], None),
        ("Saint-Denis", ["Denis"], "Denis"),
        ("Paris", ["", " "], None),
        ("Parisian Paris", ["Paris"], "Paris"),
        ("STRASSE", ["Straße"], "Straße"),
    ],
)
def test_find_name_finds_whole_words(text: str, names: list[str], found: str | None) -> None:
    assert find_name(text, names) == found
