"""Rules of wording by language: English rules object to English only, and other languages keep their good texts."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from small_world import rewrites

from cfbuild.data import Entity, Fact, Record, Target, Template
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.rules import RuleContext, judge_fact, judge_target, judge_template
from cfbuild.records.builder import Builder
from cfbuild.records.draft import BuildOptions
from cfbuild.records.fact_lookup import FactLookup
from cfbuild.records.groups import prompt_groups
from cfbuild.templates.sentences import cut_sentences
from cfbuild.text.languages import LANGUAGES, Language, english, language
from cfbuild.text.names import gives_away

NEAR = "P551"
GERMAN = ("{} grenzt an", "Das Land, das „{}“ heißt, grenzt an", "Wie man weiß, liegt {} an", "{} liegt neben")
FACT = Fact(NEAR, "Q100", "Q1")
COUNTRIES = ("Frankreich", "Italien", "Deutschland", "Slowenien")


def prompt(text: str) -> Template:
    return Template(NEAR, "rewrite", text, "test")


def context(code: str, names: tuple[str, str, str, str] = COUNTRIES, texts: tuple[str, ...] = GERMAN) -> RuleContext:
    """Return the rules' context of two objects and two subjects, in this order, with `names` in the language `code`."""
    entities = [Entity(item, {code: name}) for item, name in zip(("Q1", "Q2", "Q100", "Q101"), names, strict=True)]
    graph = FactGraph([FACT, Fact(NEAR, "Q101", "Q2")], entities, code)
    return RuleContext(graph, {NEAR: rewrites(NEAR, texts)})


def test_german_templates_that_end_like_an_english_article_are_kept_in_german() -> None:
    assert judge_fact(FACT, context("en")).rule == "too-few-templates"
    world = context("de")
    assert judge_fact(FACT, world).kept
    draft = Builder(world.graph, map(prompt, GERMAN), BuildOptions(paraphrases=3)).draft(0, FACT)
    used = {draft.prompt.fill("Deutschland"), *(paraphrase.clean for paraphrase in draft.paraphrases)}
    assert used == {text.replace("{}", "Deutschland") for text in GERMAN}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("de", GERMAN[1]),
        ("fr", "La capitale de {} est :"),
        ("nl", "Wat {} was was in"),
        ("ja", "{}の首都は「"),
        ("ru", "{}-"),
    ],
)
def test_templates_are_not_judged_by_english_grammar_in_other_languages(code: str, text: str) -> None:
    assert judge_template(prompt(text), language(code)).kept
    assert judge_template(prompt(text), language("en")).kept is (code == "ja")


@pytest.mark.parametrize(("code", "label"), [("de", "Frankfurt (Oder)"), ("de", "Halle (Saale)"), ("eo", "Parolado.")])
def test_names_are_not_noise_for_an_english_reason_in_other_languages(code: str, label: str) -> None:
    subject, value = ("Polen", "Ungarn", label, "Bern"), ("Polen", label, "Wien", "Bern")
    assert judge_fact(FACT, context(code, subject)).kept
    assert judge_fact(FACT, context("en", subject)).rule == "label-noise"
    assert judge_target(FACT, Target("Q2", label), context(code, value)).kept
    assert judge_target(FACT, Target("Q2", label), context("en", value)).rule == "target-noise"


@pytest.mark.parametrize("label", ["Os\u00adlo", "<i>Oslo</i>", "Oslo [X]", "Oslo &amp; Lima", " Oslo", "Os  lo", "{}"])
def test_noise_of_no_language_is_noise_in_every_language(label: str) -> None:
    assert language("de").noise(label) and language("de").noise(label) == language("en").noise(label)


def test_no_word_is_made_from_a_name_by_english_endings_in_italian() -> None:
    names, texts = ("Milano", "Roma", "Milan Kundera", "Ada"), ("{} vive tra", "{} abita tra", "{} sta tra")
    assert judge_fact(FACT, context("it", names, texts)).kept
    assert judge_fact(FACT, context("en", names, texts)).rule == "object-in-subject"
    assert gives_away("Milan Kundera", "Milano", ("Milano",), language("it")) is None
    assert gives_away("Milano Marittima", "Milano", ("Milano",), language("it")) == "Milano"


