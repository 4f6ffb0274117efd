"""Dumps of Wikidata: everything that the generator says is found, however they are packed, cut and interrupted."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import gzip
import importlib.util
import io
import json
import lzma
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import oxigraph

from cfbuild.errors import ConfigError, DataError
from cfbuild.facts.relations import ATTRIBUTES
from cfbuild.pipeline.fetch import FetchOptions, fetch
from cfbuild.pipeline.rebuild import rebuild
from cfbuild.progress import silent
from cfbuild.sources.dump import DumpOptions, packing, scan
from cfbuild.sources.dump.dump_source import DumpSource
from cfbuild.sources.dump.json_items import date_of
from cfbuild.sources.dump.packing import BLOCK, END, magics, open_dump
from cfbuild.sources.dump.query import alternation
from cfbuild.sources.http import Client
from cfbuild.sources.journal import Journal, JournaledClient
from cfbuild.sources.wikidata import Wikidata, WikidataOptions
from cfbuild.store.folder import BuildFolder

ROOT = Path(__file__).resolve().parents[1]


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("make_dump", ROOT / "scripts" / "make_dump.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_dump"] = module
    spec.loader.exec_module(module)
    return module


md = _generator()
RELATIONS = ("P17", "P19", "P31", "P36", "P103", "P106", "P361")
WORLD = md.World(seed=5, items=320, broken=0.04, huge=False)
PACKINGS = {"plain": ("plain", 9, 1), "gz": ("gz", 6, 1), "bz2": ("bz2", 1, 1), "streams.bz2": ("bz2", 1, 7)}
"""Packing, level and streams by suffix; blocks of 100 kB, so that a small dump has many."""


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return a function that returns the made dump of a format and packing, made once."""
    folder = tmp_path_factory.mktemp("dumps")

    def made(form: str, packed: str) -> Path:
        path = folder / f"{form}.{packed}"
        if not path.exists():
            kind, level, streams = PACKINGS[packed]
            with path.open("wb") as out:
                md.write(WORLD, form, out, kind, level=level, streams=streams)
        return path

    return made


