"""Faults: what was done wrong, by whoever, ends in the same bytes or in an error that says what, where and what to do.

docs/faults.md names the test of each fault; those that belong to one part of cfbuild stand in that part's test file.
"""

from __future__ import annotations

import ctypes
import gzip
import json
import logging
import math
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from scored_build import HOSTILE, records, write_scored
from servers import RESULTS_JSON, Scripted, reply
from small_world import item, small_options, templates, world, write_build, write_world
from test_http import GOOD, client, failure, query

from cfbuild import cli
from cfbuild.audit.validate import violations
from cfbuild.cli.shared import guard_streams, print_json, print_text
from cfbuild.data import Candidate, Fact, Request, Target, Template, item_id, property_id
from cfbuild.edit.corpus import Corpus
from cfbuild.edit.covariance import Covariance, key_covariances, load_covariance, second_moments
from cfbuild.edit.rome import Rome
from cfbuild.edit.rome.options import RomeOptions
from cfbuild.errors import BuildStateError, ConfigError, DataError, ModelError, SourceError, TemplateError
from cfbuild.filter.rank import FilterOptions, RankFilter
from cfbuild.lm import likelihood
from cfbuild.lm.batching import halving
from cfbuild.lm.likelihood import Question, score
from cfbuild.lm.load import convert_gguf, load
from cfbuild.lm.sample import generate as write_texts
from cfbuild.lm.sample import sample_contexts, sample_texts
from cfbuild.pipeline.audit import AuditOptions, audit
from cfbuild.pipeline.export import ExportOptions, export_records
from cfbuild.pipeline.fetch import FetchOptions, fetch
from cfbuild.pipeline.generate import generate
from cfbuild.pipeline.publish import stage
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.sources.address import checked_url
from cfbuild.sources.failures import HeavyAnswerError
from cfbuild.sources.http import Client
from cfbuild.sources.journal import Journal
from cfbuild.sources.sparql import literal, parse
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.rowlog import RowLog
from cfbuild.text.safe import HIDDEN, discreet

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"
SCORING: dict[str, Any] = {"limit": 4, "covariance_tokens": 300, "steps": 3, "skip_generation": True, "layer": 1}


