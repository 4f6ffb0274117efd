"""The training of a trained editor: MEND's loop, with several edits a step, each under its own change.

A step runs nothing below the edited layers twice (`TopLayers`), and no change is ever formed: the gradient reaches the
network through the factors that the overlay multiplies with. What a step draws depends on its number and the seed
alone, so a checkpoint needs weights, optimisers and the number.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cfbuild.edit.trained.lessons import Lesson, Lessons
from cfbuild.edit.trained.material import Material, TargetedPrompt, TextStates, TopLayers, material, target_nll
from cfbuild.errors import ConfigError, ModelError
from cfbuild.lm.delta import Delta, overlay
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.model import Ids, LanguageModel, Weight
from cfbuild.progress import Progress, silent

CLIP = 100.0
"""The largest norm of a step's gradient, as released."""
LOCALITY_WEIGHT = 1.0
"""The weight of what must stay, as released."""
CHECKPOINT = "checkpoint.pt"
"""The file of a training that is not finished."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """All settings of a training.

    `batch` edits make a step, like the released 10 whose gradients are accumulated; `learning_rate` is that of the
    network and `rate_learning_rate` that of the learned rates, which both step; `edit_weight` multiplies the edit's
    loss; a validation comes every `valid_every` steps, and the training ends after `patience` of them without a better
    loss.
    """

    steps: int
    batch: int
    learning_rate: float
    rate_learning_rate: float
    edit_weight: float
    valid_every: int
    patience: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "valid_every", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("learning_rate", "rate_learning_rate", "edit_weight"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected more than 0")


@dataclass(frozen=True, slots=True)
class Validation:
    """The figures of a network on the validation part.

    `loss` is what training makes small, `edit` (nats) and `locality` (nats) its parts. `es` and `ps` are the shares in
    percent of rewrites and of wordings after which the new target is likelier than the old one (where there is none, of
    its tokens that are the likeliest). `drawdown` is the share in percent of the positions of texts that must stay
    at which another token is now the likeliest.
    """

    step: int
    loss: float
    edit: float
    locality: float
    es: float
    ps: float
    drawdown: float
    skipped: int


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of a step: of the edits and of what must stay, each a mean in nats."""

    edit: Tensor
    locality: Tensor


@dataclass(frozen=True, slots=True)
class Drawn:
    """A step's share of a lesson: the place of a wording, and a text that must stay, of a group of texts."""

    lesson: Lesson
    wording: int
    locality: tuple[tuple[Ids, ...], int]


