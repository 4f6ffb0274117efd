"""A polite HTTP client.

It sends one request at a time, with its name and its user's contact, and waits as long as a server asks. It returns a
body only if it arrived whole and the caller's check accepts it; everything else is an error, never an empty answer.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import os
import re
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal
from urllib.parse import urljoin

from cfbuild import __version__
from cfbuild.errors import ConfigError, SourceError
from cfbuild.option import option
from cfbuild.sources import failures
from cfbuild.sources.address import checked_url, is_public, origin, redact, without_user
from cfbuild.sources.failures import FaultError, HeavyAnswerError, Parsed, heavy_fault

if TYPE_CHECKING:
    import requests

CONTACT_VARIABLE = "CFBUILD_CONTACT"
TIMEOUT_S = 75.0
"""Wikidata's query service ends a query after 60 s; the client waits a little longer, to get its error message."""
CONNECT_TIMEOUT_S = 20.0
ATTEMPTS = 5
HEAVY_ATTEMPTS = 2
"""Tries of a query that is too much for the server, if it can be cut into smaller ones."""
FIRST_BACKOFF_S = 2.0
BACKOFF_CAP_S = 60.0
"""Waits before further tries begin at the first and double up to the second; a server's Retry-After comes first."""
RETRY_AFTER_CAP_S = 600.0
"""The longest Retry-After that is slept through; for a longer one the command stops and says when to run it again."""
MAX_BYTES = 96 * 2**20
"""The most bytes of an answer, both as sent and as unpacked; a page of rows (`parts.py`) has about 8 MB."""
REDIRECTS = 3
"""The most redirects that are followed for one request."""
_CONTACT = re.compile(r"[!-~][ -~]{1,198}[!-~]\Z")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkOptions:
    """Options of requests to services. `contact` None means the environment's CFBUILD_CONTACT."""

    contact: str | None = option(
        None, "Your e-mail address or web page, which public services require. [default: $CFBUILD_CONTACT]"
    )
    timeout_s: float = option(TIMEOUT_S, f"Wait N seconds for an answer. [default: {TIMEOUT_S:g}]", flag="--timeout")
    attempts: int = option(
        ATTEMPTS,
        f"Try a request N times at time-outs, and N times at other passing faults. [default: {ATTEMPTS}]",
    )

    @property
    def contact_address(self) -> str | None:
        """Return the e-mail address or URL that is sent to services; None if there is none."""
        return self.contact or os.environ.get(CONTACT_VARIABLE) or None


