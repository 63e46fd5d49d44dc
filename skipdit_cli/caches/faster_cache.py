"""FasterCache: extrapolate self-attention, and predict the null half of guidance.

Source: arXiv 2410.19355; diffusers `hooks/faster_cache.py`, whose hooks do it. Below a timestep the
null half is computed every fifth step only; between, it is the conditional half plus what the two
differed by in low and high frequencies. On these steps self-attention (spatial and temporal) is
computed every n-th time only; between, it is the last output plus a part of the difference to the
one before.

Without guidance, or with `null_every=1`, there is no half to predict, and self-attention is
extrapolated on all steps below its timestep.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Layout, Site

KINDS = ("attn.spatial", "attn.temporal")


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        n: compute self-attention every n-th step (2 in the paper and diffusers); 1 never reuses.
        below: the timesteps below which it is reused (681 in diffusers).
        weight: the part of the last difference that is added (0.5 in diffusers).
        null_every: compute the null half every so many steps (5 in diffusers); 1 always does.
        null_below: the timesteps below which it is predicted (641 in diffusers).
        low: what the difference in low frequencies is multiplied by at each prediction between
            timesteps 99 and 901 (1.1 in the paper).
        high: the same of high frequencies below timestep 301.
    """

    n: int = 2
    below: int = 681
    weight: float = 0.5
    null_every: int = 5
    null_below: int = 641
    low: float = 1.1
    high: float = 1.1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n={self.n} is not an interval", fix="n is 1 or more")
        if self.null_every < 1:
            raise UsageError(f"null_every={self.null_every} is not an interval", fix="1 or more")
        for name in ("below", "null_below"):
            if not 0 < getattr(self, name) <= 1000:
                raise UsageError(
                    f"{name}={getattr(self, name)} is no timestep", fix="it is 1 to 1000"
                )
        for name in ("weight", "low", "high"):
            if not math.isfinite(getattr(self, name)):
                raise UsageError(f"{name}={getattr(self, name)} is no number", fix="leave it out")


def resolve(config: Config, layout: Layout) -> Config:
    if not set(KINDS) & set(layout.kinds):
        raise UsageError(f"faster-cache needs self-attention and {layout.family} has none")
    return config


def reused(config: Config, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    attention = frozenset(hooked(config, layout))
    return [
        attention if step % config.n and t < config.below else frozenset()
        for step, t in enumerate(timesteps)
    ]


def hooked(config: Config, layout: Layout) -> list[Site]:
    return [Site(k, i) for i in range(layout.layers) for k in KINDS if k in layout.kinds]


def predicted(config: Config, timesteps: Sequence[int]) -> list[bool]:
    return [
        step > 0 and t < config.null_below and step % config.null_every > 0
        for step, t in enumerate(timesteps)
    ]


def predictor(config: Config, timesteps: Sequence[int]) -> Any:
    from diffusers.hooks.faster_cache import FasterCacheDenoiserHook

    def now() -> int:
        return timesteps[hook.state.iteration]

    hook = FasterCacheDenoiserHook(
        config.null_every,
        (-1, config.null_below),
        "BCHW",
        False,
        [],
        now,
        lambda module: config.low if 99 < now() < 901 else 1.0,
        lambda module: config.high if now() < 301 else 1.0,
    )
    hook.initialize_hook(None)
    return hook


def hooks(
    config: Config, layout: Layout, timesteps: Sequence[int], *, alone: bool = False
) -> dict[Site, Any]:
    """alone: whether only calls of the conditional half alone are extrapolated, as in diffusers."""
    from diffusers.hooks.faster_cache import FasterCacheBlockHook, FasterCacheBlockState
    from diffusers.hooks.hooks import StateManager

    class Hook(FasterCacheBlockHook):
        """With a state for every guidance branch, and a clock that is the number of its calls."""

        def __init__(self) -> None:
            super().__init__(
                config.n, (-1, config.below), not alone, lambda _: config.weight, self.timestep
            )
            self.states = StateManager(FasterCacheBlockState)

        @property
        def state(self) -> FasterCacheBlockState:
            return self.states.get_state()

        def timestep(self) -> float:
            step = self.state.iteration
            return timesteps[step] if step else math.inf  # at first there is nothing to reuse

    return {site: Hook() for site in hooked(config, layout)}
