"""The training of a trained editor's network: MEND's loop, with several edits a step, each under its own change.

Gradients reach the network through the factors of the changes, which the overlay multiplies with. What a step draws
depends on its number and the seed alone, so a checkpoint holds weights, optimisers and the number.
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
from cfbuild.edit.trained.material import TargetedPrompt, TextStates, TopLayers, material, target_nll
from cfbuild.errors import ConfigError, ModelError, check_least, check_positive
from cfbuild.lm.delta import Delta, overlay
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.model import Ids, LanguageModel, Weight
from cfbuild.progress import Progress, silent

CLIP = 100.0
"""The largest norm of a step's gradient, as released."""
LOCALITY_WEIGHT = 1.0
"""The weight of the locality loss, as released."""
CHECKPOINT = "checkpoint.pt"
"""The file that an interrupted training goes on from."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The settings of a training.

    A step has `batch` edits, as the released code accumulates the gradients of 10. `learning_rate` is for all of the
    network, and `rate_learning_rate` for a second step of the learned rates. `edit_weight` multiplies the edit loss. A
    validation comes every `valid_every` steps; the training ends after `patience` validations without a better loss.
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
        check_least(self, steps=1, batch=1, valid_every=1, patience=1)
        check_positive(self, "learning_rate", "rate_learning_rate", "edit_weight")


@dataclass(frozen=True, slots=True)
class Validation:
    """The figures of a network on the validation part, after `step` steps, of which `skipped` were not finite.

    `loss` is the training's, the weighted sum of `edit` and `locality` (nats). `es` and `ps` are the percentages of
    rewrite prompts and of other wordings after which o* is likelier than the true object (without a true object, of the
    target's tokens that are the likeliest). `drawdown` is the percentage of positions of texts that must stay at which
    another token has become the likeliest.
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
class Drawn:
    """A step's part of a lesson: the wording `lesson.outers[wording]`, and the text that must stay, `texts[place]`.

    The states of all `texts` are computed together.
    """

    lesson: Lesson
    wording: int
    texts: tuple[Ids, ...]
    place: int


class Training:
    """A training of a network that changes the matrices `weights` of a model."""

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
                f"the file has {len(lessons.train)} lessons to train and {len(lessons.valid)} to validate on; expected "
                "at least one of each: give a larger file"
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
        rates = [parameter for name, parameter in network.named_parameters() if name == "rates"]
        # As released: an optimiser steps all parameters, the rates among them, and another the rates alone.
        self._optimisers = [torch.optim.Adam(network.parameters(), settings.learning_rate)]
        self._optimisers += [torch.optim.Adam(rates, settings.rate_learning_rate)] if rates else []

    @property
    def best(self) -> Validation:
        """Return the validation with the least loss."""
        return min(self.history, key=lambda validation: validation.loss)

    def run(
        self, folder: Path, progress: Progress = silent, note: Callable[[Validation], None] = lambda validation: None
    ) -> None:
        """Train until the steps are done or the loss stays; then the network has the weights of the best validation.

        A training goes on from its checkpoint in `folder`, if there is one. `note` gets each validation.
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
        """Return True if none of the last `patience` validations is the best."""
        recent = self.history[-self.settings.patience :]
        return len(self.history) > self.settings.patience and self.best not in recent

    def _train_step(self) -> None:
        self.network.train()
        for optimiser in self._optimisers:
            optimiser.zero_grad()
        edit, locality = self.losses(self.draw(self.step))
        loss = self.settings.edit_weight * edit + LOCALITY_WEIGHT * locality
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        if not bool(torch.isfinite(norm)) or not bool(torch.isfinite(loss)):
            self._skipped += 1
            return
        for optimiser in self._optimisers:
            optimiser.step()

    def draw(self, step: int) -> list[Drawn]:
        """Return what a step takes: lessons in a new order each time through, of each a wording and a text."""
        train, seed, drawn = self.lessons.train, self.settings.seed, []
        for number in range(step * self.settings.batch, (step + 1) * self.settings.batch):
            turn, place = divmod(number, len(train))
            order = list(range(len(train)))
            random.Random(f"{seed}:turn:{turn}").shuffle(order)
            drawn.append(self._drawn(train[order[place]], random.Random(f"{seed}:draw:{number}")))
        return drawn

    def _drawn(self, lesson: Lesson, draw: random.Random) -> Drawn:
        if lesson.locality and (not self.lessons.texts or draw.random() < 0.5):
            texts, place = lesson.texts, len(lesson.examples) + draw.randrange(len(lesson.locality))
        else:
            texts, place = (draw.choice(self.lessons.texts),), 0
        return Drawn(lesson, draw.randrange(len(lesson.outers)), texts, place)

    def losses(self, drawn: Sequence[Drawn]) -> tuple[Tensor, Tensor]:
        """Return the mean loss in nats of edits under their own changes, and that of the texts that must stay."""
        rows, deltas = self._edits([edit.lesson for edit in drawn])
        outers = [of_lesson[1 + edit.wording] for of_lesson, edit in zip(rows, drawn, strict=True)]
        with overlay(self.lm, deltas):
            hidden = self._top.replay(outers)
        edit_loss = target_nll(self.lm, hidden, [edit.lesson.outers[edit.wording] for edit in drawn]).mean()
        locality, _ = self._divergence(drawn, deltas)
        return edit_loss, locality.mean()

    def _edits(self, lessons: Sequence[Lesson]) -> tuple[list[list[TextStates]], list[Delta]]:
        """Return the texts of each lesson with their states, and the change that the network makes of its edit."""
        rows = [self._top.rows(lesson.texts) for lesson in lessons]
        inner = [lesson.inner for lesson in lessons]
        return rows, self.network(material(self._top, [of_lesson[0] for of_lesson in rows], inner, self.weights))

    def _divergence(self, drawn: Sequence[Drawn], deltas: Sequence[Delta]) -> tuple[Tensor, Tensor]:
        """Return, for each text that must stay, the mean over its positions of KL(before || after), and its drawdown.

        The drawdown is the share of positions at which another token has become the likeliest.
        """
        rows = [self._top.rows(edit.texts)[edit.place] for edit in drawn]
        with torch.no_grad():
            before = self.lm.logits(torch.cat([row.finished for row in rows])).log_softmax(dim=-1)
        with overlay(self.lm, deltas):
            hidden = self._top.replay(rows)
        states = torch.cat([hidden[place, : len(row.ids)] for place, row in enumerate(rows)])
        after = self.lm.logits(states).log_softmax(dim=-1)
        divergence = (before.exp() * (before - after)).sum(dim=1)
        changed = (before.argmax(dim=1) != after.detach().argmax(dim=1)).float()
        lengths = [len(row.ids) for row in rows]
        divergences = torch.stack([of_text.mean() for of_text in torch.split(divergence, lengths)])
        return divergences, torch.stack([of_text.mean() for of_text in torch.split(changed, lengths)])

    @torch.no_grad()
    def _validate(self) -> None:
        self.network.eval()
        lessons, size = self.lessons.valid, self.settings.batch
        batches = [self._validated(lessons[start : start + size], start) for start in range(0, len(lessons), size)]
        edit, locality, es, ps, drawdown = (float(torch.cat(column).mean()) for column in zip(*batches, strict=True))
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
        """Return the edit loss and locality loss of each lesson, ES of each, PS of each wording, and each drawdown.

        start: the index of the first lesson among all of the validation part.
        """
        all_rows, deltas = self._edits(lessons)
        drawn = [
            self._drawn(lesson, random.Random(f"{self.settings.seed}:valid:{start + place}"))
            for place, lesson in enumerate(lessons)
        ]
        locality, drawdown = self._divergence(drawn, deltas)
        edits, rewrites, wordings = [], [], []
        for lesson, delta, rows in zip(lessons, deltas, all_rows, strict=True):
            examples = lesson.examples
            hidden = self._edited(rows[: len(examples)], delta)
            nll = target_nll(self.lm, hidden, examples)
            if lesson.rivals:
                rivals = self._edited(self._top.rows(tuple(rival.ids for rival in lesson.rivals)), delta)
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
        """Return the share of each example's target tokens that are the likeliest."""
        shares = []
        for states, example in zip(hidden, examples, strict=True):
            target = torch.tensor(example.target, device=self.lm.device)
            shares.append((self.lm.logits(states[example.predicting]).argmax(dim=1) == target).float().mean())
        return torch.stack(shares)

    def _save(self, path: Path) -> None:
        part = path.with_name(f"{path.name}.part")
        state = {
            "step": self.step,
            "skipped": self._skipped,
            "history": [asdict(validation) for validation in self.history],
            "network": self.network.state_dict(),
            "best": self._best,
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
        }
        torch.save(state, part)
        part.replace(path)

    def _resume(self, path: Path) -> None:
        """Load a checkpoint, if there is one. Raises ModelError for a file that is none of this training."""
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=self.lm.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.step, self._skipped, self._best = state["step"], state["skipped"], state["best"]
            self.history = [Validation(**row) for row in state["history"]]
        except Exception as error:  # torch raises many types for a broken file, with advice on pickles
            reason = type(error).__name__
            raise ModelError(f"{path}: is no checkpoint of this training ({reason}); add --restart") from error
