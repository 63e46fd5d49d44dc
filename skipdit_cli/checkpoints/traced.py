"""What one call of a pipeline of diffusers does, as far as a Run has to know it."""

from dataclasses import dataclass
from itertools import groupby
from operator import floordiv


@dataclass(frozen=True)
class Traced:
    """A call of a pipeline for one prompt.

    Attributes:
        timesteps: of every step, 1000 to 0.
        sigmas: per step, what its noise is to noise and signal together.
        flow: whether the scheduler is one of flow matching.
        turns: per step, the place of the transformer that it calls.
        samples: per step, how many a call computes: 2 with guidance in one batch or in two calls.
        calls: per step, how often a transformer is called.
        order: paths of the blocks of a transformer as they are called.
        skips: pairs of layers (to, from) that are joined.
        steady: whether hidden states keep their shape from one block to the next.
        output: shape of a sample, [H, W, 3] or [T, H, W, 3].
        decoding: operations of decoding it.
        given: shape of the latents that a transformer is given, of one sample.
        streams: of each block, the names and outputs of its `Stream`; () for what diffusers knows.
        conditional_first: whether a doubled batch has the null half second.
        wants_negative: whether it fails without a negative prompt, and so is given an empty one.
    """

    timesteps: tuple[int, ...]
    sigmas: tuple[float, ...]
    flow: bool
    turns: tuple[int, ...]
    samples: tuple[int, ...]
    calls: tuple[int, ...]
    order: tuple[str, ...]
    skips: tuple[tuple[int, int], ...]
    steady: bool
    output: tuple[int, ...]
    decoding: int
    given: tuple[int, ...]
    streams: tuple[tuple[tuple[str, ...], tuple[int | None, ...]], ...] = ()
    conditional_first: bool = False
    wants_negative: bool = False

    @property
    def batches(self) -> tuple[int, ...]:
        """Per step, how many samples each call of a transformer computes."""
        return tuple(map(floordiv, self.samples, self.calls))

    @property
    def doubled(self) -> bool:
        """Whether guidance is one call of a doubled batch."""
        return (max(self.samples), max(self.calls)) == (2, 1)

    @property
    def stretches(self) -> tuple[range, ...]:
        """The steps of each transformer: those in a row."""
        grouped = groupby(range(len(self.turns)), key=self.turns.__getitem__)
        runs = [[*steps] for _, steps in grouped]
        return tuple(range(steps[0], steps[-1] + 1) for steps in runs)
