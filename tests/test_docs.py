"""The documentation names every command, and each of its code blocks runs as it stands, or says why not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny
import yaml
from docs_session import commands, words_of
from hub import TOKEN, Hub, Repository, loopback_hub
from servers import oxigraph
from test_notebook import NOTEBOOK, code_cells, tags
from typer.main import get_command
from typer.testing import CliRunner

from cfbuild.cli import VERBS, app
from cfbuild.cli import command as command_of
from cfbuild.lm.families import PRESETS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
COMMANDS = {verb: command_of(verb) for verb in VERBS}
ABOUT_THE_CODE = (ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", DOCS / "internals.md", DOCS / "extending.md")
NOT_THERE = {"config.py", "cfbuild/sources/table.py", "dist/"}
"""Files that these pages name as what there might be, and a folder that is made."""
OTHER_TOOLS = ("lm_eval", "inspect", "podman")
"""Programs that read what cfbuild exports, which test_tools.py runs, and the one that makes and runs images."""
LANGUAGES = {"sh": "sh", "bash": "sh", "console": "sh", "": "sh", "python": "python"}
MODELS = {
    PRESETS["gpt2-medium"].hub_id: ("gpt2", {"n_layer": 10, "max_position_embeddings": 512}),
    PRESETS["gpt2-xl"].hub_id: ("gpt2", {"n_layer": 20, "max_position_embeddings": 512}),
    "Qwen/Qwen2.5-0.5B": ("qwen2", {"max_position_embeddings": 512}),
}
"""Random models, deep enough for the layers that the presets edit, served under the real ones' names."""


SMALL = "MODEL, RECORDS, COVARIANCE_TOKENS = 'gpt2-medium', 2, 300"
"""The notebook's cell of parameters as it is run: everything else in it runs as it is."""


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str
    not_run: str | None
    """Why it is not run, from a comment on the line before it; None where it is."""


def _blocks(path: Path) -> Iterator[Block]:
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        marker = re.search(r"<!-- not run: (.*?) -->\n\Z", text[: found.start()], flags=re.DOTALL)
        line = text.count("\n", 0, found.start()) + 1
        yield Block(path.name, line, found[1], found[2], marker[1] if marker else None)


def _cells() -> Iterator[Block]:
    """Yield the notebook's cells as blocks of a page, with small numbers and a small model; nothing is installed."""
    for number, cell in enumerate(code_cells()):
        if "install" not in tags(cell):
            text = "".join(cell["source"])
            yield Block(NOTEBOOK.name, number, "python", SMALL if "parameters" in tags(cell) else text, None)


BLOCKS = [*(block for path in PAGES for block in _blocks(path)), *_cells()]
RUN = [block for block in BLOCKS if block.not_run is None]
NOT_RUN = [block for block in BLOCKS if block.not_run is not None]


def understand(words: list[str]) -> None:
    """Have the command line read a command's words, a part's options too, and run nothing."""
    name, *rest = words
    context = COMMANDS[name].make_context(name, rest)
    if hasattr(context.command, "commands"):
        part, found, rest = context.command.resolve_command(context, rest)
        found.make_context(part, rest, parent=context)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_documented(command: str) -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert f"| `cfbuild {command}` |" in text
    shown = CliRunner().invoke(app, [command, "--help"], catch_exceptions=False).stdout
    assert "Examples:" in shown
    examples = re.findall(r"`cfbuild (.*?)`", COMMANDS[command].epilog)
    assert examples
    for example in examples:
        words = words_of(example)[1]
        assert words[0] == command
        understand(words)


def test_no_command_is_documented_that_does_not_exist() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        code = [*re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL), *re.findall(r"`([^`\n]+)`", text)]
        named = {name for block in code for name in re.findall(r"^cfbuild ([a-z][a-z-]+)", block, flags=re.MULTILINE)}
        assert named <= set(COMMANDS), path.name


def test_the_site_has_every_page_once() -> None:
    def pages(part: Any) -> Iterator[str]:
        for entry in part.values() if isinstance(part, dict) else part:
            yield from [entry] if isinstance(entry, str) else pages(entry)

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(pages(site["nav"])) == sorted(path.name for path in DOCS.glob("*.md"))


