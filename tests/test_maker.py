"""Records from facts, rules and a model without any folder: the same that `cfbuild generate` writes."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from small_world import SMALL, item, templates, world, write_world
from test_generate import FakeFilter

from cfbuild.data import Entity, Fact, Record, Rejection, Template
from cfbuild.errors import BuildStateError, ConfigError, DataError
from cfbuild.filter.context import RuleContext, Rules
from cfbuild.filter.rank import FilterOptions, RankFilter
from cfbuild.pipeline.fetch import FetchOptions, fetch
from cfbuild.pipeline.generate import GenerateOptions, generate
from cfbuild.records import making as making_module
from cfbuild.records.builder import Builder
from cfbuild.records.draft import BuildOptions
from cfbuild.records.factset import FactSet, read_facts, snapshot
from cfbuild.records.maker import Made, RecordMaker
from cfbuild.records.prefixes import Prefixes
from cfbuild.records.turns import Selection
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.templates.sentences import distractor_prefixes

GOOD = ("The market opened early in the morning.", "The letter arrived two weeks too late.", "Oslo was very cold.")


def facts_of_world() -> FactSet:
    facts, entities = world()
    return FactSet(tuple(facts), tuple(entities), (*templates("P551"), *templates("P937")))


def lines(made: Made) -> tuple[bytes, bytes]:
    """Return the contents of a build's two files."""
    encoded = map(codec.encode_record, made.records), map(codec.encode_rejection, made.rejected)
    records, rejected = ("".join(jsonl.dump_row(row) + "\n" for row in rows).encode() for rows in encoded)
    return records, rejected


def files(folder: BuildFolder) -> tuple[bytes, bytes]:
    return folder.path("records.jsonl").read_bytes(), folder.path("rejected.jsonl").read_bytes()


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    folder = BuildFolder(tmp_path_factory.mktemp("snapshot") / "build")
    fetch(folder, FetchOptions(source="snapshot"))
    return folder


def test_more_neighbors_than_are_asked_for_are_no_minimum() -> None:
    with pytest.raises(ConfigError, match="min_neighbors is 10 and neighborhood is 9"):
        RecordMaker(facts_of_world(), build=BuildOptions(neighborhood=9))
    assert RecordMaker(facts_of_world(), SMALL, BuildOptions(neighborhood=9)).make().records


def test_the_snapshot_is_what_fetch_writes_of_it(fetched: BuildFolder) -> None:
    ours, theirs = snapshot(), read_facts(fetched.root)
    assert ours.relations == theirs.relations and ours.language == theirs.language == "en"
    assert set(ours.facts) == set(theirs.facts) and len(ours.facts) == len(theirs.facts)
    assert set(ours.templates) == set(theirs.templates) and len(ours.templates) == len(theirs.templates)
    by_id = ({entity.id: entity for entity in entities} for entities in (ours.entities, theirs.entities))
    mine, written = by_id
    assert mine == written and len(mine) == len(ours.entities)


@pytest.mark.parametrize(
    ("choice", "filtered"),
    [({"limit": 50}, False), ({"limit": 30, "per_relation": 3}, True), ({"relations": ("P37", "P103")}, True)],
)
def test_a_maker_makes_what_the_verb_writes(fetched: BuildFolder, choice: dict[str, Any], filtered: bool) -> None:
    models = (FakeFilter(), FakeFilter()) if filtered else (None, None)
    options = GenerateOptions(**choice, build=BuildOptions(seed=3), min_neighbors=2, restart=True)
    generate(fetched, options, models[0])
    made = RecordMaker(snapshot(), rules=Rules(min_neighbors=2), seed=3).make(**choice, model=models[1])
    assert lines(made) == files(fetched)
    references = RecordMaker(snapshot(), seed=3).references(choice.get("relations"))
    written = fetched.path("references.jsonl").read_text(encoding="utf-8")
    assert "".join(jsonl.dump_row(codec.encode_reference(one)) + "\n" for one in references) == written


def test_plain_tuples_give_records_and_rejects_with_their_rule() -> None:
    given = facts_of_world()
    records, rejected = RecordMaker(given, SMALL).make()
    assert records and all(isinstance(record, Record) and record.groups for record in records)
    assert sorted(made.case_id for made in (*records, *rejected)) == list(range(len(given.facts)))
    assert {rejection.decision.rule for rejection in rejected} == {"several-objects"}
    assert all(rejection.subject and rejection.decision.measured for rejection in rejected)
    several = RecordMaker(given, replace(SMALL, allow_several=True)).make(relations=["P551"])
    assert len(several.records) == 120 and {record.relation for record in several.records} == {"P551"}
    assert {rejection.decision.measured.get("chosen") for rejection in several.rejected} != {None}


@pytest.mark.parametrize(
    ("rules", "rule"),
    [
        (Rules(min_neighbors=99), "too-few-neighbors"),
        (replace(SMALL, min_sitelinks=1), "popularity"),
        (replace(SMALL, max_sitelinks=1), "popularity"),
    ],
)
def test_each_option_of_the_rules_reaches_its_rule(rules: Rules, rule: str) -> None:
    records, rejected = RecordMaker(facts_of_world(), rules, BuildOptions(neighborhood=99)).make()
    assert not records and {rejection.decision.rule for rejection in rejected} == {"several-objects", rule}


