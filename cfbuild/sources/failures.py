"""Failed requests by their cause: time-outs by any name, rate limits, passing faults, refusals.

A query that was too much for the server may succeed in halves; one that came too often may succeed later. Statuses
tell them apart only in part, so the words of the error page count as well.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from cfbuild.errors import DataError, SourceError

if TYPE_CHECKING:
    import requests

Parsed = TypeVar("Parsed")

LONGEST_WAIT_S = 1e9
"""The value for any longer wait, about thirty years, so that a date does not overflow."""
ERROR_BYTES = 8192
"""The most bytes of an error page that are read; a gateway's page has its style sheet before its words."""
CHUNK_BYTES = 1 << 16
"""The most bytes of a body that are read at once."""
QUOTED = 300
"""The most characters of an error page in a message."""

FINAL = frozenset({501, 505, 511})
"""Statuses of a server's fault that no repetition mends."""
TOO_LONG = frozenset({413, 414, 431})
"""Statuses of a query that is too long; a smaller one may succeed, the same one never does."""
REFUSED = frozenset({401, 403, 404, 405, 407, 410, 451})
"""Statuses that are about the client or the address, whatever the error page says."""
LIMITED = frozenset({425, 429})
"""Statuses of requests that come too often or too early, unless the page says that the query took too long."""

_OVERLOAD = re.compile(
    r"time[sd]?[ -]?out|deadline|took too long|cancell?ed|aborted|interrupted|out of memory|allocat"
    r"|(?:time|memory|row|result)s? (?:limit|budget)|exceed\w* .{0,40}(?:time|memory|rows|results)"
    r"|too (?:large|big|complex|expensive)|too many (?:rows|results|solutions)",
    re.IGNORECASE,
)
"""Words by which services say that a query was too much for them."""
_RATE = re.compile(
    r"rate[ _-]?limit|throttl|quota|slow down|(?:requests|queries) (?:per|in the last)|request limit"
    r"|too many (?:concurrent )?(?:requests|queries|connections)|concurrent (?:requests|queries|connections)",
    re.IGNORECASE,
)
"""Words by which services say that requests come too often."""


class HeavyAnswerError(SourceError):
    """An answer that was too much for the server or that broke off; a smaller query may succeed."""


class MiscountedAnswerError(HeavyAnswerError):
    """A whole answer with another number of rows than it says; a smaller query may succeed if the server caps rows."""


class BusyAnswerError(DataError):
    """A whole answer that says to try again later, as MediaWiki's API does with status 200. Raised by checks."""


class MiscountError(DataError):
    """An answer with another number of rows than it says. Raised by checks."""


@dataclass(slots=True, eq=False)
class FaultError(Exception):
    """A failed try that may be repeated.

    `error` is raised when no try is left. Tries that fail with a `heavy` fault, where the answer was too much for the
    server, have a limit of their own.
    """

    reason: str
    error: type[SourceError] = SourceError
    retry_after_s: float | None = None
    heavy: bool = False


def heavy_fault(reason: str, error: type[SourceError] = HeavyAnswerError) -> FaultError:
    """Return the fault of an answer that was too much for the server; `reason` is for the message of `error`."""
    return FaultError(reason, error, heavy=True)


def refusal(
    response: requests.Response, address: str, note: str, patience_s: float, clock: Callable[[], float]
) -> Exception:
    """Return the error of a `response` whose status is not 200: a FaultError if it may pass, else a SourceError.

    address: the request's, without credentials. note: a note on it for the message. patience_s: to read the error page.
    """
    status = response.status_code
    page = page_of(response, patience_s)
    quoted = "" if not page or page.startswith("<") else f": {page[:QUOTED]}"
    reason = f"answered {status} {_one_line(response.reason)[:QUOTED]}{quoted}"
    if status in TOO_LONG:
        return HeavyAnswerError(f"{address} {reason}")
    overloaded = status not in REFUSED and _OVERLOAD.search(page) is not None
    if status in LIMITED or status == 408 or (status >= 500 and status not in FINAL) or overloaded:
        return fault_of(response, reason, page, clock)
    advice = {
        403: "The service refuses this client: stop, and read its usage policy before asking again",
        400: "The query is not understood there; is it a SPARQL 1.1 endpoint?",
    }.get(status, "Check the address")
    return SourceError(f"{address} {reason}. {advice}{note}")


