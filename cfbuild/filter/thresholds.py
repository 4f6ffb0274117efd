"""The thresholds of the model filter, and the choice to do without it; nothing here loads a model."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from cfbuild.errors import ConfigError
from cfbuild.option import option


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """Thresholds of the model filter. Ranks count from 1, the likeliest object of the pool.

    `min_rank_share`: least rank of o*, as a share of the size of its pool. `max_true_rank`: largest rank of o_c (None:
    the fact need not be known). `min_neighbors_right`: least share of the neighborhood prompts on which o_c must be
    more likely than o*.

    Raises ConfigError for a share that is not between 0 and 1, and for a rank below 1.
    """

    min_rank_share: float = option(
        0.5, "o* must rank behind this share of its pool; with 0.5 it is in the less likely half.", flag="--min-rank"
    )
    max_true_rank: int | None = option(
        None, "The true object must be among the N likeliest of its pool. [default: any rank]", flag="--known-rank"
    )
    min_neighbors_right: float = option(
        0.0, "On this share of neighborhood prompts the model must find the true object likelier than o*."
    )

    def __post_init__(self) -> None:
        for name in ("min_rank_share", "min_neighbors_right"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a share between 0 and 1")
        if self.max_true_rank is not None and self.max_true_rank < 1:
            raise ConfigError(f"max_true_rank is {self.max_true_rank}; ranks count from 1")


@dataclass(frozen=True, slots=True)
class FilterChoice:
    """Options of a command that may filter: to do without a model, and the thresholds.

    Raises ConfigError for thresholds without a model that could be held against them.
    """

    no_filter: bool = option(False, "Use no model: keep the first o* that is drawn.")
    thresholds: FilterOptions = field(default_factory=FilterOptions)

    def __post_init__(self) -> None:
        given = [one.name for one in fields(FilterOptions) if getattr(self.thresholds, one.name) != one.default]
        if self.no_filter and given:
            raise ConfigError(
                f"no_filter is given and so is {', '.join(given)}: without a model nothing is held against a "
                "threshold; give one or the other"
            )
