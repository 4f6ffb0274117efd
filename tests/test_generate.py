from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import SOME, ExcerptBuild
from small_world import small_options, write_excerpt, write_world

from cfbuild.audit.validate import violations
from cfbuild.data import Candidate, Decision, Record, Verdict
from cfbuild.errors import BuildStateError, ConfigError, DataError
from cfbuild.filter.rules import KEPT
from cfbuild.pipeline.generate import GenerateOptions, GenerateSummary, generate
from cfbuild.records import making
from cfbuild.records.draft import BuildOptions
from cfbuild.records.spread import Spread
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.schema import schema_faults
from cfbuild.work import WorkerOptions

FILES = ("records.jsonl", "rejected.jsonl", "references.jsonl")


class FakeFilter:
    """Keeps the first draw whose name has an even length; fails once it has judged `fail_after` candidates."""

    def __init__(self, fail_after: int | None = None, kind: type[BaseException] = KeyboardInterrupt) -> None:
        self.signature: Mapping[str, Any] = {"model": "fake", "threshold": 2}
        self.judged: list[int] = []
        self.calls: list[int] = []
        self._fail_after = fail_after
        self._kind = kind

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        self.calls.append(len(candidates))
        verdicts = []
        for candidate in candidates:
            if self._fail_after is not None and len(self.judged) >= self._fail_after:
                raise self._kind("pulled the plug")
            self.judged.append(candidate.case_id)
            verdicts.append(self._verdict(candidate))
        return verdicts

    def _verdict(self, candidate: Candidate) -> Verdict:
        assert candidate.target_true in candidate.pool and set(candidate.draws) <= set(candidate.pool)
        for attempt, target in enumerate(candidate.draws, 1):
            if len(target.label) % 2 == 0:
                return Verdict(target, KEPT, {"attempts": attempt, "nll_nats": 1 / 3})
        return Verdict(None, Decision(False, "model-prefers", {"attempts": len(candidate.draws)}), {})


def build(root: Path) -> BuildFolder:
    return BuildFolder(write_world(root))


def read(folder: BuildFolder, name: str) -> list[dict[str, Any]]:
    return [row for _, row in jsonl.read_rows(folder.path(name))]


def relation_of(row: dict[str, Any]) -> str:
    """Return the relation of a record or of a reject."""
    return str(row.get("requested_rewrite", row)["relation_id"])


def files_of(folder: BuildFolder) -> dict[str, bytes]:
    return {name: folder.path(name).read_bytes() for name in FILES}


def test_every_fact_becomes_a_record_or_a_reject(tmp_path: Path) -> None:
    folder = build(tmp_path)
    summary = generate(folder, small_options())
    records, rejected = read(folder, "records.jsonl"), read(folder, "rejected.jsonl")
    ids = [row["case_id"] for row in records], [row["case_id"] for row in rejected]
    facts = len(read(folder, "facts.jsonl"))
    assert ids == (sorted(ids[0]), sorted(ids[1]))
    assert sorted(ids[0] + ids[1]) == list(range(facts))
    assert (summary.facts, summary.kept, summary.rejected) == (facts, len(records), len(rejected))
    assert summary.by_rule == Counter(row["rule"] for row in rejected) and "several-objects" in summary.by_rule
    assert sum(one["kept"] for one in summary.by_relation.values()) == len(records)
    assert all(not schema_faults(row, "rejected") for row in rejected)
    assert all(not schema_faults(row, "references") for row in read(folder, "references.jsonl"))
    assert list(violations(folder.path("records.jsonl"))) == []


def test_the_manifest_says_that_nothing_was_filtered(tmp_path: Path) -> None:
    folder = build(tmp_path)
    generate(folder, small_options())
    entry = folder.manifest().entry("generate").as_dict()
    assert entry["filtered"] is False and entry["config"]["model_filter"] is None
    assert entry["facts"] == entry["kept"] + entry["rejected"]
    assert {name: len(read(folder, name)) for name in FILES} == {n: f["rows"] for n, f in entry["files"].items()}
    assert all(row["meta"]["scores"] == {} for row in read(folder, "records.jsonl"))


