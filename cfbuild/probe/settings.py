"""The settings of causal traces, which are options of `cfbuild trace`."""

from __future__ import annotations

from dataclasses import dataclass

from cfbuild.errors import ConfigError, check_least
from cfbuild.option import ABOUT_RUN, COMMA_SEPARATED, WORD, option

STATE, MLP, ATTENTION = "state", "mlp", "attention"
KINDS = (STATE, MLP, ATTENTION)
"""The kinds of restored states: a layer's output; the outputs of MLPs, or of attention, in a window of layers."""
SEVERED = "severed"
SEVERED_KINDS = {f"{SEVERED}_{name}": name for name in (MLP, ATTENTION)}
"""The kinds of states restored at the last subject token while other outputs there stay corrupted (the paper's Figure
3): by name, what stays corrupted."""
NOISE, SWAP = "noise", "swap"
PROBABILITY, DIFFERENCE = "probability", "logit-difference"
EXACT, ATTRIBUTION, BOTH = "exact", "attribution", "both"
RELEASED_SEED = 1
"""The seed of the released code's noise."""
ABOUT_TRACE = "The trace"


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """The settings of causal traces; the defaults are the released code's."""

    corrupt: str = option(
        NOISE,
        "How the subject is corrupted: noise (on its embeddings), or swap (another subject of the relation with as "
        "many tokens and another object that the model knows).",
        panel=ABOUT_TRACE,
        form=WORD.naming(NOISE, SWAP),
    )
    metric: str = option(
        PROBABILITY,
        "What is measured: the probability of the answer, or the logit-difference to another answer, which is the "
        "other subject's (for noise: the likeliest other answer of the corrupted runs).",
        panel=ABOUT_TRACE,
        form=WORD.naming(PROBABILITY, DIFFERENCE),
    )
    method: str = option(
        EXACT,
        "How effects are measured: exact (a run for every restored state), attribution (all from one backward pass), "
        "or both, with their correlation.",
        panel=ABOUT_TRACE,
        form=WORD.naming(EXACT, ATTRIBUTION, BOTH),
    )
    kinds: tuple[str, ...] = option(
        (*KINDS, SEVERED),
        f"Comma-separated kinds of what is restored: {', '.join((*KINDS, SEVERED))}.",
        form=COMMA_SEPARATED.naming(*KINDS, SEVERED),
        panel=ABOUT_TRACE,
    )
    window: int = option(10, "Restore MLPs or attention in windows of N layers.", panel=ABOUT_TRACE)
    rows: int = option(10, "Average over N corrupted rows, each with its own noise.", panel=ABOUT_TRACE)
    noise: float | None = option(
        None,
        "The standard deviation of the noise. [default: 3 times that of the subjects' embeddings]",
        panel=ABOUT_TRACE,
    )
    seed: int = option(
        RELEASED_SEED, "The seed of the noise (1, as released) and of the choice of other subjects.", panel=ABOUT_RUN
    )

    def __post_init__(self) -> None:
        _check("corrupt", self.corrupt, (NOISE, SWAP))
        _check("metric", self.metric, (PROBABILITY, DIFFERENCE))
        _check("method", self.method, (EXACT, ATTRIBUTION, BOTH))
        for kind in self.kinds:
            _check("kinds", kind, (*KINDS, SEVERED))
        if not set(self.kinds) & {*KINDS}:
            raise ConfigError(f"kinds are {', '.join(self.kinds) or 'none'}; expected some of {', '.join(KINDS)}")
        check_least(self, window=1, rows=1)
        if self.noise is not None and not 0 < self.noise < float("inf"):
            raise ConfigError(f"noise is {self.noise}; expected a positive number")
        if not 0 <= self.seed < 1 << 32:
            raise ConfigError(f"seed is {self.seed}; expected 0 to {(1 << 32) - 1}, as numpy's generator takes it")

    @property
    def maps(self) -> tuple[str, ...]:
        """Return the kinds that have a value for every token and layer, in the order of KINDS."""
        return tuple(kind for kind in KINDS if kind in self.kinds)

    @property
    def is_exact(self) -> bool:
        """Return True if states are restored in runs of their own."""
        return self.method != ATTRIBUTION

    @property
    def severs(self) -> bool:
        """Return True if paths are severed, which only exact runs do."""
        return SEVERED in self.kinds and self.is_exact

    def windows(self, layers: int) -> list[range]:
        """Return the window of layers around each layer, cut off at both ends of the model."""
        below, above = self.window // 2, self.window - self.window // 2
        return [range(max(0, layer - below), min(layers, layer + above)) for layer in range(layers)]


def _check(name: str, value: str, expected: tuple[str, ...]) -> None:
    if value not in expected:
        raise ConfigError(f"{name} {value!r} does not exist; expected one of {', '.join(expected)}")
