"""SeaCache: skip all layers while what is denoised, filtered of its noise, has changed little.

Source: arXiv 2602.18993; diffusers `hooks/sea_cache.py`, whose hooks do it. A Wiener filter, of the
noise that there is at a step and of a signal whose power falls with frequency, keeps of the latents
what is no noise. Its relative change from step to step, a mean over the samples of a batch and so
both halves of guidance, is summed up; below the threshold all layers are skipped, and what they
added is extrapolated from the last two full steps. The first and the last steps are full, and so is
the one after too many skipped ones.

diffusers has it for flow matching, where a sample is (1 - sigma) x0 + sigma noise. What diffusion
with a noise schedule has, signal x0 + noise n, is the same divided by signal + noise, with sigma =
noise / (signal + noise). The filter is in frequencies of time as well; an image is a clip of one
frame. There is no site for the whole network, so the hook of the first layer goes before its own.

The decision is one for a batch, so a sample depends on which others it is computed with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skipdit_cli.caches._diffusers import know_layers
from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Layout, Site, whole_layers

BY_BATCH = True
DYNAMIC = True
SEES_INPUT = True


@dataclass(frozen=True)
class Config:
    """Settings, with the names and defaults of diffusers.

    Attributes:
        threshold: the accumulated relative change below which layers are skipped; 0 never skips.
        residual_order: 1 extrapolates what layers add from the last two full steps, 0 repeats it.
        retention_steps: how many steps, from the first, are full.
        cache_end_steps: how many steps, up to the last, are full.
        max_consecutive_cached: how many steps in a row are skipped at most; 0 is no limit.
        power_exp: how fast the power of the signal falls with frequency (3.0 for videos).
    """

    threshold: float = 0.25
    residual_order: int = 1
    retention_steps: int = 1
    cache_end_steps: int = 1
    max_consecutive_cached: int = 2
    power_exp: float = 3.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < math.inf:
            raise UsageError(
                f"threshold={self.threshold} is out of range", fix="take a finite number from 0 up"
            )
        if self.residual_order not in (0, 1):
            raise UsageError(f"residual_order={self.residual_order} is no order", fix="take 0 or 1")
        for name in ("retention_steps", "cache_end_steps", "max_consecutive_cached"):
            if vars(self)[name] < 0:
                raise UsageError(f"{name}={vars(self)[name]} is negative", fix="take 0 or more")
        if not 0 < self.power_exp < math.inf:
            raise UsageError(f"power_exp={self.power_exp} is out of range", fix="take more than 0")


def resolve(config: Config, layout: Layout) -> Config:
    if layout.layers < 2:
        raise UsageError("seacache needs two layers or more")
    return config


def skipped(settings: Config, layout: Layout) -> frozenset[Site]:
    return whole_layers(layout, range(layout.layers))


def hooked(settings: Config, layout: Layout) -> list[Site]:
    return [Site("layer", i) for i in range(layout.layers)]


def hooks(settings: Config, layout: Layout, timesteps: Sequence[int]) -> dict[Site, Any]:
    import torch
    from diffusers.hooks.hooks import StateManager
    from diffusers.hooks.sea_cache import (
        SeaCacheBlockHook,
        SeaCacheConfig,
        SeaCacheContextState,
        SeaCacheLeaderBlockHook,
        SeaCacheRootHook,
        SeaCacheSharedState,
    )

    class Shared(SeaCacheSharedState):
        """Without a warning where a step is full because latents are not finite."""

        def mark_fail_open(self, message: str) -> None:
            pass

    class Leader(SeaCacheLeaderBlockHook):
        """After the hook of the whole network."""

        def new_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            with torch.no_grad():
                root.pre_forward(module)
            return super().new_forward(module, *args, **kwargs)

    how = SeaCacheConfig(**vars(settings))
    state, shared = StateManager(SeaCacheContextState), Shared()
    root = SeaCacheRootHook(how, state, shared, lambda *_: clips(state.context))
    first, *middle, last = hooked(settings, layout)
    return know_layers(
        {
            first: Leader(how, state, shared),
            **{site: SeaCacheBlockHook(how, state, shared) for site in middle},
            last: SeaCacheBlockHook(how, state, shared, is_tail=True),
        }
    )


def clips(context: Any) -> list[Any]:
    """What the network is given, [C, T, H, W] of each sample, as flow matching has it."""
    x = context.x  # [B, C, H, W], or a clip
    x = x.unsqueeze(2) if x.dim() == 4 else x.movedim(context.channel_dim, 1)
    return list(x if context.flow else x * math.hypot(1 - context.sigma, context.sigma))
