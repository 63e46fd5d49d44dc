"""FORA: reuse the outputs of all attention layers and MLPs between every n-th step.

Source: arXiv 2407.01425; prathebaselva/FORA (acde628) `src/models.py`. What is kept is the output
before its gate: the modulation of the current step still runs. The official code counts steps from
the last one back, so the first step is computed, and then every one whose distance from the end is
a multiple of n. With a window, as the Skip-DiT paper runs it, steps are counted from the first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from skipdit_cli.caches import WINDOWS
from skipdit_cli.caches._choices import INTERVALS
from skipdit_cli.caches._fixed import kept_output, within
from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Call, Layout, Site


@dataclass(frozen=True)
class Config:
    """Settings, with the defaults of the official code.

    Attributes:
        n: compute every n-th step (3 in the README of the official code); 1 never reuses.
        window: (start, stop) in training timesteps, both outside of it; None is all steps.
        mlp: whether the outputs of the MLPs are reused as well.
    """

    n: int = 3
    window: tuple[int, int] | None = None
    mlp: bool = True

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n={self.n} is not an interval", fix="n is 1 or more")


def resolve(config: Config, layout: Layout) -> Config:
    return config


def choices(layout: Layout, steps: int) -> dict[str, Sequence[Any]]:
    return {"n": INTERVALS, "window": WINDOWS}


def reused(settings: Config, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    sites, last = frozenset(hooked(settings, layout)), len(timesteps) - 1
    per_step = []
    for step, inside in enumerate(within(timesteps, settings.window)):
        count = step if settings.window else last - step
        per_step.append(sites if step and inside and count % settings.n else frozenset())
    return per_step


def hooked(settings: Config, layout: Layout) -> list[Site]:
    kinds = [kind for kind in layout.kinds if settings.mlp or kind.startswith("attn")]
    return [Site(kind, layer) for layer in range(layout.layers) for kind in kinds]


def forward(
    settings: Config, layout: Layout, call: Call, compute: Callable, hidden_states: Any
) -> Any:
    return kept_output(call, compute, hidden_states)
