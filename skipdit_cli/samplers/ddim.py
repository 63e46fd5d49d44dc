"""DDIM sampling on respaced timesteps.

Source: arXiv 2010.02502; openai/guided-diffusion `gaussian_diffusion.py` (`ddim_sample_loop`).
diffusers' DDIMScheduler agrees only for evenly spaced "ddimN" timesteps: otherwise it steps to
t - 1000 // N instead of to the next listed timestep (off by 0.1 at 10 steps).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from skipdit_cli.samplers._schedule import LINEAR, Betas, predicted_x0, split, walk

if TYPE_CHECKING:  # a plan asks for the timesteps, and torch takes seconds
    from torch import Tensor


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
    eta: float = 0.0,
) -> "Tensor":
    """Sample from noise; arguments as in `ddpm.sample`; `fixed_large` has no part in it.

    Args:
        eta: 0 is deterministic and never asks for noise; 1 has the variance of DDPM.
    Returns:
        The sample, like x.
    """
    import torch

    for i, step in walk(steps, betas):
        t = torch.full((len(x),), step.t, dtype=torch.int64, device=x.device)
        out, _ = split(denoise(x, t), learn_sigma=learn_sigma, channel_dim=channel_dim)
        x0 = predicted_x0(x, out, step, clip=clip, prediction=prediction)
        eps = ((1 / step.alpha_bar) ** 0.5 * x - x0) / (1 / step.alpha_bar - 1) ** 0.5
        sigma = eta * step.posterior_variance**0.5
        x = step.alpha_bar_next**0.5 * x0 + (1 - step.alpha_bar_next - sigma**2) ** 0.5 * eps
        if eta and not step.last:
            x = x + sigma * step_noise(i)
    return x
