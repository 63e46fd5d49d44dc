"""DDPM ancestral sampling with learned-range variance, on respaced timesteps.

Source: arXiv 2006.11239 and 2102.09672; openai/guided-diffusion `gaussian_diffusion.py`
(`p_sample_loop`), as DiT and Latte use it. diffusers' DDPMScheduler agrees to 1e-5 (a test holds
the two together) but draws its own noise; here it comes from outside, so that a sample depends on
its seed and index alone.
"""

from collections.abc import Callable
from math import log
from typing import TYPE_CHECKING

from skipdit_cli.samplers._schedule import LINEAR, Betas, predicted_x0, split, walk

if TYPE_CHECKING:  # a plan asks for the timesteps, and torch takes seconds
    from torch import Tensor

STOCHASTIC = True


def sample(
    denoise: "Callable[[Tensor, Tensor], Tensor]",
    x: "Tensor",
    *,
    steps: int | str,
    step_noise: "Callable[[int], Tensor]",
    clip: bool = False,
    learn_sigma: bool = True,
    channel_dim: int = 1,
    betas: Betas = LINEAR,
    prediction: str = "epsilon",
    fixed_large: bool = True,
) -> "Tensor":
    """Sample from noise.

    Args:
        denoise: (x, t) -> prediction and variance, t [B] in original timesteps (int64).
        x: [B, ...] standard normal.
        steps: an int or an official respacing string ("250", "ddim50", "ddim50+1", "10,15,20").
        step_noise: i -> the noise of the i-th step, like x.
        clip: clamp the predicted clean sample to [-1, 1].
        learn_sigma: whether the model predicts the variance too.
        channel_dim: the dimension along which prediction and variance are joined.
        betas: the schedule the network was trained with.
        prediction: what it predicts, "epsilon" or "v_prediction".
        fixed_large: without a learned variance, that of the forward step (ADM's FIXED_LARGE)
            rather than the posterior's (diffusers' default, "fixed_small").
    Returns:
        The sample, like x.
    """
    import torch

    for i, step in walk(steps, betas):
        t = torch.full((len(x),), step.t, dtype=torch.int64, device=x.device)
        out, interpolation = split(denoise(x, t), learn_sigma=learn_sigma, channel_dim=channel_dim)
        x0 = predicted_x0(x, out, step, clip=clip, prediction=prediction)
        mean = (
            step.beta * step.alpha_bar_next**0.5 / (1 - step.alpha_bar) * x0
            + (1 - step.alpha_bar_next) * (1 - step.beta) ** 0.5 / (1 - step.alpha_bar) * x
        )
        noise = step_noise(i)
        if step.last:
            x = mean
        elif interpolation is None:
            variance = step.fixed_large_variance if fixed_large else step.posterior_variance
            x = mean + variance**0.5 * noise
        else:  # the network interpolates between the smallest and the largest log variance
            weight = (interpolation + 1) / 2
            log_variance = weight * log(step.beta) + (1 - weight) * step.posterior_log_variance
            x = mean + torch.exp(0.5 * log_variance) * noise
    return x