def test_a_fact_with_too_few_neighbors_is_never_drafted(monkeypatch: pytest.MonkeyPatch) -> None:
    drafted, tried = [], []
    draft, draws = Builder.draft, Builder._draws
    monkeypatch.setattr(Builder, "draft", lambda *given, **more: drafted.append(given[1]) or draft(*given, **more))
    monkeypatch.setattr(Builder, "_draws", lambda *given: tried.append(given[-1]) or draws(*given))
    records, rejected = RecordMaker(facts_of_world(), replace(SMALL, min_neighbors=9)).make(model=FakeFilter())
    few = [one for one in rejected if one.decision.rule == "too-few-neighbors"]
    judged = [one for one in rejected if one.decision.rule == "model-prefers"]
    assert records and few
    assert sorted(drafted) == sorted(one.case_id for one in (*records, *judged))
    assert tried.count(1) == len(few), "a single o* shows that there is one"


def test_without_a_model_a_single_object_is_drawn_and_the_records_are_those_of_ten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []
    draws = Builder._draws
    monkeypatch.setattr(Builder, "_draws", lambda *given: tried.append(given[-1]) or draws(*given))
    single = RecordMaker(facts_of_world(), SMALL).make()
    assert set(tried) == {1}
    outline = Builder.outline
    monkeypatch.setattr(Builder, "outline", lambda *given: outline(*given[:-1]))
    assert RecordMaker(facts_of_world(), SMALL).make() == single
    assert set(tried) == {1, BuildOptions().max_draws}


def test_symmetric_relations_are_made_when_asked_for() -> None:
    facts, entities = world(relations=("P47",))
    given = FactSet(tuple(facts), tuple(entities), tuple(templates("P47")))
    assert not RecordMaker(given, SMALL).make().records
    assert RecordMaker(given, replace(SMALL, allow_symmetric=True)).make().records


def test_a_seed_takes_the_place_of_the_builds() -> None:
    given = facts_of_world()
    seeded = RecordMaker(given, SMALL, build=BuildOptions(seed=5, paraphrases=1), seed=6)
    assert seeded.build == BuildOptions(seed=6, paraphrases=1)
    assert lines(seeded.make()) == lines(RecordMaker(given, SMALL, build=seeded.build).make())
    assert lines(seeded.make()) != lines(RecordMaker(given, SMALL, build=seeded.build, seed=5).make())


def test_a_maker_that_went_to_another_process_makes_the_same_records(tmp_path: Path) -> None:
    prefixes = Prefixes(GOOD)
    maker = RecordMaker(
        facts_of_world(), replace(SMALL, allow_several=True), BuildOptions(seed=2), prefixes, ("inverse",)
    )
    expected = "".join(map(repr, maker.make(limit=40)))
    tmp_path.joinpath("maker").write_bytes(pickle.dumps(maker))
    script = (
        "import pickle, sys; from pathlib import Path\n"
        "made = pickle.loads(Path(sys.argv[1]).read_bytes()).make(limit=40)\n"
        "sys.stdout.buffer.write(''.join(map(repr, made)).encode())"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "maker")], check=True, capture_output=True)
    assert run.stdout.decode() == expected and "Person" in expected


@dataclasses.dataclass(frozen=True)
class Row:
    """An entry of a log, of a finished fact."""

    case_id: int
    relation: str
    kept: bool


def finished(decided: list[Record | Rejection]) -> list[Row]:
    facts = [made if isinstance(made, Record) else made.fact for made in decided]
    return [Row(made.case_id, fact.relation, made is fact) for made, fact in zip(decided, facts, strict=True)]


