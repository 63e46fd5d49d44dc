"""First-Block Cache: skip all layers but the first while the first one adds about the same.

Source: diffusers `hooks/first_block_cache.py`, after ParaAttention (chengzeyi). The first layer is
always computed. What it adds to its input is compared with what it added on the last full step:
mean |r - r'| / mean |r'|, over the whole batch and so both halves of guidance. At or below the
threshold the other layers are skipped, and what they added on that step is added again. A first
layer of Latte is a spatial and a temporal block.

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


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        threshold: the relative change up to which layers are skipped (0.05 in diffusers); 0 never
            skips.
    """

    threshold: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < math.inf:
            raise UsageError(
                f"threshold={self.threshold} is out of range", fix="take a finite number from 0 up"
            )


def resolve(config: Config, layout: Layout) -> Config:
    if layout.layers < 2:
        raise UsageError("first-block needs a second layer to skip")
    return config


def skipped(settings: Config, layout: Layout) -> frozenset[Site]:
    return whole_layers(layout, range(1, layout.layers))


def hooked(settings: Config, layout: Layout) -> list[Site]:
    return [Site("layer", i) for i in range(layout.layers)]


def hooks(settings: Config, layout: Layout, timesteps: Sequence[int]) -> dict[Site, Any]:
    from diffusers.hooks.first_block_cache import (
        FBCBlockHook,
        FBCHeadBlockHook,
        FBCSharedBlockState,
    )
    from diffusers.hooks.hooks import StateManager

    state = StateManager(FBCSharedBlockState)
    first, *middle, last = hooked(settings, layout)
    return know_layers(
        {
            first: FBCHeadBlockHook(state, settings.threshold or -1.0),
            **{site: FBCBlockHook(state) for site in middle},
            last: FBCBlockHook(state, is_tail=True),
        }
    )
