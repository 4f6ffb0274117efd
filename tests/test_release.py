"""A release says one version everywhere, and what a citation and a changelog owe."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from cfbuild import __version__
from cfbuild.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.*)$", CHANGELOG, flags=re.MULTILINE)
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

ABOUT_WORK = """abstract authors cff-version commit contact date-released doi identifiers keywords license license-url
message preferred-citation references repository repository-artifact repository-code title type url version"""
ABOUT_PERSON = """address affiliation alias city country email family-names fax given-names name-particle name-suffix
orcid post-code region tel website"""
ABOUT_ENTITY = """address alias city country date-end date-start email fax location name orcid post-code region tel
website"""
"""The keys that the schema of the Citation File Format 1.2.0 has for a work, a person, and a group of people."""
REFERENCE_TYPES = ("article", "book", "conference-paper", "data", "dataset", "report", "software", "thesis")
"""Those of its types of works that a reference of ours may have."""


@pytest.fixture
def citation() -> dict[str, Any]:
    # Texts as they are written: a version is no number, and a day no date, until they were looked at.
    loaded: dict[str, Any] = yaml.load((ROOT / "CITATION.cff").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    return loaded


def faults(citation: dict[str, Any]) -> list[str]:
    """Return the faults of a citation by the rules of the Citation File Format 1.2.0."""
    found = [f"no {key}" for key in ("authors", "cff-version", "message", "title") if not citation.get(key)]
    found += [f"unknown key {key}" for key in citation.keys() - {*ABOUT_WORK.split()}]
    found += [] if citation.get("cff-version") == "1.2.0" else ["another version of the format"]
    found += [] if citation.get("type", "software") in ("software", "dataset") else ["type"]
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", citation.get("date-released", "2000-01-01")):
        found.append("date-released is no day")
    for work in (citation, *citation.get("references", [])):
        found += [f"author {author}" for author in work.get("authors", []) if not is_author(author)]
    for work in citation.get("references", []):
        found += [f"a reference without {key}" for key in ("authors", "title", "type") if not work.get(key)]
        found += [] if work.get("type") in REFERENCE_TYPES else [f"reference type {work.get('type')}"]
    return found


def is_author(author: dict[str, Any]) -> bool:
    """Return whether the keys fit: an entity has a name and none of a person; a person has at least one of theirs."""
    keys = author.keys()
    return ("name" in keys and keys <= {*ABOUT_ENTITY.split()}) or (bool(keys) and keys <= {*ABOUT_PERSON.split()})


def test_the_citation_is_valid(citation: dict[str, Any]) -> None:
    assert faults(citation) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"title": ""}, "no title"),
        ({"licence": "MIT"}, "unknown key licence"),
        ({"date-released": "27 November"}, "date-released is no day"),
        ({"authors": [{"name": "A", "given-names": "B"}]}, "author {'name': 'A', 'given-names': 'B'}"),
        ({"references": [{"type": "paper", "authors": [{"name": "A"}], "title": "T"}]}, "reference type paper"),
    ],
)
def test_a_citation_with_a_fault_is_not(citation: dict[str, Any], change: dict[str, Any], fault: str) -> None:
    assert faults({**citation, **change}) == [fault]


def test_version_and_day_are_the_same_everywhere(citation: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert citation["version"] == __version__
    assert SECTIONS[0] == f"{__version__} ({citation['date-released']})"
    assert citation["license"] == "MIT" and "MIT License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_changelog_goes_back_version_by_version() -> None:
    found = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+) \((\d{4}-\d{2}-\d{2})\)", section) for section in SECTIONS]
    assert all(found)
    versions = [tuple(map(int, section.groups()[:3])) for section in found if section]
    days = [date.fromisoformat(section[4]) for section in found if section]
    assert versions == sorted(versions, reverse=True) and days == sorted(days, reverse=True)


def test_the_changelog_names_every_verb() -> None:
    newest = CHANGELOG.partition(f"## {SECTIONS[0]}")[2].partition(f"\n## {SECTIONS[1]}")[0]
    headings = re.findall(r"^### (.*)$", newest, flags=re.MULTILINE)
    named = {verb for heading in headings for verb in heading.removesuffix(" (new)").split(" and ")}
    assert named == {*VERBS} - {"demo"} | {"All verbs", "Project"}
    older = CHANGELOG.partition(f"\n## {SECTIONS[1]}")[2]
    for heading in headings:
        verb = heading.removesuffix(" (new)")
        assert verb == heading or f"`{verb}`" not in older, heading


def test_contributing_is_a_page_and_names_what_there_is() -> None:
    assert len(CONTRIBUTING.splitlines()) <= 80
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (declared,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", makefile, flags=re.MULTILINE)
    targets = set(declared.replace("\\\n", " ").split())
    for line in re.findall(r"`make ([^`]+)`", CONTRIBUTING) + re.findall(r"^make (.*?)(?:#.*)?$", CONTRIBUTING, re.M):
        named = {word for word in line.split() if "=" not in word}
        assert named <= targets, named - targets
    for path in re.findall(r"`((?:tests|docs|scripts|cfbuild|\.ci)/[\w./-]+)", CONTRIBUTING):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)#:]+)\)", CONTRIBUTING):
        assert (ROOT / target).exists(), target
    assert "[CONTRIBUTING.md](CONTRIBUTING.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