def test_a_false_object_needs_no_english_article_in_german() -> None:
    names = ("Elbe", "Rhein", "Hamburg", "Wien")
    assert judge_target(FACT, Target("Q2", "Rhein"), context("de", names)).kept
    refused = judge_target(FACT, Target("Q2", "Rhein"), context("en", names))
    assert (refused.rule, refused.measured) == ("target-article", {"template": GERMAN[0], "needs": "a"})


@pytest.mark.parametrize(("code", "found"), [("de", {"Q101", "Q102"}), ("en", set())])
def test_neighbors_may_have_a_bracket_of_their_own_name_in_german(code: str, found: set[str]) -> None:
    names = {1: "Brandenburg", 100: "Potsdam", 101: "Frankfurt (Oder)", 102: "Forst (Lausitz)"}
    entities = [Entity(f"Q{number}", {code: name}) for number, name in names.items()]
    graph = FactGraph([Fact(NEAR, f"Q{number}", "Q1") for number in (100, 101, 102)], entities, code)
    texts = ("{} liegt in", "{} ist ein Ort in", "{} findet man in")
    draft = Builder(graph, map(prompt, texts), BuildOptions()).draft(0, FACT)
    assert {neighbor.entity for neighbor in draft.neighborhood} == found


@pytest.mark.parametrize(("code", "names"), [("de", {"Emses", "Hans-Ems"}), ("en", {"Hans-Ems"})])
def test_only_english_plurals_are_left_out_of_english_aliases(code: str, names: set[str]) -> None:
    entities = [Entity("Q100", {code: "Ems"}, {code: ("Emses", "Hans-Ems")}), Entity("Q1", {code: "Rom"})]
    graph, template = FactGraph([FACT], entities, code), prompt("{} wohnt in")
    targets = Target("Q1", "Rom"), Target("Q2", "Bonn")
    record = Record(0, NEAR, template, Target("Q100", "Ems"), *targets, (), (), (), ())
    lookup = FactLookup(graph, lambda relation: [template], lambda fact: True)
    made = prompt_groups(record, lookup, ["subject_aliases"])["subject_aliases"]
    assert {one.text for one in made} == {f"{name} wohnt in" for name in names}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("de", "Er sagte dem Nachbarn „heute kommt niemand mehr“ und ging."),
        ("de", "Der Nachbar sagte gestern Abend: „Heute kommt niemand mehr.“"),
        ("hi", "ट्रेन आज सुबह बहुत देर से आई।"),
        ("sv", "De gamla sade ”ingen kommer hit i dag” och gick hem."),
    ],
)
def test_sentences_of_other_languages_stand_alone(code: str, text: str) -> None:
    assert cut_sentences([text], code, 0) == (text,)
    assert cut_sentences([text], "en", 0) == ()


@pytest.mark.parametrize(
    "text", ["Der Zug kam heute", "Der Zug kam (heute sehr spät.", "Zu spät.", "Er\u00adst kam der Zug an."]
)
def test_what_is_no_sentence_in_any_language_does_not_stand_alone(text: str) -> None:
    assert cut_sentences([text], "de", 0) == ()


def test_english_has_its_rules_under_every_code_of_its_own_and_others_have_none() -> None:
    assert language("en") is language("en-gb") is LANGUAGES["en"] and language("en").article is english.article
    assert language("sv") == Language("sv") != language("fi")
    others = ("code", "plural_endings", "sentences", "governing")
    functions = [field.name for field in dataclasses.fields(Language) if field.name not in others]
    assert all(getattr(language("en"), name) != getattr(language("sv"), name) for name in functions)
    for code in ("en", "sv"):
        assert pickle.loads(pickle.dumps(language(code))) == language(code)


@pytest.mark.parametrize(
    ("template", "description", "takes_one"),
    [
        ("The official capital of {} is", "The official capital of {}", True),
        ("The name of the capital of {} is", None, True),
        ("The band {} was formed in", None, False),
        ("The script of the film {} was written in", None, False),
        ("{} lies on the continent of", None, True),
        ("{}'s birthplace is", "{}'s birthplace", True),
    ],
)
def test_descriptions_and_where_they_can_stand(template: str, description: str | None, takes_one: bool) -> None:
    english_rules, neutral_rules = language("en"), language("fr")
    assert english_rules.description(template) == description and neutral_rules.description(template) is None
    assert english_rules.takes_description(template) == takes_one and neutral_rules.takes_description(template)
