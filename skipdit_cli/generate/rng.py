"""One noise stream per (seed, sample, step), whatever the batch, worker, device or restart.

The generator is numpy's Philox4x64, a counter-based generator: the key is (seed, sample index) and
the highest word of the counter is the step, so every triple owns a stream of 2**192 blocks that no
other triple touches, and any of them can be entered directly. torch's own CPU generator would not
do: it keeps only 32 bits of a seed, and 50,000 samples times 250 steps need 12.5 million streams,
of which some 18,000 pairs would then be the same (n**2 / 2**33).

Numbers are drawn on the CPU in float64 and rounded to float32, so that a last-digit difference
between two maths libraries does not reach a sample.
"""

from collections.abc import Sequence

import numpy as np
import torch

from skipdit_cli.errors import UsageError

INITIAL = -1  # the step whose noise is the initial latent
_CHOICE = 2**64 - 1  # the counter word of `choice`; steps use 0, 1, 2, ...


def normal(shape: Sequence[int], *, seed: int, index: int, step: int) -> torch.Tensor:
    """Standard normal noise of one sample at one step.

    Args:
        shape: of one sample, without a batch dimension.
        seed: of the run, 0 <= seed < 2**63.
        index: of the sample, from 0.
        step: of the sampler, from 0; -1 is the initial latent.

    Returns:
        float32 tensor of that shape on the CPU.

    Raises:
        UsageError: the seed is out of range.
    """
    if step < INITIAL:
        raise ValueError(f"step {step} is below {INITIAL}")
    values = _generator(seed, index, step + 1).standard_normal(tuple(shape))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def batch_normal(
    shape: Sequence[int], *, seed: int, indices: Sequence[int], step: int
) -> torch.Tensor:
    """`normal` of several samples, stacked: float32 [len(indices), *shape] on the CPU."""
    return torch.stack([normal(shape, seed=seed, index=index, step=step) for index in indices])


def choice(n: int, *, seed: int, index: int) -> int:
    """One of 0, ..., n-1, each equally likely, from a stream that no step uses.

    Raises:
        UsageError: the seed is out of range.
    """
    return int(_generator(seed, index, _CHOICE).integers(n))


def _generator(seed: int, index: int, word: int) -> np.random.Generator:
    if not 0 <= seed < 2**63:
        raise UsageError(
            f"seed {seed} is out of range", place="seed", fix=f"take one from 0 to {2**63 - 1}"
        )
    if index < 0:
        raise ValueError(f"sample index {index} is negative")
    key = np.array([seed, index], dtype=np.uint64)
    counter = np.array([0, 0, 0, word], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