@pytest.mark.parametrize("choice", [{}, {"limit": 33}, {"per_relation": 20}, {"limit": 30, "per_relation": 18}])
def test_a_pass_goes_on_where_another_stopped(choice: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making_module, "JUDGED_AT_ONCE", 8)
    maker, selection = RecordMaker(facts_of_world(), SMALL, prefixes=Prefixes()), Selection(**choice)
    whole = list(maker.start(selection, FakeFilter()))
    decided = [one for chunk in whole for one in chunk]
    assert len(whole) > 3
    for stop in (0, 1, len(whole) // 2, len(whole)):
        done = [one for chunk in whole[:stop] for one in chunk]
        making = maker.start(selection, judge := FakeFilter())
        making.resume(finished(done))
        assert done + [one for chunk in making for one in chunk] == decided
        assert not set(judge.judged) & {one.case_id for one in done}
        assert making.place <= len(making.turns)
    with pytest.raises(DataError, match="case 100000"):
        maker.start(selection).resume([Row(100_000, "P551", True)])


def test_a_language_model_is_asked_with_the_default_thresholds() -> None:
    lm = tiny.make("gpt2")
    facts, entities = world(20)
    maker = RecordMaker(FactSet(tuple(facts), tuple(entities), tuple(templates("P551"))), SMALL, prefixes=Prefixes())
    made = maker.make(relations=["P551"], model=lm)
    assert lines(made) == lines(maker.make(relations=["P551"], model=RankFilter(lm, FilterOptions())))
    rules = {rejection.decision.rule for rejection in made.rejected}
    assert rules & {"false-object-preferred", "false-object-ranks-high"}
    assert all(record.scores[str(lm.identity["model"])] for record in made.records)


def test_progress_reaches_all_facts() -> None:
    calls: list[tuple[str, int, int | None]] = []
    made = RecordMaker(facts_of_world(), SMALL).make(progress=lambda *call: calls.append(call))
    total = len(made.records) + len(made.rejected)
    assert calls[-1] == ("facts", total, total)


def test_sentences_before_paraphrases_by_default_and_as_given() -> None:
    def used(maker: RecordMaker) -> set[str]:
        made = maker.make(limit=10)
        return {paraphrase.prefix for record in made.records for paraphrase in record.paraphrases}

    assert used(RecordMaker(facts_of_world(), SMALL)) <= set(distractor_prefixes())
    assert used(RecordMaker(facts_of_world(), SMALL, prefixes=Prefixes.cut(GOOD))) == set(GOOD[:2])
    assert used(RecordMaker(facts_of_world(), SMALL, prefixes=Prefixes())) == {""}
    assert used(RecordMaker(german(), SMALL)) == {""}


def german() -> FactSet:
    """Return towns in two countries whose names and prompts English rules object to."""
    countries = {1: "Deutschland", 2: "Polen"}
    towns = {100 + n: f"{name} ({river})" for n, (name, river) in enumerate(PLACES)}
    entities = tuple(Entity(f"Q{number}", {"de": name}) for number, name in {**countries, **towns}.items())
    facts = tuple(Fact("P17", f"Q{number}", f"Q{1 + number % 2}") for number in towns)
    texts = ("{} gehört an", "{} grenzt als „Stadt“ an", "{} schließt sich an")
    return FactSet(facts, entities, tuple(Template("P17", "rewrite", text, "test") for text in texts), "de")


PLACES = (("Frankfurt", "Oder"), ("Halle", "Saale"), ("Forst", "Lausitz"), ("Guben", "Neiße"), ("Rees", "Rhein"))


def test_german_facts_become_records_that_english_rules_would_reject() -> None:
    records, rejected = RecordMaker(german(), SMALL).make()
    assert len(records) == 5 and not rejected
    assert {record.language for record in records} == {"de"} and all(record.neighborhood for record in records)
    english = dataclasses.replace(
        german(),
        language="en",
        entities=tuple(Entity(entity.id, {"en": entity.labels["de"]}) for entity in german().entities),
    )
    assert {rejection.decision.rule for rejection in RecordMaker(english, SMALL).make().rejected} == {"label-noise"}


def test_an_option_of_the_rules_is_declared_once() -> None:
    for user in (GenerateOptions, RuleContext):
        assert issubclass(user, Rules)
        assert not {field.name for field in dataclasses.fields(Rules)} & user.__annotations__.keys()
    assert issubclass(GenerateOptions, Selection)
    chosen = GenerateOptions(min_neighbors=3, allow_several=True, limit=4)
    assert Rules(**chosen.rule_options()) == Rules(min_neighbors=3, allow_several=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rules(min_neighbors=-1), "min_neighbors is -1; expected at least 0"),
        (lambda: Rules(max_sitelinks=-1), "max_sitelinks is -1"),
        (lambda: RecordMaker(facts_of_world(), SMALL).make(limit=0), "limit is 0; expected at least 1"),
        (lambda: RecordMaker(facts_of_world(), SMALL).make(relations=["P17"]), "no facts of P17"),
        (lambda: RecordMaker(facts_of_world(), SMALL, groups=["three_hop"]), "no prompt group three_hop"),
        (lambda: GenerateOptions(min_sitelinks=-1), "min_sitelinks is -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_facts_are_read_from_a_builds_files(tmp_path: Path) -> None:
    read = read_facts(write_world(tmp_path / "build"))
    assert lines(RecordMaker(read, SMALL).make()) == lines(RecordMaker(facts_of_world(), SMALL).make())
    with pytest.raises(BuildStateError, match="cfbuild fetch"):
        read_facts(tmp_path)
    tmp_path.joinpath("build", "entities.jsonl").write_text('{"id": "Q0"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"entities\.jsonl:1"):
        read_facts(str(tmp_path / "build"))


def test_records_are_made_without_torch_and_without_an_http_client() -> None:
    script = (
        "import sys; from cfbuild.records.maker import RecordMaker; from cfbuild.records.factset import FactSet\n"
        "RecordMaker(FactSet((), (), ())).make(); assert not {'torch', 'requests', 'spacy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_entity_without_a_name_is_rejected_and_no_object_of_others() -> None:
    given = facts_of_world()
    named = tuple(entity if entity.id != "Q1" else item(1, None) for entity in given.entities)
    made = RecordMaker(dataclasses.replace(given, entities=named), SMALL).make()
    assert "missing-label" in {rejection.decision.rule for rejection in made.rejected}
    assert all("Q1" not in (record.target_true.id, record.target_new.id) for record in made.records)
