"""One file per sampler; what several share is in `_schedule.py`. `Sampler` is what a file holds."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from skipdit_cli.contract import Registered

if TYPE_CHECKING:
    from torch import Tensor


class Sampler(Registered, Protocol):
    """The contract of a sampler."""

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
        from skipdit_cli.samplers._schedule import timesteps

        return timesteps(steps)
