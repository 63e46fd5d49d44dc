"""Random directions in the space of a model's weights, and the model moved along two of them.

Source: Li et al., Visualizing the Loss Landscape of Neural Nets (NeurIPS 2018), filter-wise
normalisation; Skip-DiT, equations 3 to 5. A filter is what gives one output: d_ij is normal noise
scaled to ||d_ij|| = ||w_ij||. A parameter of one dimension (a bias, a norm) has no filters and does
not move.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skipdit_cli.generate import rng

FIRST = 2**32  # stream of the first direction; those of samples are smaller


class Filters(NamedTuple):
    """The part of a direction that is one parameter's: noise, and what scales each filter of it.

    The noise is held in 16 bits, so that two directions take as much memory as the weights.
    """

    noise: Tensor
    scale: Tensor


Direction = Mapping[str, Filters]  # by the name of a parameter


def direction(model: nn.Module, *, seed: int, number: int) -> Direction:
    """A random direction, the same on every device.

    Args:
        seed: of the run.
        number: which direction, from 0.
    """
    return {
        name: _filters(weight, rng.normal(weight.shape, seed=seed, index=FIRST + number, step=i))
        for i, (name, weight) in enumerate(_moving(model).items())
    }


def _moving(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: each for name, each in model.named_parameters() if each.dim() > 1}


def _filters(weight: Tensor, drawn: Tensor) -> Filters:
    noise = drawn.half().to(weight.device)
    norms = [x.detach().float().flatten(1).norm(dim=1) for x in (weight, noise)]
    scale = norms[0] / norms[1].clamp_min(torch.finfo(torch.float32).tiny)
    return Filters(noise, scale.view(-1, *[1] * (weight.dim() - 1)))


@contextmanager
def moved(model: nn.Module, steps: Sequence[tuple[Direction, float]]) -> Iterator[None]:
    """The model with its weights moved, each direction times how far; in the end as it was.

    The weights themselves are put aside, so that they come back bit for bit.
    """
    weights = _moving(model)
    kept = {name: weight.data for name, weight in weights.items()}
    try:
        for name, weight in weights.items():
            there = kept[name].float()
            for along, far in steps:
                noise, scale = along[name]
                there = torch.addcmul(there, noise.float(), far * scale)
            weight.data = there.to(kept[name].dtype)
        yield
    finally:
        for name, weight in weights.items():
            weight.data = kept[name]