def test_the_filter_chooses_and_its_numbers_are_kept(tmp_path: Path) -> None:
    folder = build(tmp_path)
    summary = generate(folder, small_options(build=BuildOptions(max_draws=2)), FakeFilter())
    records = read(folder, "records.jsonl")
    assert summary.filtered and summary.kept == len(records) > 0
    assert all(len(row["requested_rewrite"]["target_new"]["str"]) % 2 == 0 for row in records)
    assert {row["meta"]["scores"]["fake"]["nll_nats"] for row in records} == {1 / 3}
    assert {row["meta"]["scores"]["fake"]["attempts"] for row in records} == {1, 2}
    rejects = [row for row in read(folder, "rejected.jsonl") if row["rule"] == "model-prefers"]
    assert rejects and all(row["measured"] == {"attempts": 2} for row in rejects)
    assert folder.manifest().entry("generate").config["model_filter"]["threshold"] == 2


def test_the_default_minimum_is_counterfacts_number_of_neighbors(tmp_path: Path) -> None:
    assert GenerateOptions().min_neighbors == BuildOptions().neighborhood == 10
    generate(folder := build(tmp_path), GenerateOptions())
    assert {len(row["neighborhood_prompts"]) for row in read(folder, "records.jsonl")} == {10}


def test_the_table_by_number_of_neighbors_counts_records_and_facts_dropped_for_it(tmp_path: Path) -> None:
    folder = build(tmp_path)
    summary = generate(folder, small_options(min_neighbors=9))
    kept = Counter(str(len(row["neighborhood_prompts"])) for row in read(folder, "records.jsonl"))
    rejected = [row["measured"] for row in read(folder, "rejected.jsonl") if row["rule"] == "too-few-neighbors"]
    dropped = Counter(str(measured["neighbors"]) for measured in rejected)
    assert kept and dropped and {measured["needed"] for measured in rejected} == {9}
    assert summary.neighbors == {
        number: {"records": kept[number], "dropped": dropped[number]} for number in sorted({*kept, *dropped}, key=int)
    }
    entry = folder.manifest().entry("generate").as_dict()
    assert entry["neighbors"] == summary.neighbors and entry["pools"] is None
    assert entry["shared_class"] == {
        "records": summary.kept,
        "sharing": 0,
        "fallbacks": {"class-unknown": summary.kept},
    }


def test_ranks_and_pools_are_counted() -> None:
    ranks = ((10, 50), (11, 50), (50, 50), (60, 100))
    scores = [{"m": {"target_new_rank": rank, "pool_size": size}} for rank, size in ranks]
    rows = [{"neighborhood_prompts": [], "meta": {"scores": one}} for one in (*scores, {})]
    spread = Spread()
    assert list(spread.counting(rows)) == rows
    assert spread.as_dict()["pools"] == {
        "records": 4,
        "least": 50,
        "median": 50,
        "greatest": 100,
        "tenths": [0, 1, 1, 0, 0, 1, 0, 0, 0, 1],
        "first_ten": 1,
    }
    assert spread.as_dict()["neighbors"] == {"0": {"records": 5, "dropped": 0}}


