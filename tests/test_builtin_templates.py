"""The bundled templates: enough of them, different, and none that needs an article before the object."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from planted import faults_of

from cfbuild.data import SLOT, Entity, Fact, Template, id_number
from cfbuild.errors import DataError, TemplateError
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import INSTANCE_OF, PERSONAL, RELATIONS, SYMMETRIC
from cfbuild.facts.subjects import PLURAL, SUBJECTS, kinds_of_class, with_number
from cfbuild.filter.context import Rules
from cfbuild.filter.rules import RuleContext, judge_fact
from cfbuild.records.builder import Builder
from cfbuild.records.draft import BuildOptions
from cfbuild.records.factset import FactSet
from cfbuild.records.maker import RecordMaker
from cfbuild.records.prefixes import Prefixes
from cfbuild.store.codec import decode_template, encode_record, encode_template
from cfbuild.store.jsonl import dump_row, read_rows
from cfbuild.store.schema import schema_faults
from cfbuild.templates.builtin import read_templates, relations, templates
from cfbuild.templates.patterns import templates as pararel_templates
from cfbuild.text.languages import language

MIN_REWRITE = 5
MIN_GENERATION = 3
UNSUITED = {relation for relation, known in RELATIONS.items() if known.no_templates}
NOT_ABOUT = {("P276", "person"), ("P740", "person")}
"""Relations and kinds of subject that no template of the relation makes sense about."""
NAMES = ("Alma", "Bero", "Ceda", "Dira", "Elga", "Fida", "Goma", "Hila", "Ilva", "Joma", "Kura", "Lena")
ARTICLE = re.compile(r"(\ba|\ban|\bthe|'s|s')$", re.IGNORECASE)
DIRECT = re.compile(r"/prop/direct/(P\d+)>")


def of_kind(relation: str, kind: str) -> list[Template]:
    return [template for template in templates(relation) if template.kind == kind]


@pytest.mark.parametrize("relation", relations())
def test_every_relation_has_enough_templates(relation: str) -> None:
    assert len(of_kind(relation, "rewrite")) >= MIN_REWRITE
    assert len(of_kind(relation, "generation")) >= MIN_GENERATION


@pytest.mark.parametrize("relation", relations())
def test_templates_are_fit_to_use(relation: str) -> None:
    texts = [template.text for template in templates(relation)]
    assert len({text.casefold() for text in texts}) == len(texts)
    assert len({template.id for template in templates(relation)}) == len(texts)
    for template in templates(relation):
        assert template.origin == "cfbuild" and template.relation == relation
        assert template.text.isascii() and "  " not in template.text
        assert template.text.startswith(SLOT) or template.text[0].isupper()


@pytest.mark.parametrize("relation", relations())
def test_rewrites_end_where_a_bare_label_fits(relation: str) -> None:
    for template in of_kind(relation, "rewrite"):
        assert not ARTICLE.search(template.text), template.text
        assert not template.text.endswith(SLOT), template.text
        assert template.text[-1].isalpha() or template.text.endswith(":"), template.text


def test_the_pattern_of_articles_finds_articles_alone() -> None:
    assert all(ARTICLE.search(f"{SLOT} {end}") for end in ("is a", "was an", "is the", "is the company's", "is Texas'"))
    assert not any(ARTICLE.search(f"{SLOT} {end}") for end in ("is", "speaks Pa", "was born in", "has"))


def test_symmetric_relations_have_templates_and_unsuited_ones_none() -> None:
    assert set(relations()) & SYMMETRIC == {"P47", "P190", "P530"}
    assert not set(relations()) & UNSUITED


def test_relations_are_ordered_and_unknown_ones_have_none() -> None:
    assert list(relations()) == sorted(relations(), key=lambda relation: int(relation[1:]))
    assert templates("P999999") == ()
    assert templates("P21") == ()
    with pytest.raises(DataError, match="not a property id"):
        templates("../P17")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{} is"], r"file:1: .* before any section"),
        (["[rewrites]"], r"file:1: section '\[rewrites\]'"),
        (["[rewrite: law, spaceship]"], r"file:1: no kind of subject is called 'spaceship'; there are person, "),
        (["[rewrite: ]"], r"file:1: section '\[rewrite: \]'"),
        (["[rewrite]", "no slot"], r"file:2: .* must hold exactly one"),
        (["[rewrite]", "{} is "], r"file:2: .* white space"),
        (["# why", "[rewrite]", "{} is", "", "[generation]", "{} is"], r"file:6: .* repeats line 3"),
    ],
)
def test_bad_lines_are_named(lines: list[str], message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        list(read_templates("P17", lines, "file"))


@pytest.mark.shared
def test_every_relation_of_the_excerpt_has_templates_or_is_unsuited(excerpt: Path) -> None:
    with gzip.open(excerpt, "rt", encoding="utf-8") as stream:
        used = {match[1] for line in stream if (match := DIRECT.search(line))}
    assert used - set(relations()) - UNSUITED == set()


LAW, COIN, SHOP = "Q1", "Q2", "Q3"
CLASSES = {
    LAW: ("Clean Rivers Act", "act of parliament"),
    COIN: ("silver thaler", "currency"),
    SHOP: ("Corner", "shop"),
}


@pytest.fixture
def law_and_coin() -> FactGraph:
    """Return a graph of a law, a currency and a thing of no kind in the table, each with its class."""
    entities = [Entity(f"{one}0", {"en": name}) for one, (_, name) in CLASSES.items()]
    entities += [
        Entity(item, {"en": label}, attributes={INSTANCE_OF: (f"{item}0",)}) for item, (label, _) in CLASSES.items()
    ]
    entities += [Entity("Q8", {"en": "Norway"}), Entity("Q9", {"en": "Peru"})]
    facts = [Fact("P1001", one, "Q8") for one in CLASSES]
    return FactGraph([*facts, Fact("P1001", "Q99", "Q9")], [*entities, Entity("Q99", {"en": "Ann"})])


def test_a_section_names_the_kinds_of_subject() -> None:
    lines = ["[rewrite: law, office]", "{} holds in", "[rewrite: not currency]", "{} is in", "[generation]", "{} was"]
    law, rest, any_kind = read_templates("P1001", lines, "file")
    assert (law.fits, law.misfits, rest.fits, rest.misfits) == (("law", "office"), (), (), ("currency",))
    kinds = [frozenset[str](), frozenset({"law"}), frozenset({"currency"}), frozenset({"law", "currency"})]
    assert [law.suits(one) for one in kinds] == [False, True, False, True]
    assert [rest.suits(one) for one in kinds] == [True, True, False, False]
    assert all(any_kind.suits(one) for one in kinds)
    for template in (law, rest, any_kind):
        row = encode_template(template)
        assert decode_template(json.loads(dump_row(row))) == template and schema_faults(row, "templates") == []


def test_kinds_are_read_from_the_names_of_classes(law_and_coin: FactGraph) -> None:
    kinds = {one: law_and_coin.subject_kinds(one) for one in (*CLASSES, "Q99")}
    assert kinds == {LAW: {"law"}, COIN: {"currency"}, SHOP: frozenset(), "Q99": frozenset()}
    assert kinds_of_class("film festival") == {"event"} and kinds_of_class("film production company") == {"company"}
    assert kinds_of_class("short film") == {"film"} and kinds_of_class("American rock band") == {"band"}
    assert kinds_of_class("branch of science") == frozenset() == kinds_of_class("type of business entity")
    assert (
        kinds_of_class("upper house of a state legislature") == {"assembly"}
        and kinds_of_class("company town") == frozenset()
    )
    assert kinds_of_class("type of food or dish") == {"food"}


def test_every_prompt_of_a_record_fits_whom_it_is_about(law_and_coin: FactGraph) -> None:
    lines = ["[rewrite: law]", *(f"{{}} is law number {n} of" for n in "XYZ"), "[rewrite: currency]"]
    lines += [*(f"{{}} buys thing {n} in" for n in "XYZ"), "[generation: law]", "{} forbids", "[generation: currency]"]
    prompts = [*read_templates("P1001", [*lines, "{} is paid"], "file")]
    builder = Builder(law_and_coin, prompts, BuildOptions())
    for item, words, starts in ((LAW, "is law number", "forbids"), (COIN, "buys thing", "is paid")):
        draft = builder.draft(0, Fact("P1001", item, "Q8"))
        assert all(words in text for text in (draft.prompt.text, *(one.clean for one in draft.paraphrases)))
        assert any(starts in text for text in draft.generation) and len(draft.generation) == 4
        (neighbor,) = draft.neighborhood
        assert neighbor.entity == {LAW: COIN, COIN: LAW}[item] and words not in neighbor.text
    context = RuleContext(law_and_coin, {"P1001": tuple(builder.templates("P1001"))})
    decisions = [judge_fact(Fact("P1001", one, "Q8"), context) for one in (LAW, COIN, SHOP)]
    assert [one.rule for one in decisions] == ["kept", "kept", "too-few-templates"]
    assert decisions[2].measured == {"templates": 0, "needed": 3}
    about = {one.entity for one in builder.references(["P1001"])}
    assert about == {LAW, COIN}


@pytest.mark.parametrize("relation", relations())
def test_every_kind_of_subject_has_enough_templates(relation: str) -> None:
    for kinds in (frozenset[str](), *(frozenset({kind}) for kind in SUBJECTS)):
        if (relation, *kinds) in NOT_ABOUT:
            assert not any(one.suits(kinds) for one in of_kind(relation, "rewrite"))
            continue
        counts = [sum(one.suits(kinds) for one in of_kind(relation, group)) for group in ("rewrite", "generation")]
        assert counts[0] >= MIN_REWRITE and counts[1] >= MIN_GENERATION, kinds
        assert sum(counts) >= BuildOptions().generation, f"{kinds}: generation prompts would be too few"


def test_every_kind_in_the_table_is_named_by_a_template() -> None:
    named = {kind for relation in relations() for one in templates(relation) for kind in (*one.fits, *one.misfits)}
    assert named == {*SUBJECTS, PLURAL}


@pytest.mark.parametrize(
    "relation", sorted({*relations()} - PERSONAL - {"P176", "P178", "P413", "P1376"}, key=id_number)
)
def test_names_in_the_plural_have_enough_templates(relation: str) -> None:
    marked = [with_number(one, language("en")) for one in of_kind(relation, "rewrite")]
    fitting = [one.text for one in marked if one.suits(frozenset({PLURAL}))]
    assert len(fitting) >= 1 + BuildOptions().paraphrases
    singular = [one for one in marked if not one.suits(frozenset({PLURAL}))]
    assert singular or relation in ("P37", "P36", "P364", "P1303"), "most relations have verbs that agree"


@pytest.mark.parametrize(
    ("label", "classes", "plural"),
    [
        ("Hida Mountains", (), True),
        ("Alps", ("mountain range",), True),
        ("Azores", ("archipelago",), True),
        ("Lofoten", ("archipelago",), False),
        ("The Beatles", ("rock band",), True),
        ("Foo Fighters", ("rock band",), True),
        ("Hall & Oates", ("musical duo",), True),
        ("Genesis", ("rock band",), False),
        ("Kiss", ("rock band",), False),
        ("Chicago Bulls", ("basketball team",), True),
        ("Ainu", ("ethnic group",), True),
        ("Hephthalite Empire", ("people",), False),
        ("Solomon Islands", ("sovereign state",), True),
        ("Beverly Hills", ("city of the United States",), False),
        ("Los Angeles", ("big city",), False),
        ("Athens", ("city",), False),
        ("The Simpsons", ("animated television series",), False),
        ("General Motors", ("business",), False),
        ("James Brothers", ("human",), False),
        ("mathematics", ("academic discipline",), False),
        ("", (), False),
    ],
)
def test_names_in_the_plural_are_recognised(label: str, classes: tuple[str, ...], plural: bool) -> None:
    assert language("en").is_plural(label, classes) == plural
    assert not language("de").is_plural(label, classes)


@pytest.mark.parametrize(
    ("text", "singular"),
    [
        ("{} belongs to the continent of", True),
        ("{} was formed in the city of", True),
        ("{} originally comes from", True),
        ("The continent on which {} is located is", True),
        ("In general, {} is part of", True),
        ("{} made its debut on", True),
        ("{} belong to the continent of", False),
        ("The capital of {} is", False),
        ("The company that makes {} is", False),
        ("{} can be found in", False),
        ("{} became a member of", False),
    ],
)
def test_templates_in_the_singular_are_recognised(text: str, singular: bool) -> None:
    assert language("en").is_singular(text) == singular
    assert not language("de").is_singular(text)


def test_prompts_agree_with_a_name_in_the_plural() -> None:
    """Check subjects and neighbors, of both kinds of name, in a relation that has templates of both numbers."""
    names = {f"Q{100 + n}": f"{name} {'Mountains' if n % 2 else 'Peak'}" for n, name in enumerate(NAMES)}
    entities = [Entity(one, {"en": name}) for one, name in {**names, "Q8": "Asia", "Q9": "Europe"}.items()]
    facts = [Fact("P30", one, "Q8" if int(one[1:]) < 106 else "Q9") for one in names]
    builder = Builder(FactGraph(facts, entities), templates("P30"), BuildOptions(neighborhood=5))
    prompts = set()
    for fact in facts:
        draft = builder.draft(0, fact)
        own = (draft.rewrite, *(one.clean for one in draft.paraphrases), *(one.text for one in draft.neighborhood))
        prompts |= {(one.partition(" Mountains ")[2] or one, " Mountains " in one) for one in own}
    many = {text for text, plural in prompts if plural}
    assert any(re.match(r"are|lie|belong", text) for text in many)
    assert not any(re.match(r"is|lies|belongs|has", text) for text in many)
    assert any(" Peak is" in text or " Peak belongs" in text for text, plural in prompts if not plural)


def test_a_name_in_small_letters_begins_no_prompt_where_others_can_be_had() -> None:
    names = {"Q1": "music", "Q2": "dance", "Q10": "jazz", "Q11": "Swing", "Q12": "iPhone"}
    facts = [Fact("P361", one, "Q1") for one in ("Q10", "Q11", "Q12")] + [Fact("P361", "Q2", "Q1")]
    texts = ("{} is part of", "{} belongs to", "Today, {} is part of", "As we know, {} is in", "Some say {} is in")
    prompts = [Template("P361", "rewrite", text, "own") for text in texts]
    graph = FactGraph(facts, [Entity(one, {"en": name}) for one, name in names.items()])
    for seed in range(8):
        builder = Builder(graph, prompts, BuildOptions(seed=seed))
        draft = builder.draft(0, facts[0])
        texts_of = [draft.rewrite, *(one.clean for one in draft.paraphrases), *(one.text for one in draft.neighborhood)]
        assert not any(text.startswith(("jazz", "dance")) for text in texts_of)
        few = Builder(graph, prompts[:4], BuildOptions(seed=seed)).draft(0, facts[0])
        assert any(text.startswith("jazz") for text in (few.rewrite, *(one.clean for one in few.paraphrases)))
    begun = {Builder(graph, prompts, BuildOptions(seed=seed)).draft(0, facts[2]).rewrite[:6] for seed in range(8)}
    assert "iPhone" in begun


@pytest.mark.parametrize(
    ("label", "aliases", "classes", "article"),
    [
        ("Netherlands", (), ("country",), "the"),
        ("Gambia", ("The Gambia",), (), "the"),
        ("Eiffel Tower", (), ("lattice tower",), "the"),
        ("Congo", ("Zaire River",), ("river",), "the"),
        ("Wolf Creek", (), ("river",), ""),
        ("Faroe Islands", (), (), "the"),
        ("Hebrides", (), ("island group",), "the"),
        ("Boston Bolts", (), ("soccer team",), "the"),
        ("Yahoo Games", (), ("website",), ""),
        ("Irrational Games", (), ("video game developer",), ""),
        ("Montreal Convention", (), ("multilateral treaty",), "the"),
        ("Vienna Philharmonic", (), ("orchestra", "musical ensemble"), "the"),
        ("flag of Malaysia", (), ("national flag",), "the"),
        ("Lofoten", (), ("archipelago",), ""),
        ("Eagles", ("The Eagles",), ("rock band",), "the"),
        ("Foo Fighters", (), ("rock band",), ""),
        ("Pink Floyd", ("The Pink Floyd",), ("rock band",), ""),
        ("Being as an Ocean", (), ("musical group",), ""),
        ("Ottoman Empire", (), ("historical country",), "the"),
        ("Boardwalk Empire", (), (), ""),
        ("The Beatles", ("Beatles",), ("rock band",), ""),
        ("Kurds", (), ("ethnic group",), "the"),
        ("Sweden", (), ("sovereign state", "countries bordering the Baltic Sea"), ""),
        ("Vice-President of Kenya", (), ("position",), "the"),
        ("Berlin Film Festival", (), ("film festival",), "the"),
        ("Republic of Ireland", (), ("sovereign state",), "the"),
        ("Republic of Doyle", (), ("television series",), ""),
        ("University of Oslo", (), ("university",), "the"),
        ("Oslo University", (), ("university",), ""),
        ("Bank of America", (), ("business",), ""),
        ("Prime Minister of Norway", (), ("public office",), "the"),
        ("Storting", (), ("unicameral legislature",), "the"),
        ("Battle of Hastings", (), ("battle",), "the"),
        ("World Health Organization", (), (), "the"),
        ("Western Union", (), ("business",), ""),
        ("Ann Union", (), ("human",), ""),
        ("kitsune", (), ("mythical river",), ""),
        ("Ukraine", ("the Ukraine",), ("country",), ""),
        ("Paris", (), ("city",), ""),
        ("La Paz River", (), ("river",), ""),
        ("", (), (), ""),
    ],
)
def test_names_have_their_article(label: str, aliases: tuple[str, ...], classes: tuple[str, ...], article: str) -> None:
    assert language("en").article_of_name(label, aliases, classes) == article
    assert language("de").article_of_name(label, aliases, classes) == ""


def test_an_article_is_part_of_the_prompt_and_never_of_the_subject() -> None:
    names = {"Q1": "Netherlands", "Q2": "Gambia", "Q3": "Peru", "Q10": "Amsterdam", "Q11": "Lima"}
    aliases = {"Q1": {"en": ("Holland", "The Netherlands")}}
    entities = [Entity(one, {"en": name}, aliases.get(one, {})) for one, name in names.items()]
    facts = [Fact("P36", "Q1", "Q10"), Fact("P36", "Q2", "Q10"), Fact("P36", "Q3", "Q11")]
    texts = ("The capital of {} is", "{} has its capital at", "Those who govern {} meet in")
    prompts = [Template("P36", "rewrite", text, "test") for text in texts]
    known = FactSet(tuple(facts), tuple(entities), tuple(prompts))
    made = RecordMaker(known, Rules(min_neighbors=0), prefixes=Prefixes()).make().records
    (record,) = (one for one in made if one.subject.id == "Q1")
    wordings = {record.rewrite, *(one.clean for one in record.paraphrases)}
    assert wordings == {
        "The capital of the Netherlands is",
        "The Netherlands has its capital at",
        "Those who govern the Netherlands meet in",
    }
    assert record.subject.label == "Netherlands" and record.prompt.text.format("Netherlands") == record.rewrite
    assert {one.template for one in record.paraphrases} < {one.id for one in prompts}
    (neighbor,) = record.neighborhood
    assert re.search(r"\b[Tt]he Gambia\b", neighbor.text) and neighbor.template in {one.id for one in prompts}
    (alias,) = record.groups["subject_aliases"]
    assert "Holland" in alias.text and "the Holland" not in alias.text.casefold()
    assert faults_of(encode_record(record)) == []


@pytest.mark.shared
def test_no_template_is_pararels(pararel: Path) -> None:
    for relation in relations():
        path = pararel / f"{relation}.jsonl"
        patterns = [row["pattern"] for _, row in read_rows(path)] if path.exists() else []
        theirs = {one.text.casefold() for one in pararel_templates(relation, patterns)[0]}
        assert theirs.isdisjoint(one.text.casefold() for one in templates(relation)), relation
