"""HTTP: what is sent, what counts as an answer, when it is asked again, and that nothing is asked twice."""

from __future__ import annotations

import gzip
import logging
from email.utils import formatdate
from pathlib import Path

import pytest
from servers import OVERLOADED, RESULTS_JSON, TIME_OUT, Scripted, free_port, reply

from cfbuild.errors import ConfigError, SourceError
from cfbuild.sources.address import checked_url, is_public, redact
from cfbuild.sources.failures import HeavyAnswerError
from cfbuild.sources.http import AddressOption, Client, HttpRequest, require_contact
from cfbuild.sources.journal import Journal, JournaledClient
from cfbuild.sources.sparql import parse

GOOD = b'{"head":{"vars":["s"]},"results":{"bindings":[{"s":{"type":"literal","value":"one"}}]}}'
NOW = 1_700_000_000.0


class Sleeps(list[float]):
    """A sleep that only takes note."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def client(**settings: object) -> tuple[Client, Sleeps]:
    sleeps = Sleeps()
    settings = {"timeout_s": 5.0, "attempts": 3, **settings}
    return Client("me@example.org", sleep=sleeps, clock=lambda: NOW, **settings), sleeps  # type: ignore[arg-type]


def query(url: str) -> HttpRequest:
    return HttpRequest("POST", url, (RESULTS_JSON,), (("query", "SELECT * {}"),))


def ask(*replies: bytes | float, **settings: object) -> tuple[bytes, Scripted, Sleeps]:
    """Return the client's result for a server with these replies."""
    asker, sleeps = client(**settings)
    with Scripted(*replies) as server, asker:
        body, _ = asker.answer(query(server.url), parse)
    return body, server, sleeps


def failure(*replies: bytes | float, **settings: object) -> tuple[SourceError, Scripted, Sleeps]:
    asker, sleeps = client(**settings)
    with Scripted(*replies) as server, asker, pytest.raises(SourceError) as caught:
        asker.answer(query(server.url), parse)
    assert caught.value.exit_code == 3
    return caught.value, server, sleeps


