"""TaylorSeer: extrapolate what attention and MLPs give from their last full steps.

Source: arXiv 2503.06923; Shenyi-Z/TaylorSeer 288776d `TaylorSeer-DiT/cache_functions/cal_type.py`
and `taylor_utils`. Between full steps the output of every attention and MLP is predicted by a
Taylor expansion in the step index, whose derivatives are divided differences of its last full
outputs. Norms, modulation and skip branches are computed.

The authors' code computes the first steps, and then every n-th, counted from the last of them; its
differences begin at that one. That of diffusers, `hooks/taylorseer_cache.py`, has one predicted
step after the first ones, counts from there on, and takes differences of all of them. Its hooks do
the arithmetic for both, which is the same. diffusers finds modules by name and matches none of the
names here, without an error; so its hooks are put on sites. It keeps the factors in bfloat16; here
they have the dtype of the model, as in the authors' code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skipdit_cli.caches._choices import INTERVALS
from skipdit_cli.errors import UsageError, unknown
from skipdit_cli.sites import Layout, Site

VERSION = 2
WARMUPS = {"authors": 2, "diffusers": 3}  # by schedule


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        n: compute everything every n-th step after the first ones (4 in the authors' code for DiT,
            5 in that for HunyuanVideo and in diffusers); 1 never predicts.
        warmup: how many steps at the start are full; by default 2, and 3 with `schedule=diffusers`.
        order: highest derivative of the expansion (4 in the authors' code for DiT, 1 in that for
            HunyuanVideo and in diffusers); 0 repeats the last full output.
        schedule: whose full steps: `authors`, with n=5 steps 0, 1, 6, 11, 16 and so on, or
            `diffusers`, 0, 1, 2, 4, 9, 14 and so on.
    """

    n: int = 5
    warmup: int | None = None
    order: int = 1
    schedule: str = "authors"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n={self.n} is not an interval", fix="n is 1 or more")
        if self.warmup is not None and self.warmup < 1:
            raise UsageError(f"warmup={self.warmup} is too small", fix="take 1 or more")
        if self.order < 0:
            raise UsageError(f"order={self.order} is negative", fix="take 0 or more")
        if self.schedule not in WARMUPS:
            raise unknown("schedule", self.schedule, WARMUPS)


@dataclass(frozen=True)
class Settings:
    """Config with nothing left out."""

    n: int
    warmup: int
    order: int
    schedule: str


def resolve(config: Config, layout: Layout) -> Settings:
    if not layout.kinds:
        raise UsageError(f"taylorseer needs attention or MLP sites and {layout.family} has none")
    warmup = WARMUPS[config.schedule] if config.warmup is None else config.warmup
    return Settings(config.n, warmup, config.order, config.schedule)


def choices(layout: Layout, steps: int) -> dict[str, Sequence[Any]]:
    return {"n": INTERVALS, "warmup": range(1, steps)}


def full_steps(settings: Settings, steps: int) -> list[bool]:
    """Per step, whether everything is computed."""
    counted_from = settings.warmup + (1 if settings.schedule == "diffusers" else -1)
    return [
        step < settings.warmup or (step - counted_from) % settings.n == 0 for step in range(steps)
    ]


def reused(settings: Settings, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    inside = frozenset(hooked(settings, layout))
    full = full_steps(settings, len(timesteps))
    return [frozenset() if whole else inside for whole in full]


def hooked(settings: Settings, layout: Layout) -> list[Site]:
    return [Site(kind, i) for i in range(layout.layers) for kind in layout.kinds]


def note(settings: Settings) -> str:
    if settings.schedule == "authors":
        return ""
    return "taylorseer: full steps are those of diffusers, not of its authors."


def hooks(settings: Settings, layout: Layout, timesteps: Sequence[int]) -> dict[Site, Any]:
    from diffusers.hooks.hooks import StateManager
    from diffusers.hooks.taylorseer_cache import TaylorSeerCacheHook, TaylorSeerState

    full = full_steps(settings, len(timesteps))

    class Hook(TaylorSeerCacheHook):
        """With the authors' full steps, and no differences before the last of the first ones."""

        def _measure_should_compute(self) -> tuple[bool, TaylorSeerState]:
            state = self.state_manager.get_state()
            state.current_step += 1
            if state.current_step < settings.warmup - 1:
                state.last_update_step = None
            return full[state.current_step], state

    kind = TaylorSeerCacheHook if settings.schedule == "diffusers" else Hook

    def hook() -> TaylorSeerCacheHook:
        state = StateManager(TaylorSeerState, (None, settings.order))
        return kind(settings.n, settings.warmup, None, state)

    return {site: hook() for site in hooked(settings, layout)}
