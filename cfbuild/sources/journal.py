"""The journal: answers kept on the disk, so that no request is sent twice, and the client that reads and writes it.

It is a single append-only file. An entry is a line of JSON (key, time of retrieval, digest and size) and the gzipped
body. An entry that a crash cut short is removed on opening; a body whose digest does not match counts as never
received. The build folder's lock lets a single process write at a time.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cfbuild.errors import DataError
from cfbuild.sources.failures import HeavyAnswerError, MiscountedAnswerError, Parsed
from cfbuild.sources.http import HEAVY_ATTEMPTS, MAX_BYTES, Client, HttpRequest

HEADER_BYTES = 512
"""More bytes than any header has (about 200); a longer line is no header."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    offset: int
    size: int
    sha256: str
    retrieved: str


class Journal:
    """The bodies of answers by the `key` of their request (`HttpRequest.key`)."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._entries: dict[str, _Entry] = {}
        self._used: set[str] = set()
        self._stream = path.open("r+b" if path.exists() else "w+b")
        self._end = self._scan()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def get(self, key: str) -> bytes | None:
        """Return the body stored under `key`, or None if there is none whose digest matches."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._stream.seek(entry.offset)
        try:
            packed = io.BytesIO(self._stream.read(entry.size))
            with gzip.GzipFile(fileobj=packed) as unpacked:
                body = unpacked.read(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error):
            body = b""
        if hashlib.sha256(body).hexdigest() != entry.sha256:
            _log.warning("%s: the answer at byte %d is damaged; it is fetched again", self.path, entry.offset)
            del self._entries[key]
            return None
        self._used.add(key)
        return body

    def put(self, key: str, body: bytes, retrieved: str) -> None:
        """Store `body` under `key`, in place of any other, and flush it; `retrieved` is its time, an ISO date."""
        packed = gzip.compress(body, compresslevel=6, mtime=0)
        sha256 = hashlib.sha256(body).hexdigest()
        fields = {"key": key, "retrieved": retrieved, "sha256": sha256, "size": len(packed)}
        header = json.dumps(fields, separators=(",", ":")).encode() + b"\n"
        self._stream.seek(self._end)
        self._stream.write(header + packed + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._entries[key] = _Entry(self._end + len(header), len(packed), sha256, retrieved)
        self._used.add(key)
        self._end += len(header) + len(packed) + 1

    def retrieved(self) -> tuple[str, str] | None:
        """Return when the first and the last answer that this process used were retrieved; None if it used none."""
        times = [self._entries[key].retrieved for key in self._used]
        return (min(times), max(times)) if times else None

    def digest(self) -> str:
        """Return the sha256 over keys and digests of the answers that this process used, in the order of their keys."""
        lines = (f"{key} {self._entries[key].sha256}\n" for key in sorted(self._used))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def used(self) -> int:
        """Return the number of answers that this process has read or written."""
        return len(self._used)

    def _scan(self) -> int:
        """Index every whole entry and cut off what follows the last; return the byte offset of the next entry."""
        total = self._stream.seek(0, os.SEEK_END)
        end = 0
        for key, entry in self._records(total):
            self._entries[key] = entry
            end = entry.offset + entry.size + 1
        if end < total:
            _log.warning("%s: %d bytes of an unfinished answer are removed", self.path, total - end)
            self._stream.truncate(end)
        return end

    def _records(self, total: int) -> Iterator[tuple[str, _Entry]]:
        start = 0
        while start < total:
            self._stream.seek(start)
            record = _header(self._stream.readline(HEADER_BYTES), start)
            if record is None or record[1].offset + record[1].size >= total:
                return
            entry = record[1]
            self._stream.seek(entry.offset + entry.size)
            if self._stream.read(1) != b"\n":
                return
            yield record
            start = entry.offset + entry.size + 1


def _header(line: bytes, start: int) -> tuple[str, _Entry] | None:
    """Return the key and entry of a header line that begins at byte `start`, or None if it is no header."""
    try:
        fields = json.loads(line)
        key, entry = fields["key"], _Entry(start + len(line), fields["size"], fields["sha256"], fields["retrieved"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    texts = all(isinstance(text, str) and text.isascii() for text in (key, entry.sha256, entry.retrieved))
    whole = line.endswith(b"\n") and texts and isinstance(entry.size, int) and entry.size >= 0
    return (key, entry) if whole else None


class JournaledClient:
    """A client that uses the answers in a journal, and stores every new one there."""

    def __init__(self, client: Client, journal: Journal) -> None:
        self.client = client
        self.journal = journal

    def ask(self, request: HttpRequest, check: Callable[[bytes], Parsed], heavy_attempts: int | None = None) -> Parsed:
        """Return what `check` makes of the stored answer, else of a new one (heavy_attempts: as in `Client.answer`)."""
        stored = self.journal.get(request.key)
        if stored is not None:
            try:
                return check(stored)
            except DataError as error:
                _log.warning("%s: a stored answer is not accepted (%s); fetching it again", self.journal.path, error)
        body, value = self.client.answer(request, check, heavy_attempts)
        self.journal.put(request.key, body, self.client.now())
        return value

    def ask_unless_refused(
        self, request: HttpRequest, check: Callable[[bytes], Parsed], check_alive: Callable[[], object]
    ) -> Parsed | None:
        """Return as `ask`, or None if the query is too much for the service; that outcome is stored as well.

        check_alive: sends the service an easy query, past the journal; raises SourceError if there is no answer. It is
        called between the tries and after them, so that an outage is not taken for a refusal.
        """
        refusal = hashlib.sha256(f"refused {request.key}".encode()).hexdigest()
        if self.journal.get(refusal) is not None:
            return None
        reason = ""
        for attempts in (HEAVY_ATTEMPTS, None):
            try:
                return self.ask(request, check, attempts)
            except MiscountedAnswerError:
                raise
            except HeavyAnswerError as error:
                reason = str(error)
            check_alive()
        self.journal.put(refusal, reason.encode(), self.client.now())
        return None