# --------------------------------------------------------------------------------------------------- the code blocks


FULL = 12
"""People of the same city and language: each has ten neighbors, and one more that is left out."""
ENDINGS = ("stad", "vik", "ham", "gate", "mont", "burg", "dorf")


def _triples() -> str:
    """Return a small Wikidata in English and French, of the relations that the pages build from."""
    item, direct = "http://www.wikidata.org/entity/Q", "http://www.wikidata.org/prop/direct/"
    label = "http://www.w3.org/2000/01/rdf-schema#label"
    names: dict[int, tuple[str, str]] = {5: ("human", "être humain"), 515: ("city", "ville")}
    names |= {34770: ("language", "langue"), 6256: ("country", "pays"), 7725634: ("literary work", "œuvre littéraire")}
    links: list[tuple[int, str, int]] = []

    def add(start: int, kind: int, pairs: list[tuple[str, str]]) -> list[int]:
        numbers = list(range(start, start + len(pairs)))
        names.update(zip(numbers, pairs, strict=True))
        links.extend((number, "P31", kind) for number in numbers)
        return numbers

    both = ["Oslo", "Lima", "Quito", "Hanoi", "Accra", "Sofia", "Berlin", "Paris"]
    both += [f"{a}{b}" for a in ("Nor", "Sud", "Ost", "Vel", "Mar", "Bel", "Tor", "Kar") for b in ENDINGS]
    cities = add(9100, 515, [(name, name) for name in both])
    tongues = [("French", "français"), ("German", "allemand"), ("Spanish", "espagnol"), ("Danish", "danois")]
    languages = add(9200, 34770, tongues)
    countries = add(9300, 6256, [(name, name) for name in ("Peru", "Ghana", "Cuba")])
    first = ["Ada", "Bo", "Chen", "Dora", "Edda", "Finn", "Gus", "Hal", "Ida", "Jon", "Kim", "Lea", "Mia"]
    last = ["Lang", "Moe", "Nagel", "Oxley", "Pratt", "Quirk", "Rusk", "Stark", "Thule", "Udal", "Vance", "Wynn"]
    people = add(9400, 5, [(f"{a} {b}", f"{a} {b}") for a in first for b in last][: FULL + len(cities) - 1])
    words = ["River", "Winter", "Lantern", "Orchard", "Garden", "Ladder", "Mirror"]
    books = add(9700, 7725634, [(f"The {a} of the {b}", f"{a} {b}") for a in words for b in words if a != b])
    links += [(one, "P36", cities[place]) for place, one in enumerate(countries)]
    # One city and one language have just enough people for full neighborhoods; the other cities fill a pool.
    links += [(one, "P19", cities[max(0, place + 1 - FULL)]) for place, one in enumerate(people)]
    links += [(one, "P103", languages[max(0, place + 1 - FULL)]) for place, one in enumerate(people[: FULL + 3])]
    links += [(one, "P50", people[place * place % 3]) for place, one in enumerate(books)]
    links += [(one, "P50", people[5]) for one in books[:3]]
    lines = [f"<{item}{s}> <{direct}{p}> <{item}{o}> ." for s, p, o in links]
    for number, (english, french) in names.items():
        lines += [f'<{item}{number}> <{label}> "{english}"@en .', f'<{item}{number}> <{label}> "{french}"@fr .']
    return "\n".join(lines)


