"""Calibration of caching methods: how the features of an uncached model change from step to step.

teacache   a polynomial of degree 4 from the relative change of the first layer's modulated input to
           that of the model's output, fitted over samples and steps (arXiv 2411.19108, eq. 6)
mag-cache  per step, how much larger what all layers add is than on the step before: the mean ratio
           of norms over tokens and samples (arXiv 2506.09045; diffusers `hooks/mag_cache.py`)
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from skipdit_cli import calibration, conditions, provenance, weights
from skipdit_cli.calibration import Calibration
from skipdit_cli.errors import UsageError, unknown
from skipdit_cli.run import latents_of
from skipdit_cli.sites import Site, site_modules

if TYPE_CHECKING:
    from skipdit_cli.hooks import Session
    from skipdit_cli.plan import Run

DEGREE = 4
DIGITS = 6  # significant ones of a value: the spec of a run holds them all

Progress = Callable[[int, int], None]


def calibrate(
    run: "Run",
    method: str,
    *,
    root: Path,
    device: str = "cpu",
    weights_path: Path | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Generate the samples of an uncached run and measure what a method needs.

    Args:
        run: what is generated; nothing of it is decoded or kept.
        method: teacache or mag-cache.
        root: the results folder, for text embeddings.
        progress: called with (model calls done, calls in all) after every step.
    Raises:
        UsageError: the method needs no calibration, or there are too few steps for one.
        MissingAssetError: the weights are not here.
    """
    if method not in calibration.methods():
        raise unknown("method", method, calibration.methods(), place="--method")
    weights.require(run.model, path=weights_path)
    conditions.prepare(run, root, device=device)
    model = weights.load(run.model, path=weights_path, device=device, dtype=run.dtype)
    batches = range(0, run.num_samples, run.batch_size)
    observed, calls = [], 0
    for first in batches:
        indices = range(first, min(first + run.batch_size, run.num_samples))

        def on_step(session: "Session", x: Tensor) -> None:
            nonlocal calls
            calls += 1
            if progress:
                progress(calls, len(batches) * len(session.timesteps))

        guided = run.guidance is not None
        with watched(model, method, samples=len(indices), guided=guided) as found:
            latents_of(run.reference, indices, model=model, root=root, on_step=on_step)
        observed.append(torch.stack(found, dim=1))  # [samples, steps - 1, ...]
    seen = torch.cat(observed).double().cpu().numpy()
    values = polynomial(*seen.reshape(-1, 2).T) if method == "teacache" else ratios(seen)
    return Calibration(
        model=run.model,
        method=method,
        weights=weights.fingerprint(run.model, path=weights_path),
        sampler=run.sampler,
        steps=run.steps,
        guidance=run.guidance,
        num_samples=run.num_samples,
        seed=run.seed,
        pairs=seen.shape[0] * seen.shape[1],
        values=values,
        provenance=provenance.collect(import_torch=True),
    )


@contextmanager
def watched(model: nn.Module, method: str, *, samples: int, guided: bool) -> Iterator[list[Tensor]]:
    """A list that gets, at every call of the model but the first, what a method is fitted on.

    Args:
        samples: in a batch. guided: whether guidance doubles what the model sees.
    Yields:
        teacache: [samples, 2], relative changes of modulated input and output since the last call.
        mag-cache: [samples], how what all layers add has grown.
    """
    sites, layers = site_modules(model), model.layout().layers
    now: dict[str, Tensor] = {}
    before: dict[str, Tensor] = {}
    found: list[Tensor] = []

    def keep(name: str) -> Callable:
        def hook(module: nn.Module, args: tuple) -> None:
            now[name] = args[0]

        return hook

    def added(module: nn.Module, args: tuple, output: Tensor) -> None:
        now["added"] = output - now.pop("entering")

    def called(module: nn.Module, args: tuple, output: tuple[Tensor]) -> None:
        if method == "teacache":
            now["output"] = output[0]
        if before and method == "teacache":
            pair = [
                change(now[key], before[key], samples=samples, guided=guided)
                for key in ("modulated", "output")
            ]
            found.append(torch.stack(pair, dim=1))
        elif before:
            found.append(growth(now["added"], before["added"], samples=samples, guided=guided))
        before.update(now)

    if method == "teacache":
        handles = [sites[Site("attn.spatial", 0)].register_forward_pre_hook(keep("modulated"))]
    else:
        handles = [
            sites[Site("layer", 0)].register_forward_pre_hook(keep("entering")),
            sites[Site("layer", layers - 1)].register_forward_hook(added),
        ]
    handles.append(model.register_forward_hook(called))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def change(now: Tensor, before: Tensor, *, samples: int, guided: bool) -> Tensor:
    """mean |now - before| / mean |before| of every sample, both halves of guidance. -> [samples]"""
    differ, size = (_by_sample(x.float().abs(), samples, guided) for x in (now - before, before))
    return differ.mean(dim=1) / size.mean(dim=1)


def growth(now: Tensor, before: Tensor, *, samples: int, guided: bool) -> Tensor:
    """Mean over tokens of |now| / |before| of every sample, both halves. -> [samples]"""
    norms = [_by_sample(x.float().norm(dim=-1), samples, guided) for x in (now, before)]
    return (norms[0] / norms[1]).mean(dim=1)


def _by_sample(x: Tensor, samples: int, guided: bool) -> Tensor:
    """[(2 *) samples * ..., ...] -> [samples, everything]"""
    return x.reshape(2 if guided else 1, samples, -1).transpose(0, 1).flatten(1)


def polynomial(changes: np.ndarray, outputs: np.ndarray) -> tuple[float, ...]:
    """Coefficients, highest power first, of the least-squares fit of outputs over changes.

    Raises:
        UsageError: there are fewer different observations than coefficients.
    """
    if len(np.unique(changes)) <= DEGREE:
        raise UsageError(
            f"{len(changes)} observations cannot give {DEGREE + 1} coefficients",
            place="--steps",
            fix="take more steps",
        )
    return _rounded(np.polyfit(changes, outputs, DEGREE))


def ratios(observed: np.ndarray) -> tuple[float, ...]:
    """Per step, the mean over samples; 1 for the first step, which follows none.

    Args:
        observed: [samples, steps - 1].
    """
    return (1.0, *_rounded(observed.mean(axis=0)))


def _rounded(values: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
