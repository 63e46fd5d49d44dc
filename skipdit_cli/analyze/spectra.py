"""Spectra: how far layers, and stacks of them, stretch a change of their hidden state.

Largest singular values of (a) the weight matrices of each layer, (b) the Jacobian of each layer,
and (c) that of stack i, layers i to L + 1 - i counted from 1, with the long skips inside it; at the
hidden states of generated samples. For layers one after the other ||J_b ... J_a|| is at most
||J_b|| ... ||J_a||; Skip-DiT (ICCV 2025) argues that long skips bound the norm more tightly.
"""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from skipdit_cli.analyze import inputs, spectra_told
from skipdit_cli.analyze.features import provenance_of, settings_of
from skipdit_cli.analyze.inputs import Asked
from skipdit_cli.analyze.jacobian import Stack, layers_of, spectral_norms
from skipdit_cli.analyze.parts import Parts
from skipdit_cli.analyze.spectra_told import Spectra
from skipdit_cli.errors import UsageError
from skipdit_cli.generate import rng
from skipdit_cli.generate.options import Options
from skipdit_cli.run import Run
from skipdit_cli.sites import Site, site_modules
from skipdit_cli.storage.analysis import Analysis

VERSION = 2  # raised when the same weights and inputs would give other numbers
TOLERANCE, ITERATIONS = 1e-3, 50
FIRST = 2**33  # stream of the first sample's start; those of noise and directions are smaller


