"""Noise schedules, their respacing, and what a network's prediction means. numpy, float64.

Source: openai/guided-diffusion `respace.py` and `gaussian_diffusion.py` as used by DiT and Latte;
diffusers `DDPMScheduler` for the scaled-linear schedule and the velocity of HunyuanDiT.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skipdit_cli.samplers import TRAINING_STEPS, timesteps

if TYPE_CHECKING:
    from torch import Tensor

Betas = tuple[str, float, float]  # "linear" or "scaled_linear", first value, last value
LINEAR: Betas = ("linear", 1e-4, 0.02)  # of ADM, DiT and Latte


@dataclass(frozen=True)
class Step:
    """Coefficients of one sampling step, as Python floats.

    Attributes:
        t: original timestep.
        last: whether this is the final step, which adds no noise.
        beta: variance of the respaced forward step.
        alpha_bar, alpha_bar_next: signal power here and at the step that follows (1 at the end).
        posterior_variance: variance of q(x_next | x, x_0).
        posterior_log_variance: its logarithm, clipped at the end, where the variance is 0.
        fixed_large_variance: beta, except at the end (ADM's variance of models that learn none).
    """

    t: int
    last: bool
    beta: float
    alpha_bar: float
    alpha_bar_next: float
    posterior_variance: float
    posterior_log_variance: float
    fixed_large_variance: float


def walk(steps: int | str, betas: Betas = LINEAR) -> Iterator[tuple[int, Step]]:
    """(i, coefficients) of every sampling step in order."""
    yield from enumerate(_walk(str(steps).strip(), betas))


@functools.cache
def _walk(text: str, schedule: Betas) -> tuple[Step, ...]:
    kept = np.array(timesteps(text)[::-1])  # ascending
    original = signal_power(schedule)[kept]
    betas = 1.0 - original / np.append(1.0, original[:-1])
    bars = np.cumprod(1.0 - betas)
    following = np.append(1.0, bars[:-1])
    variance = betas * (1.0 - following) / (1.0 - bars)
    clipped = np.append(variance[1] if len(variance) > 1 else betas[0], variance[1:])
    large = np.append(clipped[0], betas[1:])
    columns = (kept, betas, bars, following, variance, np.log(clipped), large)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    ascending = [Step(row[0], i == 0, *row[1:]) for i, row in enumerate(rows)]
    return tuple(ascending[::-1])


def signal_power(schedule: Betas = LINEAR) -> np.ndarray:
    """Alpha bar at every training timestep. -> [1000]"""
    shape, first, last = schedule
    power = {"linear": 1, "scaled_linear": 2}[shape]
    training = np.linspace(first ** (1 / power), last ** (1 / power), TRAINING_STEPS) ** power
    return np.cumprod(1.0 - training)


def predicted_x0(
    x: "Tensor", out: "Tensor", step: Step, *, clip: bool, prediction: str = "epsilon"
) -> "Tensor":
    """The clean sample that a network's prediction implies. Same shape as x.

    Args:
        out: the noise ("epsilon"), or the velocity `sqrt(a) noise - sqrt(1 - a) x0` of arXiv
            2202.00512 ("v_prediction").
    """
    if prediction == "v_prediction":
        x0 = step.alpha_bar**0.5 * x - (1.0 - step.alpha_bar) ** 0.5 * out
    else:
        x0 = (1.0 / step.alpha_bar) ** 0.5 * x - (1.0 / step.alpha_bar - 1.0) ** 0.5 * out
    return x0.clamp(-1, 1) if clip else x0


def split(out: "Tensor", *, learn_sigma: bool, channel_dim: int) -> "tuple[Tensor, Tensor | None]":
    """Model output -> (prediction, variance interpolation or None)."""
    if not learn_sigma:
        return out, None
    prediction, variance = out.chunk(2, dim=channel_dim)
    return prediction, variance