def run(
    *words: str,
    cwd: Path,
    env: dict[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; `before` runs in it first."""
    return subprocess.run(
        [sys.executable, "-m", "cfbuild", *words],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        preexec_fn=before,
        timeout=120,
        check=False,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


# ------------------------------------------------------------------------------------------------------- the network


@pytest.mark.parametrize("header", ["9" * 10, "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_an_absurd_retry_after_is_neither_slept_through_nor_ignored(header: str) -> None:
    busy = reply(b"", f"Retry-After: {header}", status="429 Too Many Requests")
    error, server, sleeps = failure(busy, reply(GOOD))
    assert sleeps == [] and len(server.requests) == 1
    assert "asks to wait" in str(error) and "run the same command again after" in str(error)


def drip(start: bytes, piece: bytes, pause_s: float) -> Callable[[socket.socket], None]:
    """Return what sends a body that never ends, a piece at a time."""

    def send(connection: socket.socket) -> None:
        connection.sendall(start)
        for _ in range(400):
            connection.sendall(piece)
            time.sleep(pause_s)
        raise AssertionError("the client listened to the end")

    return send


HEAD = b"HTTP/1.1 %s\r\nContent-Type: " + RESULTS_JSON.encode() + b"\r\n%s\r\n"
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
"""A deflate block of nothing: it can come for ever, and unpacks to no byte."""


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (HEAD % (b"200 OK", b"Content-Length: 100000\r\n"), b" "),
        (HEAD % (b"200 OK", b""), b" "),
        (HEAD % (b"200 OK", b"Transfer-Encoding: chunked\r\n"), b"1\r\n \r\n"),
        (HEAD % (b"200 OK", b"Content-Encoding: gzip\r\n") + gzip.compress(b"")[:10], EMPTY_BLOCK),
        (HEAD % (b"400 Bad Request", b"Content-Length: 100000\r\n"), b" "),
    ],
    ids=["announced", "until closed", "chunked", "gzip of nothing", "error page"],
)
def test_a_body_that_comes_byte_by_byte_is_given_up(start: bytes, piece: bytes) -> None:
    error, server, _ = failure(drip(start, piece, 0.02), timeout_s=0.2, attempts=1)  # type: ignore[arg-type]
    assert len(server.requests) == 1 and ("sent its answer for more than" in str(error) or "400" in str(error))


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"y"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (HEAD[:-2] % (b"302 Found", b"Location: /else"), b"w"),
    ],
    ids=["status", "name", "value", "many", "continue", "redirect"],
)
def test_headers_that_come_byte_by_byte_are_given_up(start: bytes, piece: bytes) -> None:
    began = time.monotonic()
    error, server, _ = failure(drip(start, piece, 0.02), timeout_s=0.2, attempts=1)  # type: ignore[arg-type]
    assert len(server.requests) == 1 and time.monotonic() - began < 4  # 400 pieces would take 8 s
    assert isinstance(error, HeavyAnswerError) and "sent its answer for more than" in str(error)


@pytest.mark.parametrize("status", [b"200 OK", b"308 Permanent Redirect", b"500 Oops", b"403 Forbidden"])
def test_an_endless_body_is_cut_off(status: bytes) -> None:
    sent: list[int] = []

    def flood(connection: socket.socket) -> None:
        connection.sendall(HEAD % (status, b"Location: ftp://elsewhere/\r\n"))
        while len(sent) < 10_000:
            connection.sendall(b" " * 65536)
            sent.append(65536)

    error, _, _ = failure(flood, max_bytes=1_000_000)  # type: ignore[arg-type]
    assert isinstance(error, HeavyAnswerError) == (status != b"403 Forbidden" and b"308" not in status)
    assert sum(sent) < 100_000_000


@pytest.mark.parametrize("encoding", ["gzip, gzip", "deflate", "br", "zstd"])
def test_an_encoding_that_was_not_asked_for_is_not_unpacked(encoding: str) -> None:
    bomb = gzip.compress(gzip.compress(b" " * 10_000_000))
    error, server, _ = failure(reply(bomb, f"Content-Encoding: {encoding}"))
    assert "expected gzip or none" in str(error) and len(server.requests) == 3
    assert server.requests[0][1]["accept-encoding"] == "gzip"


def test_gzip_in_several_members_is_one_body() -> None:
    asker, _ = client()
    body = gzip.compress(GOOD[:30]) + gzip.compress(GOOD[30:])
    with Scripted(reply(body, "Content-Encoding: gzip")) as server, asker:
        assert asker.answer(query(server.url), parse)[0] == GOOD


@pytest.mark.parametrize(
    "target",
    [
        "//elsewhere.example\\@127.0.0.1:{port}/x",
        "http://elsewhere.example\\@127.0.0.1:{port}/x",
        "http://[",
        "file:///etc/passwd",
        "http://127.0.0.1:{port}@elsewhere.example/",
    ],
)
def test_a_redirect_that_libraries_read_differently_is_refused(target: str) -> None:
    asker, _ = client()
    with Scripted(reply(GOOD)) as server, asker:
        moved = reply(b"", "Location: " + target.format(port=server.port), status="308 Permanent")
        server.replies[:] = [moved, reply(GOOD)]
        with pytest.raises(SourceError, match="redirects to"):
            asker.answer(query(server.url.replace("//", "//ann:s3cret@")), parse)
    assert len(server.requests) == 1


def test_a_backslash_is_no_part_of_an_address() -> None:
    with pytest.raises(ConfigError, match="backslash"):
        checked_url("http://query.example\\@127.0.0.1/")


# --------------------------------------------------------------------------------------------------- the build folder


def test_the_lock_names_the_first_run(tmp_path: Path) -> None:
    folder = BuildFolder(write_world(tmp_path / "build", 20))
    with folder.lock("fetch"):
        shown = run("generate", "--build", str(folder.root), "--no-filter", cwd=tmp_path)
    assert shown.returncode == 2
    assert re.search(rf"in use by cfbuild fetch, process {os.getpid()}, since 20\d\d-\d\d-\d\dT", shown.stderr)
    generate(folder, small_options())


@pytest.mark.parametrize("name", [".lock", "manifest.json", "facts.jsonl", "progress", "publish", "progress/generate"])
def test_a_link_in_a_build_folder_is_named_and_nothing_behind_it_is_touched(tmp_path: Path, name: str) -> None:
    folder = BuildFolder(write_world(tmp_path / "build", 20))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "rows.jsonl").write_text("mine")
    target = precious if "." not in name else precious / "rows.jsonl"
    link = folder.root / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    for restart in (False, True):
        with pytest.raises(BuildStateError, match=f"{re.escape(str(link))} is a symbolic link"):
            generate(folder, small_options(restart=restart))
    assert contents(precious) == {"rows.jsonl": b"mine"}


def test_a_pipe_in_a_build_folder_is_named_and_not_waited_for(tmp_path: Path) -> None:
    folder = BuildFolder(write_world(tmp_path / "build", 20))
    os.mkfifo(folder.root / "manifest.json")
    with pytest.raises(BuildStateError, match="neither a file nor a folder"):
        generate(folder, small_options())
    with pytest.raises(BuildStateError, match="neither a file nor a folder"):
        export_records(BuildFolder(write_linked(tmp_path / "other")), ExportOptions())


def write_linked(root: Path) -> Path:
    write_scored(root, records(4))
    (root / "export").mkdir()
    os.mkfifo(root / "export" / "pipe")
    return root


def test_a_manifest_changed_by_hand_is_noticed(tmp_path: Path) -> None:
    folder = BuildFolder(write_world(tmp_path / "build", 20))
    generate(folder, small_options())
    path = folder.path("manifest.json")
    whole = path.read_text()
    path.write_text(whole.replace('"filtered": false', '"filtered": true'))
    with pytest.raises(DataError, match=r"manifest\.json was changed since cfbuild wrote it"):
        generate(folder, small_options())
    path.write_text(json.dumps(json.loads(whole)))
    generate(folder, small_options())


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "{}", '{"verbs": 1}', '{"cfbuild": "1", "verbs": {"generate": 3}, "sha256": ""}', "\xff"]
)
def test_a_manifest_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    folder = BuildFolder(write_world(tmp_path / "build", 20))
    folder.path("manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"manifest\.json"):
        generate(folder, small_options())


def test_a_file_changed_since_its_entry_is_named_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = BuildFolder(tmp_path / "build")
    fetch(folder, FetchOptions(source="snapshot", per_relation=20))
    generate(folder, small_options(limit=10))
    path = folder.path("records.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"Q", b"Q1", 1))
    changed = path.read_bytes()
    for action in (lambda: generate(folder, small_options(limit=10)), lambda: stage(folder, "me/mine")):
        with pytest.raises(BuildStateError, match=r"records\.jsonl changed since `cfbuild generate` wrote it"):
            action()
    assert path.read_bytes() == changed
    generate(folder, small_options(limit=10, restart=True))
    assert path.read_bytes() == whole
    facts = folder.path("facts.jsonl")
    facts.write_bytes(b"".join(facts.read_bytes().splitlines(keepends=True)[1:]))
    with caplog.at_level(logging.WARNING):
        generate(folder, small_options(limit=10, restart=True))
    assert "facts.jsonl was changed since `cfbuild fetch` wrote it" in caplog.text


def test_rows_changed_since_they_were_logged_are_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"case_id": n, "relation_id": "P1", "rule": "r"} for n in range(6)]
    log = RowLog(tmp_path / "rows.jsonl")
    for start in (0, 2, 4):
        log.append(rows[start : start + 2])
    whole = log.path.read_bytes()
    log.path.write_bytes(whole.replace(b'"case_id":3', b'"case_id":9'))
    again = RowLog(tmp_path / "rows.jsonl")
    assert [entry.case_id for entry in again.entries] == [0, 1] and "changed since" in caplog.text
    again.append(rows[2:4])
    again.append(rows[4:])
    assert log.path.read_bytes() == whole


def test_a_row_that_changes_while_its_log_is_open_is_never_copied(tmp_path: Path) -> None:
    rows = [{"case_id": n, "relation_id": "P1", "rule": "r", "text": "é" * n} for n in range(4)]
    log = RowLog(tmp_path / "rows.jsonl")
    log.append(rows)
    assert [json.loads(line) for line in log.lines(reversed([*log.entries]))] == rows[::-1]
    assert "".join(log.lines(log.entries)).encode() == log.path.read_bytes().rpartition(b"#")[0]
    log.path.write_bytes(log.path.read_bytes().replace(b'"case_id":2', b'"case_id":7'))
    assert [row["case_id"] for row in log.rows([*log.entries][:2])] == [0, 1]
    for read in (log.lines, log.rows):
        with pytest.raises(DataError, match="the row of case 2 is not as it was written"):
            list(read(log.entries))


def test_no_half_row_is_ever_read_as_one(tmp_path: Path) -> None:
    rows = [{"case_id": n, "relation_id": "P1", "rule": "r", "text": "é" * n} for n in range(6)]
    path = tmp_path / "rows.jsonl"
    log = RowLog(path)
    for start in (0, 3):
        log.append(rows[start : start + 3])
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        torn = RowLog(path)
        assert len(torn.entries) in (0, 3) and list(torn.rows(torn.entries)) == rows[: len(torn.entries)]
        for start in range(len(torn.entries), 6, 3):
            torn.append(rows[start : start + 3])
        assert path.read_bytes() == whole


def test_what_a_killed_restart_left_is_not_resumed(tmp_path: Path) -> None:
    """Delete the settings and leave rows: they are of no settings that anybody knows."""
    folder = BuildFolder(write_world(tmp_path / "build", 40))
    generate(BuildFolder(write_world(tmp_path / "whole", 40)), small_options())
    (folder.progress("generate") / "rows.jsonl").write_text("")
    log = RowLog(folder.progress("generate") / "rows.jsonl")
    log.append([{"case_id": 0, "relation_id": "P551", "rule": "stale"}])
    generate(folder, small_options())
    assert folder.path("rejected.jsonl").read_bytes() == (tmp_path / "whole" / "rejected.jsonl").read_bytes()


def test_restart_makes_a_run_with_other_settings_from_the_start(tmp_path: Path) -> None:
    folder = BuildFolder(write_world(tmp_path / "build", 40))
    generate(folder, small_options(limit=5))
    with pytest.raises(BuildStateError, match=r"limit: 5 then, 6 now.*--restart"):
        generate(folder, small_options(limit=6))
    assert generate(folder, small_options(limit=6, restart=True)).kept == 6


def small_files(most: int = 4096) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def without_override() -> None:
    """Let the permission bits hold for root too: drop CAP_DAC_OVERRIDE from what the program to come may have."""
    if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(24, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


@pytest.mark.parametrize(
    "most, message", [(4096, "disk I/O error"), (150_000, "File too large")], ids=["index", "rows"]
)
def test_a_full_disk_is_one_clean_error_and_older_output_stays(tmp_path: Path, most: int, message: str) -> None:
    build = write_world(tmp_path / "build", 60)
    generate(BuildFolder(build), small_options(limit=3))
    before = contents(build)
    few = ("--min-neighbors", "0", "--min-pool", "2")
    words = ("generate", "--build", str(build), "--no-filter", "--limit", "60", "--restart", *few)
    shown = run(*words, cwd=tmp_path, before=partial(small_files, most))
    assert shown.returncode == cli.EXIT_STORAGE and message in shown.stderr and "Traceback" not in shown.stderr
    after = contents(build)
    assert {name: after[name] for name in before if name != "manifest.json"} == {
        name: body for name, body in before.items() if name != "manifest.json"
    }
    generate(BuildFolder(build), small_options(limit=60))
    whole = write_world(tmp_path / "whole", 60)
    generate(BuildFolder(whole), small_options(limit=60))
    assert contents(build) == contents(whole)


def test_a_read_only_folder_is_one_clean_error(tmp_path: Path) -> None:
    build = write_world(tmp_path / "build", 20)
    before = contents(build)
    build.chmod(0o555)
    try:
        shown = run("generate", "--build", str(build), "--no-filter", cwd=tmp_path, before=without_override)
    finally:
        build.chmod(0o755)
    assert shown.returncode == cli.EXIT_STORAGE and "Permission denied" in shown.stderr and str(build) in shown.stderr
    assert "Traceback" not in shown.stderr and contents(build) == before


def test_what_a_killed_process_was_writing_is_swept(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    process = int(dead.stdout)
    stale, alive = tmp_path / f".a.json.{process}.part", tmp_path / f".a.json.{os.getppid()}.part"
    stale_b = tmp_path / f".b.json.{process}.part"
    for path in (stale, alive, stale_b):
        path.write_text("half")
    jsonl.write_json(tmp_path / "a.json", 1)
    assert not stale.exists() and alive.exists() and stale_b.exists() and jsonl.read_json(tmp_path / "a.json") == 1


# ------------------------------------------------------------------------------------------------- files from anybody

BAD_ROWS: dict[str, tuple[bytes, str]] = {
    "100,000 levels": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion"),
    "5,000 digits": (b'{"a":' + b"7" * 5000 + b"}", "whole number of 5000"),
    "NaN": (b'{"a":NaN}', "NaN is not a JSON number"),
    "Infinity": (b'{"a":1e999}', "too large"),
    "a key twice": (b'{"a":1,"a":2}', "'a' comes twice"),
    "a key twice inside": (b'{"b":[{"a":1,"c":2,"a":2}]}', "'a' comes twice"),
    "half a character": (b'{"a":"\\ud83d"}', "half a character|lone surrogate"),
    "half a character as a key": (b'{"\\udc00":1}', "half a character|lone surrogate"),
    "no UTF-8": (b'{"a":"\xff"}', "UTF-8"),
    "a mark in mid-file": (b'\xef\xbb\xbf{"a":1}', "not JSON|Expecting value"),
    "cut short": (b'{"a":1', "not JSON|Expecting"),
    "a long line": (b'{"a":"' + b"x" * (jsonl.LONGEST_LINE + 1) + b'"}', f"longer than {jsonl.LONGEST_LINE}|more than"),
}


@pytest.mark.parametrize(("line", "message"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_is_an_error_with_its_line(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a":1}\n\n' + line + b"\n" + b'{"a":2}\n')
    with pytest.raises(DataError, match=f"(?i)rows.jsonl:3.*({message})"):
        list(jsonl.read_rows(path))
    found = [one for one in violations(path) if one.line == 3]
    assert any(re.search(f"(?i){message}", one.got) for one in found), found
    assert {one.line for one in violations(path)} == {1, 3, 4}, "the lines around it are read"
    fixed = tmp_path / "fixed.jsonl"
    summary = audit(AuditOptions(path, fix=fixed))
    assert summary.rows == 3 and fixed.read_bytes() == b""


def test_a_mark_at_the_beginning_and_line_ends_of_two_characters_make_no_difference(tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain.jsonl", tmp_path / "marked.jsonl"
    plain.write_bytes(b'{"a":1}\n{"a":2}\n')
    marked.write_bytes(b'\xef\xbb\xbf{"a":1}\r\n{"a":2}\r\n')
    assert list(jsonl.read_rows(plain)) == list(jsonl.read_rows(marked))
    assert [one.got for one in violations(plain)] == [one.got for one in violations(marked)]


def test_a_line_of_a_gigabyte_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as stream:
        stream.truncate(1 << 30)  # a hole in the file: it takes no room on the disk
    code = (
        "import re, sys; from pathlib import Path; from cfbuild.store.jsonl import read_rows; "
        "from cfbuild.errors import DataError\n"
        "try: list(read_rows(Path(sys.argv[1])))\n"
        "except DataError as error: print(error)\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    message, megabytes = shown.stdout.splitlines()
    assert "rows.jsonl:1: is longer than" in message and int(megabytes) < 200


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("facts.jsonl", {"relation_id": "P551", "subject_id": "../../x", "object_id": "Q1"}, "subject_id"),
        ("facts.jsonl", {"relation_id": "P551", "subject_id": "Q0", "object_id": "Q1"}, "subject_id"),
        ("entities.jsonl", {"id": "Q1", "labels": {"en": 7}, "aliases": {}, "attributes": {}, "sitelinks": None}, "en"),
        ("entities.jsonl", {"id": "Q1\x00", "labels": {}, "aliases": {}, "attributes": {}, "sitelinks": 1}, "id"),
        ("entities.jsonl", {"id": "Q1", "labels": {}, "aliases": {"en": "ab"}, "attributes": {}, "sitelinks": 1}, "al"),
        ("templates.jsonl", {"relation_id": "P551", "kind": "rewrite", "text": 5, "origin": ""}, "text"),
    ],
)
def test_a_row_of_wrong_types_is_an_error_with_its_line(tmp_path: Path, name: str, row: Any, message: str) -> None:
    root = write_world(tmp_path / "build", 20)
    if name == "facts.jsonl":
        row = {**row, "rank": None, "start": None, "end": None, "source": ""}
    path = root / name
    path.write_bytes(path.read_bytes() + json.dumps(row).encode() + b"\n")
    with pytest.raises(DataError, match=rf"{name}:\d+: .*{message}"):
        generate(BuildFolder(root), small_options())


BAD_TEMPLATES = ("{0.__class__}", "{:>2000000000}", "{} and {}", "nobody", "{!r}", "{}{", "{}\n", "{} is\x1b[2J", "{0}")


@pytest.mark.parametrize("text", BAD_TEMPLATES)
def test_a_template_that_is_none_is_rejected_with_its_line(tmp_path: Path, text: str) -> None:
    root = write_world(tmp_path / "build", 20)
    path = root / "templates.jsonl"
    row = {"relation_id": "P551", "kind": "rewrite", "text": text, "origin": "mine"}
    path.write_bytes(path.read_bytes() + json.dumps(row).encode() + b"\n")
    with pytest.raises(DataError, match=r"templates\.jsonl:9: "):
        generate(BuildFolder(root), small_options())
    with pytest.raises(TemplateError):
        Template("P1", "rewrite", text, "mine")


@pytest.mark.parametrize(
    "text",
    ["../../x", "Q1/../..", "Q\x00", "Q1\x00", "Q0", "Q01", "Q1٢", "Q1\n", "Q1 }", 'Q1"', "q1", "", "Q" + "9" * 40],
)
def test_an_id_that_is_none_is_rejected(text: str) -> None:
    with pytest.raises(DataError):
        item_id(text)
    with pytest.raises(DataError):
        property_id(text.replace("Q", "P"))


@pytest.mark.parametrize("text", ['"', '\\"', "a\nb\r\tc", "} UNION { ?s ?p ?o", '"@en } #', "\\", "\x00", *HOSTILE])
def test_a_label_cannot_end_its_literal(text: str) -> None:
    made = literal(text, "en")
    inner = made.removesuffix('"@en').removeprefix('"')
    assert "\n" not in made and "\r" not in made
    assert re.fullmatch(r'(?:[^"\\\n\r]|\\["\\nrtbf])*', inner)
    assert json.loads(f'"{inner}"', strict=False) == text


# -------------------------------------------------------------------------------------------------------------- models


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    lm = tiny.make("gpt2")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_code_of_a_repository_does_not_run(model_folder: Path, tmp_path: Path) -> None:
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "evil.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\nclass Evil: ...\n")
    config["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil", "AutoTokenizer": "evil.Evil"}
    (model_folder / "config.json").write_text(json.dumps(config))
    assert load(str(model_folder), device="cpu").layers
    config["model_type"] = "evil"
    (model_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        load(str(model_folder), device="cpu")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["../pytorch_model.bin", "pytorch_model.bin", "../../x.safetensors"])
def test_an_index_leads_to_safetensors_of_its_folder_only(model_folder: Path, name: str) -> None:
    (model_folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"transformer.wte.weight": name}}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json: expected a weight_map"):
        load(str(model_folder), device="cpu")


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.99])
def test_a_truncated_safetensors_file_is_named(model_folder: Path, keep: float) -> None:
    path = model_folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ModelError, match=r"model\.safetensors: is not a safetensors file"):
        load(str(model_folder), device="cpu")


@pytest.mark.parametrize("body", [b"", b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, b"\x00" * 64, b"GGUF" * 50])
@pytest.mark.usefixtures("cache")
def test_a_broken_gguf_file_is_named(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "model.gguf").write_bytes(body)
    with pytest.raises(ModelError, match=r"model\.gguf: is not a GGUF model"):
        convert_gguf(tmp_path / "model.gguf")


def broken_npz(path: Path) -> Iterator[bytes]:
    np.savez_compressed(path, C=np.eye(6), count=np.array(9))
    whole = path.read_bytes()
    yield from (whole[:cut] for cut in range(0, len(whole), 37))
    yield from (whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :] for place in range(0, len(whole), 11))
    yield whole.replace(b"(6, 6)", b"(9, 9)")


def test_a_broken_npz_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    refused = 0
    for body in list(broken_npz(path)):
        path.write_bytes(body)
        try:
            loaded = load_covariance(path, 6)
            assert torch.isfinite(loaded.factor).all()
        except ModelError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 10


def test_a_promise_of_a_huge_array_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    np.savez(path, C=np.eye(6))
    path.write_bytes(path.read_bytes().replace(b"(6, 6), }" + b" " * 12, b"(600000, 600000), }  "))
    with pytest.raises(ModelError, match=r"c\.npz"):
        load_covariance(path, 6)


def test_a_broken_cached_covariance_is_computed_again(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    lm = tiny.make("gpt2")
    first = key_covariances(lm, [1], Corpus("c", lambda: ["She speaks French."] * 40), 400)[1]
    (file,) = cache.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    again = key_covariances(lm, [1], Corpus("c", lambda: ["She speaks French."] * 40), 400)[1]
    assert torch.equal(first.factor, again.factor) and "computed again" in caplog.text


class Tight:
    """Work that runs out of memory over more than `most` items, as the CPU's allocator says it."""

    def __init__(self, error: Exception, most: int = 2) -> None:
        self.error, self.most, self.failed = error, most, 0

    def __call__(self, items: Any) -> list[Any]:
        if len(items) > self.most:
            self.failed += 1
            raise self.error
        return [one * 10 for one in items]


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "cpu", "mps", "python"])
def test_out_of_memory_halves_the_batch(error: Exception) -> None:
    work = Tight(error)
    assert halving(work, range(9)) == [one * 10 for one in range(9)] and work.failed
    with pytest.raises(ModelError, match="over a single text"):
        halving(Tight(error, 0), range(3))


