"""The text of a dump, in units: chunks that are unpacked and filtered each by itself.

docs/internals.md ("A dump is read once") explains how the blocks of a bz2 file are found and unpacked by themselves.
"""

from __future__ import annotations

import bz2
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cfbuild.errors import ConfigError, DataError

PIPE = "-"
BLOCK, END = 0x314159265359, 0x177245385090
"""The magic numbers of a block and of the end of a stream (bzip2's format)."""
MAGIC_BITS, CRC_BITS = 48, 32
"""The bits of a magic number and of the check sum after it (bzip2's format)."""
UNIT_BYTES = {"bz2": 4 << 20, "gz": 32 << 20, "plain": 32 << 20}
"""The bytes of a unit, compressed for bz2, else of text: seconds of work, and few files for a whole dump."""
HEAD = 1 << 20
"""The bytes from the beginning that tell what a file is: more than the first compressed block has."""
STEP = 1 << 18
"""The bytes that are searched at once for the next block; blocks of a dump have 30 to 60 kB."""
OTHER_PACKINGS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7z",
}
FALSE_MAGICS = 2
"""The most false magic numbers in a block that are passed over; one comes in 2^48 bits."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A chunk of a dump: `start` to before `stop`, in bits of a bz2 file, else in bytes of text.

    `data` holds its bytes if they cannot be read from the file `path`: those of a bz2 pipe from the byte of `start` on.
    """

    number: int
    packing: str
    start: int
    stop: int
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """Return the unit's name among finished units: its place, and a check sum of bytes that came by a pipe."""
        check = "" if self.data is None else f"-{zlib.crc32(self.data):08x}"
        return f"{self.packing}-{self.start}-{self.stop}{check}"

    @property
    def size(self) -> int:
        """Return the number of its bytes."""
        return (self.stop - self.start) // (8 if self.packing == "bz2" else 1)

    def texts(self) -> Iterator[bytes]:
        """Yield its text in pieces of at most a block. Raises DataError for a damaged block."""
        if self.packing == "bz2":
            yield from self._unpacked()
        elif self.data is not None:
            yield self.data
        else:
            assert self.path is not None
            with self.path.open("rb") as stream:
                stream.seek(self.start)
                remaining = self.stop - self.start
                while remaining and (text := stream.read(min(remaining, HEAD))):
                    remaining -= len(text)
                    yield text

    def _packed(self) -> bytes:
        if self.data is not None:
            return self.data
        assert self.path is not None
        with self.path.open("rb") as stream:
            stream.seek(self.start // 8)
            return stream.read((self.stop + 7) // 8 - self.start // 8)

    def _unpacked(self) -> Iterator[bytes]:
        packed = self._packed()
        base = self.start // 8 * 8
        found = [(place, number) for place, number in magics(packed) if self.start <= place + base < self.stop]
        places = [*found, (self.stop - base, END)]
        index = 0
        while index < len(found):
            place, number = found[index]
            index += 1
            if number == END:
                continue
            for more in range(FALSE_MAGICS + 1):
                text = _block(packed, place, places[min(index + more, len(found))][0])
                if text is not None:
                    index += more
                    break
            else:
                raise DataError(
                    f"the block at byte {(place + base) // 8:,} of the dump is damaged; fetch the file again"
                )
            yield text


def _block(packed: bytes, start: int, stop: int) -> bytes | None:
    """Return the text of the block from bit `start` to before bit `stop`; None if it is not a whole block."""
    bits = stop - start
    if bits < MAGIC_BITS + CRC_BITS:
        return None
    last = (stop + 7) // 8
    block = int.from_bytes(packed[start // 8 : last], "big") >> (last * 8 - stop) & ((1 << bits) - 1)
    check = block >> (bits - MAGIC_BITS - CRC_BITS) & 0xFFFFFFFF
    stream = block << MAGIC_BITS + CRC_BITS | END << CRC_BITS | check
    bits += MAGIC_BITS + CRC_BITS
    padded = (bits + 7) // 8
    try:
        return bz2.decompress(b"BZh9" + (stream << padded * 8 - bits).to_bytes(padded, "big"))
    except (OSError, ValueError):
        return None


def _needles() -> list[tuple[int, int, bytes, int, int]]:
    """Return (magic number, shift, the bytes that it fills, its first bits, its last bits) for each shift in a byte."""
    found = []
    for number in (BLOCK, END):
        for shift in range(8):
            spread = (number << 8 - shift).to_bytes(7, "big")
            found.append((number, shift, spread[1:6], spread[0], spread[6]))
    return found


NEEDLES = _needles()


def magics(packed: bytes) -> list[tuple[int, int]]:
    """Return the (bit, magic number) of each place in `packed` where a block or a stream's end may begin, in order."""
    found = []
    for number, shift, whole, first, last in NEEDLES:
        place = packed.find(whole, 1)
        while place >= 0:
            before, after = packed[place - 1], packed[place + 5] if place + 5 < len(packed) else 0
            if before & (0xFF >> shift) == first and after & (0xFF00 >> shift & 0xFF) == last:
                found.append((place * 8 - 8 + shift, number))
            place = packed.find(whole, place + 1)
    return sorted(found)


@dataclass
class Dump:
    """A dump, in a file or from a pipe. Its first bytes tell its `packing` (bz2, gz, plain) and `form` (truthy, json).

    threads: unpack a gz file. Raises DataError if it is no dump.
    """

    name: str
    stream: IO[bytes]
    threads: int = 1

    def __post_init__(self) -> None:
        self.path = None if self.name == PIPE else Path(self.name).resolve()
        self.size = None if self.path is None else self.path.stat().st_size
        self._head = self._take(HEAD)
        self.packing = "bz2" if self._head[:3] == b"BZh" else "gz" if self._head[:2] == b"\x1f\x8b" else "plain"
        self.form = self._form()

    def __enter__(self) -> Dump:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path is not None:
            self.stream.close()

    @property
    def total(self) -> int | None:
        """Return the bytes of all units; None if they are known only at the end."""
        return None if self.packing == "gz" else self.size

    def _take(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end; a pipe may give fewer at once."""
        parts, remaining = [], size
        while remaining and (part := self.stream.read(remaining)):
            parts.append(part)
            remaining -= len(part)
        return b"".join(parts)

    def _form(self) -> str:
        """Return "truthy" or "json", by the first character of the text."""
        for beginning, packing in OTHER_PACKINGS.items():
            if self._head.startswith(beginning):
                raise DataError(f"{self.name} is packed by {packing}; expected bz2, gz or plain text: unpack it first")
        try:
            if self.packing == "bz2":
                text = bz2.BZ2Decompressor().decompress(self._head, 4096)
            elif self.packing == "gz":
                text = zlib.decompressobj(31).decompress(self._head, 4096)
            else:
                text = self._head[:4096]
        except (OSError, zlib.error) as error:
            raise DataError(f"{self.name}: damaged at its beginning ({error}); fetch the file again") from error
        first = text.lstrip()[:1]
        if (first == b"<" and text.lstrip()[:2] != b"<?") or text.lstrip()[:2] == b"_:":
            return "truthy"
        if first in (b"[", b"{"):
            return "json"
        raise DataError(
            f"{self.name} is no dump of Wikidata: its text begins with {text[:40]!r}; expected N-Triples "
            "(latest-truthy.nt.bz2) or a JSON dump (latest-all.json.bz2)"
        )

    def units(self) -> Iterator[Unit]:
        """Yield the units of the dump in order. Raises DataError if it breaks off or is damaged."""
        size = UNIT_BYTES[self.packing]
        if self.packing == "bz2":
            yield from self._blocks(size)
        elif self.packing == "plain" and self.path is not None:
            assert self.size is not None
            for number, start in enumerate(range(0, self.size, size)):
                yield Unit(number, "plain", start, min(start + size, self.size), self.path)
        else:
            yield from self._texts(size)

    def _texts(self, size: int) -> Iterator[Unit]:
        """Yield units of `size` bytes of text, read from the beginning."""
        start = number = 0
        try:
            with self._text() as text:
                while data := text.read(size):
                    yield Unit(number, "text", start, start + len(data), data=data)
                    start, number = start + len(data), number + 1
        except (EOFError, OSError, zlib.error, RuntimeError, ValueError) as error:
            raise DataError(
                f"{self.name} breaks off or is damaged after {start:,} bytes of text ({error}); fetch it again"
            ) from error

    def _text(self) -> AbstractContextManager[Any]:
        """Return the whole text as a stream."""
        if self.packing == "gz" and self.path is not None and (unpacked := _rapidgzip(self.path, self.threads)):
            return closing(unpacked)
        source = io.BufferedReader(_PrefixedStream(self._head, self.stream), HEAD)
        return source if self.packing == "plain" else gzip.GzipFile(fileobj=source)

    def _blocks(self, size: int) -> Iterator[Unit]:
        """Yield units of about `size` compressed bytes of bz2, from the beginning of a block to that of another."""
        window = _Window(self._head, self.stream, self.path is not None)
        start = window.next_block(0)
        number = 0
        while start is not None:
            stop = window.next_block(start // 8 + size)
            last = stop is None
            end = self._end(window, start // 8) if stop is None else stop
            data = None if self.path is not None else window.bytes_from(start // 8, (end + 7) // 8)
            yield Unit(number, "bz2", start, end, self.path, data)
            start, number = (None if last else stop), number + 1
            window.forget(0 if start is None else start // 8)

    def _end(self, window: _Window, start: int) -> int:
        """Return the bit where the last stream ends; `start` is a byte before it. Raises DataError without an end."""
        tail = window.rest(start)
        found = magics(tail)
        if found and found[-1][1] == END:
            after = (found[-1][0] + MAGIC_BITS + CRC_BITS + 7) // 8
            if after <= len(tail) and not tail.startswith(b"BZ", after):
                return start * 8 + found[-1][0]
        raise DataError(
            f"{self.name} breaks off at byte {start + len(tail):,}, before the end of its last stream: it is not "
            "whole; fetch it again"
        )


class _Window:
    """The bytes of a bz2 dump in which the beginnings of units are searched.

    Those of a file (`seekable`) are read at the places that are searched; those of a pipe are all read, and kept until
    `forget`.
    """

    def __init__(self, head: bytes, stream: IO[bytes], seekable: bool) -> None:
        self._stream = stream
        self._seekable = seekable
        self._base, self._buffer, self._ended = 0, bytearray(head), False

    def next_block(self, byte: int) -> int | None:
        """Return the bit of the first block that begins at or after `byte`; None if there is none."""
        if self._seekable and not self._base <= byte <= self._base + len(self._buffer):
            self._stream.seek(byte)
            self._base, self._buffer, self._ended = byte, bytearray(), False
        place = byte
        while True:
            self._fill(place + STEP + 8)
            part = bytes(self._buffer[place - self._base : place - self._base + STEP + 8])
            for found, number in magics(b"\0" + part):
                # The block begins at or after `place`; one that begins in the last bytes is found in the next step.
                if number == BLOCK and found >= 8:
                    return place * 8 + found - 8
            if len(part) < STEP + 8:
                return None
            place += STEP

    def _fill(self, stop: int) -> None:
        while not self._ended and self._base + len(self._buffer) < stop:
            part = self._stream.read(min(HEAD, max(STEP, stop - self._base - len(self._buffer))))
            self._buffer += part
            self._ended = not part

    def bytes_from(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start`, which was not forgotten, to before `stop`."""
        self._fill(stop)
        return bytes(self._buffer[start - self._base : stop - self._base])

    def rest(self, start: int) -> bytes:
        """Return the bytes from `start`, which was not forgotten, to the end."""
        if self._seekable:
            self._stream.seek(start)
            self._base, self._buffer, self._ended = start, bytearray(), False
        self._fill(sys.maxsize)
        return bytes(self._buffer[start - self._base :])

    def forget(self, before: int) -> None:
        """Drop the bytes before `before`."""
        drop = max(0, min(before - self._base, len(self._buffer)))
        del self._buffer[:drop]
        self._base += drop


class _PrefixedStream(io.RawIOBase):
    """A stream of the bytes `head`, which were read already, and of those of `stream`."""

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        part = self._head[: len(buffer)] if self._head else self._stream.read(len(buffer))
        self._head = self._head[len(part) :]
        buffer[: len(part)] = part
        return len(part)


class _RapidGzip:
    """The text of a gz file, unpacked by rapidgzip; raises EOFError if the file breaks off, unlike rapidgzip."""

    def __init__(self, stream: Any, size: int) -> None:
        self._stream = stream
        self._bits = size * 8

    def read(self, size: int, /) -> bytes:
        data: bytes = self._stream.read(size)
        if not data and self._stream.tell_compressed() != self._bits:
            raise EOFError(f"the stream does not end within the file's {self._bits // 8:,} bytes")
        return data

    def close(self) -> None:
        self._stream.close()


def _rapidgzip(path: Path, threads: int) -> _RapidGzip | None:
    """Return the text of a gz file, unpacked by several threads; None if rapidgzip is not installed."""
    try:
        import rapidgzip
    except ImportError:
        return None
    return _RapidGzip(rapidgzip.open(str(path), parallelization=threads), path.stat().st_size)


def open_dump(name: str, threads: int = 1) -> Dump:
    """Return the dump in the file `name`, or in standard input for "-"; threads: as in `Dump`.

    Raises ConfigError if there is no such file, DataError if it is no dump.
    """
    if name == PIPE:
        return Dump(name, sys.stdin.buffer)
    stream = dump_file(name).open("rb")
    try:
        return Dump(name, stream, threads)
    except BaseException:
        stream.close()
        raise


def dump_file(name: str) -> Path:
    """Return the path of a dump. Raises ConfigError if there is no such file."""
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"{name} is not a file; expected a dump of Wikidata, or - for one that comes by a pipe")
    return path