class Training:
    """A training of one network on one model. `weights` are the edited matrices."""

    def __init__(
        self,
        lm: LanguageModel,
        network: nn.Module,
        weights: Sequence[Weight],
        lessons: Lessons,
        settings: TrainingSettings,
    ) -> None:
        if not lessons.train or not lessons.valid:
            raise ConfigError(
                f"{len(lessons.train)} lessons to train and {len(lessons.valid)} to validate on; expected at least one "
                "of each: give a larger file"
            )
        self.lm = lm
        self.network = network
        self.weights = tuple(weights)
        self.lessons = lessons
        self.settings = settings
        self.history: list[Validation] = []
        self.step = self._skipped = 0
        self._best: dict[str, Tensor] = {}
        self._top = TopLayers(lm, min(weight.layer for weight in weights))
        rates = [one for name, one in network.named_parameters() if name == "rates"]
        # Released: one optimiser steps everything, the rates among it, a second the rates alone.
        self._optimisers = [torch.optim.Adam(network.parameters(), settings.learning_rate)]
        self._optimisers += [torch.optim.Adam(rates, settings.rate_learning_rate)] if rates else []

    @property
    def best(self) -> Validation:
        """The validation with the least loss."""
        return min(self.history, key=lambda validation: validation.loss)

    def run(
        self, folder: Path, progress: Progress = silent, note: Callable[[Validation], None] = lambda validation: None
    ) -> None:
        """Train until the steps are done or nothing improves; then the network is the best one of all validations.

        A training whose checkpoint is in `folder` goes on from it. `note` gets each validation.
        """
        self._resume(folder / CHECKPOINT)
        settings = self.settings
        with fused_layers(self.lm):
            while self.step < settings.steps and not self._is_over():
                self._train_step()
                self.step += 1
                if self.step % settings.valid_every == 0 or self.step == settings.steps:
                    self._validate()
                    note(self.history[-1])
                    self._save(folder / CHECKPOINT)
                progress("training", self.step, settings.steps)
        if self._best:
            self.network.load_state_dict(self._best)
        self.network.eval()

    def _is_over(self) -> bool:
        """Return True if the last `patience` validations were no better than one before."""
        recent = self.history[-self.settings.patience :]
        return len(self.history) > self.settings.patience and self.best not in recent

    # ------------------------------------------------------------------------------------------------ a step

    def _train_step(self) -> None:
        self.network.train()
        for optimiser in self._optimisers:
            optimiser.zero_grad()
        losses = self.losses(self.draw(self.step))
        loss = self.settings.edit_weight * losses.edit + LOCALITY_WEIGHT * losses.locality
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        if not bool(torch.isfinite(norm)) or not bool(torch.isfinite(loss)):
            self._skipped += 1
            return
        for optimiser in self._optimisers:
            optimiser.step()

    def draw(self, step: int) -> list[Drawn]:
        """Return what a step takes: lessons in an order of their own each time through, a wording and a text."""
        train, seed, drawn = self.lessons.train, self.settings.seed, []
        for number in range(step * self.settings.batch, (step + 1) * self.settings.batch):
            turn, place = divmod(number, len(train))
            order = list(range(len(train)))
            random.Random(f"{seed}:turn:{turn}").shuffle(order)
            drawn.append(self._drawn(train[order[place]], random.Random(f"{seed}:draw:{number}")))
        return drawn

    def _drawn(self, lesson: Lesson, draw: random.Random) -> Drawn:
        own = lesson.locality
        if own and (not self.lessons.texts or draw.random() < 0.5):
            locality = (self._group(lesson), len(lesson.examples) + draw.randrange(len(own)))
        else:
            locality = ((draw.choice(self.lessons.texts),), 0)
        return Drawn(lesson, draw.randrange(len(lesson.outers)), locality)

    @staticmethod
    def _group(lesson: Lesson) -> tuple[Ids, ...]:
        """Return all texts of a lesson that are trained on: their states are computed together."""
        return (*(one.ids for one in lesson.examples), *lesson.locality)

    def losses(self, drawn: Sequence[Drawn]) -> Losses:
        """Return the losses of some edits under their own changes, with a gradient to the network."""
        top, lessons = self._top, [one.lesson for one in drawn]
        groups = [top.rows(self._group(lesson)) for lesson in lessons]
        deltas = self.network(self._material([rows[0] for rows in groups], lessons))
        outers = [rows[1 + one.wording] for rows, one in zip(groups, drawn, strict=True)]
        stay = [top.rows(texts)[place] for texts, place in (one.locality for one in drawn)]
        with overlay(self.lm, deltas):
            hidden = top.replay(outers)
        edit = target_nll(self.lm, hidden, [one.lesson.outers[one.wording] for one in drawn]).mean()
        locality, _ = self._divergence(stay, deltas)
        return Losses(edit, locality.mean())

    def _material(self, rows: Sequence[TextStates], lessons: Sequence[Lesson]) -> Material:
        return material(self._top, rows, [lesson.inner for lesson in lessons], self.weights)

    def _divergence(self, rows: Sequence[TextStates], deltas: Sequence[Delta]) -> tuple[Tensor, Tensor]:
        """Return, of each text, the mean over its positions of KL(before || after) in nats, and its drawdown.

        The drawdown is the share of positions at which another token became the likeliest.
        """
        with torch.no_grad():
            before = self.lm.logits(torch.cat([row.finished for row in rows])).log_softmax(dim=-1)
        with overlay(self.lm, deltas):
            hidden = self._top.replay(rows)
        states = torch.cat([hidden[place, : len(row.ids)] for place, row in enumerate(rows)])
        after = self.lm.logits(states).log_softmax(dim=-1)
        divergence = (before.exp() * (before - after)).sum(dim=1)
        changed = (before.argmax(dim=1) != after.detach().argmax(dim=1)).float()
        lengths = [len(row.ids) for row in rows]
        divergences = torch.stack([part.mean() for part in torch.split(divergence, lengths)])
        return divergences, torch.stack([part.mean() for part in torch.split(changed, lengths)])

    # ------------------------------------------------------------------------------------------------ validation

    @torch.no_grad()
    def _validate(self) -> None:
        self.network.eval()
        lessons, size = self.lessons.valid, self.settings.batch
        parts = [self._validated(lessons[start : start + size], start) for start in range(0, len(lessons), size)]
        edit, locality, es, ps, drawdown = (float(torch.cat(column).mean()) for column in zip(*parts, strict=True))
        loss = self.settings.edit_weight * edit + LOCALITY_WEIGHT * locality
        if not math.isfinite(loss):
            raise ModelError(
                f"the training's loss on the validation part is {loss} at step {self.step}; train with a smaller "
                "--learning-rate, and --restart"
            )
        figures = (100 * es, 100 * ps, 100 * drawdown)
        self.history.append(Validation(self.step, loss, edit, locality, *figures, self._skipped))
        if self.best is self.history[-1]:
            self._best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def _validated(self, lessons: Sequence[Lesson], start: int) -> tuple[Tensor, ...]:
        """Return, for each of some lessons, edit loss, locality loss, ES and drawdown; and PS for each wording."""
        top = self._top
        groups = [top.rows(self._group(lesson)) for lesson in lessons]
        with torch.no_grad():
            deltas = self.network(self._material([rows[0] for rows in groups], lessons))
        drawn = [
            self._drawn(lesson, random.Random(f"{self.settings.seed}:valid:{start + place}"))
            for place, lesson in enumerate(lessons)
        ]
        stay = [top.rows(texts)[place] for texts, place in (one.locality for one in drawn)]
        locality, drawdown = self._divergence(stay, deltas)
        edits, rewrites, wordings = [], [], []
        for lesson, delta, rows in zip(lessons, deltas, groups, strict=True):
            examples = lesson.examples
            hidden = self._edited(rows[: len(examples)], delta)
            nll = target_nll(self.lm, hidden, examples)
            if lesson.rivals:
                rivals = self._edited(top.rows(tuple(one.ids for one in lesson.rivals)), delta)
                better = (nll < target_nll(self.lm, rivals, lesson.rivals)).float()
            else:
                better = self._is_likeliest(hidden, examples)
            edits.append(nll[1:].mean())
            rewrites.append(better[0])
            wordings.append(better[1:])
        return torch.stack(edits), locality, torch.stack(rewrites), torch.cat(wordings), drawdown

    def _edited(self, rows: Sequence[TextStates], delta: Delta) -> Tensor:
        with overlay(self.lm, [delta] * len(rows)):
            return self._top.replay(rows)

    def _is_likeliest(self, hidden: Tensor, examples: Sequence[TargetedPrompt]) -> Tensor:
        """Return for each example the share of its target's tokens that are the likeliest."""
        shares = []
        for states, example in zip(hidden, examples, strict=True):
            at = slice(len(example.prompt) - 1, len(example.prompt) - 1 + len(example.target))
            wanted = torch.tensor(example.target, device=self.lm.device)
            shares.append((self.lm.logits(states[at]).argmax(dim=1) == wanted).float().mean())
        return torch.stack(shares)

    # ------------------------------------------------------------------------------------------------ checkpoints

    def _save(self, path: Path) -> None:
        part = path.with_name(f"{path.name}.part")
        state = {
            "step": self.step,
            "skipped": self._skipped,
            "history": [asdict(one) for one in self.history],
            "network": self.network.state_dict(),
            "best": self._best,
            "optimisers": [one.state_dict() for one in self._optimisers],
        }
        torch.save(state, part)
        part.replace(path)

    def _resume(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one. Raises ModelError for a file that is none."""
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=self.lm.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            for optimiser, kept in zip(self._optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(kept)
            self.step, self._skipped, self._best = state["step"], state["skipped"], state["best"]
            self.history = [Validation(**one) for one in state["history"]]
        except Exception as error:  # torch raises many kinds for a file that is broken, with advice on pickles
            kind = type(error).__name__
            raise ModelError(
                f"{path}: is no checkpoint of this training ({kind}); start over with --restart"
            ) from error