def _serve_models(hub: Hub, folder: Path) -> None:
    for name, (family, shape) in MODELS.items():
        lm, place = tiny.make(family, **shape), folder / name
        lm.model.save_pretrained(place)
        lm.tokenizer.save_pretrained(place)
        repository = Repository(private=False)
        files = {path.name: path.read_bytes() for path in place.iterdir()}
        repository.branches["main"] = repository.commit(files, "")
        hub.repositories[name] = repository


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the result of each block that is run, in one process for all of them."""
    folder = tmp_path_factory.mktemp("docs")
    pages: dict[str, list[tuple[str, str]]] = {}
    for block in RUN:
        pages.setdefault(block.page, []).append((LANGUAGES[block.language], block.text))
    (folder / "pages").mkdir()
    with loopback_hub() as hub, oxigraph(folder, _triples()) as endpoint:
        _serve_models(hub, folder / "models")
        given = {"endpoint": endpoint, "root": str(folder / "pages"), "pages": pages}
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]),
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(folder / "home"),
            "HF_XET_XORB_COMPRESSION_POLICY": "none",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "CFBUILD_CACHE": str(folder / "cache"),
        }
        script = str(ROOT / "tests" / "docs_session.py")
        ran = subprocess.run(
            [sys.executable, script],
            input=json.dumps(given),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr[-4000:]
    found: dict[str, str] = json.loads((folder / "pages" / "results.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("page", sorted({block.page for block in RUN}))
def test_the_blocks_of_a_page_run(page: str, results: dict[str, str]) -> None:
    blocks = [block for block in RUN if block.page == page]
    for number, block in enumerate(blocks):
        assert results.get(f"{page}:{number}") == "", f"{page}, line {block.line}: {results.get(f'{page}:{number}')}"


@pytest.mark.parametrize("block", NOT_RUN, ids=[f"{block.page}:{block.line}" for block in NOT_RUN])
def test_a_block_that_is_not_run_says_why_and_is_understood(block: Block) -> None:
    assert len(block.not_run or "") > 20
    assert LANGUAGES[block.language] == "sh"
    for command in commands(block.text):
        program, *words = words_of(command)[1]
        if program == "cfbuild":
            understand(words)
        else:
            made = program == "make" and re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert made or program in OTHER_TOOLS


def test_options_that_prose_names_exist() -> None:
    parts = [part for one in COMMANDS.values() for part in (*getattr(one, "commands", {}).values(), one)]
    parts.append(get_command(app))
    known = {option for part in parts for one in part.params for option in one.opts}
    for path in PAGES:
        prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        named = set(re.findall(r"`[^`\n]*?(--[a-z][a-z-]+)", prose))
        assert named <= known | {"--help", "--no-deps", "--metadata"}, path.name  # pip's and lm_eval's


def test_the_formats_page_is_made_from_the_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import make_formats

    assert make_formats.PAGE.read_text(encoding="utf-8") == make_formats.page(), "run python scripts/make_formats.py"


def test_every_link_leads_to_a_file() -> None:
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


@pytest.mark.parametrize("page", ABOUT_THE_CODE, ids=lambda page: page.stem)
def test_files_of_the_code_that_a_page_names_are_there(page: Path) -> None:
    """Find each by the end of its path, such as `sources/parts.py`."""
    files = [f"/{path.relative_to(ROOT).as_posix()}" for path in ROOT.rglob("*") if ".venv" not in path.parts]
    named = set(re.findall(r"`([a-z_0-9/]+(?:\.(?:py|tsv|txt)|/))`", page.read_text(encoding="utf-8")))
    assert not [name for name in named - NOT_THERE if not any(file.endswith(f"/{name.rstrip('/')}") for file in files)]


def test_pictures_are_small_and_have_an_alternative_text() -> None:
    """Check too that those of `scripts/screenshots.py` are all shown."""
    shown = set()
    for path in (*PAGES, ROOT / "ARCHITECTURE.md"):
        for text, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
            picture = (path.parent / target).resolve()
            shown.add(picture)
            assert len(text) > 25 and picture.stat().st_size < 200_000, f"{path.name}: {target}"
    assert {*DOCS.glob("*.png"), *DOCS.glob("*.svg")} <= shown


def test_every_test_that_the_table_of_faults_names_exists() -> None:
    text = (DOCS / "faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert {f"| {number} |" for number in range(1, 23)} <= set(re.findall(r"^\| \d+ \|", text, flags=re.MULTILINE))
    for line in text.splitlines():
        assert not re.match(r"\| \d+ \|", line) or "::test_" in line
    for file, test in named:
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {test}\(", source, flags=re.MULTILINE), f"{file}::{test}"
