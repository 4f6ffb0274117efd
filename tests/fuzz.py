"""Fuzzing: every parser that reads a user's or the network's bytes, with mutations of what it reads when all is well.

`python tests/fuzz.py 100000` tries so many inputs a parser (`make fuzz`); `test_fuzz.py` a fixed few. Only cfbuild's
own errors may come out, each input has a time limit, and the whole run a limit of memory.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from scored_build import case, records
from small_world import templates, world
from urllib3.util import parse_url

from cfbuild.audit.validate import violations
from cfbuild.data import Decision, Fact, Reference, Rejection, Template, item_id
from cfbuild.edit.corpus import open_corpus
from cfbuild.edit.covariance import load_covariance
from cfbuild.errors import CfbuildError
from cfbuild.facts.bundled import table_cells
from cfbuild.lm.load import _check_weights
from cfbuild.pipeline.audit import AuditOptions, audit
from cfbuild.score.run_report import Report
from cfbuild.score.table import ScoreTable
from cfbuild.sources import statements, wikidata
from cfbuild.sources.address import checked_url, redact
from cfbuild.sources.failures import retry_after_s
from cfbuild.sources.http import HttpRequest, _redirected
from cfbuild.sources.journal import Journal
from cfbuild.sources.pararel import _lines, _local_id
from cfbuild.sources.snapshot import FACT_COLUMNS
from cfbuild.sources.sparql import _counted, _groups, literal, parse
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.manifest import _digest
from cfbuild.store.rowlog import RowLog
from cfbuild.store.schema import conforming
from cfbuild.templates.patterns import templates as pararel_templates

SLOWEST_S = 5.0
"""An input that takes longer counts as a hang."""
MOST_MEGABYTES = 600
"""The memory that a whole run may add to what it began with."""
TOKENS = (
    *(b"{}", b"[]", b'"', b"\\", b"\\ud83d", b"\\u0000", b"null", b"NaN", b"Infinity", b"1e999", b"-0", b"9" * 40),
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n", b"\t", b"[X]", b"[Y]", b"{0.__class__}", b"Q0", b"../", b","),
    *(b"[" * 2000, b"\xe2\x80\xae", b"</script>", b"true", b"{", b"}", b":", b"@", b"http://", b"#", b"%0a", b" " * 50),
)


@dataclass(frozen=True)
class Parser:
    """`read` takes the bytes (and a folder of its own); `seeds` are inputs with which all is well."""

    read: Callable[[bytes, Path], object]
    seeds: Sequence[bytes]


def row_lines(rows: Sequence[Any]) -> bytes:
    return b"".join(jsonl.dump_row(row).encode() + b"\n" for row in rows)


def mutate(seed: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """Return the seed with up to six small changes: bytes flipped, cut, doubled, or taken from TOKENS or `others`."""
    body = bytearray(seed)
    for _ in range(draw.randint(1, 6)):
        start = draw.randrange(len(body) + 1)
        end = min(len(body), start + draw.choice((0, 1, 1, 2, 8, 64, 10_000)))
        kind = draw.randrange(7)
        if kind == 0 and body:
            body[start % len(body)] = draw.randrange(256)
        elif kind == 1:
            del body[start:end]
        elif kind == 2:
            body[start:start] = body[start : min(end, start + 300)]
        elif kind in (3, 4):
            body[start:end] = draw.choice(TOKENS)
        elif kind == 5:
            donor = draw.choice(others)
            place = draw.randrange(len(donor) + 1)
            body[start:start] = donor[place : place + 200]
        else:
            body = body[:start]
        if len(body) > 40_000:
            del body[40_000:]
    return bytes(body)


def file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """Return a parser of a file: it writes the bytes there first."""

    def write_and_read(body: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(body)
        return read(path)

    return write_and_read


def rows_of(name: str, decode: Callable[[Any], Any], encode: Callable[[Any], Any]) -> Callable[[bytes, Path], object]:
    """Return a parser of a file of the build; it writes again what it could read."""

    def read(path: Path) -> None:
        for value in jsonl.read_values(path, conforming(name, decode)):
            jsonl.dump_row(encode(value)).encode()

    return file(f"{name}.jsonl", read)


def _sparql(body: bytes, folder: Path) -> None:
    rows = parse(body)
    for row in rows:
        for term in row.values():
            (
                statements.item_of(term),
                statements._date({"end": term, "end_precision": term}, "end"),
                _local_id(term.value),
            )
    with contextlib.suppress(CfbuildError):
        _counted(rows, 10)
    with contextlib.suppress(CfbuildError):
        _groups(rows, "s")


def _tsv(body: bytes, folder: Path) -> list[Any]:
    return list(table_cells(body.decode("utf-8", "replace").split("\n"), "facts.tsv", FACT_COLUMNS))


def _template(body: bytes, folder: Path) -> str:
    text = body.decode("utf-8", "replace")
    return Template("P1", "rewrite", text, "x").fill(text)


def _patterns(body: bytes, folder: Path) -> None:
    kept, refused = pararel_templates("P1", [row["pattern"] for row in _lines(("pattern",))(body)])
    assert all(one.text.count("{}") == 1 for one in kept) and all(one.reason for one in refused)


def _journal(path: Path) -> None:
    with Journal(path) as journal:
        for key in list(journal._entries):
            journal.get(key)
        journal.put("new", b"body", "2026-01-01T00:00:00+00:00")
        journal.retrieved(), journal.digest()
    with Journal(path) as journal:
        assert journal.get("new") == b"body"


def _rowlog(path: Path) -> None:
    log = RowLog(path)
    known = len(log.entries)
    list(log.rows(log.entries))
    log.append([{"case_id": 7, "relation_id": "P1", "rule": "r"}])
    assert len(RowLog(path).entries) == known + 1


def _manifest(body: bytes, folder: Path) -> None:
    """Read a manifest as it is, and with a digest that fits: whoever forges a manifest can compute one."""
    build = BuildFolder(folder)
    with contextlib.suppress(ValueError, RecursionError):
        forged = json.loads(body)
        if isinstance(forged, dict):
            body = json.dumps({**forged, "sha256": _digest(forged)}).encode()
    (folder / "manifest.json").write_bytes(body)
    build.manifest()
    build.changed()
    build.begin("generate", {"seed": 0})


def _config(body: bytes, folder: Path) -> None:
    path = BuildFolder(folder).progress("fetch") / "config.json"
    path.write_bytes(body)
    BuildFolder(folder).begin("fetch", {"seed": 0})


def _retry_after(body: bytes, folder: Path) -> None:
    response: Any = SimpleNamespace(headers={"Retry-After": body.decode("latin-1")})
    wait_s = retry_after_s(response, lambda: 1.7e9)
    assert wait_s is None or 0 <= wait_s <= 1e9


def _location(body: bytes, folder: Path) -> None:
    url = "http://ann:s3cret@127.0.0.1:7878/query"
    response: Any = SimpleNamespace(headers={"Location": body.decode("latin-1")}, status_code=308)
    target = _redirected(HttpRequest("POST", url, ()), url, response)
    assert parse_url(target).host == "127.0.0.1" and parse_url(target).port == 7878, target


def _address(body: bytes, folder: Path) -> None:
    text = body.decode("utf-8", "replace")
    shown = redact(text)
    assert not re.search(r"://[^/\s@]*s3cret[^/\s@]*@", shown), shown
    url = checked_url(text)
    with contextlib.suppress(ValueError):
        assert (parse_url(url).host or "").strip("[]").lower() == (urlsplit(url).hostname or ""), url


def _id(body: bytes, folder: Path) -> None:
    text = body.decode("utf-8", "replace")
    literal(text, wikidata.language_code("en"))
    with contextlib.suppress(CfbuildError):
        wikidata.language_code(text)
    assert item_id(text).isascii() and int(text[1:]) > 0


def _npz() -> list[bytes]:
    made = []
    for save in (np.savez, np.savez_compressed):
        for arrays in ({"C": np.eye(6)}, {"mom2.mom2": np.eye(6) * 8, "mom2.count": np.array(8)}):
            stream = io.BytesIO()
            save(stream, **arrays)  # type: ignore[arg-type]
            made.append(stream.getvalue())
    return made


def _journal_seed() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        with Journal(path) as journal:
            for number in range(3):
                journal.put(f"key {number}", b"body" * number, "2026-01-01T00:00:00+00:00")
        return path.read_bytes()


def _rowlog_seed() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        log = RowLog(path)
        for number in range(3):
            log.append([{"case_id": number, "relation_id": "P1", "rule": "r"}])
        return path.read_bytes()


def _weights() -> bytes:
    from safetensors.numpy import save

    return save({"a": np.eye(3), "b": np.zeros(5)})


def _manifest_seed() -> bytes:
    entry = {"config": {"seed": 0}, "files": {"facts.jsonl": {"rows": 3, "sha256": "0" * 64}}, "facts": 3}
    return json.dumps({"cfbuild": "1", "verbs": {"generate": entry, "fetch": entry}, "sha256": "0" * 64}).encode()


def parsers() -> dict[str, Parser]:
    """Return every parser by name."""
    hostile = records(6, hostile=True)
    rows = [codec.encode_record(one) for one in hostile]
    facts, entities = world(6)
    easy = {"prompt": "Ann is in", "subject": "Ann", "target_new": "Rome", "ground_truth": "Oslo", "rephrase": ["Ann"]}
    bindings = [{"s": {"type": "uri", "value": "http://www.wikidata.org/entity/Q1"}}]
    bindings += [{"s": {"type": "literal", "value": "1990-01-01T00:00:00Z"}}]
    bindings += [{"n": {"type": "literal", "value": "2", "xml:lang": "EN"}}, {"all": {"type": "literal", "value": "2"}}]
    answer = json.dumps({"head": {"vars": ["s", "n", "all"]}, "results": {"bindings": bindings}}).encode()
    table = "\t".join(FACT_COLUMNS) + "\nP36\tQ142\tFrance\tQ90\tParis\nP36\tQ17\tJapan\tQ1490\tTokyo"
    references = [Reference("P1", "Q1", "Q2", "Ann", "Ann is in Oslo.")] * 2
    rejections = [
        codec.encode_rejection(
            Rejection(1, Fact("P1", "Q1", "Q2"), "a", None, Decision(False, "rule", {"share": 0.5, "n": None}))
        )
    ]
    record_file, array = row_lines(rows), json.dumps(rows, indent=1).encode()
    patterns = row_lines([{"pattern": text} for text in ("[X] is in [Y].", "The home of [X] is [Y] .", "[Y] has [X]")])
    return {
        "JSON lines": Parser(file("rows.jsonl", lambda path: list(jsonl.read_rows(path))), [record_file]),
        "report": Parser(
            file("report.json", lambda path: ScoreTable.of({"m": Report.of_dict(jsonl.read_json(path))}).as_text()),
            [json.dumps(Report.of_cases(list(map(case, records(3))), {"model": "m"}).as_dict()).encode()],
        ),
        "JSON document": Parser(file("report.json", jsonl.read_json), [array, b'{"a": [1, 2.5, null]}']),
        "records, validated": Parser(
            file("records.json", lambda path: [str(one) for one in violations(path)]), [record_file, array]
        ),
        "records": Parser(rows_of("record", codec.decode_record, codec.encode_record), [record_file]),
        "facts": Parser(
            rows_of("facts", codec.decode_fact, codec.encode_fact), [row_lines([*map(codec.encode_fact, facts)])]
        ),
        "entities": Parser(
            rows_of("entities", codec.decode_entity, codec.encode_entity),
            [row_lines([*map(codec.encode_entity, entities)])],
        ),
        "templates": Parser(
            rows_of("templates", codec.decode_template, codec.encode_template),
            [row_lines([*map(codec.encode_template, templates("P1"))])],
        ),
        "references": Parser(
            rows_of("references", codec.decode_reference, codec.encode_reference),
            [row_lines([*map(codec.encode_reference, references)])],
        ),
        "rejects": Parser(rows_of("rejected", codec.decode_rejection, codec.encode_rejection), [row_lines(rejections)]),
        "cases": Parser(
            rows_of("cases", codec.decode_case, codec.encode_case),
            [row_lines([codec.encode_case(case(one)) for one in hostile])],
        ),
        "audited file": Parser(
            file("a.jsonl", lambda path: audit(AuditOptions(path, fix=path.with_name("fixed.jsonl")))),
            [row_lines(rows[:1]), row_lines([easy, easy])],
        ),
        "facts, TSV": Parser(_tsv, [table.encode()]),
        "template": Parser(_template, [b"{} lives in", b"The home of {} is", "{} è nato a".encode()]),
        "ParaRel patterns": Parser(_patterns, [patterns]),
        "SPARQL answer": Parser(_sparql, [answer]),
        "journal": Parser(file("answers.journal", _journal), [_journal_seed()]),
        "row log": Parser(file("log.jsonl", _rowlog), [_rowlog_seed()]),
        "manifest": Parser(_manifest, [_manifest_seed()]),
        "config": Parser(_config, [b'{"seed": 0}', b'{"seed": {"a": [1, null]}}']),
        "npz": Parser(file("c.npz", lambda path: load_covariance(path, 6)), _npz()),
        "safetensors": Parser(file("model.safetensors", lambda path: _check_weights(path.parent)), [_weights()]),
        "text corpus": Parser(
            file("corpus.txt", lambda path: list(open_corpus(str(path)).texts())), [b"Ein Text.\n\nNoch einer.\n"]
        ),
        "Retry-After": Parser(
            _retry_after, [b"120", b"Wed, 21 Oct 2065 07:28:00 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"-1"]
        ),
        "Location": Parser(_location, [b"/other?x=1", b"http://127.0.0.1:7878/x", b"//127.0.0.1:7878@elsewhere/"]),
        "address": Parser(
            _address, [b"https://ann:s3cret@example.org:8080/sparql?x=y", b"http://[::1]:80/", b"http://h/"]
        ),
        "ids, labels, languages": Parser(_id, [b"Q42", b"Q9007199254740993", b"pt-br"]),
    }


class HangError(Exception):
    """An input took longer than SLOWEST_S."""


def _ring(*_: object) -> None:
    raise HangError


def tries(parser: Parser, count: int, name: str) -> Iterator[bytes]:
    """Yield the seeds, then seeded mutations of them."""
    yield from (*parser.seeds, b"")
    for number in range(count - len(parser.seeds) - 1):
        draw = random.Random(f"{name}:{number}")
        yield mutate(draw.choice(parser.seeds), parser.seeds, draw)


def fuzz(name: str, parser: Parser, count: int, folder: Path) -> tuple[int, int]:
    """Try `count` inputs; return how many were read and how many refused. Raises AssertionError with the input that
    anything else came of."""
    read = refused = 0
    old = signal.signal(signal.SIGALRM, _ring)
    try:
        for number, body in enumerate(tries(parser, count, name)):
            signal.setitimer(signal.ITIMER_REAL, SLOWEST_S)
            try:
                parser.read(body, folder)
                read += 1
            except CfbuildError as error:
                assert str(error), body
                refused += 1
            except (Exception, HangError) as error:
                raise AssertionError(f"{name}, input {number}: {type(error).__name__}: {error}\n{body!r}") from error
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, old)
    return read, refused


def main(count: int, names: Sequence[str]) -> None:
    logging.disable(logging.CRITICAL)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = 0
    for name, parser in parsers().items():
        if names and name not in names:
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            read, refused = fuzz(name, parser, count, Path(folder))
        total += read + refused
        print(f"{name}: {read + refused} inputs, {refused} refused, {time.monotonic() - started:.0f} s", flush=True)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(f"{total} inputs; no crash, no hang; {grown} MB more at the most")
    assert grown < MOST_MEGABYTES, grown


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