def test_another_fault_is_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        halving(Tight(RuntimeError("shapes do not fit")), range(9))


def test_scores_edits_and_covariance_do_not_change_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.make("gpt2")
    questions = [Question(lm.encode(f"She speaks {n}"), (lm.continuation("French"),)) for n in range(12)]
    requests = [Request("{} speaks", name, "Spanish") for name in ("Danielle", "Rome", "Berlin", "France")]
    texts = ["The capital city of France is Paris."] * 30

    def work() -> tuple[Any, Any, torch.Tensor]:
        edits = Rome(lm, RomeOptions(1, steps=3)).edit(requests)
        return score(lm, questions), edits, second_moments(lm, [1], texts, 200)[0][1]

    whole = work()
    forward, failed = type(lm.model.base_model).forward, []

    def tight(self: Any, *given: Any, **named: Any) -> Any:
        ids = named.get("input_ids", given[0] if given else None)
        if len(ids) > 3:
            failed.append(len(ids))
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(self, *given, **named)

    monkeypatch.setattr(type(lm.model.base_model), "forward", tight)
    halved = work()
    assert failed
    numbers = [[one.nll_nats for row in scored for one in row] for scored in (halved[0], whole[0])]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)
    for small, large in zip(halved[1], whole[1], strict=True):
        assert small.fault == large.fault and torch.allclose(
            small.delta.only.matrix(), large.delta.only.matrix(), atol=1e-4
        )
    assert torch.allclose(halved[2], whole[2], atol=1e-6)


