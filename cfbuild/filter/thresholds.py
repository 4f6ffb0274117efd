"""The thresholds of the model filter, and the choice to do without it; nothing here loads a model."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from cfbuild.errors import ConfigError
from cfbuild.option import option


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """Thresholds of the model filter. Ranks count from 1, the likeliest object of the pool.

    max_true_rank: None for any; the model need not know the fact then.
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
            raise ConfigError(
                f"max_true_rank is {self.max_true_rank}; expected at least 1, the likeliest object's rank"
            )


@dataclass(frozen=True, slots=True)
class FilterChoice:
    """Options of a command that may filter by a model. Raises ConfigError for thresholds together with `no_filter`."""

    no_filter: bool = option(False, "Use no model: keep the first o* that is drawn.")
    thresholds: FilterOptions = field(default_factory=FilterOptions)

    def __post_init__(self) -> None:
        given = [one.name for one in fields(FilterOptions) if getattr(self.thresholds, one.name) != one.default]
        if self.no_filter and given:
            raise ConfigError(
                f"no_filter is given together with {', '.join(given)}: thresholds need a model; "
                "give no_filter or thresholds, not both"
            )
