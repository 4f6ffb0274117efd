"""Digests of a few bytes that stand for texts where only their sameness or their order matters.

They are the same in every process, which Python's own hashes are not. Of a hundred million texts, two share one of 8
bytes with a chance of 1 in 4,000.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BYTES = 8
"""The length of a digest, if no other is asked for."""


def short_digest(text: str, length: int = BYTES) -> bytes:
    """Return the digest of a text, of `length` bytes."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=length).digest()


def short_digests(texts: Iterable[str]) -> bytes:
    """Return the digests of texts, one behind the other."""
    return b"".join(map(short_digest, texts))


def drawn(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Return a number for each text, by which they are in a random order that depends on nothing but the texts."""
    import numpy as np

    first = bytearray()
    for text in texts:
        first += hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:BYTES]
    return np.frombuffer(first, ">u8").astype(np.uint64)
