"""Xet's storage as far as an upload needs it: xorbs hold chunks of files, shards say which chunks make a file.

The layouts are those of the public Xet protocol specification. Chunks must come uncompressed, which the client does
where HF_XET_XORB_COMPRESSION_POLICY is `none`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

ROW = 48
"""Bytes of every header and entry of a shard."""
VERIFIED = 1 << 31
DESCRIBED = 1 << 30
END = b"\xff" * 32


def hex_name(digest: bytes) -> str:
    """Return 32 bytes as the protocol writes them: four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))


def chunks(xorb: bytes) -> list[bytes]:
    """Return the chunks of a xorb: each has a header of version, length, kind of compression and length before it."""
    found, at = [], 0
    while at < len(xorb):
        length, kind = int.from_bytes(xorb[at + 1 : at + 4], "little"), xorb[at + 4]
        assert kind == 0, "a compressed chunk"
        found.append(xorb[at + 8 : at + 8 + length])
        at += 8 + length
    return found


def files(shard: bytes, xorbs: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield (sha256, bytes) of every file of a shard. The digest is the one that the client gave, checked here."""
    rows = [shard[at : at + ROW] for at in range(ROW, len(shard), ROW)]
    while not rows[0].startswith(END):
        flags, count = struct.unpack("<II", rows.pop(0)[32:40])
        content = b""
        for _ in range(count):
            entry = rows.pop(0)
            size, start, end = struct.unpack("<III", entry[36:48])
            part = b"".join(chunks(xorbs[hex_name(entry[:32])])[start:end])
            assert len(part) == size
            content += part
        rows = rows[count:] if flags & VERIFIED else rows
        assert flags & DESCRIBED, "a file without its sha256"
        name = hex_name(rows.pop(0)[:32])
        assert hashlib.sha256(content).hexdigest() == name
        yield name, content
