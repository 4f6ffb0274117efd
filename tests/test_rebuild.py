"""The commands of a card's "Rebuild", run as they stand on the same sources, make the same files."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from mediawiki import MediaWiki, Page, Wiki
from servers import oxigraph
from typer.testing import CliRunner

from cfbuild.cli import app
from cfbuild.cli.generate import _sampler
from cfbuild.filter.rank import RankFilter
from cfbuild.filter.thresholds import FilterOptions
from cfbuild.lm.load import load
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.fetch import FetchOptions, fetch
from cfbuild.pipeline.generate import GenerateOptions, generate
from cfbuild.pipeline.publish import stage
from cfbuild.pipeline.rebuild import rebuild
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.progress import silent
from cfbuild.records.draft import BuildOptions
from cfbuild.records.groups import GROUPS
from cfbuild.sources.endpoints import endpoint_url
from cfbuild.store.folder import BuildFolder
from cfbuild.store.manifest import VerbEntry

COMPARED = ("records.jsonl", "rejected.jsonl", "facts.jsonl", "entities.jsonl", "templates.jsonl", "references.jsonl")
SCHEMA = "http://schema.org/"
OWN_TEMPLATES = "[rewrite]\n{} once said that the answer is\n{}, when asked, will always say\n{} would have answered\n"
OWN_SENTENCES = (
    "The rain had stopped before anybody noticed it. Nobody in the street wanted to go home so early. "
    "A dog barked at the postman and then fell asleep again. The old clock in the hall is ten minutes slow."
)
SLOW = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Home:
    """A user's folder: templates, patterns and sentences of their own, and a model."""

    root: Path
    lm: LanguageModel

    def path(self, name: str) -> str:
        return str(self.root / name)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    root = tmp_path_factory.mktemp("home")
    for name in ("my templates", "pararel"):
        (root / name).mkdir()
    for relation in ("P103", "P19", "P36"):
        (root / "my templates" / f"{relation}.txt").write_text(OWN_TEMPLATES)
        (root / "pararel" / f"{relation}.jsonl").write_text('{"pattern": "[X] is known for [Y]."}\n')
    (root / "notes.txt").write_text(OWN_SENTENCES)
    lm = tiny.make("gpt2")
    lm.model.save_pretrained(root / "tiny model")
    lm.tokenizer.save_pretrained(root / "tiny model")
    return Home(root, load(str(root / "tiny model"), device="cpu"))


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield a small Wikidata: people with a mother tongue and one or two places of birth, in English and French."""
    item, direct = "http://www.wikidata.org/entity/Q", "http://www.wikidata.org/prop/direct/"
    label = "http://www.w3.org/2000/01/rdf-schema#label"
    names = {10: ("Oslo", "Oslo"), 11: ("Lima", "Lima"), 12: ("Quito", "Quito"), 20: ("German", "allemand")}
    names |= {21: ("Danish", "danois"), 22: ("Spanish", "espagnol")}
    names |= {100 + number: (f"Ada Moe{number}", f"Ada Moe{number}") for number in range(18)}
    links = [(100 + number, "P103", 20 + number % 3) for number in range(18)]
    links += [(100 + number, "P19", 10 + number * number % 3) for number in range(18)] + [(100, "P19", 12)]
    lines = [f"<{item}{s}> <{direct}{p}> <{item}{o}> ." for s, p, o in links]
    for number in range(18):
        for language in ("en", "fr"):
            page, home = f"<https://{language}.wikipedia.org/wiki/{number}>", f"<https://{language}.wikipedia.org/>"
            lines.append(f"{page} <{SCHEMA}about> <{item}{100 + number}> .")
            lines.append(f"{page} <{SCHEMA}isPartOf> {home} .")
            lines.append(f'{page} <{SCHEMA}name> "Ada Moe{number}"@{language} .')
    for number, (english, french) in names.items():
        lines += [f'<{item}{number}> <{label}> "{english}"@en .', f'<{item}{number}> <{label}> "{french}"@fr .']
    with oxigraph(tmp_path_factory.mktemp("graph"), "\n".join(lines)) as url:
        yield url


@pytest.fixture(scope="module")
def wikipedia() -> Iterator[str]:
    """Yield the API of a small Wikipedia with articles about the people."""
    titles = {100 + number: f"Ada Moe{number}" for number in range(18)}
    pages = [Page(title, f"{title} was a poet of note.", f"Q{number}", revision=7) for number, title in titles.items()]
    with MediaWiki(Wiki({page.title: page for page in pages})) as served:
        yield served.url


def commands(card: str) -> tuple[list[list[str]], list[str]]:
    """Return the commands of a card as words, and the notes under them."""
    found = re.search(r"^## Rebuild$.*?^(`{3,})sh\n(.*?)\n\1$", card, flags=re.DOTALL | re.MULTILINE)
    assert found, card
    lines = found[2].split("\n")
    notes = [line for line in lines if line.startswith("# ")]
    return [shlex.split(line) for line in lines if not line.startswith("# ")], notes


def digests(folder: BuildFolder) -> dict[str, str]:
    paths = [folder.path(name) for name in COMPARED]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.exists()}


def configs(folder: BuildFolder) -> dict[str, Any]:
    return {verb: entry.config for verb, entry in folder.manifest().verbs.items()}


def made_again(folder: BuildFolder, home: Home, place: Path) -> dict[str, str]:
    """Return the digests of what the card's commands make in the folder `place`, with the user's files in it."""
    shutil.copytree(home.root, place)
    words, _ = commands(stage(folder, "ann/again").card)
    assert [each[:2] for each in words] == [["cfbuild", "fetch"], ["cfbuild", "generate"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for each in words:
            shown = CliRunner().invoke(app, [*each[1:], "--quiet"])
            assert shown.exit_code == 0, (each, shown.output, shown.exception)
    again = BuildFolder(place / "build")
    assert configs(again) == configs(folder), "where a difference changes no byte by chance"
    return digests(again)


def made(
    folder: BuildFolder, fetched: FetchOptions, options: GenerateOptions, judge: RankFilter | None, lm: Any
) -> int:
    """Build in Python; return how many records there are."""
    fetch(folder, fetched)
    sampler = _sampler(lm, options.build.seed, silent) if options.prefixes == "model" else None
    return generate(folder, options, judge, sampler=sampler).kept


OPTIONS = {
    "limit": st.none() | st.integers(4, 20),
    "per_relation": st.none() | st.integers(3, 9),
    "min_neighbors": st.integers(0, 1),
    "min_pool": st.integers(2, 3),
    "allow_several": st.booleans(),
    "allow_symmetric": st.booleans(),
    "groups": st.lists(st.sampled_from(sorted(GROUPS)), unique=True).map(tuple),
}
COUNTS = {"seed": st.integers(0, 3), "max_draws": st.integers(3, 10), "prompts_per_entity": st.integers(1, 2)}
THRESHOLDS = st.builds(
    FilterOptions,
    min_rank_share=st.sampled_from([0.0, 0.1, 0.5]),
    max_true_rank=st.none() | st.integers(2, 9),
    min_neighbors_right=st.sampled_from([0.0, 0.1]),
)


@SLOW
@given(data=st.data())
def test_a_build_of_the_snapshot_is_made_again(
    home: Home, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("snapshot")
    sets = [("builtin",), ("builtin", "pararel"), (home.path("my templates"), "builtin")]
    fetched = FetchOptions(
        source="snapshot",
        relations=data.draw(st.sampled_from([("P103", "P27"), ("P19", "P103")])),
        per_relation=data.draw(st.integers(15, 60)),
        seed=data.draw(st.integers(0, 3)),
        templates=data.draw(st.sampled_from(sets)),
        pararel=home.path("pararel"),
    )
    options = GenerateOptions(
        build=BuildOptions(**data.draw(st.fixed_dictionaries(COUNTS))),
        relations=data.draw(st.sampled_from([(), ("P103",)])),
        prefixes=data.draw(st.sampled_from(["builtin", "none", home.path("notes.txt")])),
        **data.draw(st.fixed_dictionaries(OPTIONS)),
    )
    folder = BuildFolder(place / "first")
    assume(made(folder, fetched, options, None, home.lm) > 0)
    assert made_again(folder, home, place / "again") == digests(folder)


@pytest.mark.long
@SLOW
@given(data=st.data())
def test_a_build_of_wikidata_filtered_by_a_model_is_made_again(
    home: Home, endpoint: str, wikipedia: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("wikidata")
    language = data.draw(st.sampled_from(["en", "fr"]))
    fetched = FetchOptions(
        endpoint=endpoint,
        relations=data.draw(st.sampled_from([("P103", "P19"), ("P19",)])),
        language=language,
        per_relation=data.draw(st.none() | st.integers(12, 18)),
        statements=data.draw(st.booleans()),
        references=data.draw(st.booleans()),
        references_per_object=data.draw(st.integers(1, 6)),
        wikipedia=wikipedia,
        seed=data.draw(st.integers(0, 3)),
        templates=("builtin", home.path("my templates")) if language == "en" else (home.path("my templates"),),
    )
    options = GenerateOptions(
        build=BuildOptions(**data.draw(st.fixed_dictionaries(COUNTS))),
        language=language,
        prefixes=data.draw(st.sampled_from(["none", home.path("notes.txt")])),
        **data.draw(st.fixed_dictionaries(OPTIONS)),
    )
    folder = BuildFolder(place / "first")
    judge = RankFilter(home.lm, data.draw(THRESHOLDS))
    assume(made(folder, fetched, options, judge, home.lm) > 0)
    assert made_again(folder, home, place / "again") == digests(folder)


def test_prefixes_that_a_model_writes_are_made_again_without_a_filter(home: Home, tmp_path: Path) -> None:
    fetched = FetchOptions(source="snapshot", relations=("P103",), per_relation=20)
    options = GenerateOptions(prefixes="model", limit=4, min_neighbors=0)
    texts = [OWN_SENTENCES] * 3
    with pytest.MonkeyPatch.context() as patch:
        # A random model writes no sentences; what matters is that the command asks for the same model's.
        patch.setattr("cfbuild.lm.sample.sample_texts", lambda lm, seed, *size: [f"{text} {seed}" for text in texts])
        folder = BuildFolder(tmp_path / "first")
        assert made(folder, fetched, options, None, home.lm) == 4
        assert made_again(folder, home, tmp_path / "again") == digests(folder)
    words, _ = commands(stage(folder, "ann/again").card)
    assert {"--no-filter", "--prefixes", "--model"} <= set(words[1])


def test_files_of_the_user_are_named_and_their_digests_told(home: Home, tmp_path: Path) -> None:
    folder = BuildFolder(tmp_path / "build")
    fetched = FetchOptions(source="snapshot", relations=("P103",), templates=("builtin", home.path("my templates")))
    options = GenerateOptions(prefixes=home.path("notes.txt"), limit=3)
    made(folder, fetched, options, RankFilter(home.lm, FilterOptions(0.0)), home.lm)
    config = configs(folder)
    words, notes = commands(stage(folder, "ann/again").card)
    assert words[0][words[0].index("--templates") + 1] == "builtin,./my templates"
    assert words[1][words[1].index("--prefixes") + 1] == "./notes.txt"
    assert words[1][words[1].index("--model") + 1] == "./tiny model" and "--revision" not in words[1]
    expected = {
        "my templates": config["fetch"]["templates"][1].split("@")[1],
        "notes.txt": config["generate"]["prefixes"]["sha256"][:16],
        "tiny model": config["generate"]["model_filter"]["revision"].removeprefix("folder:")[:16],
    }
    for name, digest in expected.items():
        assert any(f"'{name}'" in note and note.endswith(digest) for note in notes), (name, notes)
    assert (
        str(tmp_path) not in stage(folder, "ann/again").card and str(home.root) not in stage(folder, "ann/again").card
    )


def words_of(verb: str, config: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the command for one verb's config in one line, and its notes."""
    made = rebuild({verb: VerbEntry(config)})
    (command,) = made.commands
    return shlex.join(command), list(made.notes)


