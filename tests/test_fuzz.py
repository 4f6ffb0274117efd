"""A fixed few mutated inputs for every parser; `make fuzz` tries at least 100,000 each."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fuzz import fuzz, parsers

PARSERS = parsers()
TOLERANT = ("records, validated", "journal", "row log", "Retry-After")
"""Parsers that report faults, or keep what is whole, and raise nothing."""


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_or_refuses_whatever_comes(name: str, tmp_path: Path) -> None:
    logging.disable(logging.CRITICAL)
    try:
        read, refused = fuzz(name, PARSERS[name], 400, tmp_path)
    finally:
        logging.disable(logging.NOTSET)
    assert read and (refused or name in TOLERANT) and read + refused == 400