def fault_of(response: requests.Response, reason: str, page: str, clock: Callable[[], float]) -> FaultError:
    """Return the fault of a `response` with a wrong status or content type: a rate limit, else a time-out.

    reason: for the message. page: the words of the error page.
    """
    overloaded = _OVERLOAD.search(page) is not None
    asks_to_wait = "Retry-After" in response.headers
    limited = _RATE.search(page) is not None or response.status_code in LIMITED
    if limited and not overloaded:
        return FaultError(reason, SourceError, retry_after_s(response, clock))
    if asks_to_wait or _RATE.search(page):
        return FaultError(reason, HeavyAnswerError, retry_after_s(response, clock))
    return heavy_fault(reason)


def retry_after_s(response: requests.Response, clock: Callable[[], float]) -> float | None:
    """Return the Retry-After of a `response`, seconds or an HTTP date, in seconds from now; None if it is neither."""
    value = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+", value):
        return min(float(value), LONGEST_WAIT_S)
    try:
        wait_s = parsedate_to_datetime(value).timestamp() - clock()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(0.0, wait_s), LONGEST_WAIT_S)


def checked(check: Callable[[bytes], Parsed], body: bytes, retry_after_s: float | None) -> Parsed:
    """Return the value of `check` for a body; raise FaultError, with `retry_after_s`, if it refuses the body."""
    try:
        return check(body)
    except BusyAnswerError as error:
        raise FaultError(f"is busy ({error})", retry_after_s=retry_after_s) from error
    except MiscountError as error:
        raise heavy_fault(f"sent a broken answer ({error})", MiscountedAnswerError) from error
    except DataError as error:
        reason = f"sent a broken answer ({error})"
        words = "" if b'"results"' in body else body[:ERROR_BYTES].decode("utf-8", "replace")
        if _RATE.search(words) and not _OVERLOAD.search(words):
            raise FaultError(reason, retry_after_s=retry_after_s) from error
        if retry_after_s is not None:
            raise FaultError(reason, HeavyAnswerError, retry_after_s) from error
        raise heavy_fault(reason) from error


def network_fault(error: Exception, note: str) -> FaultError:
    """Return the fault of a request that ended in `error`, of requests or urllib3, with a `note` on its address."""
    import requests
    import urllib3

    reason = _reason(error)
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.HTTPError):
        return heavy_fault(reason)
    inner = getattr(error.args[0], "reason", None) if error.args else None
    unreached = isinstance(
        error, requests.ConnectTimeout | requests.exceptions.SSLError | requests.exceptions.ProxyError
    )
    if unreached or isinstance(inner, urllib3.exceptions.NewConnectionError):
        return FaultError(reason + note)
    # A connection that is closed before the answer is a passing fault, unless it is closed every time.
    return FaultError(reason, HeavyAnswerError if isinstance(error, requests.ConnectionError) else SourceError)


def decoded(body: bytes) -> str:
    """Return the text of a body. Raises DataError if it is not UTF-8."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 at byte {error.start}") from error


def arriving(response: requests.Response) -> Iterator[bytes]:
    """Yield the bytes of the body of `response` as they arrive, not unpacked."""
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
        yield chunk


def page_of(response: requests.Response, patience_s: float) -> str:
    """Return the beginning of an error page, the body of `response`, as one line; reads for at most `patience_s`."""
    import urllib3

    start, deadline = b"", time.monotonic() + patience_s
    try:
        for chunk in arriving(response):
            start += chunk
            if len(start) >= ERROR_BYTES or time.monotonic() > deadline:
                break
    except urllib3.exceptions.HTTPError:
        pass
    if response.headers.get("Content-Encoding", "").strip().lower() == "gzip":
        try:
            start = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(start, ERROR_BYTES)
        except zlib.error:
            start = b""
    return _one_line(start[:ERROR_BYTES].decode("utf-8", "replace"))


def _one_line(text: str | None) -> str:
    words = " ".join((text or "").split())
    return "".join(character for character in words if character.isprintable())


def _reason(error: BaseException) -> str:
    """Return the operating system's reason for an error; the text of requests quotes the URL with its credentials."""
    name = type(error).__name__
    cause: BaseException | None = error
    for _ in range(8):
        if cause is None:
            break
        if isinstance(cause, OSError) and cause.strerror:
            return f"could not be read: {name} ({cause.strerror})"
        nested = [part for part in cause.args if isinstance(part, BaseException)]
        reason = getattr(cause, "reason", None)
        cause = reason if isinstance(reason, BaseException) else nested[0] if nested else cause.__cause__
    return f"could not be read: {name}"