OPTIONS = {
    "all": small_options(),
    "limit": small_options(limit=33),
    "per relation": small_options(per_relation=20),
    "both": small_options(limit=30, per_relation=18, build=BuildOptions(seed=3)),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("fail_after", [0, 1, 9, 17, 40])
def test_an_interrupted_run_ends_with_the_same_bytes(
    tmp_path: Path, options: GenerateOptions, fail_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "JUDGED_AT_ONCE", 8)
    whole, broken = build(tmp_path / "whole"), build(tmp_path / "broken")
    generate(whole, options, whole_filter := FakeFilter())
    first = FakeFilter(fail_after)
    if fail_after < len(whole_filter.judged):
        with pytest.raises(KeyboardInterrupt):
            generate(broken, options, first)
    with broken.progress("generate").joinpath("rows.jsonl").open("ab") as stream:
        stream.write(b'{"case_id":0,"relation_id":"P551","rule":"torn","measu')
    generate(broken, options, second := FakeFilter())
    assert files_of(broken) == files_of(whole)
    assert broken.manifest() == whole.manifest()
    assert len(first.judged) + len(second.judged) <= len(whole_filter.judged) + 8
    assert not broken.path("progress").joinpath("generate").exists()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_size_of_chunks_changes_no_byte(
    tmp_path: Path, options: GenerateOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = []
    for size in (1, 7, 500):
        monkeypatch.setattr(making, "JUDGED_AT_ONCE", size)
        monkeypatch.setattr(making, "FEWEST_AT_ONCE", size)
        folder = build(tmp_path / str(size))
        generate(folder, options, FakeFilter())
        outputs.append(files_of(folder))
    assert outputs[0] == outputs[1] == outputs[2]


WORKERS = {
    "processes": WorkerOptions(workers=2),
    "ray": WorkerOptions(workers=2, ray=os.environ.get("RAY_ADDRESS", "local")),
}


@pytest.mark.parametrize("kind", WORKERS)
@pytest.mark.parametrize("name", ["all", "both"])
def test_the_number_of_workers_changes_no_byte(
    tmp_path: Path, kind: str, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'cfbuild[ray]'")
    alone, several = build(tmp_path / "alone"), build(tmp_path / "several")
    generate(alone, OPTIONS[name])
    monkeypatch.setattr(making, "BUILT_AT_ONCE", 16)
    calls = iter(range(100))

    def kill(*_: object) -> None:
        if kind == "processes" and next(calls) == 1:
            multiprocessing.active_children()[0].kill()

    options = dataclasses.replace(OPTIONS[name], **dataclasses.asdict(WORKERS[kind]))
    assert generate(several, options, progress=kill) == generate(alone, OPTIONS[name])
    assert files_of(several) == files_of(alone) and several.manifest() == alone.manifest()
    repeated = sum("done again" in record.message for record in caplog.records)
    # Where few chunks are left, the killed process may have had none in hand.
    assert repeated == (kind == "processes") or (name == "both" and not repeated)


def test_a_filter_without_a_recipe_filters_in_one_process(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recipe by which workers could make it"):
        generate(build(tmp_path), small_options(workers=2), FakeFilter())
    assert generate(build(tmp_path), small_options(workers=1), FakeFilter()).filtered


def test_a_limit_takes_the_relations_in_turn_and_judges_few_more(tmp_path: Path) -> None:
    folder = build(tmp_path)
    summary = generate(folder, small_options(limit=21), judge := FakeFilter())
    assert summary.kept == 21 and summary.facts == summary.kept + summary.rejected < 100
    # The relations give facts in turn; how many of them are kept differs by chance.
    assert {one["facts"] for one in summary.by_relation.values()} <= {summary.facts // 2, (summary.facts + 1) // 2}
    assert sum(judge.calls) < 60
    more = build(tmp_path / "more")
    generate(more, small_options(limit=50), FakeFilter())
    assert {row["case_id"] for row in read(folder, "records.jsonl")} < {
        row["case_id"] for row in read(more, "records.jsonl")
    }


def test_per_relation_limits_the_records_of_each(tmp_path: Path) -> None:
    summary = generate(build(tmp_path), small_options(per_relation=5))
    assert {relation: one["kept"] for relation, one in summary.by_relation.items()} == {"P551": 5, "P937": 5}


def test_relations_can_be_chosen_and_keep_their_case_ids(tmp_path: Path) -> None:
    whole, part = build(tmp_path / "whole"), build(tmp_path / "part")
    generate(whole, small_options())
    summary = generate(part, small_options(relations=("P937",)))
    assert set(summary.by_relation) == {"P937"}
    expected = [row for row in read(whole, "records.jsonl") if row["requested_rewrite"]["relation_id"] == "P937"]
    assert read(part, "records.jsonl") == expected
    with pytest.raises(ConfigError, match="no facts of P17; expected some of P551, P937"):
        generate(part, small_options(relations=("P17", "P937"), restart=True))


def test_a_finished_run_is_not_repeated_and_other_settings_are_refused(tmp_path: Path) -> None:
    folder = build(tmp_path)
    first = generate(folder, small_options(), FakeFilter())
    before = files_of(folder)
    again = generate(folder, small_options(), judge := FakeFilter())
    assert again == first and judge.judged == []
    with pytest.raises(BuildStateError, match="limit: None then, 5 now"):
        generate(folder, small_options(limit=5), FakeFilter())
    with pytest.raises(BuildStateError, match="model_filter"):
        generate(folder, small_options())
    assert files_of(folder) == before
    assert isinstance(generate(folder, small_options(limit=5, restart=True)), GenerateSummary)


def test_unfinished_work_of_other_settings_is_not_mixed_in(tmp_path: Path) -> None:
    folder = build(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        generate(folder, small_options(), FakeFilter(70))
    with pytest.raises(BuildStateError, match="unfinished"):
        generate(folder, small_options(build=BuildOptions(seed=1)), FakeFilter())


def test_references_that_fetch_wrote_stay(tmp_path: Path) -> None:
    folder = build(tmp_path)
    folder.path("references.jsonl").write_text("", encoding="utf-8")
    folder.finish("fetch", {}, {"references.jsonl": 0}, {})
    generate(folder, small_options())
    assert folder.path("references.jsonl").read_bytes() == b""


def test_paraphrase_prefixes_can_be_left_out(tmp_path: Path) -> None:
    with_prefix, without = build(tmp_path / "with"), build(tmp_path / "without")
    generate(with_prefix, small_options())
    generate(without, small_options(prefixes="none"))
    for prefixed, plain in zip(read(with_prefix, "records.jsonl"), read(without, "records.jsonl"), strict=True):
        details = prefixed["meta"]["paraphrases"]
        assert [f"{part['prefix']} {part['clean']}" for part in details] == prefixed["paraphrase_prompts"]
        assert [part["clean"] for part in details] == plain["paraphrase_prompts"]


@pytest.mark.parametrize(
    "options",
    [{"limit": 0}, {"per_relation": 0}, {"min_neighbors": -1}, {"min_pool": 1}],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        GenerateOptions(**options)


def test_a_filter_that_breaks_its_promises_is_refused(tmp_path: Path) -> None:
    class Short(FakeFilter):
        def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
            return super().judge(candidates)[1:]

    class Wild(FakeFilter):
        def _verdict(self, candidate: Candidate) -> Verdict:
            return Verdict(candidate.target_true, KEPT)

    for kind, message in ((Short, "one for each candidate"), (Wild, "expected one of its draws")):
        with pytest.raises(DataError, match=message):
            generate(build(tmp_path / kind.__name__), small_options(), kind())


def test_missing_inputs_name_the_verb_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(BuildStateError, match="cfbuild fetch"):
        generate(BuildFolder(tmp_path), small_options())


@pytest.mark.shared
def test_the_excerpt_gives_twelve_thousand_valid_records_and_the_same_again(excerpt_build: ExcerptBuild) -> None:
    folder = excerpt_build.folder
    assert list(violations(folder.path("records.jsonl"))) == []
    summary = generate(folder, GenerateOptions())
    assert summary.facts == 33_110 and summary.kept >= 12_000
    for name in ("records.jsonl", "rejected.jsonl"):
        again = excerpt_build.again.path(name).read_text(encoding="utf-8").splitlines()
        whole = folder.path(name).read_text(encoding="utf-8").splitlines()
        assert again == [line for line in whole if relation_of(json.loads(line)) in SOME] != []
    check_composition([codec.decode_record(row) for row in read(folder, "records.jsonl")])


@pytest.mark.shared
def test_generating_the_excerpt_takes_little_memory(excerpt_build: ExcerptBuild) -> None:
    if excerpt_build.peak is None:
        pytest.skip("peak memory is read from /proc")
    assert excerpt_build.peak < 2e9


@pytest.mark.long
@pytest.mark.shared
def test_pararels_templates_make_valid_records_of_the_excerpt(tmp_path: Path, excerpt: Path, pararel: Path) -> None:
    folder = BuildFolder(write_excerpt(tmp_path, excerpt, pararel))
    options = GenerateOptions(relations=("P19", "P36"), per_relation=100, min_neighbors=0)
    assert generate(folder, options).kept == 200
    assert list(violations(folder.path("records.jsonl"))) == []
    assert {row["meta"]["template_origin"] for row in read(folder, "records.jsonl")} == {"pararel"}


def check_composition(records: list[Record]) -> None:
    full = [record for record in records if len(record.neighborhood) == 10]
    assert len(full) > 10_000
    assert len({(record.subject.id, record.relation) for record in records}) == len(records)
    for record in records:
        assert len({prompt.entity for prompt in record.neighborhood}) == len(record.neighborhood)
        assert len({prompt.entity for prompt in record.attribute}) == len(record.attribute)
        assert all(one.prefix for one in record.paraphrases) and len(record.paraphrases) == 2
