"""MagCache: skip all layers while what they add keeps its measured magnitude.

Source: arXiv 2506.09045; diffusers `hooks/mag_cache.py`. What all layers together add to their
input grows or shrinks from step to step by ratios that hardly depend on the sample. On a skipped
step the last one computed is added again. The product of the ratios since then tells how far off
that is; steps are skipped while the sum of |1 - product| is at most the threshold.

The ratios come from `skipdit analyze calibrate` on the model itself; those of another one mean
nothing. With them the schedule is fixed before sampling starts. Of networks that take turns, each
has its part of the ratios, and the first of its steps is computed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from skipdit_cli.caches._calibrated import rounded
from skipdit_cli.caches._diffusers import know_layers
from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Layout, Seen, Site, whole_layers

if TYPE_CHECKING:
    import numpy as np

CALIBRATED = ("ratios",)


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        threshold: the accumulated error up to which steps are skipped (0.06 in diffusers); 0
            never skips.
        max_skip: how many steps in a row are skipped at most (3 in diffusers).
        retention: the part of the steps, at the start, that is full (0.2 in diffusers).
        ratios: the growth of every step, taken from the nearest one if the number of steps is
            another; by default what `skipdit analyze calibrate` found for the model.
    """

    threshold: float = 0.06
    max_skip: int = 3
    retention: float = 0.2
    ratios: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < math.inf:
            raise UsageError(
                f"threshold={self.threshold} is out of range", fix="take a finite number from 0 up"
            )
        if self.max_skip < 0:
            raise UsageError(f"max_skip={self.max_skip} is negative", fix="take 0 or more")
        if not 0 <= self.retention <= 1:
            raise UsageError(f"retention={self.retention} is out of range", fix="take 0 to 1")
        if not all(0 < ratio < math.inf for ratio in self.ratios or (1,)):
            raise UsageError(
                "ratios must be positive", fix="run `skipdit analyze calibrate --method mag-cache`"
            )


@dataclass(frozen=True)
class Settings:
    """Config with the ratios of a model."""

    threshold: float
    max_skip: int
    retention: float
    ratios: tuple[float, ...]


def resolve(config: Config, layout: Layout) -> Settings:
    if layout.layers < 2:
        raise UsageError("mag-cache needs two layers or more")
    if config.ratios is None:
        raise UsageError(
            "mag-cache needs ratios",
            fix="`skipdit analyze calibrate --method mag-cache` finds them",
        )
    return Settings(config.threshold, config.max_skip, config.retention, config.ratios)


def choices(layout: Layout, steps: int) -> dict[str, Sequence[Any]]:
    thresholds = tuple(float(f"{0.01 * 1.25**i:.2g}") for i in range(25))  # 0.01 to about 2
    return {"threshold": thresholds, "max_skip": range(1, 9), "retention": (0.1, 0.3, 0.4)}


def skips(settings: Settings, steps: int) -> list[bool]:
    """Per step, whether it is skipped: the rule of diffusers' hook, counted beforehand."""
    decisions, ratios = [], at_steps(settings, steps)
    retained = int(settings.retention * steps + 0.5)
    product, error, count = 1.0, 0.0, 0
    for step in range(steps):
        skip = False
        if step >= retained:
            product, count = product * ratios[step], count + 1
            error += abs(1.0 - product)
            skip = step > 0 and error <= _threshold(settings) and count <= settings.max_skip
            if not skip:
                product, error, count = 1.0, 0.0, 0
        decisions.append(skip)
    return decisions


def at_steps(settings: Settings, steps: int) -> list[float]:
    """The ratio of every step, from the nearest step that was calibrated."""
    last = len(settings.ratios) - 1
    return [settings.ratios[round(step * last / max(steps - 1, 1))] for step in range(steps)]


def in_turn(settings: Settings, steps: range, of: int) -> Settings:
    ratios = at_steps(settings, of)[steps.start : steps.stop]
    return replace(settings, ratios=tuple(ratios))


def reused(settings: Settings, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    everything = whole_layers(layout, range(layout.layers))
    return [everything if skip else frozenset() for skip in skips(settings, len(timesteps))]


def hooked(settings: Settings, layout: Layout) -> list[Site]:
    return [Site("layer", i) for i in range(layout.layers)]


def hooks(settings: Settings, layout: Layout, timesteps: Sequence[int]) -> dict[Site, Any]:
    import torch
    from diffusers.hooks.hooks import StateManager
    from diffusers.hooks.mag_cache import (
        MagCacheBlockHook,
        MagCacheConfig,
        MagCacheHeadHook,
        MagCacheState,
    )

    state = StateManager(MagCacheState)
    how = MagCacheConfig(
        threshold=_threshold(settings),
        max_skip_steps=settings.max_skip,
        retention_ratio=settings.retention,
        num_inference_steps=len(timesteps),
        mag_ratios=torch.tensor(at_steps(settings, len(timesteps)), dtype=torch.float64),
    )
    first, *middle, last = hooked(settings, layout)
    return know_layers(
        {
            first: MagCacheHeadHook(state, how),
            **{site: MagCacheBlockHook(state, config=how) for site in middle},
            last: MagCacheBlockHook(state, is_tail=True, config=how),
        }
    )


def _threshold(settings: Settings) -> float:
    """A ratio of exactly 1 is an error of 0, and a threshold of 0 is to skip nothing."""
    return settings.threshold or -1.0


def watched(layout: Layout) -> list[Site]:
    return [Site("layer", 0), Site("layer", layout.layers - 1)]


def observe(layout: Layout, now: Seen, before: Seen) -> Any:
    """How what all layers add has grown: the mean over tokens of the ratio of norms. -> [B]"""
    first, last = watched(layout)
    norms = [
        seen.by_sample((seen.left[last] - seen.entered[first]).float().norm(dim=-1))
        for seen in (now, before)
    ]
    return (norms[0] / norms[1]).mean(dim=1)


def fit(observed: "np.ndarray") -> dict[str, Any]:
    """Per step, the mean over samples of [samples, steps - 1]; the first, which follows none: 1."""
    return {"ratios": (1.0, *rounded(observed.mean(axis=0)))}
