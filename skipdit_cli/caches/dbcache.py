"""DBCache, dual block cache: skip the middle layers while what the first ones add changes little.

Source: vipshop/cache-dit 1.5.3, `caching/cache_blocks/pattern_base.py` and
`caching/cache_contexts/cache_manager.py`. The first Fn and the last Bn layers are always computed.
What the first ones add to their input is compared with what they added on the last full step:
mean |r' - r| / mean |r'|, over the whole batch and so both halves of guidance. Below the threshold
the layers between are skipped, and what they added on that step is added again. The first steps are
full, and so are steps after too many skipped ones. With Fn=1 and Bn=0 this is First-Block Cache,
but for the first steps. A layer of Latte is a spatial and a temporal block.

cache-dit was written for models of 19 layers or more; its default of 8 first layers is that of the
smaller ones here only in part (below). Its calibrators, of which TaylorSeer is one, and masks of
steps that are fixed beforehand are left out.

The decision is one for a batch, so a sample depends on which others it is computed with.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Call, Layout, Site, whole_layers

BY_BATCH = True
DYNAMIC = True
FIRST = 8  # layers that cache-dit computes at every step


@dataclass(frozen=True)
class Config:
    """Settings, with the names and defaults of cache-dit but for `threshold`.

    Attributes:
        Fn_compute_blocks: how many layers, from the first, are always computed; by default 8, and
            no more than a third of all.
        Bn_compute_blocks: how many layers, up to the last, are always computed.
        threshold: the relative change below which layers are skipped (0.08 in cache-dit, where it
            is `residual_diff_threshold`); 0 never skips, 1 or more always does.
        max_warmup_steps: how many steps, from the first, are full.
        max_cached_steps: how many steps of a generation are skipped at most; -1 is no limit.
        max_continuous_cached_steps: how many of them in a row; -1 is no limit.
    """

    Fn_compute_blocks: int | None = None
    Bn_compute_blocks: int = 0
    threshold: float = 0.08
    max_warmup_steps: int = 8
    max_cached_steps: int = -1
    max_continuous_cached_steps: int = -1

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < math.inf:
            raise UsageError(
                f"threshold={self.threshold} is out of range", fix="take a finite number from 0 up"
            )
        least = {"Fn_compute_blocks": 1, "Bn_compute_blocks": 0, "max_warmup_steps": 0}
        for name, value in vars(self).items():
            low = least.get(name, -1)
            if value is not None and value < low:
                raise UsageError(f"{name}={value} is too small", fix=f"take {low} or more")


@dataclass(frozen=True)
class Settings:
    """Config on a model."""

    Fn_compute_blocks: int
    Bn_compute_blocks: int
    threshold: float
    max_warmup_steps: int
    max_cached_steps: int
    max_continuous_cached_steps: int


def resolve(config: Config, layout: Layout) -> Settings:
    first = config.Fn_compute_blocks
    if first is None:
        first = max(1, min(FIRST, layout.layers // 3))
    last = config.Bn_compute_blocks
    if first + last >= layout.layers:
        raise UsageError(
            f"dbcache computes {first} first and {last} last layers of {layout.layers}",
            fix="leave one between them that can be skipped",
        )
    settings = Settings(**vars(config) | {"Fn_compute_blocks": first})
    between = _middle(settings, layout)
    for to, source in layout.skips:
        if source in between and to not in between:
            raise UsageError(
                f"layer {to} is joined with layer {source}, which dbcache would not run",
                fix=f"take a Bn_compute_blocks of {first} or less",
            )
    return settings


def _middle(settings: Settings, layout: Layout) -> range:
    """The layers that are skipped."""
    return range(settings.Fn_compute_blocks, layout.layers - settings.Bn_compute_blocks)


def skipped(settings: Settings, layout: Layout) -> frozenset[Site]:
    return whole_layers(layout, _middle(settings, layout))


def hooked(settings: Settings, layout: Layout) -> list[Site]:
    return [Site("layer", i) for i in range(_middle(settings, layout).stop)]


def forward(
    settings: Settings, layout: Layout, call: Call, compute: Callable, hidden_states: Any
) -> Any:
    store, here, middle = call.store, call.site.layer, _middle(settings, layout)
    if here == 0:
        store["input"] = hidden_states
    if here in middle and store["skip"]:
        return hidden_states + store["residual"] if here == middle[0] else hidden_states
    if here == middle[0]:
        store["input"] = hidden_states
    output = compute(hidden_states)
    if here == middle[0] - 1:
        _decide(settings, call, output - store.pop("input"))
    if here == middle[-1]:
        store["residual"] = output - store.pop("input")
    return output


def _decide(settings: Settings, call: Call, added: Any) -> None:
    """Whether this step is skipped; keeps what the first layers add on a full one.

    Args:
        added: like the hidden state.
    """
    store = call.store
    count, row = store.get("count", 0), store.get("row", 0)
    skip = (
        call.step >= settings.max_warmup_steps
        and "added" in store
        and not 0 <= settings.max_cached_steps <= count
        and not 0 <= settings.max_continuous_cached_steps <= row
        and settings.threshold > 0
        and (settings.threshold >= 1 or _change(store["added"], added) < settings.threshold)
    )
    store["skip"] = skip
    store["count"], store["row"] = (count + 1, row + 1) if skip else (count, 0)
    if not skip:
        store["added"] = added


def _change(before: Any, now: Any) -> float:
    """mean |before - now| / mean |before|."""
    return ((before - now).abs().mean() / before.abs().mean()).item()
