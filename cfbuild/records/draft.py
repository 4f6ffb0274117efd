"""Drafts: records whose o* is not chosen yet, with the objects to try as o*; and the options of their size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cfbuild.data import EntityPrompt, Fact, Paraphrase, Target, Template
from cfbuild.errors import check_least
from cfbuild.option import option, seed_option


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The number of prompts of each kind in a record, and the seed; CounterFact's numbers (paper Table 2 and appendix).

    prompts_per_entity: the most neighborhood or attribute prompts about the same entity. Above 1, entities are used
    again with other templates where they are too few.
    max_draws: the most o* that a model tries for a fact; without a model the first is taken.
    Raises ConfigError for a number below its minimum.
    """

    seed: int = seed_option()
    paraphrases: int = 2
    neighborhood: int = 10
    attribute: int = 10
    generation: int = 10
    prompts_per_entity: int = option(1, "An item may occur N times among the neighborhood or attribute prompts.")
    max_draws: int = option(10, "Let the model judge N objects at most as o* of a fact.")

    def __post_init__(self) -> None:
        check_least(self, paraphrases=1, neighborhood=0, attribute=0, generation=1, prompts_per_entity=1, max_draws=1)


@dataclass(frozen=True, slots=True)
class Draft:
    """A record without its o*: `draws` are the objects to try, in order; `refused` is the number of others by rule."""

    case_id: int
    fact: Fact
    prompt: Template
    subject: Target
    target_true: Target
    paraphrases: tuple[Paraphrase, ...]
    neighborhood: tuple[EntityPrompt, ...]
    generation: tuple[str, ...]
    draws: tuple[Target, ...]
    refused: Mapping[str, int] = field(default_factory=dict)

    @property
    def rewrite(self) -> str:
        """Return the rewrite prompt with the subject in its slot."""
        return self.prompt.fill(self.subject.label)


class Outline(NamedTuple):
    """The parts of a draft by which rules reject a fact: the neighborhood prompts, and the o* to try (see `Draft`)."""

    neighborhood: tuple[EntityPrompt, ...]
    draws: tuple[Target, ...]
    refused: Mapping[str, int]
