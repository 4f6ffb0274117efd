"""C, the uncentred second moment E[k k^T] of a layer's keys, with which ROME whitens a key (paper, equation 2)."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfbuild.edit.artefacts import Artefact, Loaded, weights_identity
from cfbuild.edit.corpus import Corpus
from cfbuild.errors import EditError, ModelError
from cfbuild.lm.batch import right_padded
from cfbuild.lm.batching import in_batches
from cfbuild.lm.forward import projection_inputs
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.model import Ids, LanguageModel
from cfbuild.lm.notices import log_once
from cfbuild.lm.precision import widest
from cfbuild.progress import Progress, silent
from cfbuild.store.files import sha256_file

MATRIX = "C.npz"
"""The file in the cache that holds C and the number of its tokens."""
WINDOW = 256
"""The most tokens of a row; longer texts are cut into rows."""
ROWS_TOGETHER = 8192
"""Rows that are sorted into batches of similar width, so that few fillers are computed."""
LAYOUTS = (("C", None), ("moment", None), ("mom2.mom2", "mom2.count"))
"""Names of arrays that hold C, and of the count to divide by where C is a sum (in the released statistics files)."""
RIDGES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
"""Shares of the mean diagonal that are added to C, tried in turn until C is well enough conditioned to solve with."""
MOMENT_BYTES = 4 << 30
"""The most bytes of float64 sums in one pass: those of all layers are 0.6 GB for SmolLM2-135M, 15.7 for GPT-2 XL."""
CONDITION_LIMIT = 1e7
"""The largest ratio of the factor's squared extreme diagonal entries at which whitening amplifies no rounding noise:
keys have float32's 7 digits."""
FEWEST_PER_NUMBER = 3
"""Tokens for each number of a key from which C serves; the measurements are in docs/editors.md."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Covariance:
    """C as a lower Cholesky factor [d_in, d_in] in float64; `signature` names its corpus, size and ridge.

    If C is singular or not finite, `factor` is None and `fault` the reason, which becomes that of every edit.
    """

    factor: Tensor | None
    signature: str
    fault: str | None = None

    def whiten(self, keys: Tensor) -> Tensor:
        """Return C^-1 k of `keys`, one [d_in] or many [n, d_in]. Raises EditError if C has a fault."""
        if self.factor is None:
            raise EditError(f"covariance {self.signature}: {self.fault}")
        columns = keys.cpu().double().reshape(-1, keys.shape[-1]).T
        # cholesky_solve would copy the factor at every call.
        half = torch.linalg.solve_triangular(self.factor, columns, upper=False)
        solved: Tensor = torch.linalg.solve_triangular(self.factor.T, half, upper=True)
        return solved.T.reshape(keys.shape).to(keys.device, keys.dtype)


def factorise(matrix: Tensor, name: str) -> Covariance:
    """Return `matrix`, C [d_in, d_in], factorised with the smallest of RIDGES that makes it positive definite.

    It has a fault if none does (as when all keys are zero) or C is not finite. `name` begins its signature.
    """
    matrix = matrix.cpu().double()
    if not bool(torch.isfinite(matrix).all()):
        return _unsolvable(name, "the covariance of the layer's keys is not finite")
    scale = float(matrix.diagonal().mean())
    for ridge in RIDGES:
        factor, failed = torch.linalg.cholesky_ex(matrix + ridge * scale * torch.eye(len(matrix), dtype=torch.float64))
        diagonal = factor.diagonal()
        if not int(failed) and float((diagonal.max() / diagonal.min()) ** 2) < CONDITION_LIMIT:
            return Covariance(factor, f"{name},ridge={ridge:g}")
    return _unsolvable(name, "the covariance of the layer's keys is singular")


def _unsolvable(name: str, fault: str) -> Covariance:
    _log.warning(
        "covariance %s: no record can be edited, because %s; compute it over more tokens (--covariance-tokens), edit "
        "another --layer, or use --covariance none",
        name,
        fault,
    )
    return Covariance(None, f"{name},unsolvable", fault)


def load_covariance(file: Path, width: int) -> Covariance:
    """Return the covariance in an .npz file: cfbuild's own, or the statistics published with ROME.

    width: d_in of the layer. Raises ModelError naming the file for anything else.
    """
    matrix, _ = _read(width, file)
    return factorise(torch.from_numpy(matrix), f"file:{sha256_file(file)[:16]}")


def _read(width: int, file: Path) -> tuple[np.ndarray, int]:
    """Return the matrix in an .npz file and its number of tokens, 0 if the file has none. Raises ModelError."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            layout = next((layout for layout in LAYOUTS if layout[0] in names), None)
            if layout is None:
                raise ModelError(f"{file}: holds none of the arrays {', '.join(name for name, _ in LAYOUTS)}")
            name, divisor = layout
            matrix = _array(archive, name, (width, width)) / (float(_array(archive, divisor)) if divisor else 1.0)
            return matrix, int(_array(archive, "count")) if "count" in names else 0
    except UNREADABLE as error:
        raise ModelError(f"{file}: is not an .npz file that can be read ({error or type(error).__name__})") from error
    except _ShapeError as error:
        raise ModelError(f"{file}: got {error} for this layer") from error