def test_a_request_names_cfbuild_and_the_contact() -> None:
    body, server, sleeps = ask(reply(GOOD))
    assert body == GOOD and sleeps == []
    start, headers, form = server.requests[0]
    assert start == "POST /sparql HTTP/1.1"
    assert headers["user-agent"].startswith("cfbuild/") and "(me@example.org)" in headers["user-agent"]
    assert headers["accept"] == RESULTS_JSON
    assert form == b"query=SELECT+%2A+%7B%7D"


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/sparql-results+json\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN = {
    "truncated JSON, 200": reply(GOOD[:-20]),
    "truncated JSON with an error message in it": reply(GOOD[:-20] + b"java.util.concurrent.TimeoutException"),
    "JSON of another shape": reply(b'{"error":"busy"}'),
    "no JSON": reply(b"busy"),
    "empty body": reply(b""),
    "a term that is none": reply(b'{"head":{"vars":["s"]},"results":{"bindings":[{"s":"one"}]}}'),
    "a variable that was not asked for": reply(GOOD.replace(b'["s"]', b'["x"]')),
    "not UTF-8": reply(GOOD.replace(b"one", b"\xff")),
    "half a character": reply(GOOD.replace(b"one", b"\\ud83d")),
    "HTML": reply(b"<html>busy</html>", kind="text/html"),
    "wrong content type": reply(GOOD, kind="application/sparql-results+xml"),
    "another charset": reply(GOOD, kind=RESULTS_JSON + "; charset=utf-16"),
    "cut in mid-body": reply(GOOD[:30], length=len(GOOD)),
    "longer than announced": reply(GOOD, length=len(GOOD) - 10),
    "a cut chunk": CHUNKED + b"57\r\n" + GOOD[:40],
    "a missing last chunk": CHUNKED + b"%x\r\n%s\r\n" % (len(GOOD), GOOD),
    "a cut gzip": reply(gzip.compress(GOOD)[:-12], "Content-Encoding: gzip"),
    "closed at once": b"",
    "no HTTP": b"hello\r\n\r\n",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_an_error_and_is_never_stored(broken: bytes, tmp_path: Path) -> None:
    asker, sleeps = client()
    with Scripted(broken) as server, asker, Journal(tmp_path / "journal") as journal:
        with pytest.raises(SourceError, match="asked 3 times") as caught:
            JournaledClient(asker, journal).ask(query(server.url), parse)
        assert len(server.requests) == 3 and sleeps == [2.0, 4.0]
        assert len(journal._entries) == 0
    assert caught.value.exit_code == 3 and "run the same command again" in str(caught.value)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_whole_answer_after_a_broken_one_is_taken(broken: bytes) -> None:
    body, server, _ = ask(broken, reply(GOOD))
    assert body == GOOD and len(server.requests) == 2


def test_a_gzipped_answer_is_read() -> None:
    assert ask(reply(gzip.compress(GOOD), "Content-Encoding: gzip"))[0] == GOOD


def test_an_oversized_body_is_not_read_to_its_end() -> None:
    error, server, _ = failure(reply(b" " * 300_000), max_bytes=100_000)
    assert isinstance(error, HeavyAnswerError) and "100000 bytes" in str(error) and len(server.requests) == 1


def test_a_small_body_that_unpacks_to_an_oversized_one_is_not_read_to_its_end() -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    assert isinstance(failure(reply(bomb, "Content-Encoding: gzip"), max_bytes=100_000)[0], HeavyAnswerError)


def test_silence_ends_with_the_timeout() -> None:
    error, server, _ = failure(1.0, timeout_s=0.2, attempts=1)
    assert isinstance(error, HeavyAnswerError) and len(server.requests) == 1


def test_a_refused_connection_says_so() -> None:
    asker, sleeps = client()
    with asker, pytest.raises(SourceError, match="Connection refused"):
        asker.answer(query(f"http://127.0.0.1:{free_port()}/sparql"), parse)
    assert len(sleeps) == 2


@pytest.mark.parametrize(
    "status", ["403 Forbidden", "400 Bad Request", "401 Unauthorized", "404 Not Found", "410 Gone"]
)
def test_a_refusal_stops_at_once_and_quotes_the_server(status: str) -> None:
    error, server, sleeps = failure(reply(b"no: line 1\nsays why", status=status, kind="text/plain"), reply(GOOD))
    assert f"{status}: no: line 1 says why" in str(error)
    assert len(server.requests) == 1 and sleeps == []


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Oops", "502 Bad", "503 Unavailable", "504 Timeout"])
def test_a_busy_server_is_asked_again_later(status: str) -> None:
    body, server, sleeps = ask(reply(status=status), reply(status=status), reply(GOOD))
    assert body == GOOD and len(server.requests) == 3 and sleeps == [2.0, 4.0]


ODD = reply(b"[]")
TOO_MANY = b"<html><body>Rate limit exceeded: 60 requests per minute</body></html>"
LIMITS = {
    "429": reply(status="429 Too Many Requests"),
    "429 with a page": reply(TOO_MANY, status="429 Too Many Requests", kind="text/html"),
    "429 for a time": reply(b"", "Retry-After: 1", status="429 Too Many Requests"),
    "503 with a page": reply(TOO_MANY, status="503 Unavailable", kind="text/html"),
    "200 with a page": reply(TOO_MANY, kind="text/html"),
    "200 with words": reply(b'{"error": "too many requests"}'),
}
SMALLER = {name: fault(GOOD) for name, fault in OVERLOADED.items()}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_a_rate_limit_is_waited_for_and_no_reason_to_ask_for_less(limit: bytes) -> None:
    error, server, sleeps = failure(limit, attempts=4)
    assert type(error) is SourceError and len(server.requests) == 4 and sleeps == [2.0, 4.0, 8.0]


@pytest.mark.parametrize("fault", SMALLER.values(), ids=SMALLER)
def test_a_time_out_by_any_name_is_a_reason_to_ask_for_less(fault: bytes) -> None:
    error, server, _ = failure(fault, attempts=4)
    assert isinstance(error, HeavyAnswerError)
    assert len(server.requests) == (1 if b" 413 " in fault else 4)


def test_a_time_out_is_not_told_from_the_words_of_names_in_an_answer() -> None:
    cut = reply(GOOD.replace(b"one", b"Rate limit: too many requests")[:-9])
    assert isinstance(failure(cut)[0], HeavyAnswerError)


def test_an_answer_that_names_a_time_out_and_asks_to_wait_is_waited_for_before_less_is_asked() -> None:
    both = reply(TIME_OUT, "Retry-After: 30", status="429 Too Many Requests")
    error, _, sleeps = failure(both, attempts=2)
    assert isinstance(error, HeavyAnswerError) and sleeps == [30.0, 30.0]


@pytest.mark.parametrize("heavy_attempts", [None, 2])
def test_heavy_and_passing_faults_are_counted_apart(heavy_attempts: int | None) -> None:
    """Four passing faults leave a try, whatever the heavy ones between them."""
    heavy, passing = reply(status="504 Timeout"), reply(status="429 Too Many Requests")
    most = (heavy_attempts or 5) - 1
    faults = [passing, heavy] * most + [passing] * (4 - most)
    asker, _ = client(attempts=5)
    with Scripted(*faults, reply(GOOD)) as server, asker:
        assert asker.answer(query(server.url), parse, heavy_attempts)[0] == GOOD
        assert len(server.requests) == 5 + most
    for last in (heavy, passing):
        asker, _ = client(attempts=5)
        with Scripted(*faults, last, reply(GOOD)) as server, asker, pytest.raises(SourceError) as caught:
            asker.answer(query(server.url), parse, heavy_attempts)
        assert isinstance(caught.value, HeavyAnswerError) == (last is heavy)


def test_a_question_that_a_well_service_refuses_is_not_asked_again(tmp_path: Path) -> None:
    well: list[int] = []
    with Scripted(*[reply(status="504 Timeout")] * 5, reply(GOOD)) as server:
        for _ in range(2):
            asker, _ = client(attempts=3)
            with asker, Journal(tmp_path / "journal") as journal:
                ask = JournaledClient(asker, journal).ask_unless_refused
                assert ask(query(server.url), parse, lambda: well.append(1)) is None and journal.used == 1
        assert len(server.requests) == 5 and well == [1, 1]


def test_an_outage_is_no_refusal(tmp_path: Path) -> None:
    def unwell() -> None:
        raise SourceError("nobody answers")

    asker, _ = client(attempts=3)
    with Scripted(reply(status="504 Timeout")) as server, asker, Journal(tmp_path / "journal") as journal:
        with pytest.raises(SourceError, match="nobody answers"):
            JournaledClient(asker, journal).ask_unless_refused(query(server.url), parse, unwell)
        assert len(journal._entries) == 0 and len(server.requests) == 2


def busy(retry_after: str) -> bytes:
    return reply(b"", f"Retry-After: {retry_after}", status="429 Too Many Requests")


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("7", 7.0),
        ("600", 600.0),
        ("0", 2.0),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 2.0),
        ("soon", 2.0),
        ("-5", 2.0),
        ("1e9", 2.0),
    ],
)
def test_retry_after_is_honoured_in_seconds_and_as_a_date(
    header: str, wait_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        _, _, sleeps = ask(busy(header), reply(GOOD))
    assert sleeps == [wait_s]
    assert f"trying again in {wait_s:.0f} s" in caplog.text
    assert ("as the server asks" in caplog.text) == (wait_s > 2)


@pytest.mark.parametrize("header", ["601", "86400", formatdate(NOW + 7200, usegmt=True)])
def test_a_long_retry_after_is_not_slept_through_and_not_ignored(header: str) -> None:
    error, server, sleeps = failure(busy(header), reply(GOOD))
    assert sleeps == [] and len(server.requests) == 1
    assert "asks to wait" in str(error) and "run the same command again after 2023-11-1" in str(error)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("target", ["http://localhost:{port}/x", "https://127.0.0.1:{port}/x", "ftp://127.0.0.1/x"])
def test_a_redirect_elsewhere_is_refused(status: str, target: str) -> None:
    asker, sleeps = client()
    with Scripted(reply(GOOD)) as server, asker:
        server.replies[:] = [reply(b"", "Location: " + target.format(port=server.port), status=status), reply(GOOD)]
        with pytest.raises(SourceError, match="redirects to"):
            asker.answer(query(server.url), parse)
    assert len(server.requests) == 1 and sleeps == []


@pytest.mark.parametrize(
    ("option", "base", "tail", "advice"),
    [
        ("--endpoint", "/sparql", "", "--endpoint http://localhost:{port}/api/wikidata"),
        ("--pararel", "/raw", "/data/P36.jsonl", "--pararel http://localhost:{port}/api/wikidata"),
        ("--wikipedia", "/w/api.php", "?titles=A", "--wikipedia http://localhost:{port}/api/wikidata"),
    ],
)
def test_a_redirect_elsewhere_names_the_option_that_would_take_it(
    option: str, base: str, tail: str, advice: str
) -> None:
    asker, _ = client()
    with Scripted(b"") as server, asker:
        address = f"http://127.0.0.1:{server.port}{base}"
        target = f"Location: http://localhost:{server.port}/api/wikidata{tail}"
        server.replies[:] = [reply(b"", target, status="301 Moved")]
        given = AddressOption(option, address, "last checked on a day")
        with pytest.raises(SourceError, match="which cfbuild does not follow") as caught:
            asker.answer(HttpRequest("GET", address + tail, (RESULTS_JSON,), address_option=given), parse)
    assert f"run the command with `{advice.format(port=server.port)}`" in str(caught.value)
    assert "(last checked on a day)" in str(caught.value)


def test_a_preset_that_cannot_be_reached_says_when_it_was_checked() -> None:
    asker, _ = client(attempts=1)
    given = AddressOption("--endpoint", "", "the preset qlever was last checked on a day")
    request = HttpRequest("GET", f"http://127.0.0.1:{free_port()}/", (RESULTS_JSON,), address_option=given)
    with asker, pytest.raises(SourceError, match="the preset qlever was last checked on a day"):
        asker.answer(request, parse)


def test_a_redirect_on_the_same_host_keeps_method_and_query() -> None:
    body, server, _ = ask(reply(b"", "Location: /other", status="308 Permanent"), reply(GOOD))
    assert body == GOOD
    assert [(start, form) for start, _, form in server.requests][1] == (
        "POST /other HTTP/1.1",
        b"query=SELECT+%2A+%7B%7D",
    )


def test_redirects_in_a_circle_end() -> None:
    error, server, _ = failure(reply(b"", "Location: /sparql", status="308 Permanent"))
    assert "more than 3 times" in str(error) and len(server.requests) == 4


def test_a_password_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    asker, _ = client()
    with Scripted(busy("3"), reply(status="500 Oops"), b"") as server, asker:
        url = server.url.replace("//", "//ann:s3cret@") + "?key=t0ken"
        with caplog.at_level(logging.DEBUG, logger="cfbuild"), pytest.raises(SourceError) as caught:
            asker.answer(query(url), parse)
    assert server.requests[0][1]["authorization"].startswith("Basic ") and "key=t0ken" in server.requests[0][0]
    shown = str(caught.value) + "".join(record.getMessage() for record in caplog.records if "cfbuild" in record.name)
    assert "127.0.0.1" in shown and "s3cret" not in shown and "t0ken" not in shown and "ann" not in shown


def test_redaction_tells_query_strings_apart() -> None:
    first, second = (redact(f"https://u:p@example.org/q?graph={name}") for name in "ab")
    assert first != second and first.startswith("https://example.org/q?sha256-") and "graph" not in first
    assert redact("https://example.org/q") == "https://example.org/q"
    assert HttpRequest("GET", "https://u:p@h/q", ()).key == HttpRequest("GET", "https://h/q", ()).key


def test_the_key_holds_all_that_affects_the_answer() -> None:
    requests = [
        HttpRequest("POST", "http://h/q", ("a",), (("query", "x"),)),
        HttpRequest("GET", "http://h/q", ("a",), (("query", "x"),)),
        HttpRequest("POST", "http://h/r", ("a",), (("query", "x"),)),
        HttpRequest("POST", "http://h/q", ("b",), (("query", "x"),)),
        HttpRequest("POST", "http://h/q", ("a",), (("query", "y"),)),
    ]
    assert len({request.key for request in requests}) == len(requests)


@pytest.mark.parametrize("url", ["ftp://h/q", "file:///etc/passwd", "h/q", "http://", "http://h:99999/", "http://h/ q"])
def test_other_schemes_and_malformed_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        checked_url(url)


def test_public_services_are_told_from_private_ones() -> None:
    public = ["https://query.wikidata.org/sparql", "http://8.8.8.8/", "http://[2606:4700::1]/", "http://example.org./"]
    private = ["http://localhost:7878/query", "http://127.0.0.1/", "http://[::1]/", "http://10.1.2.3/", "http://box/"]
    assert all(map(is_public, public)) and not any(map(is_public, private))


@pytest.mark.parametrize("contact", [None, "", "   "])
def test_a_public_service_is_not_asked_without_a_contact(contact: str | None) -> None:
    with Client(contact) as asker, pytest.raises(ConfigError, match="CFBUILD_CONTACT"):
        asker.answer(query("https://query.wikidata.org/sparql"), parse)
    assert asker.sent == 0


@pytest.mark.parametrize(
    "contact", ["me", "me@example.org\r\nX-Injected: 1", "mé@example.org", "a" * 300 + "@b", "a@b) x"]
)
def test_a_text_that_is_no_contact_is_refused(contact: str) -> None:
    with pytest.raises(ConfigError, match="contact"):
        require_contact("http://localhost/", contact)


def stored(tmp_path: Path, *replies: bytes) -> Path:
    """Write a journal with one answer a reply; return its path."""
    asker, _ = client()
    with Scripted(*replies) as server, asker, Journal(tmp_path / "journal") as journal:
        for number in range(len(replies)):
            asker_request = HttpRequest("POST", "http://localhost/q", (RESULTS_JSON,), (("query", str(number)),))
            body, _ = asker.answer(query(server.url), parse)
            journal.put(asker_request.key, body, f"2026-01-0{number + 1}T00:00:00+00:00")
    return tmp_path / "journal"


def key(number: int) -> str:
    return HttpRequest("POST", "http://localhost/q", (RESULTS_JSON,), (("query", str(number)),)).key


def test_a_stored_answer_is_not_asked_for_again(tmp_path: Path) -> None:
    for _ in range(2):
        asker, _ = client()
        with Scripted(reply(GOOD)) as server, asker, Journal(tmp_path / "journal") as journal:
            request = HttpRequest("POST", "http://localhost:9/sparql", (RESULTS_JSON,))
            if not len(journal._entries):
                journal.put(request.key, asker.answer(query(server.url), parse)[0], asker.now())
            assert JournaledClient(asker, journal).ask(request, parse)[0]["s"].value == "one"
            assert journal.used == 1 and journal.retrieved() == ("2023-11-14T22:13:20+00:00",) * 2
    assert asker.sent == 0


def test_what_a_crash_cut_short_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    path = stored(tmp_path, reply(GOOD), reply(GOOD))
    whole = path.read_bytes()
    with Journal(path) as journal:
        end = journal._entries[key(0)].offset + journal._entries[key(0)].size + 1
    for cut in range(end, len(whole)):
        path.write_bytes(whole[:cut])
        with Journal(path) as journal:
            assert journal.get(key(0)) == GOOD and journal.get(key(1)) is None
            journal.put(key(1), GOOD, "2026-01-02T00:00:00+00:00")
        assert path.read_bytes() == whole


def test_a_damaged_answer_counts_as_never_received(tmp_path: Path) -> None:
    path = stored(tmp_path, reply(GOOD), reply(GOOD))
    damaged = bytearray(path.read_bytes())
    with Journal(path) as journal:
        damaged[journal._entries[key(0)].offset + 15] ^= 0xFF
    path.write_bytes(damaged)
    with Journal(path) as journal:
        assert journal.get(key(0)) is None and journal.get(key(1)) == GOOD
        journal.put(key(0), GOOD, "2026-01-03T00:00:00+00:00")
    with Journal(path) as journal:
        assert journal.get(key(0)) == GOOD and journal.retrieved() == ("2026-01-03T00:00:00+00:00",) * 2


def test_a_file_that_is_no_journal_is_started_over(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"\x00" * 2000)
    with Journal(tmp_path / "journal") as journal:
        assert len(journal._entries) == 0
    assert (tmp_path / "journal").stat().st_size == 0


def test_a_stored_answer_that_is_no_longer_accepted_is_asked_for_again(tmp_path: Path) -> None:
    asker, _ = client()
    with Scripted(reply(GOOD)) as server, asker, Journal(tmp_path / "journal") as journal:
        journal.put(query(server.url).key, b"{}", "2026-01-01T00:00:00+00:00")
        assert JournaledClient(asker, journal).ask(query(server.url), parse)
        assert journal.get(query(server.url).key) == GOOD
