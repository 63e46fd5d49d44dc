"""One file per sampler; what several share is in `_schedule.py`. `Sampler` is what a file holds.

Source of the respacing of timesteps: openai/guided-diffusion `respace.py`, as DiT and Latte use it.
"""

import functools
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from skipdit_cli.contract import Registered
from skipdit_cli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

TRAINING_STEPS = 1000


class Sampler(Registered, Protocol):
    """The contract of a sampler.

    Attributes:
        VERSION: raised whenever a change gives other samples (CONTRIBUTING.md).
        STOCHASTIC: whether it adds noise at its steps, as ancestral sampling does.
    """

    VERSION: int = 1
    STOCHASTIC: bool = False

    @abstractmethod
    def sample(
        self,
        denoise: "Callable[[Tensor, Tensor], Tensor]",
        x: "Tensor",
        *,
        steps: str,
        step_noise: "Callable[[int], Tensor]",
        learn_sigma: bool,
        channel_dim: int,
        betas: tuple[str, float, float],
        prediction: str,
        fixed_large: bool,
    ) -> "Tensor":
        """From noise to a sample; the network is called once at each of `timesteps`, in that order.

        Args:
            denoise: (x, t) -> prediction and variance, t [B] int64 in training timesteps.
            x: [B, ...] float32 standard normal.
            steps: as in `timesteps`.
            step_noise: i -> the noise of the i-th step, like x: the only noise there is, so that a
                sample depends on its seed and index alone.
            learn_sigma: whether `denoise` gives the variance too, behind the prediction.
            channel_dim: the dimension along which prediction and variance are joined.
            betas: the noise schedule the network was trained with: shape ("linear" or
                "scaled_linear"), first and last value.
            prediction: what the network predicts, "epsilon" or "v_prediction".
            fixed_large: without a learned variance, that of the forward step rather than the
                posterior's.
        Returns:
            The sample, like x.
        """

    def timesteps(self, steps: str) -> list[int]:
        """The training timesteps (999 to 0) that are visited, highest first.

        Args:
            steps: an official respacing string: "250", "ddim50", "ddim50+1", "10,15,20".
        Raises:
            UsageError: the string cannot be read, or asks for more steps than there are.
        """
        return timesteps(steps)


def timesteps(steps: int | str) -> list[int]:
    """The original timesteps (0..999) that a sampler visits, highest first.

    Args:
        steps: an int or an official respacing string: "250" (evenly spaced, 999 and 0 included),
            "ddim50" (multiples of 1000/50), "ddim50+1" (the same, each one higher: diffusers'
            "leading" with steps_offset 1), "10,15,20" (counts per equal section), "" (all).
    Raises:
        UsageError: the string cannot be read, or asks for more steps than there are.
    """
    return list(_timesteps(str(steps).strip()))


@functools.cache
def _timesteps(text: str) -> tuple[int, ...]:
    wrong = UsageError(
        f"cannot take steps '{text}' of {TRAINING_STEPS} training steps",
        fix='write a count such as 250, "ddim50", or counts per section such as "10,15,20"',
    )
    if text.startswith("ddim"):
        count, offset = (_count(part) for part in _parts(text[4:]))
        for every in range(1, TRAINING_STEPS):
            chosen = [t + offset for t in range(0, TRAINING_STEPS, every)]
            if len(chosen) == count and offset >= 0 and chosen[-1] < TRAINING_STEPS:
                return tuple(chosen[::-1])
        raise wrong
    parts = text.split(",") if text else [str(TRAINING_STEPS)]
    if not all(_count(part.strip()) > 0 for part in parts):
        raise wrong
    chosen = []
    least, extra = divmod(TRAINING_STEPS, len(parts))
    for i, part in enumerate(parts):
        start, size, count = i * least + min(i, extra), least + (i < extra), int(part)
        if count > size:
            raise wrong
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0
        for _ in range(count):  # added up, not multiplied: the official rounding
            chosen.append(start + round(position))
            position += stride
    return tuple(sorted(set(chosen), reverse=True))


def _count(text: str) -> int:
    """A number of steps; -1 for what is none, or has more digits than there are steps."""
    fits = text.isascii() and text.isdigit() and len(text) <= len(str(TRAINING_STEPS))
    return int(text) if fits else -1


def _parts(text: str) -> tuple[str, str]:
    """ "50+1" -> ("50", "1"), "50" -> ("50", "0")."""
    number, plus, offset = text.partition("+")
    return number, offset if plus else "0"