def test_services_are_named_where_they_are_not_the_usual_ones_and_public_ones_need_a_contact() -> None:
    usual = {"source": "wikidata", "endpoint": endpoint_url(None), "language": "de", "seed": 0, "references": 3}
    command, notes = words_of("fetch", {**usual, "wikipedia": "https://de.wikipedia.org/w/api.php"})
    assert command == "fetch --references --references-per-object 3 --language de --seed 0"
    assert len(notes) == 1 and "CFBUILD_CONTACT" in notes[0]
    command, notes = words_of(
        "fetch", {**usual, "endpoint": "http://127.0.0.1:9/q", "wikipedia": "http://10.0.0.1/api"}
    )
    assert "--endpoint http://127.0.0.1:9/q" in command and "--wikipedia http://10.0.0.1/api" in command
    assert notes == []
    command, notes = words_of("fetch", {**usual, "endpoint": "http://127.0.0.1:9/q?sha256-0123456789ab"})
    assert len(notes) == 1 and "query" in notes[0]


def test_a_model_of_the_hub_comes_with_its_revision_and_number_format() -> None:
    judge = {"model": "gpt2-xl", "revision": "abc", "dtype": "float32", "trusted": True, "min_rank_share": 0.25}
    command, notes = words_of("generate", {"build": {"seed": 1}, "model_filter": judge})
    assert command == "generate --min-rank 0.25 --seed 1 --model gpt2-xl --dtype float32 --revision abc --trust gpt2-xl"
    assert notes == []