@dataclass(frozen=True, slots=True)
class AddressOption:
    """The name of the option that gave the address of a request, that address, and a note on it for messages."""

    option: str
    address: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request with the content `types` that its answer may have; `address_option` is for messages alone."""

    method: Literal["GET", "POST"]
    url: str
    types: tuple[str, ...]
    form: tuple[tuple[str, str], ...] = ()
    address_option: AddressOption | None = None

    @property
    def key(self) -> str:
        """Return the sha256 of everything that affects the answer; user and password in the URL do not."""
        parts = [self.method, without_user(self.url), list(self.types), [list(pair) for pair in self.form]]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def require_contact(url: str, contact: str | None) -> None:
    """Raise ConfigError unless `contact` fits the User-Agent, or is absent and `url` is no public service."""
    if contact is None or not contact.strip():
        if is_public(url):
            raise ConfigError(
                f"{redact(url)} is a public service, which wants to know who sends requests; "
                "give an e-mail address or a web page with --contact or in CFBUILD_CONTACT"
            )
    elif not _CONTACT.match(contact) or not ("@" in contact or "://" in contact) or set("()") & set(contact):
        raise ConfigError(f"contact {contact!r}: expected an e-mail address or a URL, in printable ASCII")


def user_agent(contact: str | None) -> str:
    """Return the User-Agent: cfbuild's version, the contact if any, and the HTTP library (Wikimedia's policy)."""
    import requests

    named = f" ({contact})" if contact else ""
    return f"cfbuild/{__version__}{named} python-requests/{requests.__version__}"


class Client:
    """A client that sends requests one after the other.

    contact: an e-mail address or URL for the User-Agent. timeout_s: seconds without a byte before a try fails.
    attempts: tries of a request. max_bytes: the most bytes of an answer, as sent and as unpacked. sleep, clock (seconds
    since 1970): for tests. `sent` counts requests, `waited_s` the seconds slept between tries.
    """

    def __init__(
        self,
        contact: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        attempts: int = ATTEMPTS,
        max_bytes: int = MAX_BYTES,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        from cfbuild.sources.session import Session  # it loads requests, which other commands do without

        self.contact = contact.strip() if contact else None
        self.timeout_s = timeout_s
        self.attempts = attempts
        self.max_bytes = max_bytes
        self.sent = 0
        self.waited_s = 0.0
        self._sleep = sleep
        self._clock = clock
        self._session = Session()
        self._session.headers["User-Agent"] = user_agent(self.contact)
        self._session.headers["Accept-Encoding"] = "gzip"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def now(self) -> str:
        """Return the time as an ISO date with seconds, UTC."""
        return datetime.fromtimestamp(int(self._clock()), timezone.utc).isoformat()

    def answer(
        self, request: HttpRequest, check: Callable[[bytes], Parsed], heavy_attempts: int | None = None
    ) -> tuple[bytes, Parsed]:
        """Return the body of a whole answer that `check` accepts, and the value that `check` returned for it.

        check: raises DataError for a broken body, MiscountError for a wrong number of rows, BusyAnswerError for a body
        that says to try again later. heavy_attempts: tries whose answer is too much for the server (None: `attempts`);
        those that fail otherwise are counted apart.
        Raises ConfigError, before anything is sent, for an unusable URL or a public service without a contact,
        HeavyAnswerError if a smaller query may succeed, and SourceError for every other failure.
        """
        checked_url(request.url)
        require_contact(request.url, self.contact)
        most = {True: min(heavy_attempts or self.attempts, self.attempts), False: self.attempts}
        faults: Counter[bool] = Counter()
        while True:
            try:
                body, retry_after_s = self._once(request)
                return body, failures.checked(check, body, retry_after_s)
            except FaultError as fault:
                faults[fault.heavy] += 1
                last = faults[fault.heavy] == most[fault.heavy]
                if not last or (fault.retry_after_s and fault.error is not SourceError):
                    self._wait(request, fault, faults.total())  # after the last try too, before halves of the query
                if last:
                    times = "once" if faults.total() == 1 else f"{faults.total()} times"
                    raise fault.error(
                        f"{redact(request.url)} {fault.reason} (asked {times}). What was fetched is kept; run the same "
                        "command again to go on"
                    ) from fault

    def _wait(self, request: HttpRequest, fault: FaultError, number: int) -> None:
        asked_s = fault.retry_after_s or 0.0
        if asked_s > RETRY_AFTER_CAP_S:
            until = datetime.fromtimestamp(int(self._clock() + asked_s), timezone.utc).isoformat()
            raise SourceError(
                f"{redact(request.url)}: {fault.reason}, and asks to wait {asked_s:.0f} s, longer than the "
                f"{RETRY_AFTER_CAP_S:.0f} s that cfbuild sleeps. What was fetched is kept; run the same command again "
                f"after {until}"
            )
        wait_s = max(asked_s, min(FIRST_BACKOFF_S * 2 ** (number - 1), BACKOFF_CAP_S))
        ending = " as the server asks" if asked_s >= wait_s else ""
        _log.warning("%s: %s; trying again in %.0f s%s", redact(request.url), fault.reason, wait_s, ending)
        self.waited_s += wait_s
        self._sleep(wait_s)

    def _once(self, request: HttpRequest) -> tuple[bytes, float | None]:
        """Return the body of an answer, and its Retry-After in seconds."""
        import requests
        import urllib3

        url = request.url
        for _ in range(REDIRECTS + 1):
            try:
                with self._send(request, url) as response:
                    if not response.is_redirect:
                        return self._read(request, response), failures.retry_after_s(response, self._clock)
                    url = _redirected(request, url, response)
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                raise failures.network_fault(error, _note(request)) from None
        raise SourceError(f"{redact(request.url)} redirects more than {REDIRECTS} times; give the final address")

    def _send(self, request: HttpRequest, url: str) -> requests.Response:
        self.sent += 1
        return self._session.request(
            request.method,
            url,
            data=dict(request.form) or None,
            headers={"Accept": ", ".join(request.types)},
            timeout=(min(self.timeout_s, CONNECT_TIMEOUT_S), self.timeout_s),
            allow_redirects=False,
            stream=True,
        )

    def _read(self, request: HttpRequest, response: requests.Response) -> bytes:
        if response.status_code != 200:
            raise failures.refusal(response, redact(request.url), _note(request), self.timeout_s, self._clock)
        content_type = response.headers.get("Content-Type", "")
        kind, _, parameters = content_type.partition(";")
        if kind.strip().lower() not in request.types:
            reason = f"answered with content type {content_type!r}, expected {' or '.join(request.types)}"
            page = failures.page_of(response, self.timeout_s)
            raise failures.fault_of(response, reason, page, self._clock)
        charset = re.search(r"charset=\"?([^\s;\"]+)", parameters, re.IGNORECASE)
        if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
            raise FaultError(f"answered in {charset[1]}, expected utf-8")
        return self._body(request, response)

    def _body(self, request: HttpRequest, response: requests.Response) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise FaultError(f"answered in the encoding {encoding!r}, expected gzip or none")
        parts, size = [], 0
        for chunk in failures.arriving(response):
            size += len(chunk)
            if size > self.max_bytes:
                raise self._oversized(request)
            parts.append(chunk)
        body = b"".join(parts)
        announced = response.headers.get("Content-Length")
        received = response.raw.tell()
        if announced is not None and announced.strip() != str(received):
            raise heavy_fault(f"announced {announced} bytes and sent {received}")
        return self._unpacked(request, body) if encoding == "gzip" else body

    def _unpacked(self, request: HttpRequest, body: bytes) -> bytes:
        """Return a gzipped body unpacked; requests would unpack more bytes than the limit."""
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
                unpacked = stream.read(self.max_bytes + 1)
        except EOFError:
            raise heavy_fault("sent gzip that breaks off") from None
        except (OSError, zlib.error) as error:
            raise heavy_fault(f"sent gzip that cannot be unpacked ({error})") from None
        if len(unpacked) > self.max_bytes:
            raise self._oversized(request)
        return unpacked

    def _oversized(self, request: HttpRequest) -> HeavyAnswerError:
        return HeavyAnswerError(
            f"{redact(request.url)} sent more than {self.max_bytes} bytes in one answer; the rest was not read"
        )


def _redirected(request: HttpRequest, url: str, response: requests.Response) -> str:
    """Return the target of a redirect of `url`. Raises SourceError for one elsewhere, unusable or of another method."""
    try:
        target = checked_url(urljoin(url, response.headers["Location"]))
    except (ValueError, ConfigError):
        raise SourceError(f"{redact(request.url)} redirects to something that is no usable address") from None
    if origin(target) != origin(url) or (response.status_code == 303 and request.method != "GET"):
        raise SourceError(
            f"{redact(request.url)} redirects to {redact(target)}, which cfbuild does not follow "
            f"(another host or scheme); {_advice(request, target)}{_note(request)}"
        )
    return target


def _advice(request: HttpRequest, target: str) -> str:
    """Return the advice how to follow a redirect: the option whose value leads to `target`."""
    if request.address_option is None:
        return "give that address if you trust it"
    address = target.removesuffix(request.url.removeprefix(request.address_option.address))
    return f"if you trust it, run the command with `{request.address_option.option} {redact(address)}`"


def _note(request: HttpRequest) -> str:
    return f" ({request.address_option.note})" if request.address_option and request.address_option.note else ""
