"""Skip-Cache: keep the hidden state entering the last layers, run only the outer layers between.

Source: arXiv 2411.17616, section 3.3. A full step stores the hidden state that enters layer
`L - branch`, before it is joined with its skip branch. A cached step runs the first `branch` layers
on the current input (their outputs are the fresh skips), takes the stored state in place of all the
middle layers, and runs the last `branch` layers. Embeddings, conditioning and the final layer are
always computed.

The step counter and the stored state are forgotten once the window's stop is reached, and only
after that step: the first step at the stop may still be a cached one (official code).

With `order=1` a cached step takes the line through the states of the last two full steps in place
of the last one: the first-order forecast of TaylorSeer (arXiv 2503.06923) on the one state that
Skip-Cache keeps. It costs no operation that is counted, and a second state in memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from skipdit_cli.caches import WINDOWS, added
from skipdit_cli.caches._branch import branch_of
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
        order: 0 repeats the state of the last full step, as the paper does; 1 extrapolates it from
            those of the last two, for samplers that add no noise.
    """

    n: int = 2
    window: tuple[int, int] | None = None
    branch: int | None = None
    order: int = added(0)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n={self.n} is not an interval", fix="n is 1 or more")
        if self.branch is not None and self.branch < 1:
            raise UsageError(f"branch={self.branch} runs no layer", fix="branch is 1 or more")
        if self.order not in (0, 1):
            raise UsageError(f"order={self.order} is not known", fix="order is 0 or 1")


@dataclass(frozen=True)
class Settings:
    """Config on a model, with nothing left out."""

    n: int
    window: tuple[int, int]
    branch: int
    order: int = added(0)


# The window that the official code has for each family (OpenSparseLLMs/Skip-DiT at 72609de). The
# class-to-image window never forces a step to be full at its start. Class-to-video has not yet
# reached its stop at a step exactly there; all other families have.
OFFICIAL = {"dit": (1000, 20), "latte": (900, 50)}
OTHERWISE = (700, 50)
STRICT_STOP = ("latte",)


def resolve(config: Config, layout: Layout) -> Settings:
    if not layout.skips:
        raise UsageError(
            f"skip-cache needs skip branches and {layout.family} was built without them",
            fix="take a model with skip branches (skipdit ls models)",
        )
    return Settings(
        n=config.n,
        window=config.window or OFFICIAL.get(layout.family, OTHERWISE),
        branch=branch_of(config.branch, layout),
        order=config.order,
    )


def choices(layout: Layout, steps: int) -> dict[str, Sequence[Any]]:
    return {"n": INTERVALS, "window": WINDOWS, "branch": evenly(1, (layout.layers - 1) // 2)}


def full_steps(settings: Settings, timesteps: Sequence[int], *, strict_stop: bool) -> list[bool]:
    """Per step, whether the whole network is computed (the rule of the official code).

    Args:
        strict_stop: whether a step exactly at the window's stop is still inside the window.
    """
    start, _ = settings.window
    count, stored, full = 0, False, []
    for t in timesteps:
        full.append(count % settings.n == 0 or not stored or t >= start)
        count, stored = count + 1, True
        if _stopped(settings, t, strict_stop=strict_stop):
            count, stored = 0, False
    return full


def _stopped(settings: Settings, timestep: int, *, strict_stop: bool) -> bool:
    """Whether all is forgotten after the step at a timestep."""
    _, stop = settings.window
    return timestep < stop or (timestep == stop and not strict_stop)


def reused(settings: Settings, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    middle = whole_layers(layout, range(settings.branch, layout.layers - settings.branch))
    full = full_steps(settings, timesteps, strict_stop=layout.family in STRICT_STOP)
    return [frozenset() if whole else middle for whole in full]


def hooked(settings: Settings, layout: Layout) -> list[Site]:
    return [Site("layer", i) for i in range(settings.branch, layout.layers - settings.branch + 1)]


def forward(
    settings: Settings, layout: Layout, call: Call, compute: Callable, hidden_states: Any
) -> Any:
    if call.site.layer < layout.layers - settings.branch:
        return hidden_states if call.reuse else compute(hidden_states)
    if call.cached:  # at the first of the last layers
        hidden_states = _forecast(call.step, call.store["full"])
    else:
        earlier = call.store.pop("full", ())[-settings.order :] if settings.order else ()
        call.store["full"] = (*earlier, (call.step, hidden_states))
    if _stopped(settings, call.timestep, strict_stop=layout.family in STRICT_STOP):
        call.store.clear()
    return compute(hidden_states)


def _forecast(step: int, full: Sequence[tuple[int, Any]]) -> Any:
    """The state at a step on the line through those of two full steps; the state of one alone.

    Args:
        full: of one or two steps, the earlier first: index, and the state, any shape.
    """
    last, state = full[-1]
    if len(full) == 1:
        return state
    before, earlier = full[0]
    return state + (step - last) / (last - before) * (state - earlier)


def note(settings: Settings) -> str:
    if not settings.order:
        return ""
    return "Skip-Cache with order=1 extrapolates what the paper's repeats."


def caution(settings: Settings, *, stochastic: bool) -> str:
    if not settings.order or not stochastic:
        return ""
    return "order=1 extrapolates, and with noise added at every step that can lose to order=0"
