"""Digests of a few bytes by which texts are compared or put into a random order.

They are the same in every process, unlike Python's own hashes. The chance that any two of a hundred million texts share
a digest of 8 bytes is 1 in 4,000.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BYTES = 8
"""The default length of a digest."""


def short_digest(text: str, length: int = BYTES) -> bytes:
    """Return the digest of a text, `length` bytes long."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=length).digest()


def short_digests(texts: Iterable[str]) -> bytes:
    """Return the digests of `texts`, joined in their order."""
    return b"".join(map(short_digest, texts))


def random_keys(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Return a number for each of `texts`, [texts]; sorted by it they are in a random order, always the same."""
    import numpy as np

    digests = bytearray()
    for text in texts:
        digests += hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:BYTES]
    return np.frombuffer(digests, ">u8").astype(np.uint64)