def test_texts_do_not_change_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that each text has its own draws and its own edit, whatever batch it is written in."""
    lm = tiny.make("gpt2")
    names = ("Danielle", "Rome", "Berlin", "France", "She", "New Zealand English", "Paris", "His profession")
    prompts, keys = [lm.encode(name) for name in names], [f"key {number}" for number in range(len(names))]
    edits = Rome(lm, RomeOptions(1, steps=4)).edit([Request("{} speaks", name, "Spanish") for name in names])
    deltas = [edit.delta for edit in edits if edit.delta is not None]

    def write() -> Any:
        plain, edited = (write_texts(lm, prompts, keys, 40, each) for each in (None, deltas))
        return plain, edited, sample_contexts(lm, 7), sample_texts(lm, 7, 6, 20)

    whole = write()
    assert len(set(whole[0])) == len(names) == len(deltas) and whole[0] != whole[1]
    forward = type(lm.model.base_model).forward
    failed: list[int] = []
    passed: list[int] = []

    def tight(self: Any, *given: Any, **named: Any) -> Any:
        rows, past = named["input_ids"].shape[0], named[lm.past_argument]
        # The second pass may be too big as well: the keys and values of the first lie in memory by then.
        if rows > (2 if past.get_seq_length() else 5):
            failed.append(rows)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        passed.append(rows)
        return forward(self, *given, **named)

    monkeypatch.setattr(type(lm.model.base_model), "forward", tight)
    assert write() == whole
    assert {8, 4} <= set(failed) and max(passed) <= 5


def test_likelihoods_that_are_no_numbers_reject_their_candidate_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.make("gpt2")
    pool = tuple(Target(f"Q{n + 1}", name) for n, name in enumerate(("Paris", "Rome", "Berlin", "Spanish")))
    candidates = [Candidate(n, "P1", f"{name} is in", pool[0], pool[1:], pool) for n, name in enumerate("ABC")]
    whole = RankFilter(lm, FilterOptions(0.0)).judge(candidates)
    real = likelihood.score

    def sick(model: Any, questions: Any, done: Any) -> Any:
        answers = real(model, questions, done)
        if len(questions) == len(candidates):
            answers[1] = [likelihood.Likelihood(math.nan, False) for _ in answers[1]]
        return answers

    monkeypatch.setattr("cfbuild.filter.rank.score", sick)
    judged = RankFilter(lm, FilterOptions(0.0)).judge(candidates)
    assert judged[1].chosen is None and judged[1].decision.rule == "likelihoods-not-finite"
    assert jsonl.dump_row(dict(judged[1].decision.measured))
    assert (judged[0], judged[2]) == (whole[0], whole[2])


def test_a_product_near_zero_is_a_fault_of_its_record() -> None:
    lm = tiny.make("gpt2")
    request = Request("{} speaks", "Danielle", "Spanish")
    plain = Rome(lm, RomeOptions(1, steps=2, key_mode="consistent")).edit([request])[0]
    assert plain.delta is not None

    class Across(Covariance):
        def whiten(self, keys: torch.Tensor) -> torch.Tensor:
            """Return directions at right angles to the keys, [n, d_in]."""
            others = torch.zeros_like(keys)
            others[:, 0], others[:, 1] = -keys[:, 1], keys[:, 0]
            return others

    options = RomeOptions(1, steps=2, key_mode="consistent")
    edit = Rome(lm, options, Across(torch.eye(lm.key_width(1), dtype=torch.float64), "none")).edit([request])[0]
    assert edit.delta is None and edit.fault == "u . k0 is too near zero to divide by"
    assert jsonl.dump_row(dict(edit.statistics))


def test_a_record_with_no_numbers_is_named_and_the_run_goes_on(
    folder: BuildFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny.make("gpt2")
    real, calls = Rome._update, []

    def sick(self: Any, place: int, value: Any, direction: Any) -> Any:
        calls.append(1)
        return real(self, place, replace(value, shift=value.shift * math.nan) if len(calls) == 2 else value, direction)

    monkeypatch.setattr(Rome, "_update", sick)
    report = evaluate(folder, EvaluateOptions(**SCORING), lm)
    assert report.cases == 4 and report.faults == {"the edit is not finite": 1}
    rows = [row for _, row in jsonl.read_rows(folder.path("runs/rome/cases.jsonl"))]
    assert report.faulty == {"the edit is not finite": tuple(row["case_id"] for row in rows if row["fault"])}
    assert report.figures["post"]["ES"].cases == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_edit_that_is_interrupted_leaves_the_model_and_writes_no_case(
    folder: BuildFolder, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    lm = tiny.make("gpt2")
    before = tiny.digest(lm)
    forward, calls = type(lm.layers[1]).forward, []

    def interrupted(self: Any, *given: Any, **named: Any) -> Any:
        calls.append(1)
        if torch.is_grad_enabled() and len(calls) > 3 and sum(map(len, [calls])) > 40:
            raise error
        return forward(self, *given, **named)

    monkeypatch.setattr(type(lm.layers[1]), "forward", interrupted)
    with pytest.raises(error):
        evaluate(folder, EvaluateOptions(**SCORING), lm)
    monkeypatch.undo()
    assert tiny.digest(lm) == before and not folder.path("runs/rome/cases.jsonl").exists()
    log = RowLog(folder.progress("validate-and-score/rome") / "rows.jsonl")
    assert len(log.entries) in (0, 2)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in lm.model.modules())


def test_a_changed_corpus_is_noticed_and_no_path_is_kept(folder: BuildFolder, tmp_path: Path) -> None:
    lm = tiny.make("gpt2")
    corpus = tmp_path / "my corpus é.txt"
    corpus.write_text("\n\n".join(["The capital city of France is Paris."] * 40), encoding="utf-8")
    options = EvaluateOptions(**{**SCORING, "covariance": str(corpus)})
    evaluate(folder, options, lm)
    manifest = folder.path("manifest.json").read_text(encoding="utf-8")
    kept = json.loads(manifest)["verbs"]["validate-and-score/rome"]["config"]["covariance"]
    assert kept.startswith("my corpus é.txt@") and str(tmp_path) not in manifest
    corpus.write_text("Rome lies in Italy. " * 200)
    with pytest.raises(BuildStateError, match="covariance"):
        evaluate(folder, options, lm)


# -------------------------------------------------------------------------------------------- terminal, logs, secrets


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_printed_moves_the_cursor(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_text(text)
    print_text(f"cfbuild: {text}", err=True)
    print_json({"label": text})
    out, err = capsys.readouterr()
    assert not HIDDEN.search(out) and not HIDDEN.search(err)
    assert json.loads(out[out.index("{\n") :]) == {"label": text}


@pytest.mark.parametrize("words", [("--validate-only",), ("--validate-only", "--json")])
def test_hostile_labels_are_inert_in_violations_and_audits(tmp_path: Path, words: tuple[str, ...]) -> None:
    rows = [codec.encode_record(one) for one in records(len(HOSTILE), hostile=True)]
    for row in rows:
        row["paraphrase_prompts"][0] = row["requested_rewrite"]["target_new"]["id"] = "\x9b2J\u202e\x1b[31m"
    path = tmp_path / "rows.jsonl"
    jsonl.write_jsonl(path, rows)
    for shown in (
        run("validate-and-score", "--file", str(path), *words, cwd=tmp_path),
        run("audit", str(path), *(word for word in words if word == "--json"), cwd=tmp_path),
    ):
        assert shown.returncode == 1 and shown.stdout and "Traceback" not in shown.stderr
        assert not HIDDEN.search(shown.stdout) and not HIDDEN.search(shown.stderr)


def test_secrets_are_left_out_of_messages_logs_and_tracebacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "anUnusualToken42")
    text = f"GET https://ann:s3cret@example.org/q failed for {TOKEN} and anUnusualToken42"
    kept = "GET https://***@example.org/q failed for *** and ***"
    assert discreet(text) == kept
    print_text(text, err=True)
    logger = logging.getLogger("cfbuild")
    state = logger.handlers[:], logger.propagate, sys.excepthook
    try:
        guard_streams()
        logger.warning("%s", text)
        try:
            raise RuntimeError(text)
        except RuntimeError as error:
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        logger.handlers[:], logger.propagate, sys.excepthook = state
    err = capsys.readouterr().err
    assert err.count(kept) >= 2 and "s3cret" not in err and TOKEN not in err and "anUnusualToken42" not in err


def test_no_secret_is_kept_in_a_build(tmp_path: Path) -> None:
    with Scripted(reply(b"denied for hf_token", status="403 Forbidden", kind="text/plain")) as server:
        address = server.url.replace("//", "//ann:s3cret@") + "?key=t0ken"
        words = ("fetch", "--relations", "P36", "--endpoint", address, "--build", "b", "--attempts", "1")
        shown = run(*words, cwd=tmp_path, env={"HF_TOKEN": TOKEN})
    assert shown.returncode == 3
    shown_and_kept = shown.stdout.encode() + shown.stderr.encode() + b"".join(contents(tmp_path).values())
    assert not any(secret in shown_and_kept for secret in (b"s3cret", b"t0ken", TOKEN.encode()))


# ------------------------------------------------------------------------------------------- entities, clocks, locales


def test_an_entity_without_a_label_is_dropped_with_its_reason(tmp_path: Path) -> None:
    facts, entities = world(40)
    gone = Fact("P551", "Q77777", "Q1", source="test")  # deleted: no entity at all
    nameless = Fact("P551", "Q88888", "Q1", source="test")
    build = write_build(tmp_path / "build", [*facts, gone, nameless], [*entities, item(88888, None)], templates("P551"))
    generate(BuildFolder(build), small_options(relations=("P551",)))
    rules = {row["subject_id"]: row["rule"] for _, row in jsonl.read_rows(build / "rejected.jsonl")}
    assert rules["Q77777"] == rules["Q88888"] and "label" in rules["Q77777"]


def test_a_clock_that_jumps_makes_no_difference(tmp_path: Path) -> None:
    times = iter([1e9, 3e9, 0.0, 2e9, 5.0, 1e9, 1e9, 1e9])
    busy = reply(b"", "Retry-After: 3", status="503 Unavailable")
    waits: list[float] = []
    asker = Client(None, sleep=waits.append, clock=lambda: next(times))
    with Scripted(busy, busy, reply(GOOD)) as server, asker, Journal(tmp_path / "journal") as journal:
        body, _ = asker.answer(query(server.url), parse)
        journal.put("a", body, asker.now())
        journal.put("b", body, asker.now())
    assert body == GOOD and waits == [3.0, 4.0]
    with Journal(tmp_path / "journal") as journal:
        assert journal.get("a") == journal.get("b") == GOOD


ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


def test_locale_and_path_make_no_difference(tmp_path: Path) -> None:
    facts, entities = world(30)
    entities = [item(int(one.id[1:]), one.labels["en"] + " Łódź 東京") for one in entities]
    plain = write_build(tmp_path / "plain", facts, entities, templates("P551"))
    odd = tmp_path / "a path with spaces é 東京"
    shutil.copytree(plain, odd)
    generate(BuildFolder(plain), small_options(relations=("P551",)))
    for words in (
        ("generate", "--no-filter", "--relations", "P551", "--min-neighbors", "0", "--min-pool", "2"),
        ("show", "--sample", "2"),
        ("validate-and-score", "--validate-only"),
    ):
        shown = run(*words, "--build", str(odd), cwd=tmp_path, env=ASCII)
        assert shown.returncode == 0, shown.stderr
    assert contents(plain) == contents(odd)