def test_the_embedded_model_needs_no_file_of_the_user() -> None:
    judge = {"model": "smollm2-135m", "revision": "gguf:0123456789abcdef", "dtype": "float32"}
    assert words_of("generate", {"model_filter": judge}) == ("generate --dtype float32", [])


def test_what_only_python_can_set_is_told() -> None:
    command, notes = words_of("generate", {"build": {"seed": 0, "paraphrases": 4}, "model_filter": None})
    assert command == "generate --no-filter --seed 0"
    assert notes == ["paraphrases was 4, which only Python can set"]


def test_a_scored_build_tells_how_it_was_scored() -> None:
    config = {"editor": "rome", "layer": 3, "steps": None, "seed": 2, "skip_generation": True, "settings": {"kl": 0.5}}
    config |= {"covariance": "corpus.txt@0123456789abcdef", "model": "gpt2-xl", "revision": "abc", "limit": 5}
    command, notes = words_of("validate-and-score", config)
    assert command == (
        "validate-and-score --layer 3 --covariance ./corpus.txt --set kl=0.5 --limit 5 --skip-generation --seed 2 "
        "--model gpt2-xl --revision abc"
    )
    assert len(notes) == 1 and "corpus.txt" in notes[0]


def test_runs_of_a_build_are_scored_again(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFBUILD_CACHE", str(tmp_path / "cache"))
    folder = BuildFolder(tmp_path / "first")
    made(folder, FetchOptions(source="snapshot", relations=("P103",)), GenerateOptions(limit=3), None, home.lm)
    common = {"layer": 1, "steps": 2, "skip_generation": True}
    for options in (
        EvaluateOptions(editor="emmet", run="two-at-once", batch=2, keep_edits=True, covariance_tokens=200, **common),
        EvaluateOptions(editor="rome", covariance=home.path("notes.txt"), seed=3, limit=2, **common),
    ):
        evaluate(folder, options, home.lm)
    place = tmp_path / "again"
    shutil.copytree(home.root, place)
    words, notes = commands(stage(folder, "ann/again").card)
    assert [each[1] for each in words] == ["fetch", "generate", "validate-and-score", "validate-and-score"]
    assert any("notes.txt" in note for note in notes) and any("tiny model" in note for note in notes)
    monkeypatch.chdir(place)
    for each in words:
        shown = CliRunner().invoke(app, [*each[1:], "--quiet"])
        assert shown.exit_code == 0, (each, shown.output, shown.exception)
    again = BuildFolder(place / "build")
    assert configs(again) == configs(folder)
    names = ["runs/two-at-once/cases.jsonl", "runs/two-at-once/edits.safetensors", "runs/rome/cases.jsonl"]
    assert [again.path(name).read_bytes() for name in names] == [folder.path(name).read_bytes() for name in names]