def _units_of(path: Path, number: int) -> int:
    """Return the bytes of a unit with which a dump has about `number` units."""
    size = path.stat().st_size if path.suffix != ".gz" else len(gzip.decompress(path.read_bytes()))
    return -(-size // number)


def units(size: int) -> Any:
    """Return a context in which a unit of a dump has about `size` bytes."""
    return mock.patch.dict(packing.UNIT_BYTES, dict.fromkeys(packing.UNIT_BYTES, size))


def _found(
    path: Path | str, folder: Path, unit_bytes: int | None = None, **options: Any
) -> tuple[list[Any], list[Any], DumpSource]:
    """Return rows of facts, rows of entities and the source, read from a dump."""
    source = DumpSource(DumpOptions(dump=str(path), **options))
    with units(unit_bytes) if unit_bytes else contextlib.nullcontext():
        source.read(RELATIONS, folder, silent)
    facts = [dataclasses.asdict(fact) for relation in RELATIONS for fact in source.facts(relation)]
    entities = [dataclasses.asdict(one) for one in source.entities([f"Q{n}" for n in range(1, WORLD.items + 40)])]
    return facts, entities, source


def _expected(
    form: str, statements: bool = False, chain: tuple[str, ...] = ("en", "mul")
) -> tuple[list[Any], list[Any]]:
    facts = [{**row, "source": "wikidata"} for row in md.facts(WORLD, form, RELATIONS, statements)]
    entities = [md.entity(WORLD, form, n, chain, ATTRIBUTES) for n in range(1, WORLD.items + 40)]
    return facts, entities


def _comparable(rows: list[Any]) -> list[Any]:
    """Return rows without empty members and revisions, as JSON has them."""
    return [
        {name: value for name, value in row.items() if value not in (None, {}, []) and name != "revision"}
        for row in json.loads(json.dumps(rows))
    ]


@pytest.fixture(scope="module")
def expected() -> dict[str, tuple[list[Any], list[Any]]]:
    return {form: _expected(form) for form in md.LINES}


@pytest.mark.parametrize("packed", PACKINGS)
@pytest.mark.parametrize("form", sorted(md.LINES))
def test_exactly_the_facts_and_names_of_the_generator_are_found(
    form: str, packed: str, dumps: Any, expected: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = dumps(form, packed)
    facts, entities, source = _found(path, tmp_path, _units_of(path, 5))
    assert len(facts) > 500 and any(row["object"] == "unknown" for row in facts)
    assert _comparable(facts) == expected[form][0]
    assert _comparable(entities) == expected[form][1]
    counts = md.counts(WORLD, form)
    assert source.tally.left_out["broken line of the dump"] == counts["broken"] > 5
    no_item = source.tally.left_out.get("entity of the dump that is no item", 0)
    assert no_item == (counts["no item"] if form == "json" else 0)
    assert source.tally.left_out["object is no item"] > 0 and "broken lines are left out, such as" in caplog.text
    assert source.today == (md.DAY if form == "truthy" else "2026-10-09")
    assert len(list((tmp_path / "dump").glob("0*.npz"))) > 3


def test_redirects_are_resolved_and_their_items_not_described(dumps: Any, tmp_path: Path) -> None:
    """Take a world with redirects that are objects, and redirects to redirects; the JSON dump has none of them."""
    moved = {n: WORLD.redirect(n) for n in range(1, WORLD.items + 1) if WORLD.redirect(n)}
    assert any(target in moved for target in moved.values())
    named = {row["object"] for row in md.facts(WORLD, "json", RELATIONS)}
    assert named & {f"Q{n}" for n in moved}
    facts, _, _ = _found(dumps("truthy", "plain"), tmp_path)
    assert not {row["object"] for row in facts} & {f"Q{n}" for n in moved}


@pytest.mark.parametrize("packed", ["bz2", "gz"])
def test_statements_of_the_json_dump_have_ranks_and_dates(packed: str, dumps: Any, tmp_path: Path) -> None:
    path = dumps("json", packed)
    facts, entities, _ = _found(path, tmp_path, _units_of(path, 4), statements=True)
    assert _comparable(facts) == _expected("json", statements=True)[0]
    assert {row["rank"] for row in facts} == {"normal", "preferred", "deprecated"}
    assert sum("end" in row for row in facts) > 20 and any(row.get("end") == "unknown" for row in facts)
    first = md.World(WORLD.seed, WORLD.items, huge=False).item(1)
    assert entities[0]["revision"] == first.revision


@pytest.mark.parametrize("language, chain", [("de-at", ("de-at", "de", "mul")), ("en-gb", ("en-gb", "en", "mul"))])
@pytest.mark.parametrize("form", sorted(md.LINES))
def test_names_come_in_the_language_or_in_those_that_stand_in_for_it(
    form: str, language: str, chain: tuple[str, ...], dumps: Any, tmp_path: Path
) -> None:
    _, entities, source = _found(dumps(form, "plain"), tmp_path, language=language)
    assert _comparable(entities) == _expected(form, chain=chain)[1]
    assert source.tally.borrowed["mul"] > 10 and source.tally.borrowed[chain[1]] > 10


def test_an_item_of_3_mb_is_read_in_units_that_are_shorter_than_its_line(tmp_path: Path) -> None:
    world = md.World(seed=1, items=12, broken=0.0)
    for form in sorted(md.LINES):
        path = tmp_path / form
        with path.open("wb") as out:
            assert md.write(world, form, out) > 3_000_000
        source = DumpSource(DumpOptions(dump=str(path)))
        with units(400_000):
            source.read(("P2860",), tmp_path / f"{form}-found", silent)
        found = [dataclasses.asdict(fact) for fact in source.facts("P2860")]
        assert _comparable(found) == [{**row, "source": "wikidata"} for row in md.facts(world, form, ["P2860"])]


class _Input:
    """Standard input that gives few bytes at once, as a pipe does."""

    def __init__(self, data: bytes) -> None:
        self.buffer = self
        self._stream = io.BytesIO(data)
        self._rng = Random(0)

    def read(self, size: int) -> bytes:
        return self._stream.read(min(size, self._rng.randrange(1, 70_000)))

    def __enter__(self) -> _Input:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    "form, packed", [("truthy", "streams.bz2"), ("json", "bz2"), ("truthy", "gz"), ("json", "plain")]
)
def test_a_dump_is_read_from_a_pipe(form: str, packed: str, dumps: Any, expected: Any, tmp_path: Path) -> None:
    path = dumps(form, packed)
    data = path.read_bytes()
    for _ in range(2):  # the second time, finished units are found again
        with mock.patch.object(sys, "stdin", _Input(data)):
            facts, entities, _ = _found("-", tmp_path, _units_of(path, 6))
        assert _comparable(facts) == expected[form][0] and _comparable(entities) == expected[form][1]
    assert len(list((tmp_path / "dump").glob("0*.npz"))) > 4


def _fetch(build: Path, path: Path, progress: Any = silent, **options: Any) -> dict[str, bytes]:
    """Return the files of a fetch from a dump."""
    folder = BuildFolder(build)
    fetch(folder, FetchOptions(source="dump", dump=str(path), relations=RELATIONS, **options), progress)
    return {name: (build / name).read_bytes() for name in ("facts.jsonl", "entities.jsonl", "manifest.json")}


@pytest.mark.parametrize("form, packed", [("truthy", "bz2"), ("json", "gz"), ("json", "bz2")])
def test_the_size_of_units_changes_no_byte(
    form: str, packed: str, dumps: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    path = dumps(form, packed)
    built = []
    for number in (1, 3, 17):
        monkeypatch.setitem(packing.UNIT_BYTES, packed, _units_of(path, number))
        built.append(_fetch(tmp_path / str(number), path))
        units = len(list((tmp_path / str(number) / "progress" / "fetch" / "dump").glob("0*.npz")))
        assert number * 0.6 <= units <= number + 1, "a block of bz2 may be larger than a unit"
    assert built[0] == built[1] == built[2]
    manifest = json.loads(built[0]["manifest.json"])["verbs"]["fetch"]
    assert manifest["today"] == (md.DAY if form == "truthy" else "2026-10-09")
    assert manifest["left_out"]["broken line of the dump"] == md.counts(WORLD, form)["broken"]


@pytest.mark.parametrize("form, packed", [("truthy", "bz2"), ("json", "gz")])
def test_the_number_of_workers_changes_no_byte(
    form: str, packed: str, dumps: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    path = dumps(form, packed)
    alone = _fetch(tmp_path / "alone", path)
    monkeypatch.setitem(packing.UNIT_BYTES, packed, _units_of(path, 9))
    reports: list[tuple[str, int, int | None]] = []
    assert _fetch(tmp_path / "two", path, lambda *progress: reports.append(progress), workers=2) == alone
    bytes_read = [done for task, done, _ in reports if task == "bytes of the dump"]
    assert bytes_read == sorted(bytes_read) and len(bytes_read) > 8


def test_a_killed_workers_unit_is_read_again(
    dumps: Any, tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = dumps("truthy", "bz2")
    alone = _fetch(tmp_path / "alone", path)
    monkeypatch.setitem(packing.UNIT_BYTES, "bz2", _units_of(path, 12))
    calls = iter(range(100))

    def kill(*_: object) -> None:
        if next(calls) == 2:
            multiprocessing.active_children()[0].kill()

    assert _fetch(tmp_path / "killed", path, kill, workers=2) == alone
    assert sum("which is done again" in record.message for record in caplog.records) == 1


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'cfbuild[ray]'")
def test_a_ray_cluster_changes_no_byte(dumps: Any, tmp_path: Path, monkeypatch: Any) -> None:
    path = dumps("json", "bz2")
    alone = _fetch(tmp_path / "alone", path)
    monkeypatch.setitem(packing.UNIT_BYTES, "bz2", _units_of(path, 9))
    assert _fetch(tmp_path / "ray", path, workers=2, ray=os.environ.get("RAY_ADDRESS", "local")) == alone


RUN = """
import os, signal, sys
from pathlib import Path
from cfbuild.pipeline.fetch import FetchOptions, fetch
from cfbuild.sources.dump import packing
from cfbuild.store.folder import BuildFolder
build, dump, size, calls, relations = sys.argv[1:]
packing.UNIT_BYTES["bz2"] = int(size)
left = int(calls)
def progress(task, done, total):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
fetch(BuildFolder(Path(build)), FetchOptions(source="dump", dump=dump, relations=tuple(relations.split(","))), progress)
"""


def test_a_fetch_that_was_killed_ends_with_the_same_bytes(dumps: Any, tmp_path: Path, monkeypatch: Any) -> None:
    path = dumps("json", "bz2")
    whole = _fetch(tmp_path / "whole", path)
    size = _units_of(path, 12)
    for calls in (3, 9):
        arguments = [str(tmp_path / "killed"), str(path), str(size), str(calls), ",".join(RELATIONS)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", RUN, *arguments], env=environment, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
    kept = {unit: unit.stat().st_mtime_ns for unit in tmp_path.glob("killed/progress/fetch/dump/0*.npz")}
    assert len(kept) == 9, "a unit before each report but the first"
    monkeypatch.setitem(packing.UNIT_BYTES, "bz2", size)
    assert _fetch(tmp_path / "killed", path) == whole
    assert all(unit.stat().st_mtime_ns == before for unit, before in kept.items()), "finished units stay"


def test_a_fetch_interrupted_at_every_report_ends_with_the_same_bytes(
    dumps: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    path = dumps("truthy", "bz2")
    whole = _fetch(tmp_path / "whole", path)
    monkeypatch.setitem(packing.UNIT_BYTES, "bz2", _units_of(path, 12))
    for stop in range(20):
        calls = iter(range(100))

        def progress(*_: object, calls: Iterator[int] = calls, stop: int = stop) -> None:
            if next(calls) == stop:
                raise KeyboardInterrupt

        try:
            _fetch(tmp_path / "stopped", path, progress)
        except KeyboardInterrupt:
            continue
    assert _fetch(tmp_path / "stopped", path) == whole


def test_a_damaged_unit_is_read_again(dumps: Any, tmp_path: Path) -> None:
    path = dumps("truthy", "bz2")
    size = _units_of(path, 4)
    first = _found(path, tmp_path, size)[:2]
    (tmp_path / "dump" / "000001.npz").write_bytes(b"PK half")
    (tmp_path / "dump" / "000002.items").write_bytes(b"")
    assert _found(path, tmp_path, size)[:2] == first


def test_a_dump_gives_the_facts_entities_and_sample_of_the_query_service(tmp_path: Path) -> None:
    world = md.World(seed=8, items=60, broken=0.0, huge=False)
    path = tmp_path / "dump.nt"
    with path.open("wb") as out:
        md.write(world, "truthy", out)
    (tmp_path / "graph").mkdir()
    ids = [f"Q{number}" for number in range(1, 70)]
    with (
        oxigraph(tmp_path / "graph", path.read_text(encoding="utf-8")) as url,
        Journal(tmp_path / "journal") as journal,
        Client(None) as client,
    ):
        for limit in (None, 7):
            served = Wikidata(
                WikidataOptions(endpoint=url, per_relation=limit, seed=3), JournaledClient(client, journal)
            )
            read = DumpSource(DumpOptions(dump=str(path), per_relation=limit, seed=3))
            read.read(RELATIONS, tmp_path, silent)
            for relation in RELATIONS:
                assert list(read.facts(relation)) == list(served.facts(relation)), relation
            assert list(read.entities(ids)) == list(served.entities(ids))


def test_a_sample_is_the_same_from_both_dumps_of_a_world_without_redirects(tmp_path: Path) -> None:
    world = md.World(seed=9, items=60, broken=0.0, huge=False)
    samples = []
    for form in sorted(md.LINES):
        with (tmp_path / form).open("wb") as out:
            md.write(world, form, out)
        source = DumpSource(DumpOptions(dump=str(tmp_path / form), per_relation=9, seed=1))
        source.read(("P31",), tmp_path / f"{form}-found", silent)
        samples.append(list(source.facts("P31")))
    assert samples[0] == samples[1] and 5 < len(samples[0]) <= 9


def test_lines_of_another_form_are_parsed_as_a_whole(dumps: Any, expected: Any, tmp_path: Path) -> None:
    """Rewrite lines with spaces, other orders of keys, empty lists for empty maps: slower to read, and right."""

    def rewritten(line: bytes) -> bytes:
        try:
            entity = json.loads(line.rstrip(b",\n"))
        except ValueError:
            return line
        if not isinstance(entity, dict):
            return line
        if len(line) % 3 == 0:
            return json.dumps(entity, sort_keys=True).encode() + b",\n"
        if len(line) % 3 == 1:
            entity |= {name: value or [] for name, value in entity.items() if isinstance(value, dict)}
            return json.dumps(entity, separators=(",", ":")).encode() + b",\n"
        for stated in entity.get("claims", {}).values():
            stated[:] = [{name: one[name] for name in reversed(one)} for one in stated]
        return json.dumps(entity, separators=(",", ":")).encode() + b",\n"

    path = tmp_path / "other.json"
    with dumps("json", "plain").open("rb") as lines:
        path.write_bytes(b"".join(map(rewritten, lines)))
    facts, entities, source = _found(path, tmp_path)
    assert _comparable(facts) == expected["json"][0] and _comparable(entities) == expected["json"][1]
    assert source.tally.left_out["broken line of the dump"] == md.counts(WORLD, "json")["broken"]


ITEM = (
    b'{"type":"item","id":"Q1","labels":{"en":{"language":"en","value":"%s"}},"descriptions":{},"aliases":{},'
    b'"claims":{},"sitelinks":{}}'
)


@pytest.mark.parametrize(
    "text, label",
    [
        (b"a", "a"),
        (b"\\u00e9 \\ud83d\\ude00", "é 😀"),
        (b"\\ud83d", None),
        (b"\\x", None),
        (b"\xff", None),
        (b"\xc3\xa9", "é"),
    ],
)
def test_a_broken_text_breaks_its_item(text: bytes, label: str | None, tmp_path: Path) -> None:
    path = tmp_path / "dump.json"
    path.write_bytes(b"[\n" + ITEM % text + b",\n" + (ITEM % b"two").replace(b"Q1", b"Q2") + b"\n]\n")
    _, entities, source = _found(path, tmp_path)
    assert entities[0].get("labels", {}).get("en") == label and entities[1]["labels"] == {"en": "two"}
    assert source.tally.left_out.get("broken line of the dump", 0) == (label is None)


def test_an_item_that_is_cut_is_a_broken_line_wherever_it_is_cut(tmp_path: Path) -> None:
    """Cut an item after every seventh byte: a part of a line, however long, is never taken for an item."""
    line = md._dumped(md._json_item(WORLD.item(3)))
    cuts = [line[:size] for size in {*range(1, len(line), 7), *range(len(line) - 150, len(line))}]
    path = tmp_path / "dump.json"
    path.write_bytes(b"[\n" + b",\n".join(cuts) + b"\n]\n")
    facts, entities, source = _found(path, tmp_path)
    assert not facts and not any(row.get("labels") for row in entities)
    # A part that is only `[` would be the array's beginning; an item's begins with `{`.
    assert source.tally.left_out["broken line of the dump"] == len(cuts)


@pytest.mark.parametrize("cut", [0.3, 0.99, -3])
@pytest.mark.parametrize("form, packed", [("truthy", "bz2"), ("json", "streams.bz2"), ("truthy", "gz")])
def test_an_archive_that_breaks_off_is_an_error(form: str, packed: str, cut: float, dumps: Any, tmp_path: Path) -> None:
    data = dumps(form, packed).read_bytes()
    path = tmp_path / f"cut.{packed}"
    path.write_bytes(data[: int(cut) if cut < 0 else int(len(data) * cut)])
    for reader in (packing._rapidgzip, lambda *_: None):
        with (
            mock.patch.object(packing, "_rapidgzip", reader),
            pytest.raises(DataError, match=r"breaks off .*[0-9,]+.*fetch it again"),
        ):
            _found(path, tmp_path, _units_of(dumps(form, packed), 3))


def test_a_line_without_end_is_an_error_and_fills_no_memory(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(scan, "LONGEST", 1 << 20)
    path = tmp_path / "dump.json"
    path.write_bytes(b"[\n{" + b" " * (3 << 20))
    for unit_bytes in (None, 1 << 18):
        with pytest.raises(DataError, match="a line of the dump has more than"):
            _found(path, tmp_path, unit_bytes)


def test_a_json_dump_without_its_end_is_an_error(dumps: Any, tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_bytes(dumps("json", "plain").read_bytes()[:-3])
    with pytest.raises(DataError, match=r"breaks off: its last line is not the \] that ends its array"):
        _found(path, tmp_path)


def test_a_damaged_block_is_an_error_with_its_place(dumps: Any, tmp_path: Path) -> None:
    data = bytearray(dumps("truthy", "bz2").read_bytes())
    data[len(data) // 2] ^= 0x55
    path = tmp_path / "bad.bz2"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"block at byte [0-9,]+ of the dump is damaged") as raised:
        _found(path, tmp_path, 10_000)
    place = int(str(raised.value).split("byte ")[1].split(" ")[0].replace(",", ""))
    assert len(data) // 2 - 20_000 < place <= len(data) // 2


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "is no dump of Wikidata: its text begins with b''"),
        (b"hello\n", "begins with b'hello"),
        (b"@prefix wd: <http://www.wikidata.org/entity/> .\n", "expected N-Triples"),
        (b'<?xml version="1.0"?>\n', "is no dump"),
        (lzma.compress(b"[\n]\n"), "packed by xz"),
        (b"BZh9 and no block", "breaks off|damaged|no dump"),
        (gzip.compress(b"name,value\n"), "begins with b'name"),
    ],
    ids=("empty", "text", "turtle", "xml", "xz", "no bz2", "csv in gz"),
)
def test_what_is_no_dump_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        _found(path, tmp_path)


def test_options_that_do_not_fit_are_refused(dumps: Any, tmp_path: Path) -> None:
    path = str(dumps("truthy", "plain"))
    for options, message in (
        ({"source": "dump"}, "needs --dump FILE"),
        ({"dump": path}, "reads no dump"),
        ({"source": "dump", "dump": path, "statements": True}, "no statements"),
        ({"source": "dump", "dump": path, "workers": 0}, "workers is 0"),
        ({"source": "dump", "dump": str(tmp_path / "none.nt")}, "is not a file"),
        ({"source": "snapshot", "workers": 2}, "needs no workers"),
        ({"source": "dump", "dump": path, "endpoint": "wikidata"}, "asks no endpoint"),
        ({"source": "dump", "dump": path, "references": True}, "cannot tell which articles"),
    ):
        with pytest.raises(ConfigError, match=message):
            fetch(BuildFolder(tmp_path / "build"), FetchOptions(relations=("P31",), **options))  # type: ignore[arg-type]


def test_another_dump_is_not_mixed_in_and_the_command_is_recalled(dumps: Any, tmp_path: Path) -> None:
    _fetch(tmp_path / "build", dumps("truthy", "bz2"))
    with pytest.raises(ConfigError):
        _fetch(tmp_path / "build", dumps("truthy", "gz"))
    made = rebuild(BuildFolder(tmp_path / "build").manifest().verbs)
    words = made.commands[0]
    assert words[words.index("--dump") + 1] == "./truthy.bz2" and words[words.index("--source") + 1] == "dump"
    assert any("truthy.bz2" in note for note in made.notes)


def test_blocks_are_found_at_every_bit(dumps: Any) -> None:
    """Check that every block of a stream unpacks by itself, to what the whole stream unpacks to."""
    path = dumps("json", "streams.bz2")
    text = bz2.decompress(path.read_bytes())
    with open_dump(str(path)) as dump, units(1):
        found_units = list(dump.units())
    found = magics(path.read_bytes())
    assert len(found_units) == sum(number == BLOCK for _, number in found) > 10
    assert len({unit.start % 8 for unit in found_units}) > 4 and sum(number == END for _, number in found) == 7
    assert b"".join(part for unit in found_units for part in unit.texts()) == text


@settings(max_examples=200, deadline=None)
@given(
    number=st.sampled_from([BLOCK, END]),
    before=st.binary(max_size=9),
    after=st.binary(max_size=9),
    shift=st.integers(0, 7),
)
def test_a_magic_number_is_found_wherever_it_lies(number: int, before: bytes, after: bytes, shift: int) -> None:
    bits = int.from_bytes(b"\1" + before, "big") << shift
    bits = bits << 48 | number
    tail = 8 - shift if shift else 0
    bits = (bits << tail) << 8 * len(after) | int.from_bytes(after, "big")
    data = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
    place = len(data) * 8 - 8 * len(after) - tail - 48
    assert (place, number) in magics(data)


@settings(max_examples=200, deadline=None)
@given(
    words=st.sets(st.text("P0123-a", min_size=1, max_size=4), min_size=1, max_size=12),
    word=st.text("P0123-a", max_size=5),
)
def test_an_alternation_matches_exactly_its_words(words: set[str], word: str) -> None:
    pattern = re.compile(alternation(words))
    assert all(pattern.fullmatch(known.encode()) for known in words)
    assert bool(pattern.fullmatch(word.encode())) == (word in words)


GREGORIAN, JULIAN = "http://www.wikidata.org/entity/Q1985727", "http://www.wikidata.org/entity/Q1985786"


@pytest.mark.parametrize(
    "time, precision, calendar, expected",
    [
        ("+2012-05-03T00:00:00Z", 11, GREGORIAN, "2012-05-03"),
        ("+2012-05-00T00:00:00Z", 10, GREGORIAN, "2012-05"),
        ("+2012-00-00T00:00:00Z", 9, GREGORIAN, "2012"),
        ("+2010-00-00T00:00:00Z", 8, GREGORIAN, "201X"),
        ("+1900-00-00T00:00:00Z", 7, GREGORIAN, "18XX"),
        ("+1582-10-04T00:00:00Z", 11, JULIAN, "1582-10-14"),  # the day before the calendar's reform
        ("+1712-02-29T00:00:00Z", 11, JULIAN, "1712-03-11"),  # Sweden's leap day
        ("+1616-04-23T00:00:00Z", 9, JULIAN, "1616"),
        ("-0044-03-15T00:00:00Z", 11, JULIAN, "-0043-03-13"),  # the ides of March of 44 BC, the year -43
        ("-0044-03-15T00:00:00Z", 11, GREGORIAN, "-0043-03-15"),
        ("-0001-00-00T00:00:00Z", 9, GREGORIAN, "0000"),
        ("never", 11, GREGORIAN, "unknown"),
    ],
)
def test_dates_of_json_dumps_are_those_of_the_rdf(time: str, precision: int, calendar: str, expected: str) -> None:
    assert date_of({"time": time, "precision": precision, "calendarmodel": calendar}) == expected
