"""TeaCache: skip all layers while the modulated input of the first has changed little.

Source: arXiv 2411.19108; ali-vilab/TeaCache 7c10efc `eval/teacache/experiments/latte.py`. What
enters the first layer's attention, normed and modulated by the timestep, is compared with that of
the step before: mean |m - m'| / mean |m'|, over the whole batch and so both halves of guidance. A
polynomial, fitted on the same model, turns this into the change of the output. While the sum of
what it gives since the last full step is below the threshold all layers are skipped, and what they
added on that step is added again. The first and the last step are full.

The coefficients come from `skipdit analyze calibrate` on the model itself; those of another one
mean nothing. The authors fit by plain least squares; where outputs change a lot on few steps, such
a polynomial is below zero for small changes, takes away from the sum and skips without end. So here
it is held to rise from zero or above, for changes of any size. The step into the last one, by far
the largest change of all, is left out of the fit: it is full whatever has changed.

The decision is one for a batch, so a sample depends on which others it is computed with.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skipdit_cli.caches._calibrated import rounded
from skipdit_cli.errors import UsageError, warn
from skipdit_cli.sites import Call, Layout, Seen, Site, whole_layers

if TYPE_CHECKING:
    import numpy as np

VERSION = 2
CALIBRATED = ("coefficients",)
BY_BATCH = True
DYNAMIC = True
DEGREE = 4  # of the polynomial
TURNS = 32  # places where the slope of a part of the polynomial may touch zero
EXPLAINED = 0.5  # the share of the variance below which a fit is told to be of little use
SEEN = Site("attn.spatial", 0)  # its input is the modulated input of the first layer


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        threshold: the accumulated relative change up to which layers are skipped (0.1 for Latte
            in the official code, 0.2 for its fast version); 0 never skips.
        coefficients: of the polynomial, highest power first; by default those that
            `skipdit analyze calibrate` found for the model.
    """

    threshold: float = 0.1
    coefficients: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < math.inf:
            raise UsageError(
                f"threshold={self.threshold} is out of range", fix="take a finite number from 0 up"
            )
        if not all(map(math.isfinite, self.coefficients or ())):
            raise UsageError(
                "coefficients must be finite",
                fix="run `skipdit analyze calibrate --method teacache`",
            )


@dataclass(frozen=True)
class Settings:
    """Config with the coefficients of a model."""

    threshold: float
    coefficients: tuple[float, ...]


def resolve(config: Config, layout: Layout) -> Settings:
    if SEEN.kind not in layout.kinds:
        raise UsageError(f"teacache needs self-attention and {layout.family} has none")
    if config.coefficients is None:
        raise UsageError(
            "teacache needs coefficients",
            fix="`skipdit analyze calibrate --method teacache` finds them",
        )
    return Settings(config.threshold, config.coefficients)


def note(settings: Settings) -> str:
    if not any(settings.coefficients[:-1]):
        return (
            "teacache: the polynomial is a constant, so that full steps are at equal distances "
            "whatever changes."
        )
    return (
        "teacache: by the authors' rule; a polynomial from `analyze calibrate` never falls, which "
        "theirs may."
    )


def skipped(settings: Settings, layout: Layout) -> frozenset[Site]:
    """All but the first layer's norm and modulation, which the decision needs."""
    inside = {Site(kind, 0) for kind in layout.kinds}
    return whole_layers(layout, range(1, layout.layers)) | inside


def hooked(settings: Settings, layout: Layout) -> list[Site]:
    return [*(Site("layer", i) for i in range(layout.layers)), SEEN]


def forward(
    settings: Settings, layout: Layout, call: Call, compute: Callable, hidden_states: Any
) -> Any:
    store = call.store
    if call.site == SEEN:
        if _enough(settings, call, hidden_states):
            raise _Skip
        return compute(hidden_states)
    if call.site.layer == 0:
        store["input"] = hidden_states
        store["skip"] = False
        try:
            output = compute(hidden_states)
        except _Skip:
            store["skip"] = True
            return hidden_states + store["residual"]
    elif store["skip"]:
        return hidden_states
    else:
        output = compute(hidden_states)
    if call.site.layer == layout.layers - 1:
        store["residual"] = output - store.pop("input")
    return output


