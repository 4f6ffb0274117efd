"""The glossary's names are those of the schemas, the command line and the API, and every metric is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_docs import COMMANDS

import cfbuild
from cfbuild.score.metrics import HARMONIC, METRICS, TEXT_METRICS

ROOT = Path(__file__).resolve().parents[1]
LINES = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
TABLES = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in LINES if line.startswith("| ")]
ROWS = [row for row in TABLES if len(row) == 3]
PARTS = [part for command in COMMANDS.values() for part in (*getattr(command, "commands", {}).values(), command)]
OPTIONS = {option for part in PARTS for parameter in part.params for option in parameter.opts}
ENTRIES = {word: re.findall(r"`([^`]+)`", also) for word, _, also in ROWS if word != "word"}


def properties(schema: Any) -> Iterator[str]:
    """Yield the names of a schema's properties, at any depth."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from properties(inner)


@pytest.mark.parametrize("word", ENTRIES)
def test_every_name_that_a_word_has_elsewhere_exists(word: str) -> None:
    assert ENTRIES[word], "a word that is nowhere else needs no entry"
    for name in ENTRIES[word]:
        if name.startswith("--"):
            assert name in OPTIONS
        elif name.startswith("cf."):
            assert name.removeprefix("cf.") in cfbuild.__all__
        else:
            table, column = name.split(".")
            schema = json.loads((ROOT / "schemas" / f"{table}.schema.json").read_text(encoding="utf-8"))
            assert column in properties(schema)


def test_no_word_comes_twice_and_every_metric_of_the_paper_is_explained() -> None:
    words = [row[0] for row in ROWS if row[0] != "word"]
    assert len(words) == len(set(words))
    explained = {part for word in words for part in word.split(", ")}
    paper = {metric.name for metric in METRICS if metric.name.isupper()} | {"GE", "RS", "S", *HARMONIC}
    assert paper <= explained and {name for name in TEXT_METRICS if name.isupper()} <= explained
