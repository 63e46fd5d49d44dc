"""AdaCache: reuse attention and MLPs for as many steps as what they give has changed little.

Source: arXiv 2411.02397; AdaCache-DiT/AdaCache 2c6d3ca, `opensora_base/opensora/models/stdit/
stdit3.py`. On a full step, what temporal attention in one layer adds to its input, after its gate,
is compared with what it added on the last full step: |r' - r| / |r'| (norms of order 1) over the
whole batch and so both halves of guidance, divided by the number of steps that were planned between
the two. A codebook turns this distance into the number of steps until the next full one. Between,
all attention and MLPs are reused, with the gates of the step that computed them. The first two
steps are full, and so are the last two.

Motion regularization (MoReg) multiplies the distance by how much frames differ: |b - a| / (|b| +
|a|), of frames some places apart, scaled; and, where that has changed since the last full step, by
so much more.

Left out of the authors' code: other residuals to measure than that of temporal attention, which no
configuration of theirs takes. In it the last motion of one video is the first of the next; here
every generation begins anew.

The decision is one for a batch, so a sample depends on which others it is computed with.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Call, Layout, Site, gated

AFTER_GATE = True
BY_BATCH = True
DYNAMIC = True
BEGIN = Site("layer", 0)  # stands where a step begins; it is always computed


@dataclass(frozen=True)
class Config:
    """Settings, with the names of the authors' code; a codebook is `metric_thres`, `cache_rates`.

    Attributes:
        metric_thres: the distances of the codebook, rising; below the first one the first rate is
            taken, and so on, and the last one from the last but one distance on. By default the
            fast codebook for 30 steps of Open-Sora; for 100 it is 0.03/0.05/0.07/0.09/0.11/1.0.
        cache_rates: after how many steps the next one is full, for every distance; the slow
            codebook for 30 steps has 3/2/1/1/1/1, that for 100 has 12/10/8/6/4/3.
        cache_loc: the layers whose temporal attention is measured, of which the mean is taken; by
            default the last one of the first half, as in Open-Sora.
        apply_moreg: whether distances are multiplied by the motion.
        moreg_strides: how many places apart the frames are that motion is measured between.
        moreg_steps: the first and the last step, from 1, at which it is (4/26 of 30 steps, 10/90 of
            100).
        moreg_hyp: the usual motion, which is scaled to 1, the power it is raised to, and a divisor.
        mograd_mul: how much a change of the motion counts.
    """

    metric_thres: tuple[float, ...] = (0.08, 0.16, 0.24, 0.32, 0.4, 1.0)
    cache_rates: tuple[int, ...] = (6, 5, 4, 3, 2, 1)
    cache_loc: tuple[int, ...] | None = None
    apply_moreg: bool = False
    moreg_strides: tuple[int, ...] = (1,)
    moreg_steps: tuple[int, ...] = (4, 26)
    moreg_hyp: tuple[float, ...] = (0.385, 8.0, 1.0)
    mograd_mul: float = 10.0

    def __post_init__(self) -> None:
        thresholds, rates = self.metric_thres, self.cache_rates
        if not thresholds or len(thresholds) != len(rates):
            raise UsageError(
                f"metric_thres has {len(thresholds)} distances and cache_rates {len(rates)} rates",
                fix="give a rate for every distance",
            )
        if not all(map(math.isfinite, thresholds)) or list(thresholds) != sorted({*thresholds}):
            raise UsageError("metric_thres does not rise", fix="begin with the smallest distance")
        for name, least in (("cache_rates", 1), ("moreg_strides", 1), ("cache_loc", 0)):
            for value in vars(self)[name] or ():
                if value < least:
                    raise UsageError(f"{name} has {value}", fix=f"take {least} or more")
        for name, many in (("moreg_steps", 2), ("moreg_hyp", 3)):
            if len(vars(self)[name]) != many:
                raise UsageError(f"{name} has {len(vars(self)[name])} values", fix=f"give {many}")
        if not all(0 < value < math.inf for value in self.moreg_hyp):
            raise UsageError("moreg_hyp has a value that is not positive", fix="take others")
        if not self.moreg_strides:
            raise UsageError("moreg_strides is empty", fix="give one or more")
        if not math.isfinite(self.mograd_mul):
            raise UsageError(f"mograd_mul={self.mograd_mul} is not finite", fix="take a number")


@dataclass(frozen=True)
class Settings:
    """Config on a model."""

    metric_thres: tuple[float, ...]
    cache_rates: tuple[int, ...]
    cache_loc: tuple[int, ...]
    apply_moreg: bool
    moreg_strides: tuple[int, ...]
    moreg_steps: tuple[int, ...]
    moreg_hyp: tuple[float, ...]
    mograd_mul: float


def resolve(config: Config, layout: Layout) -> Settings:
    if "attn.temporal" not in layout.kinds:
        raise UsageError(
            f"adacache needs temporal attention and {layout.family} has none",
            fix="take first-block or teacache, or a video model",
        )
    measured = config.cache_loc or (max(0, layout.layers // 2 - 1),)
    if max(measured) >= layout.layers:
        raise UsageError(
            f"cache_loc has layer {max(measured)} of {layout.layers}",
            fix=f"take 0 to {layout.layers - 1}",
        )
    return Settings(**vars(config) | {"cache_loc": tuple(sorted({*measured}))})


def note(settings: Settings) -> str:
    if (settings.metric_thres, settings.cache_rates) != (Config.metric_thres, Config.cache_rates):
        return ""
    return "adacache: the codebook is the authors' for 30 steps of Open-Sora."


def skipped(settings: Settings, layout: Layout) -> frozenset[Site]:
    return frozenset(Site(kind, i) for i in range(layout.layers) for kind in layout.kinds)


def hooked(settings: Settings, layout: Layout) -> list[Site]:
    return [BEGIN, *sorted(skipped(settings, layout))]


def forward(
    settings: Settings, layout: Layout, call: Call, compute: Callable, hidden_states: Any
) -> Any:
    store, site = call.store, call.site
    if site == BEGIN:
        store["full"] = _is_full(call)
        return compute(hidden_states)
    if not store["full"]:
        return store[site]
    output = store[site] = compute(hidden_states)
    if site.kind == "attn.temporal" and site.layer in settings.cache_loc:
        _measure(settings, call, gated(output, call.gate, None))
    return output


def _is_full(call: Call) -> bool:
    """Whether this step, counted from 1 as by the authors, is computed; remembers it if so."""
    step, store = call.step + 1, call.store
    planned = store.get("last", 0) + store.get("rate", 1)
    if step != planned and step not in (1, call.steps - 1, call.steps):
        return False
    store["last"], store["distances"] = step, []
    return True


def _measure(settings: Settings, call: Call, residual: Any) -> None:
    """The distance at one layer; at the last one, after how many steps the next one is full.

    Args:
        residual: what temporal attention adds, [..., frames, D].
    """
    store, key = call.store, ("residual", call.site)
    before, store[key] = store.get(key), residual
    if before is None:
        return
    rate = store.get("rate", 1)
    store["distances"].append((_size(before - residual) / _size(before)).item() / rate)
    if call.site.layer < settings.cache_loc[-1]:
        return
    distance = sum(store["distances"]) / len(store["distances"])
    if settings.apply_moreg:
        motion = _motion(settings, call.step + 1, residual)
        change = settings.mograd_mul * (motion - store.get("motion", 1.0)) / rate
        store["motion"] = motion
        distance *= motion + abs(change)
    below = (
        each
        for each, threshold in zip(settings.cache_rates, settings.metric_thres[:-1], strict=False)
        if distance < threshold
    )
    store["rate"] = next(below, settings.cache_rates[-1])


def _motion(settings: Settings, step: int, residual: Any) -> float:
    """How much frames of [..., frames, D] differ, about 1; 1 outside of the steps it is taken at.

    Raises:
        UsageError: there are too few frames.
    """
    first, last = settings.moreg_steps
    if not first <= step <= last:
        return 1.0
    frames = residual.shape[-2]
    if frames <= max(settings.moreg_strides):
        raise UsageError(
            f"moreg_strides has {max(settings.moreg_strides)} and clips have {frames} frames",
            fix="take less than the number of frames",
        )
    found = []
    for stride in settings.moreg_strides:
        later, earlier = residual[..., stride:, :], residual[..., :-stride, :]
        found.append(_size(later - earlier) / (_size(later) + _size(earlier)))
    usual, power, divisor = settings.moreg_hyp
    return float(((sum(found) / len(found) / usual) ** power / divisor).item())


def _size(x: Any) -> Any:
    """The norm of order 1, as a mean, which does not overflow in half precision. -> []"""
    return x.float().abs().mean()