class _Skip(Exception):
    """Leaves the first layer as soon as its modulated input is known."""


def _enough(settings: Settings, call: Call, modulated: Any) -> bool:
    """Whether this step is skipped; keeps the modulated input and the sum of changes."""
    before, call.store["modulated"] = call.store.get("modulated"), modulated
    if before is None or "residual" not in call.store or call.last:
        call.store["sum"] = 0.0
        return False
    change = ((modulated - before).abs().mean() / before.abs().mean()).item()
    power, estimate = 1.0, 0.0
    for coefficient in reversed(settings.coefficients):
        estimate, power = estimate + coefficient * power, power * change
    call.store["sum"] += estimate
    if 0 < settings.threshold > call.store["sum"]:
        return True
    call.store["sum"] = 0.0
    return False


def watched(layout: Layout) -> list[Site]:
    return [SEEN]


def observe(layout: Layout, now: Seen, before: Seen) -> Any:
    """Relative changes of the modulated input and of the network's output. -> [B, 2]"""
    import torch

    pairs = ((now.entered[SEEN], before.entered[SEEN]), (now.output, before.output))
    return torch.stack([_change(new, old, now) for new, old in pairs], dim=1)


def _change(new: Any, old: Any, seen: Seen) -> Any:
    """mean |new - old| / mean |old| of every sample, both halves of guidance. -> [B]"""
    differ, size = (seen.by_sample(x.float().abs()) for x in (new - old, old))
    return differ.mean(dim=1) / size.mean(dim=1)


def fit(observed: "np.ndarray") -> dict[str, Any]:
    """A polynomial from changes of the input to those of the output, which nowhere falls.

    Args:
        observed: [samples, steps - 1, 2].
    Raises:
        UsageError: there are fewer different observations than coefficients.
    Warns:
        SkipditWarning: such a polynomial says little of how the output changes.
    """
    import numpy as np

    changes, outputs = observed[:, :-1].reshape(-1, 2).T
    if len(np.unique(changes)) <= DEGREE:
        raise UsageError(
            f"{len(changes)} observations cannot give {DEGREE + 1} coefficients",
            place="--steps",
            fix="take more steps",
        )
    coefficients = rounded(rising(changes, outputs))
    error = np.square(np.polyval(coefficients, changes) - outputs).mean()
    told = max(0.0, 1 - error / outputs.var()) if outputs.var() > 0 else 0.0
    if told < EXPLAINED:
        warn(
            f"changes of its input tell {told:.0%} of how the output changes",
            place="teacache",
            fix="it will do little better than full steps at equal distances",
        )
    return {"coefficients": coefficients}


def rising(x: "np.ndarray", y: "np.ndarray") -> "np.ndarray":
    """The polynomial of degree 4 nearest to points that rises for all x >= 0, from 0 or above.

    Its slope is a cubic that is not negative there, hence a sum of c (x - a)^2 and c x (x - a)^2
    with c, a >= 0; the integrals of these for many a, and a constant, are weighted by least squares
    with weights that are not negative.

    Args:
        x, y: [points]; x >= 0, at least five different ones.
    Returns:
        Coefficients, highest power first.
    """
    import numpy as np
    from scipy.optimize import nnls

    unit = x.max()
    turns = np.append(0, np.geomspace(1 / 64, 8, TURNS))
    parts: list[tuple[float, ...]] = [(0, 0, 0, 0, 1), (0, 0, 1, 0, 0), (0, 0, 0, 1, 0)]
    parts += [(0, 1 / 3, -a, a**2, 0) for a in turns]
    parts += [(1 / 4, -2 * a / 3, a**2 / 2, 0, 0) for a in turns]
    basis = np.array(parts).T  # [powers, parts]
    orthogonal, triangle = np.linalg.qr(np.vander(x / unit, DEGREE + 1))
    columns = triangle @ basis
    lengths = np.linalg.norm(columns, axis=0)
    weights, _ = nnls(columns / lengths, orthogonal.T @ y)
    return basis @ (weights / lengths) / unit ** np.arange(DEGREE, -1, -1)
