"""FasterCache, its attention part: extrapolate self-attention on every other step.

Source: arXiv 2410.19355, dynamic feature reuse; diffusers `hooks/faster_cache.py`. Below a given
timestep, self-attention (spatial and temporal) is computed every n-th step; between, it is the last
output plus a part of the difference to the one before. Both halves of guidance are treated alike,
which is what diffusers' hook does for a model without a null half.

The other part, which predicts the null half of guidance from the conditional one, is not here:
diffusers' hook cuts the batch as [null, conditional] and these networks get [conditional, null], so
it would guide by the wrong half. diffusers also extrapolates only on steps whose null half it
predicts; here it is on all.
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
    """

    n: int = 2
    below: int = 681
    weight: float = 0.5

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n={self.n} is not an interval", fix="n is 1 or more")
        if not 0 < self.below <= 1000:
            raise UsageError(f"below={self.below} is no timestep", fix="it is 1 to 1000")
        if not math.isfinite(self.weight):
            raise UsageError(f"weight={self.weight} is no number", fix="0.5 is the usual one")


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


def hooks(config: Config, layout: Layout, timesteps: Sequence[int]) -> dict[Site, Any]:
    from diffusers.hooks.faster_cache import FasterCacheBlockHook, FasterCacheBlockState
    from diffusers.hooks.hooks import StateManager

    class Hook(FasterCacheBlockHook):
        """With a state for every guidance branch, and a clock that is the number of its calls."""

        def __init__(self) -> None:
            super().__init__(
                config.n, (-1, config.below), True, lambda module: config.weight, self.timestep
            )
            self.states = StateManager(FasterCacheBlockState)

        @property
        def state(self) -> FasterCacheBlockState:
            return self.states.get_state()

        def timestep(self) -> float:
            step = self.state.iteration
            return timesteps[step] if step else math.inf  # at first there is nothing to reuse

    return {site: Hook() for site in hooked(config, layout)}
