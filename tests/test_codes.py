"""Language codes: which are no names, which stand in for a language, and in which script it is written."""

from __future__ import annotations

import pytest
from small_world import templates, world

from cfbuild.data import Entity, Fact
from cfbuild.facts.graph import FactGraph
from cfbuild.records.factset import FactSet
from cfbuild.records.maker import RecordMaker
from cfbuild.records.prefixes import Prefixes
from cfbuild.text.codes import chain, fits_script, is_code, name_in


@pytest.mark.parametrize(
    ("code", "languages"),
    [
        ("en", ("en", "mul")),
        ("en-gb", ("en-gb", "en", "mul")),
        ("pt-br", ("pt-br", "pt", "mul")),
        ("gl", ("gl", "mul", "pt")),
        ("de-at", ("de-at", "de", "mul")),
        ("fr-ca", ("fr-ca", "fr", "mul")),
        ("zh-tw", ("zh-tw", "zh-hant", "zh-hans", "zh", "mul")),
        ("ja", ("ja", "mul")),
    ],
)
def test_languages_stand_in_as_wikidatas_chain_has_them(code: str, languages: tuple[str, ...]) -> None:
    assert chain(code) == languages


@pytest.mark.parametrize(
    ("name", "tag", "code"),
    [
        ("en", "mul", True),
        ("en", "en", True),
        ("fr", "en", True),
        ("pt-br", "en", True),
        ("zh-hans", "mul", True),
        ("mul", "mul", True),
        ("war", "mul", True),
        ("war", "en", False),
        ("bar", "bar", True),
        ("En", "mul", False),
        ("Io", "mul", False),
        ("it is", "mul", False),
        ("oslo", "mul", False),
        ("", "mul", False),
    ],
)
def test_a_bare_code_is_no_name(name: str, tag: str, code: bool) -> None:
    assert is_code(name, tag) is code


@pytest.mark.parametrize(
    ("text", "code", "fits"),
    [
        ("Hana Ito", "en", True),
        ("Hana Ito", "pt-br", True),
        ("Hana Ito", "ru", False),
        ("Иван", "ru", True),
        ("Иван", "en", False),
        ("Иван", "sr", True),
        ("Иван", "sr-el", False),
        ("伊藤ハナ", "ja", True),
        ("伊藤", "zh-hant", True),
        ("伊藤", "ko", False),
        ("이토", "ko", True),
        ("हना", "hi", True),
        ("حنا", "fa", True),
        ("Hana", "fa", False),
        ("Kim", "kk-latn", True),
        ("Kim", "kk", False),
        ("1984", "ru", True),
        ("α-Pinen", "de", True),
        ("Hana", "ku", True),
    ],
)
def test_a_name_fits_a_language_by_the_script_of_most_letters(text: str, code: str, fits: bool) -> None:
    assert fits_script(text, code) is fits


def test_an_item_named_by_a_code_appears_nowhere() -> None:
    """Check that no prompt says "en": not as subject, object, neighbor, attribute entity, second hop or alias."""
    facts, entities = world()
    coded = {"Q1005", "Q1030", "Q3"}
    labels = {entity.id: {"en": "en"} if entity.id in coded else entity.labels for entity in entities}
    named = [Entity(name, label, {"en": ("fr", "de-at", f"Nick {name}")}) for name, label in labels.items()]
    hops = [Fact("P17", f"Q{city}", "Q90" if city % 2 else "Q91") for city in range(1, 8)]
    named += [Entity("Q90", {"en": "de"}), Entity("Q91", {"en": "Chile"})]
    graph = FactGraph(facts, named)
    assert graph.label("Q3") is None and graph.names("Q1") == ("Oslo", "Nick Q1")
    prompts = [*templates("P551"), *templates("P937"), *templates("P17")]
    made = RecordMaker(FactSet((*facts, *hops), tuple(named), tuple(prompts)), prefixes=Prefixes()).make()
    assert len(made.records) > 50
    for record in made.records:
        groups = [prompt for prompts in record.groups.values() for prompt in prompts]
        targets = [
            record.target_true,
            record.target_new,
            *(one for each in groups for one in (each.target_new, each.target_true)),
        ]
        texts = [record.rewrite, *(one.text for one in (*record.neighborhood, *record.attribute, *groups))]
        assert record.subject.id not in coded and not {"en", "de", "fr"} & {target.label for target in targets}
        assert not any({"en", "de", "fr", "de-at"} & set(text.split()) for text in texts)
    missing = {one.fact.subject for one in made.rejected if one.decision.rule == "missing-label"}
    assert coded & {"Q1005", "Q1030"} <= missing


@pytest.mark.parametrize(
    ("names", "code", "found"),
    [
        ({"fr": "Ann", "mul": "Anna"}, "fr", "Ann"),
        ({"mul": "Anna", "en": "Ann"}, "fr", "Anna"),
        ({"mul": "Anna", "pt": "Ana"}, "gl", "Anna"),
        ({"mul": "Anna", "pt": "Ana"}, "pt-br", "Ana"),
        ({"mul": "Anna", "ru": "Анна"}, "ab", "Анна"),
        ({"mul": "Anna"}, "ja", None),
        ({"mul": "mul", "en": "Ann"}, "fr", None),
        ({"en": "Ann"}, "fr", None),
    ],
)
def test_a_label_is_the_languages_own_then_that_for_many_then_a_neighbours(
    names: dict[str, str], code: str, found: str | None
) -> None:
    assert name_in(names, code) == found
    graph = FactGraph([], [Entity("Q1", names, {language: (f"{name}!",) for language, name in names.items()})], code)
    assert graph.label("Q1") == found
    assert (f"{found}!" in graph.names("Q1")) is (found is not None)