def measure(
    runs: Sequence[Run],
    options: Options,
    *,
    at: Sequence[int] | None = None,
    stacks: Sequence[int] | None = None,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> Analysis:
    """Measure the spectral norms of several models.

    Args:
        runs: uncached, one of each model.
        at: steps, from 1; else an early, a middle and the last one.
        stacks: which, from 1, the whole network, to half the number of layers; else all.
        tolerance: iteration ends when a norm changes by no more than this share of itself,
        iterations: or after so many.
    Raises:
        UsageError: a number is out of range.
        MissingAssetError: weights or prompts are not here.
        SkipditError: what a model computes is not finite, or its layers are not one after another.
    """
    _check(tolerance, iterations)
    steps = [inputs.steps_at(run, at) for run in runs]
    numbers = [_stacks(run, stacks) for run in runs]
    inputs.prepared(runs, options)
    said = f"spectra {VERSION} {inputs.keys(runs)} {steps} {numbers} {tolerance} {iterations}"
    found = []
    with Parts(said, options, title="analyzing spectra").held() as parts:
        for run, chosen, wanted in zip(runs, steps, numbers, strict=True):
            asked = inputs.asked(run, chosen, options, parts.folder)
            found.append(_computed(asked, parts, wanted, tolerance, iterations))
    own = {
        "at": inputs.alike([[*each] for each in steps]),
        "stacks": inputs.alike([[*each] for each in numbers]),
        "tolerance": tolerance,
        "iterations": iterations,
    }
    return Analysis(
        kind="spectra",
        models=tuple(run.model for run in runs),
        settings=settings_of(runs) | own,
        panels=spectra_told.panels(found),
        summary=spectra_told.summary(found),
        notes=spectra_told.notes(found, tolerance),
        provenance=provenance_of(runs, options),
    )


def _check(tolerance: float, iterations: int) -> None:
    if not 0 < tolerance < 1:
        raise UsageError(
            f"{tolerance:g} is no tolerance", place="--tolerance", fix="give a share, as 0.001"
        )
    if iterations < 2:
        raise UsageError(f"{iterations} is too few", place="--iterations", fix="give 2 or more")


def _stacks(run: Run, chosen: Sequence[int] | None) -> tuple[int, ...]:
    most = run.cache.layout.layers // 2
    for i in chosen or ():
        if not 1 <= i <= most:
            raise UsageError(
                f"{run.model} has no stack {i}",
                place="--stacks",
                fix=f"take stacks from 1, the whole network, to {most}, its innermost layers",
            )
    return tuple(range(1, most + 1)) if chosen is None else tuple(sorted(set(chosen)))


def _computed(
    asked: Asked, parts: Parts, stacks: tuple[int, ...], tolerance: float, iterations: int
) -> Spectra:
    run, batches = asked.run, asked.batches
    inputs.recording(asked, parts)
    weights = f"{run.model}-weights"
    named = {
        (step, batch): f"{run.model}-jacobians-{step}-{batch.start:06d}"
        for step in asked.at
        for batch in batches
    }
    work = {
        name: functools.partial(jacobians, asked, batch, step, stacks, tolerance, iterations)
        for (step, batch), name in named.items()
    }
    parts.compute({weights: functools.partial(matrices, asked), **work}, run.label)

    def gathered(what: str) -> np.ndarray:
        """[steps, layers or stacks, samples]"""
        of_steps = [
            [parts.read(named[step, batch])[what] for batch in batches] for step in asked.at
        ]
        return np.stack([np.concatenate(each, axis=-1) for each in of_steps])

    return Spectra(
        asked=asked,
        weights={name: float(value[0]) for name, value in parts.read(weights).items()},
        layers=gathered("layers"),
        numbers=stacks,
        stacks=gathered("stacks"),
        unsettled=gathered("unsettled").sum(axis=-1),
        norms=gathered("norms").sum(axis=-1),
    )


def matrices(asked: Asked) -> dict[str, Tensor]:
    """The largest singular value of every weight matrix of every layer: LAYER.NAME -> [1].

    A convolution is the matrix [out, -1]. Tables that are looked up or added are none.
    """
    with inputs.model_of(asked) as model:
        sites = site_modules(model)
        weights = {
            f"{i}.{name}": module.weight.detach()
            for i in range(model.layout().layers)
            for name, module in sites[Site("layer", i)].named_modules()
            if isinstance(getattr(module, "weight", None), Tensor)
            and not isinstance(module, nn.Embedding)
        }
        found = {
            name: torch.linalg.matrix_norm(weight.float().flatten(1), ord=2)[None]
            for name, weight in weights.items()
            if weight.dim() > 1
        }
    fix = "take other weights"
    return {name: inputs.finite(asked.run, value, fix) for name, value in found.items()}


def jacobians(
    asked: Asked,
    indices: range,
    step: int,
    stacks: Sequence[int],
    tolerance: float,
    iterations: int,
) -> dict[str, Tensor]:
    """Spectral norms of the Jacobians of a batch at a step.

    Returns:
        layers, stacks: the geometric mean of both halves of guidance, [layers or stacks, samples].
        unsettled, norms: how many had not converged, of how many, [1, 1].
    """
    run = asked.run
    values, changes = [], []
    with inputs.model_of(asked) as model:
        given = inputs.recorded(asked, indices, model)[step]
        layers = layers_of(model, functools.partial(inputs.called, model, given))
        last = len(layers) - 1
        ends = [(i, i) for i in range(len(layers))] + [(i - 1, last + 1 - i) for i in stacks]
        for first, until in ends:
            stack = Stack(layers, model.layout().skips, first, until)
            found = spectral_norms(
                stack.forward,
                stack.backward,
                start(run, indices, layers[first].x),
                inputs=len(given[inputs.NAMES[1]]),
                tolerance=tolerance,
                iterations=iterations,
            )
            values.append(found.values)
            changes.append(found.changes)
    norms = inputs.finite(run, torch.stack(values), "take --precision float32")
    means = inputs.by_sample(run, norms.double().log()).exp()
    off = (torch.stack(changes) > tolerance).sum()
    return {
        "layers": means[: len(layers)],
        "stacks": means[len(layers) :],
        "unsettled": off.view(1, 1),
        "norms": torch.tensor([[norms.numel()]]),
    }


def start(run: Run, indices: range, x: Tensor) -> Tensor:
    """Where iteration starts: normal noise of each sample and half, like a hidden state x."""
    halves = range(2 if run.guided else 1)
    count = x.numel() // (len(indices) * len(halves))
    drawn = [
        rng.normal((count,), seed=run.seed, index=FIRST + index, step=half)
        for half in halves
        for index in indices
    ]
    return torch.stack(drawn).reshape(x.shape).to(x)
