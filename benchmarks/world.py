"""The inputs of both sides: a model, records that it knows, ROME's options and C, all made by the package's verbs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cfbuild.data import Record, Request
from cfbuild.edit.covariance import Covariance
from cfbuild.edit.editor import open_editor
from cfbuild.edit.rome import Rome
from cfbuild.edit.rome.options import AUTO, FAST_TAKES_EVERY, RomeOptions, on_device
from cfbuild.edit.supplies import ModelSupplies, build_corpus
from cfbuild.lm.load import load
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.demo import DemoOptions, fetch_snapshot, generate_known
from cfbuild.progress import Progress, silent
from cfbuild.score.passes import request_of
from cfbuild.store.codec import decode_record
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_values


@dataclass(frozen=True, slots=True)
class World:
    """One model and one set of records; `rome` is the `exact` preset's editor."""

    lm: LanguageModel
    folder: BuildFolder
    records: tuple[Record, ...]
    rome: Rome

    @property
    def options(self) -> RomeOptions:
        return self.rome.options

    @property
    def covariance(self) -> Covariance | None:
        return self.rome.covariance

    def editor(self, change: Callable[[RomeOptions], RomeOptions]) -> Rome:
        """Return the same editor with other options."""
        return Rome(self.lm, change(self.options), self.covariance)


def make(root: Path, model: str, device: str, records: int, seed: int, progress: Progress) -> World:
    """Fetch the snapshot, generate `records` records that the model knows, sample contexts, compute C."""
    folder = BuildFolder(root / f"{model.replace('/', '--')}-{records}-{seed}")
    lm = load(model, device=device, dtype="float32")
    options = DemoOptions(records, seed)
    fetch_snapshot(folder, options, progress)
    generate_known(folder, lm, options, progress)
    # The baseline knows CounterFact's prompts only.
    made = tuple(replace(one, groups={}) for one in read_values(folder.path("records.jsonl"), decode_record))
    return World(lm, folder, made, rome_of(lm, made, seed, progress))


def rome_of(lm: LanguageModel, records: Sequence[Record], seed: int, progress: Progress = silent) -> Rome:
    """ROME as preset `exact`, with contexts sampled from the model and C of the records' texts."""
    supplies = ModelSupplies(lm, lambda: build_corpus(records, ()), seed=seed, progress=progress)
    rome = open_editor("rome", lm, {}, supplies).editor
    assert isinstance(rome, Rome)
    return rome


def requests(records: Sequence[Record]) -> list[Request]:
    """Return the request of each record."""
    return list(map(request_of, records))


def fast(options: RomeOptions, device: torch.device) -> RomeOptions:
    """Return options with those of `rome-fast`: every third context, and the number format that suits the device."""
    return on_device(replace(options, contexts=options.contexts[::FAST_TAKES_EVERY], products=AUTO), device)
