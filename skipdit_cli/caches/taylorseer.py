"""TaylorSeer: extrapolate what attention and MLPs give from their last full steps.

Source: arXiv 2503.06923; diffusers `hooks/taylorseer_cache.py`. Between full steps the output of
every attention and MLP is predicted by a Taylor expansion in the step index, whose derivatives are
divided differences of its last full outputs. Norms, modulation and skip branches are computed.

diffusers finds modules by name and matches none of the names here, without an error; so its hooks
are put on sites. It keeps the factors in bfloat16; here they have the dtype of the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Layout, Site


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        n: compute everything every n-th step after the warm-up (5 in diffusers); 1 never predicts.
        warmup: how many steps at the start are full (3 in diffusers).
        order: highest derivative of the expansion (1 in diffusers); 0 repeats the last full output.
    """

    n: int = 5
    warmup: int = 3
    order: int = 1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n={self.n} is not an interval", fix="n is 1 or more")
        if self.warmup < 1:
            raise UsageError(f"warmup={self.warmup} is too small", fix="take 1 or more")
        if self.order < 0:
            raise UsageError(f"order={self.order} is negative", fix="take 0 or more")


def resolve(config: Config, layout: Layout) -> Config:
    if not layout.kinds:
        raise UsageError(f"taylorseer needs attention or MLP sites and {layout.family} has none")
    return config


def reused(settings: Config, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    inside = frozenset(hooked(settings, layout))
    full = [
        step < settings.warmup or (step - settings.warmup - 1) % settings.n == 0
        for step in range(len(timesteps))
    ]
    return [frozenset() if whole else inside for whole in full]


def hooked(settings: Config, layout: Layout) -> list[Site]:
    return [Site(kind, i) for i in range(layout.layers) for kind in layout.kinds]


def hooks(settings: Config, layout: Layout, timesteps: Sequence[int]) -> dict[Site, Any]:
    from diffusers.hooks.hooks import StateManager
    from diffusers.hooks.taylorseer_cache import TaylorSeerCacheHook, TaylorSeerState

    def hook() -> TaylorSeerCacheHook:
        state = StateManager(TaylorSeerState, (None, settings.order))
        return TaylorSeerCacheHook(settings.n, settings.warmup, None, state)

    return {site: hook() for site in hooked(settings, layout)}
