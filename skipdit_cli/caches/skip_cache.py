"""Skip-Cache: keep the hidden state entering the last layers, run only the outer layers between.

Source: arXiv 2411.17616, section 3.3. A full step stores the hidden state that enters layer
`L - branch`, before it is joined with its skip branch. A cached step runs the first `branch` layers
on the current input (their outputs are the fresh skips), takes the stored state in place of all the
middle layers, and runs the last `branch` layers. Embeddings, conditioning and the final layer are
always computed.

The step counter and the stored state are forgotten once the window's stop is reached, and only
after that step: the first step at the stop may still be a cached one (official code).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from skipdit_cli.caches import WINDOWS
from skipdit_cli.caches._choices import INTERVALS, evenly
from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Call, Layout, Site, whole_layers


@dataclass(frozen=True)
class Config:
    """Settings; those left out take the value the official code has for the model's family.

    A shallow network takes a smaller branch, so that a layer is left to reuse.

    Attributes:
        n: compute the whole network every n-th step (the paper sweeps 2 to 6); 1 never reuses.
        window: (start, stop) in training timesteps; steps at or above start are full, and so are
            those after stop is reached (700-50 in the paper's text-to-video tables).
        branch: how many layers at each end run on a cached step.
    """

    n: int = 2
    window: tuple[int, int] | None = None
    branch: int | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n={self.n} is not an interval", fix="n is 1 or more")
        if self.branch is not None and self.branch < 1:
            raise UsageError(f"branch={self.branch} runs no layer", fix="branch is 1 or more")


@dataclass(frozen=True)
class Settings:
    """Config on a model, with nothing left out."""

    n: int
    window: tuple[int, int]
    branch: int


# What the official code does for each family (OpenSparseLLMs/Skip-DiT at 72609de). The
# class-to-image window never forces a step to be full at its start. Class-to-video has not yet
# reached its stop at a step exactly there; all other families have.
OFFICIAL = {"dit": ((1000, 20), 4), "latte": ((900, 50), 1)}  # window, branch
OTHERWISE = ((700, 50), 1)
STRICT_STOP = ("latte",)


def resolve(config: Config, layout: Layout) -> Settings:
    if not layout.skips:
        raise UsageError(
            f"skip-cache needs skip branches and {layout.family} was built without them",
            fix="take a model with skip branches (skipdit ls models)",
        )
    window, branch = OFFICIAL.get(layout.family, OTHERWISE)
    most = (layout.layers - 1) // 2  # what leaves a layer to reuse
    chosen = Settings(
        n=config.n,
        window=config.window or window,
        branch=config.branch or max(1, min(branch, most)),
    )
    if 2 * chosen.branch >= layout.layers:
        raise UsageError(
            f"branch={chosen.branch} leaves no layer to reuse of {layout.layers}",
            fix=f"branch is at most {most}",
        )
    outer = set(range(chosen.branch)) | set(range(layout.layers - chosen.branch, layout.layers))
    for to, source in layout.skips:
        if to in outer and source not in outer:
            raise UsageError(f"layer {to} is joined with layer {source}, which would not be run")
    return chosen


def choices(layout: Layout, steps: int) -> dict[str, Sequence[Any]]:
    return {"n": INTERVALS, "window": WINDOWS, "branch": evenly(1, (layout.layers - 1) // 2)}


def full_steps(settings: Settings, timesteps: Sequence[int], *, strict_stop: bool) -> list[bool]:
    """Per step, whether the whole network is computed (the rule of the official code).

    Args:
        strict_stop: whether a step exactly at the window's stop is still inside the window.
    """
    start, stop = settings.window
    count, stored, full = 0, False, []
    for t in timesteps:
        full.append(count % settings.n == 0 or not stored or t >= start)
        count, stored = count + 1, True
        if t < stop or (t == stop and not strict_stop):
            count, stored = 0, False
    return full


def reused(settings: Settings, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    middle = whole_layers(layout, range(settings.branch, layout.layers - settings.branch))
    full = full_steps(settings, timesteps, strict_stop=layout.family in STRICT_STOP)
    return [frozenset() if whole else middle for whole in full]


def hooked(settings: Settings, layout: Layout) -> list[Site]:
    return [Site("layer", i) for i in range(settings.branch, layout.layers - settings.branch + 1)]


def forward(
    settings: Settings, layout: Layout, call: Call, compute: Callable, hidden_states: Any
) -> Any:
    if call.site.layer == layout.layers - settings.branch:  # the first of the last layers
        if call.cached:
            hidden_states = call.store["hidden_states"]
        else:
            call.store["hidden_states"] = hidden_states
        return compute(hidden_states)
    return hidden_states if call.reuse else compute(hidden_states)