UNREADABLE = (OSError, ValueError, KeyError, EOFError, OverflowError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""Errors of zipfile and numpy for broken files; a RuntimeError also stands for an unknown compression."""


class _ShapeError(Exception):
    """An array has another shape than expected."""


def _array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...] = ()) -> np.ndarray:
    """Return an array of the archive as float64.

    The header is checked first, because it may claim any size. Raises ValueError unless the array is of numbers,
    _ShapeError unless it has the shape `shape`.
    """
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        found, _, dtype = read_header(stream)
        if dtype.kind not in "fiu":
            raise ValueError(f"{name} is of type {dtype}, expected numbers")
        if found != shape:
            raise _ShapeError(f"a matrix of shape {found}, expected {shape}")
    with archive.open(f"{name}.npy") as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False), dtype=np.float64)


def key_covariances(
    lm: LanguageModel, layers: Sequence[int], corpus: Corpus, tokens: int, progress: Progress = silent
) -> dict[int, Covariance]:
    """Return C of each layer over `tokens` tokens of a corpus; one pass computes all that are not in the cache."""
    cached = _CachedMoments(lm, layers, corpus, tokens, progress)
    covariances = {}
    for layer in layers:
        width = lm.key_width(layer)
        matrix, count = cached.get(layer, partial(_read_from, width))
        if count < FEWEST_PER_NUMBER * width:
            log_once(
                f"the covariance of layer {layer} is over {count:,} tokens, all that the texts have, for keys of "
                f"{width:,} numbers: edits that use it change too much elsewhere; give more text (--covariance FILE) "
                "or --covariance none"
            )
        covariances[layer] = factorise(torch.from_numpy(matrix), f"{corpus.name},tokens={count}")
    return covariances


def gather_covariances(
    lm: LanguageModel, layers: Sequence[int], corpus: Corpus, tokens: int, progress: Progress = silent
) -> None:
    """Write C of each layer over `tokens` tokens into the cache, where `key_covariances` finds it.

    It takes one pass over the texts, or several if the sums of all layers exceed MOMENT_BYTES.
    """
    at_once = max(1, MOMENT_BYTES // max(8 * lm.key_width(layer) ** 2 for layer in layers))
    for start in range(0, len(layers), at_once):
        chunk = layers[start : start + at_once]
        cached = _CachedMoments(lm, chunk, corpus, tokens, progress)
        for layer in chunk:
            cached.get(layer, lambda folder: None)


class _CachedMoments:
    """C of several layers in the cache; the missing ones are computed together when the first of them is needed."""

    def __init__(
        self, lm: LanguageModel, layers: Sequence[int], corpus: Corpus, tokens: int, progress: Progress
    ) -> None:
        shared = {**weights_identity(lm), "corpus": corpus.name, "tokens": tokens, "window": WINDOW}
        self._artefacts = {layer: Artefact("covariance", {**shared, "layer": layer}) for layer in layers}
        self._lm, self._corpus, self._tokens, self._progress = lm, corpus, tokens, progress
        self._found: dict[int, Tensor] = {}
        self._count = 0

    def get(self, layer: int, read: Callable[[Path], Loaded]) -> Loaded:
        """Return what `read` makes of the folder of a layer's C."""
        return self._artefacts[layer].get(partial(self._make, layer), read)

    def _make(self, layer: int, folder: Path) -> None:
        if layer not in self._found:
            missing = {key for key, artefact in self._artefacts.items() if not artefact.is_made}
            layers, texts = sorted({layer, *missing}), self._corpus.texts()
            moments, self._count = second_moments(self._lm, layers, texts, self._tokens, self._progress)
            self._found.update(moments)
        with (folder / MATRIX).open("wb") as stream:
            np.savez(stream, C=self._found.pop(layer).numpy(), count=np.array(self._count))


def _read_from(width: int, folder: Path) -> tuple[np.ndarray, int]:
    return _read(width, folder / MATRIX)


def second_moments(
    lm: LanguageModel, layers: Sequence[int], texts: Iterable[str], tokens: int, progress: Progress = silent
) -> tuple[dict[int, Tensor], int]:
    """Return the mean of k k^T [d_in, d_in] in float64 of each layer, and the number of tokens that it is over.

    These are the first `tokens` tokens of `texts`, or all. Raises EditError if there is no token.
    """
    totals: dict[int, Tensor] = {}
    count = 0

    def add(batch: Sequence[Ids]) -> list[None]:
        nonlocal count
        for layer, product in _products(lm, layers, batch).items():
            totals[layer] = product + totals[layer] if layer in totals else product
        count += sum(map(len, batch))
        progress("covariance", count, tokens)
        return [None] * len(batch)

    progress("covariance", 0, tokens)
    rows = _rows(lm, texts, tokens)
    with fused_layers(lm):
        while together := list(islice(rows, ROWS_TOGETHER)):
            in_batches(lm, together, add, len)
    if not totals:
        raise EditError("the texts for the covariance have no token; give another --covariance")
    progress("covariance", count, count)
    return {layer: total.cpu().double() / count for layer, total in totals.items()}, count


def _products(lm: LanguageModel, layers: Sequence[int], rows: Sequence[Ids]) -> dict[int, Tensor]:
    """Return the sum of k k^T over every token of `rows`, [d_in, d_in], by layer."""
    batch, real = right_padded(rows, lm)
    # Accelerators are many times slower in float64, and a batch's own sum rounds less than the keys do.
    numbers = torch.float64 if lm.device.type == "cpu" else torch.float32

    def product(inputs: Tensor) -> Tensor:
        keys = inputs[real].to(numbers)
        return (keys.T @ keys).to(widest(lm.device))

    with torch.no_grad():
        return projection_inputs(lm, batch, layers, product)


def _rows(lm: LanguageModel, texts: Iterable[str], tokens: int) -> Iterator[Ids]:
    """Yield rows of at most WINDOW tokens, `tokens` tokens in all."""
    tokens_left, window = tokens, min(WINDOW, lm.max_tokens)
    for text in texts:
        ids = lm.encode(text)
        for start in range(0, len(ids), window):
            row = ids[start : start + min(window, tokens_left)]
            tokens_left -= len(row)
            if row:
                yield row
            if tokens_left <= 0:
                return
