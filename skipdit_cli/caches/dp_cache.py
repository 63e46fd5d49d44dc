"""DP-Cache: full steps placed by dynamic programming, and a calibrated forecast between them.

As Skip-Cache it runs the outer layers at every step; in place of what the middle layers give it
takes a forecast from the last two full steps, and from the fresh input of the middle layers, which
a cached step has anyway:

    F_i + a (j - i) / (i - i2) (F_i - F_i2) + b (h_j - h_i)

`skipdit analyze calibrate --method dp-cache` finds, for a number of full steps, which they are and
the two coefficients of each segment between them (`_forecast.py`). A model without skip branches is
cached in the same way: there the last layers see nothing of the first but what is forecast.

Nearest to it: DPCache (arXiv 2602.22654), key timesteps by dynamic programming over a path-aware
cost; LeMiCa (2511.00090); the term of h, Increment-Calibrated Caching (2505.05829).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skipdit_cli.caches._branch import branch_of
from skipdit_cli.caches._calibrated import rounded
from skipdit_cli.caches._choices import evenly
from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Call, Layout, Seen, Site, whole_layers

if TYPE_CHECKING:
    import numpy as np

    from skipdit_cli.caches._forecast import Measured

CALIBRATED = ("steps", "coefficients")
EVERY, LAST = 3, 4  # steps of which one is tried alone, to see what its reuse does to a sample;
# of the last ones each, as that changes from one to the next
VALUES = 8192  # of a feature that a calibration looks at, of each half of guidance


@dataclass(frozen=True)
class Config:
    """Settings; `skipdit analyze calibrate --method dp-cache` finds steps and coefficients.

    Attributes:
        full: how many steps compute the whole network.
        branch: how many layers at each end run on every step; as skip-cache has it.
        steps: the indices of the full steps, from 0 (calibrated).
        coefficients: a and b of every segment, in their order (calibrated).
    """

    full: int = 17
    branch: int | None = None
    steps: tuple[int, ...] | None = None
    coefficients: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.full < 1:
            raise UsageError(f"full={self.full} computes nothing", fix="full is 1 or more")
        if self.branch is not None and self.branch < 1:
            raise UsageError(f"branch={self.branch} runs no layer", fix="branch is 1 or more")
        if self.steps is not None:
            rising = all(a < b for a, b in zip(self.steps, self.steps[1:], strict=False))
            if len(self.steps) != self.full or self.steps[0] != 0 or not rising:
                raise UsageError(
                    f"steps do not name {self.full} full steps",
                    fix="give as many as full says, rising from 0",
                )
        if self.coefficients is not None and len(self.coefficients) != 2 * self.full:
            raise UsageError(
                f"{len(self.coefficients)} coefficients are not two for each of {self.full}",
                fix="give a and b of every full step",
            )


@dataclass(frozen=True)
class Settings:
    """Config on a model, with nothing left out."""

    full: int
    branch: int
    steps: tuple[int, ...]
    coefficients: tuple[float, ...]


def resolve(config: Config, layout: Layout) -> Settings:
    if config.steps is None or config.coefficients is None:
        raise UsageError(
            "dp-cache needs steps and coefficients",
            fix=f"`skipdit analyze calibrate --method dp-cache --full {config.full}` finds them",
        )
    return Settings(
        config.full, branch_of(config.branch, layout), config.steps, config.coefficients
    )


def variant(config: Config, layout: Layout) -> dict[str, int]:
    return {"full": config.full, "branch": branch_of(config.branch, layout)}


def variants(layout: Layout, steps: int) -> list[Config]:
    """As many full steps as Skip-Cache has with n = 2, 3, 4 and 6."""
    return [Config(full=-(-steps // n)) for n in (2, 3, 4, 6) if steps >= n]


def stand_in(config: Config, layout: Layout, steps: int) -> dict[str, Any]:
    """The same number of full steps, evenly spaced, and no forecast."""
    return {"steps": _even(config.full, steps), "coefficients": (0.0, 0.0) * config.full}


def _even(full: int, steps: int) -> tuple[int, ...]:
    if full > steps:
        raise UsageError(f"full={full} is more than {steps} steps", fix="take fewer")
    every_nth = tuple(range(0, steps, -(-steps // full)))  # as Skip-Cache has them
    return every_nth if len(every_nth) == full else tuple(i * steps // full for i in range(full))


def reused(settings: Settings, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    if settings.steps[-1] >= len(timesteps):
        raise UsageError(
            f"dp-cache was calibrated for more than {len(timesteps)} steps",
            fix="leave steps and coefficients out, or take as many steps",
        )
    middle = whole_layers(layout, range(settings.branch, layout.layers - settings.branch))
    full = {*settings.steps}
    return [frozenset() if step in full else middle for step in range(len(timesteps))]


def hooked(settings: Settings, layout: Layout) -> list[Site]:
    return [Site("layer", i) for i in range(settings.branch, layout.layers - settings.branch + 1)]


def forward(
    settings: Settings, layout: Layout, call: Call, compute: Callable, hidden_states: Any
) -> Any:
    if call.site.layer == settings.branch:  # the first of the middle layers
        call.store["input"] = hidden_states
    if call.site.layer == layout.layers - settings.branch:  # the first of the last layers
        seen = call.step, hidden_states, call.store.pop("input")
        if call.cached:
            hidden_states = _forecast(settings, call, seen[2])
        else:
            call.store["full"] = [seen, *call.store.get("full", [])][:2]
        return compute(hidden_states)
    return hidden_states if call.reuse else compute(hidden_states)


def _forecast(settings: Settings, call: Call, fresh: Any) -> Any:
    """The hidden state that enters the last layers, from the full steps before this one."""
    (step, state, entered), *before = call.store["full"]
    segment = settings.steps.index(step)
    a, b = settings.coefficients[2 * segment : 2 * segment + 2]
    forecast = state
    if a and before:
        ((earlier, other, _),) = before
        forecast = forecast + a * (call.step - step) / (step - earlier) * (state - other)
    if b:
        forecast = forecast + b * (fresh - entered)
    return forecast


def choices(layout: Layout, steps: int) -> dict[str, Sequence[Any]]:
    branches = evenly(1, (layout.layers - 1) // 2)
    return {"full": range(1, steps), "branch": branches}  # of which those that are calibrated count


# Calibration


def watched(layout: Layout, *, config: Config) -> list[Site]:
    branch = branch_of(config.branch, layout)
    return [Site("layer", branch), Site("layer", layout.layers - branch)]


def observe(layout: Layout, now: Seen, before: Seen, *, config: Config) -> Any:
    """Some values of F and h, of the step before and of this one. -> [B, 2, 2, values]"""
    import torch

    first, last = watched(layout, config=config)

    def some(seen: Seen, site: Site) -> Any:
        values = seen.by_sample(seen.entered[site])
        if (count := values.shape[1]) <= VALUES * (1 + seen.guided):
            return values.float()
        of_all = torch.Generator().manual_seed(count)
        chosen = torch.randint(count, (VALUES * (1 + seen.guided),), generator=of_all)
        return values[:, chosen.to(values.device)].float()

    return torch.stack(
        [torch.stack([some(seen, last), some(seen, first)], dim=1) for seen in (before, now)], dim=1
    )


def probes(layout: Layout, steps: int, *, config: Config) -> list[dict[str, Any]]:
    """All steps full but one, whose feature is that of the step before."""
    return [
        {
            "full": steps - 1,
            "steps": tuple(step for step in range(steps) if step != reused),
            "coefficients": (0.0, 0.0) * (steps - 1),
        }
        for reused in _probed(steps)
    ]


def _probed(steps: int) -> list[int]:
    return sorted({*range(1, steps, EVERY), *range(max(1, steps - LAST), steps)})


def candidates(
    observed: "np.ndarray", *, layout: Layout, config: Config, strayed: "np.ndarray"
) -> dict[str, Mapping[str, Any]]:
    """Full steps that are evenly spaced or placed, each with every kind of forecast."""
    from skipdit_cli.caches import _forecast

    even = _even(config.full, observed.shape[1] + 1)
    measured = _measured(observed, strayed)
    found: dict[str, Mapping[str, Any]] = {}
    for kind in _forecast.KINDS:
        placed = _forecast.placed(measured, kind, config.full)
        for how, steps in (("even", even), ("placed", placed)):
            pairs = _forecast.coefficients(measured, kind, steps)
            flat = rounded(value for pair in pairs for value in pair)
            found[f"{how}, {kind}"] = {"steps": steps, "coefficients": flat}
    return found


def _measured(observed: "np.ndarray", strayed: "np.ndarray") -> "Measured":
    import numpy as np

    from skipdit_cli.caches import _forecast

    values = np.concatenate([observed[:, :1, 0], observed[:, :, 1]], axis=1)  # [B, T, 2, values]
    products = np.stack([_forecast.gram(each) for each in values])
    count = values.shape[1]
    strays = dict(zip(_probed(count), strayed, strict=True))
    weights = _forecast.weights(strays, products, count)
    return _forecast.Measured(products.mean(axis=0), weights)
