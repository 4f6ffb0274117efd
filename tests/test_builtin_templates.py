"""The bundled templates: enough of them, different, and none that needs an article before the object."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from cfbuild.data import SLOT, Template
from cfbuild.errors import DataError, TemplateError
from cfbuild.facts.relations import SYMMETRIC, UNSUITED
from cfbuild.templates.builtin import read_templates, relations, templates

MIN_REWRITE = 5
MIN_GENERATION = 3
ARTICLE = re.compile(r"(\ba|\ban|\bthe|'s|s')$", re.IGNORECASE)
DIRECT = re.compile(r"/prop/direct/(P\d+)>")


def of_kind(relation: str, kind: str) -> list[Template]:
    return [template for template in templates(relation) if template.kind == kind]


@pytest.mark.parametrize("relation", relations())
def test_enough_templates(relation: str) -> None:
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


def test_article_rule_finds_articles() -> None:
    assert all(ARTICLE.search(f"{SLOT} {end}") for end in ("is a", "was an", "is the", "is the company's", "is Texas'"))
    assert not any(ARTICLE.search(f"{SLOT} {end}") for end in ("is", "speaks Pa", "was born in", "has"))


def test_symmetric_and_unsuited_relations() -> None:
    assert set(relations()) & SYMMETRIC == {"P47", "P190", "P530"}
    assert not set(relations()) & set(UNSUITED)
    assert all(UNSUITED.values())


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
        (["[rewrite]", "no slot"], r"file:2: .* must hold exactly one"),
        (["[rewrite]", "{} is "], r"file:2: .* white space"),
        (["# why", "[rewrite]", "{} is", "", "[generation]", "{} is"], r"file:6: .* repeats line 3"),
    ],
)
def test_bad_lines_are_named(lines: list[str], message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        list(read_templates("P17", lines, "file"))


@pytest.mark.shared
def test_every_relation_of_the_excerpt(excerpt: Path) -> None:
    with gzip.open(excerpt, "rt", encoding="utf-8") as stream:
        used = {match[1] for line in stream if (match := DIRECT.search(line))}
    assert used - set(relations()) - set(UNSUITED) == set()
