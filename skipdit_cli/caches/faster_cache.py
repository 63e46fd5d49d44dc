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
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skipdit_cli.caches._choices import INTERVALS
from skipdit_cli.errors import UsageError
from skipdit_cli.sites import BOTH, CONDITIONAL, NULL_FIRST, Guided, Layout, Site

if TYPE_CHECKING:
    from torch import Tensor

SEES_INPUT = True
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
            raise UsageError(
                f"null_every={self.null_every} is not an interval", fix="take 1 or more"
            )
        for name, value in vars(self).items():
            if name in ("below", "null_below") and not 0 < value <= 1000:
                raise UsageError(f"{name}={value} is not a timestep", fix="take 1 to 1000")
            if not math.isfinite(value):
                raise UsageError(f"{name}={value} is not finite", fix="take a finite number")


def resolve(config: Config, layout: Layout) -> Config:
    if not set(KINDS) & set(layout.kinds):
        raise UsageError(f"faster-cache needs self-attention and {layout.family} has none")
    return config


def choices(layout: Layout, steps: int) -> dict[str, Sequence[Any]]:
    return {
        "n": INTERVALS,
        "null_every": range(1, 11),
        "null_below": range(200, 1001, 200),
        "below": (500, 1000),
    }


def halves(settings: Config, timesteps: Sequence[int]) -> list[str]:
    return [
        CONDITIONAL
        if step > 0 and t < settings.null_below and step % settings.null_every > 0
        else BOTH
        for step, t in enumerate(timesteps)
    ]


def _predicts(settings: Config, timesteps: Sequence[int], *, guided: bool) -> bool:
    """Whether the null half of guidance is ever predicted; attention waits for these steps then."""
    return guided and CONDITIONAL in halves(settings, timesteps)


def reused(
    settings: Config, layout: Layout, timesteps: Sequence[int], *, guided: bool
) -> list[frozenset[Site]]:
    attention = frozenset(hooked(settings, layout))
    alone = [each == CONDITIONAL for each in halves(settings, timesteps)]
    if not _predicts(settings, timesteps, guided=guided):
        alone = [True] * len(timesteps)
    return [
        attention if inside and step % settings.n and t < settings.below else frozenset()
        for step, (t, inside) in enumerate(zip(timesteps, alone, strict=True))
    ]


def hooked(settings: Config, layout: Layout) -> list[Site]:
    return [Site(k, i) for i in range(layout.layers) for k in KINDS if k in layout.kinds]


def guide(settings: Config, call: Guided) -> "Tensor":
    """By diffusers' hook, which has the null half first in a batch; here it is the second."""
    import torch

    if not _predicts(settings, call.timesteps, guided=True):
        return call.compute(BOTH)
    if "predictor" not in call.store:
        call.store["predictor"] = _predictor(settings, call)
    hook, both = call.store["predictor"], 2 * len(call.x)

    def forward(*, hidden_states: "Tensor") -> "tuple[Tensor]":
        whole = len(hidden_states) == both
        return (call.compute(NULL_FIRST if whole else CONDITIONAL),)

    hook.fn_ref.original_forward = forward
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.meshgrid", UserWarning)
        (output,) = hook.new_forward(None, hidden_states=torch.cat([call.x, call.x]))
    return torch.cat(output.chunk(2)[::-1])


def _predictor(settings: Config, call: Guided) -> Any:
    """diffusers' hook of the whole network, whose clock is the number of its calls."""
    from diffusers.hooks.faster_cache import FasterCacheDenoiserHook
    from diffusers.hooks.hooks import HookFunctionReference

    def now() -> int:
        return call.timesteps[hook.state.iteration]

    video = "BCFHW" if call.channel_dim == 1 else "BFCHW"
    hook = FasterCacheDenoiserHook(
        settings.null_every,
        (-1, settings.null_below),
        video if call.x.dim() == 5 else "BCHW",
        False,
        ["hidden_states"],
        now,
        lambda module: settings.low if 99 < now() < 901 else 1.0,
        lambda module: settings.high if now() < 301 else 1.0,
    )
    hook.fn_ref = HookFunctionReference()
    hook.initialize_hook(None)
    return hook


def hooks(
    settings: Config, layout: Layout, timesteps: Sequence[int], *, guided: bool
) -> dict[Site, Any]:
    from diffusers.hooks.faster_cache import FasterCacheBlockHook, FasterCacheBlockState
    from diffusers.hooks.hooks import StateManager

    # in diffusers, only calls of the conditional half alone are extrapolated
    alone = _predicts(settings, timesteps, guided=guided)

    class Hook(FasterCacheBlockHook):
        """With a state for every guidance branch, and a clock that is the number of its calls."""

        def __init__(self) -> None:
            super().__init__(
                settings.n,
                (-1, settings.below),
                not alone,
                lambda _: settings.weight,
                self.timestep,
            )
            self.states = StateManager(FasterCacheBlockState)

        def initialize_hook(self, module: Any) -> Any:
            return module

        @property
        def state(self) -> FasterCacheBlockState:
            return self.states.get_state()

        def timestep(self) -> float:
            step = self.state.iteration
            return timesteps[step] if step else math.inf  # at first there is nothing to reuse

    return {site: Hook() for site in hooked(settings, layout)}
