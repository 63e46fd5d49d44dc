"""Generations that are looked into: the hidden states that leave layers, and how near they are.

Features are compared one sample and one half of guidance at a time, all values as one vector; of
what has to be kept over many steps, SOME values that are the same ones at every step.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from skipdit_cli.analyze.looking import See, Subject, leaving
from skipdit_cli.checkpoints import local
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.generate import conditioning, loaded
from skipdit_cli.generate.batch import latents_of, network
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Options
from skipdit_cli.generate.worker import device_here
from skipdit_cli.precision import products
from skipdit_cli.run import Run
from skipdit_cli.sites import Site
from skipdit_cli.storage import provenance

if TYPE_CHECKING:
    from skipdit_cli.generate.hooks import Session

SOME = 8192  # values of a feature that are kept over many steps, of each sample and half


class At(NamedTuple):
    """A step that has been computed.

    Attributes:
        step: which, from 0.
        x: the latents that entered the network, [B, ...].
        reused: the sites that a cache reused.
        holds: what a batch of one of our networks held, of `sites`; "" of pipelines, of which every
            call says it.
    """

    step: int
    x: Tensor
    reused: frozenset[Site]
    holds: str


@dataclass(frozen=True)
class Where:
    """Where samples are computed, in any process.

    Attributes:
        root: the results folder, for the embeddings of prompts.
        device: "cpu" or "cuda".
        weights_path: a checkpoint file instead of the known place.
    """

    root: Path
    device: str = "cpu"
    weights_path: Path | None = None


def prepare(run: Run, options: Options) -> Where:
    """Have everything here that the samples of a run need, and say where they are computed.

    Raises:
        UsageError: it has one step, and nothing to compare.
        MissingAssetError: weights, prompts or an encoder are not here.
    """
    if len(run.timesteps) < 2:
        fix = "take more steps"
        raise UsageError("steps are compared, and there is one", place="--steps", fix=fix)
    local.require(run.card, path=options.weights_path)
    encode(run, options)
    return Where(options.root, options.device, options.weights_path)


def encode(run: Run, options: Options) -> None:
    """Have the embeddings of a run's prompts here.

    Raises:
        MissingAssetError: prompts or an encoder are not here.
    """
    conditioning.require(run)
    if conditioning.pending(run, options.root):
        loaded.release()  # a text encoder may be larger than the denoiser
    conditioning.prepare(run, options.root, device=device_here(options.device))


def batches(run: Run) -> list[range]:
    """The indices of a run's samples, those together that are computed together."""
    size, count = run.batch_size, run.num_samples
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def chosen_layers(run: Run, given: Sequence[int] | None, usual: Iterable[int]) -> tuple[int, ...]:
    """The layers that are looked at, rising.

    Args:
        given: by the user; None for the usual ones.
    Raises:
        UsageError: the model has no such layer.
    """
    count = run.cache.layout.layers
    chosen = tuple(sorted(set(usual if given is None else given)))
    if wrong := [layer for layer in chosen if not 0 <= layer < count]:
        fix = f"take 0 to {count - 1}"
        raise UsageError(f"{run.model} has no layer {wrong[0]}", place="--layer", fix=fix)
    return chosen


def sample(
    run: Run,
    indices: Sequence[int],
    where: Where,
    *,
    layers: Iterable[int],
    see: See,
    on_step: Callable[[At], None] | None = None,
) -> Tensor:
    """Generate samples of a run, and look at what leaves some of its layers.

    Args:
        see: called in the order in which layers are computed.
        on_step: called after the layers of a step.
    Returns:
        Latents, float32 [B, ...].
    Raises:
        SkipditError: what the model computes is not finite, or memory is not enough.
    """
    model = network_of(run, where)
    subject, steps = Subject.of(run, model), itertools.count()

    with subject.calls(len(indices)) as calls:

        def stepped(session: "Session", x: Tensor) -> None:
            if on_step:
                entered = x if calls.entered is None else calls.entered
                holds = "" if run.card.pipeline else session.batch
                on_step(At(next(steps), entered, session.reused[session.step], holds))
            calls.next_step()

        with memory_checked(run.batch_size), leaving(subject, calls, layers, see):
            latents = latents_of(run, indices, model=model, root=where.root, on_step=stepped)
    if not torch.isfinite(latents).all():
        fix = "take --precision float32"
        raise SkipditError(
            f"what it computes with {run.cache} is not finite", place=run.model, fix=fix
        )
    return latents


def network_of(run: Run, where: Where) -> Any:
    """The denoiser that samples of a run are computed by, or its pipeline; a process has one."""
    return network(run, device=where.device, weights_path=where.weights_path)


def some(x: Tensor) -> Tensor:
    """At most SOME of the values, the same ones for every x of that size. [..., values]"""
    if (count := x.shape[-1]) <= SOME:
        return x
    of_all = torch.Generator().manual_seed(count)
    return x[..., torch.randint(count, (SOME,), generator=of_all).to(x.device)]


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine similarity over the last dimension, float64.

    It is exactly 1 of what is the same, and 0 where one of the two is zero.
    """
    x, y = x.double(), y.double()
    return _angle((x * y).sum(-1), (x * x).sum(-1), (y * y).sum(-1))


def cosines(x: Tensor) -> Tensor:
    """Cosine similarity of all pairs of rows: [..., rows, values] -> float64 [..., rows, rows]."""
    x = x.double()
    products = x @ x.transpose(-1, -2)
    squares = products.diagonal(dim1=-2, dim2=-1)
    return _angle(products, squares[..., :, None], squares[..., None, :])


def _angle(product: Tensor, first: Tensor, second: Tensor) -> Tensor:
    size = (first * second).sqrt()
    same = ((first == 0) & (second == 0)).to(product.dtype)
    return torch.where(size > 0, product / size, same)


def settings_of(runs: Sequence[Run], **own: Any) -> dict[str, Any]:
    """What an analysis was asked for: of the generations, then its own.

    A setting in which the models differ is a list.
    """
    names = ("steps", "guidance", "seed", "num_samples", "precision", "weights")
    values: dict[str, list[Any]] = {"sampler": [run.sampler.name for run in runs]}
    values |= {name: [getattr(run, name) for run in runs] for name in names}
    return {name: each[0] if len({*each}) == 1 else each for name, each in values.items()} | own


def provenance_of(runs: Sequence[Run], options: Options) -> dict[str, Any]:
    """Where the numbers come from, with the precision that they are computed in."""
    with products(runs[0].precision):
        return provenance.collect(import_torch=True, device=device_here(options.device))


def numbers(values: Any) -> tuple[float | None, ...]:
    """Numbers of a row as an analysis keeps them: None where there is none."""
    return tuple(float(value) if math.isfinite(value) else None for value in values)
