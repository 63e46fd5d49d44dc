"""What a denoiser is trained on: the hybrid loss of one that learns its variance, or a velocity.

The hybrid loss is mean squared error + variational bound. Source: arXiv 2102.09672, section 3.1;
openai/guided-diffusion `gaussian_diffusion.py` (`training_losses` with LEARNED_RANGE and MSE), as
DiT trains with. The bound acts on the variance alone: the noise prediction is detached in it.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from skipdit_cli.samplers._schedule import LINEAR, Betas, walk


class Diffusion:
    """Coefficients of the full schedule as float32 tables on a device, indexed by t."""

    def __init__(self, device: torch.device, betas: Betas = LINEAR) -> None:
        steps = [step for _, step in walk("", betas)][::-1]

        def table(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        self.signal = table([s.alpha_bar**0.5 for s in steps])
        self.noise = table([(1 - s.alpha_bar) ** 0.5 for s in steps])
        self.log_beta = table([math.log(s.beta) for s in steps])
        self.log_posterior = table([s.posterior_log_variance for s in steps])
        self.mean_x0 = table([s.beta * s.alpha_bar_next**0.5 / (1 - s.alpha_bar) for s in steps])
        self.mean_x = table(
            [(1 - s.alpha_bar_next) * (1 - s.beta) ** 0.5 / (1 - s.alpha_bar) for s in steps]
        )


class Flow:
    """Flow matching from noise (s = 1) to samples (s = 0), x = (1 - s) x0 + s noise.

    Tables on a device, indexed by t in 0..999, as diffusers' FlowMatchEulerDiscreteScheduler has
    them, but rising: s in float32, and the timestep that the network is told, 1000 s.

    Args:
        shift: of the scheduler; above 1 there is more noise at the same t.
    """

    def __init__(self, device: torch.device, *, shift: float = 1.0) -> None:
        s = torch.arange(1, 1001, dtype=torch.float32, device=device) / 1000
        self.noise = shift * s / (1 + (shift - 1) * s)
        self.timesteps = 1000 * self.noise

    @staticmethod
    def draw(count: int, generator: Generator) -> Tensor:
        """t of samples, [count] int64: logit-normal, as Stable Diffusion 3 is trained
        (arXiv 2403.03206, section 3.1)."""
        return (1000 * torch.randn(count, generator=generator).sigmoid()).long().clamp(max=999)


def flow_loss(
    denoise: Callable[[Tensor, Tensor], Tensor], x0: Tensor, t: Tensor, *, noise: Tensor, flow: Flow
) -> Tensor:
    """Mean squared error of the velocity `noise - x0` (arXiv 2210.02747).

    Arguments as in `hybrid_loss`; `denoise` is told the timesteps of `flow`.

    Returns:
        The loss of each sample, [B].
    """
    s = flow.noise[t].view(-1, *[1] * (x0.dim() - 1))
    velocity = denoise((1 - s) * x0 + s * noise, flow.timesteps[t])
    return _mean((noise - x0 - velocity) ** 2)


def hybrid_loss(
    denoise: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    t: Tensor,
    *,
    noise: Tensor,
    diffusion: Diffusion,
    channel_dim: int = 1,
    min_snr: float | None = None,
    noisy_weight: float = 1.0,
) -> Tensor:
    """Mean squared error of the noise plus the variational bound in bits per dimension.

    Args:
        denoise: (x, t) -> noise and variance interpolation, joined on `channel_dim`.
        x0: clean samples in [-1, 1], [B, ...].
        t: training timesteps, [B] int64 in 0..999.
        noise: like x0.
        diffusion: the noise schedule.
        channel_dim: the dimension of the channels.
        min_snr: cap on the weight of nearly clean samples (gamma of arXiv 2303.09556); small models
            learn shapes sooner with it. None weighs all timesteps alike.
        noisy_weight: cap on the weight 1 + 1/SNR, with which an error of the noise counts as one of
            velocity: where there is little signal, where things are and what they are is decided.
    Returns:
        The loss of each sample, [B].
    """

    def at(table: Tensor) -> Tensor:
        return table[t].view(-1, *[1] * (x0.dim() - 1))

    x = at(diffusion.signal) * x0 + at(diffusion.noise) * noise
    eps, interpolation = denoise(x, t).chunk(2, dim=channel_dim)
    mse = _mean((noise - eps) ** 2)
    if min_snr is not None:
        snr = (diffusion.signal[t] / diffusion.noise[t]) ** 2
        mse = mse * (min_snr / snr).clamp(max=1)
    mse = mse * (1 + (diffusion.noise[t] / diffusion.signal[t]) ** 2).clamp(max=noisy_weight)

    weight = (interpolation + 1) / 2
    log_variance = weight * at(diffusion.log_beta) + (1 - weight) * at(diffusion.log_posterior)
    predicted = (x - at(diffusion.noise) * eps.detach()) / at(diffusion.signal)
    mean = at(diffusion.mean_x0) * predicted + at(diffusion.mean_x) * x
    true_mean = at(diffusion.mean_x0) * x0 + at(diffusion.mean_x) * x
    bound = _kl(true_mean, at(diffusion.log_posterior), mean, log_variance)
    decoder = -_discretized_log_likelihood(x0, mean, 0.5 * log_variance)
    bits = torch.where(t == 0, _mean(decoder), _mean(bound)) / math.log(2)
    return mse + bits


def velocity_loss(
    denoise: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    t: Tensor,
    *,
    noise: Tensor,
    diffusion: Diffusion,
    channel_dim: int = 1,
    min_snr: float | None = None,
) -> Tensor:
    """Mean squared error of the velocity `sqrt(a) noise - sqrt(1 - a) x0` (arXiv 2202.00512).

    Arguments as in `hybrid_loss`; a second half of the output's channels has no part in it.

    Returns:
        The loss of each sample, [B].
    """
    shape = -1, *[1] * (x0.dim() - 1)
    signal, spread = diffusion.signal[t].view(shape), diffusion.noise[t].view(shape)
    out = denoise(signal * x0 + spread * noise, t).narrow(channel_dim, 0, x0.shape[channel_dim])
    loss = _mean((signal * noise - spread * x0 - out) ** 2)
    if min_snr is not None:
        snr = (diffusion.signal[t] / diffusion.noise[t]) ** 2
        loss = loss * snr.clamp(max=min_snr) / (snr + 1)
    return loss


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(1)


def _kl(mean_p: Tensor, log_p: Tensor, mean_q: Tensor, log_q: Tensor) -> Tensor:
    """KL divergence of two normal distributions given by mean and log variance, in nats."""
    ratio = torch.exp(log_p - log_q) + (mean_p - mean_q) ** 2 * torch.exp(-log_q)
    return 0.5 * (-1.0 + log_q - log_p + ratio)


def _discretized_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability of the 1/255 wide bin around x under a normal distribution, in nats."""
    normal = torch.distributions.Normal(0.0, 1.0, validate_args=False)
    inverse = torch.exp(-log_scale)
    upper = normal.cdf((x - mean + 1 / 255) * inverse)
    lower = normal.cdf((x - mean - 1 / 255) * inverse)
    inside = (upper - lower).clamp(min=1e-12).log()
    below = upper.clamp(min=1e-12).log()
    above = (1 - lower).clamp(min=1e-12).log()
    return torch.where(x < -0.999, below, torch.where(x > 0.999, above, inside))
