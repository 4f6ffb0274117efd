"""AlphaEdit (Fang et al. 2025, arXiv 2410.02355): MEMIT whose updates change little of what most keys read.

P projects onto the directions in which keys in general are small: the singular vectors of C of small singular values.
For keys K of a batch, residuals R and the keys K_p of earlier batches of a sequence, each layer's update is
Delta = R (P K)^T (P K K^T P + P K_p K_p^T P + l I)^-1, which equals the released equation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit.artefacts import Artefact
from cfbuild.edit.covariance import UNREADABLE, Covariance
from cfbuild.edit.editor import Context, Edit, EditorSpec, State
from cfbuild.edit.memit import Memit, MemitOptions, solved_with
from cfbuild.edit.rome.options import on_device
from cfbuild.errors import ConfigError, ModelError, check_positive
from cfbuild.lm.model import LanguageModel
from cfbuild.progress import no_progress

BASIS = "basis.npz"
"""The file in the cache that holds C's eigenvalues and eigenvectors."""


@dataclass(frozen=True, slots=True)
class AlphaEditOptions(MemitOptions):
    """MEMIT's hyperparameters, of which `covariance_weight` has no effect, and three of the projection.

    `l2` is l, the ridge. P keeps the directions of C whose singular value is below `nullspace_threshold` (released:
    0.02). Without a threshold it keeps the weakest ones, `nullspace_share` of all: what a threshold keeps depends on
    the size of a model's keys.
    """

    l2: float = 10.0
    nullspace_threshold: float | None = None
    nullspace_share: float = 0.8

    def __post_init__(self) -> None:
        MemitOptions.__post_init__(self)
        check_positive(self, "l2", "nullspace_share")
        if self.nullspace_share > 1:
            raise ConfigError(f"nullspace_share is {self.nullspace_share}; expected at most 1")


class AlphaEdit:
    """The editor: it answers all requests of a call by one change of several layers.

    Its state has for each layer a matrix M [n, d_in] with M^T M = K_p K_p^T, K_p being the keys of earlier batches.
    """

    def __init__(
        self,
        lm: LanguageModel,
        options: AlphaEditOptions,
        covariances: Mapping[int, Covariance | None] | None = None,
    ) -> None:
        self.lm = lm
        self.options = options
        self._memit = Memit(lm, options, covariances)
        self._bases = {
            layer: _weak_directions(covariance, options) if covariance and covariance.factor is not None else None
            for layer, covariance in self._memit.covariances.items()
        }

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for all requests; a request whose z is not finite has an edit of its own, with a fault."""
        return self.edit_after({}, requests, done)[0]

    def edit_after(
        self, state: State, requests: Sequence[Request], done: Callable[[int], None] = no_progress
    ) -> tuple[list[Edit], State]:
        """Return the edit of a batch that follows others, and `state` with the batch's keys."""
        # A layer's keys depend on the layers below it only, which have changed when the keys are read. So these are the
        # keys after the whole update, which the released code computes again.
        seen: dict[str, Tensor] = {}

        def solve(layer: int, keys: Tensor) -> Tensor:
            seen[f"keys/{layer}"] = keys.cpu()
            return self.directions(layer, keys, state.get(f"keys/{layer}"))

        edits = self._memit.edit_by(solve, requests, done)
        if not seen or not all(bool(torch.isfinite(keys).all()) for keys in seen.values()):
            return edits, state
        return edits, {name: _joined(state.get(name), keys) for name, keys in seen.items()}

    def directions(self, layer: int, keys: Tensor, earlier: Tensor | None = None) -> Tensor:
        """Return the directions for `keys` [N, d_in] after `earlier` ones [n, d_in], by float64, [N, d_in]."""
        # In the basis of P's range the equation is MEMIT's with the identity for C, over earlier keys and these.
        basis = self._bases.get(layer)
        joined = keys.cpu().double() if earlier is None else torch.cat((earlier.cpu().double(), keys.cpu().double()))
        found = solved_with(joined if basis is None else joined @ basis, None, self.options.l2)[-len(keys) :]
        return (found if basis is None else found @ basis.T).to(keys.device, keys.dtype)


def _joined(earlier: Tensor | None, keys: Tensor) -> Tensor:
    """Return the state's matrix for `keys` and the earlier ones, of at most as many rows as columns."""
    joined = keys if earlier is None else torch.cat((earlier, keys))
    if len(joined) <= joined.shape[1]:
        return joined
    triangle: Tensor = torch.linalg.qr(joined.double(), mode="r").R
    return triangle.to(joined.dtype)


def _weak_directions(covariance: Covariance, options: AlphaEditOptions) -> Tensor:
    """Return the basis [d_in, r] of P's range, in float64. Raises ConfigError where no direction is left."""
    values, vectors = _eigen(covariance)
    count = round(options.nullspace_share * len(values))
    if options.nullspace_threshold is not None:
        count = int((values < options.nullspace_threshold).sum())
    if not count:
        raise ConfigError(
            f"no singular value of C is below {options.nullspace_threshold}: the least is {float(values[0]):.3g}, the "
            f"median {float(values.median()):.3g}; expected a larger nullspace_threshold"
        )
    return vectors[:, :count]


def _eigen(covariance: Covariance) -> tuple[Tensor, Tensor]:
    """Return C's singular values, ascending, and its singular vectors, in columns; the cache keeps them."""
    # C is symmetric and positive definite, so these are its eigenvalues and eigenvectors.
    assert covariance.factor is not None
    factor = covariance.factor
    digest = hashlib.sha256(factor.contiguous().numpy().tobytes()).hexdigest()

    def make(folder: Path) -> None:
        values, vectors = torch.linalg.eigh(factor @ factor.T)
        with (folder / BASIS).open("wb") as stream:
            np.savez(stream, values=values.numpy(), vectors=vectors.numpy())

    artefact = Artefact("eigenvectors", {"factor": digest, "torch": torch.__version__})
    values, vectors = artefact.get(make, _read)
    # Copied into aligned memory, on which the last bits of sums depend.
    return torch.from_numpy(values).clone(), torch.from_numpy(vectors).clone()


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(folder / BASIS, allow_pickle=False) as arrays:
            return arrays["values"], arrays["vectors"]
    except UNREADABLE as error:
        raise ModelError(f"{folder / BASIS}: cannot be read ({error})") from error


def _make(context: Context[AlphaEditOptions]) -> AlphaEdit:
    options = on_device(replace(context.options, contexts=context.contexts("memit")), context.lm.device)
    return AlphaEdit(context.lm, options, context.covariances(options.changed))


ALPHAEDIT = EditorSpec(AlphaEditOptions, _make, needs=frozenset({"contexts", "covariance"}), together=True)
