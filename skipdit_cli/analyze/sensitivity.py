"""Sensitivity: how an error at one layer and step reaches the sample, so where caching is cheap.

At one step, what leaves one layer is replaced by what left it at the step before, as a cache that
reuses the layer would have it; everything else is computed. What is measured is how far the sample
then strays from the uncached one, in all and for the size of the error that was put in.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skipdit_cli.analyze import features
from skipdit_cli.analyze.features import Where, numbers
from skipdit_cli.analyze.looking import Subject, halves
from skipdit_cli.analyze.marked import Places, marks, mask, reused
from skipdit_cli.analyze.parts import Measure, Parts, read
from skipdit_cli.checkpoints.denoiser import as_batch
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.compiling import instead
from skipdit_cli.generate.options import Options
from skipdit_cli.run import Run
from skipdit_cli.score.certainty import interval_of_mean, paired
from skipdit_cli.storage.analysis import Analysis, Map, Panel

KIND, VERSION = "sensitivity", 1
EVERY, LAST = 5, 4  # steps of which one is tried; of the last ones each, where most changes
MOST_LAYERS = 12  # if nothing is said, evenly spaced


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What was found of one model.

    Attributes:
        run: uncached.
        layers, steps: that were tried.
        caches: what is reused by each, under its name.
        strayed: mean square by which samples stray over the square of their range:
            [samples, layers, steps].
        gain: norm by which samples stray over the norm of the error that was put in, nan where
            there is none: [samples, layers, steps].
    """

    run: Run
    layers: tuple[int, ...]
    steps: tuple[int, ...]
    caches: dict[str, Places]
    strayed: np.ndarray
    gain: np.ndarray


def measure(
    runs: Sequence[Run],
    options: Options,
    *,
    cached: Sequence[Run] = (),
    layers: int | None = None,
    every: int | None = None,
) -> Analysis:
    """Replace what leaves one layer at one step by what left it before, everywhere in turn.

    Args:
        runs: uncached, one per model.
        cached: the same under caches, to mark what they reuse.
        layers: how many are tried, evenly spaced; by default all, of many MOST_LAYERS.
        every: how far apart the steps are that are tried, from the second on; by default EVERY, and
            each of the LAST.
    Raises:
        UsageError: there are fewer layers, or there is one step.
        MissingAssetError: weights or prompts are not here.
        SkipditError: what a model computes is not finite.
    """
    chosen = [tried_layers(run, layers) for run in runs]
    steps = [tried_steps(len(run.timesteps), every) for run in runs]
    said = f"{KIND} {VERSION} {[run.key for run in runs]} {chosen} {runs[0].num_samples}"
    with Parts(said, options, title=f"analyzing {KIND}").held() as parts:
        found = [
            _of_model(run, options, parts, layers=some, steps=at, cached=cached)
            for run, some, at in zip(runs, chosen, steps, strict=True)
        ]
    return Analysis(
        kind=KIND,
        models=tuple(run.model for run in runs),
        settings=features.settings_of(
            runs,
            layers=[*map(list, chosen)] if len({*chosen}) > 1 else list(chosen[0]),
            every=every or f"{EVERY}, of the last {LAST} each",
            caches=sorted({name for each in found for name in each.caches}),
        ),
        panels=tuple(panel for each in found for panel in _maps(each)),
        summary=tuple(_summary(found)),
        notes=tuple(_notes(found)),
        provenance=features.provenance_of(runs, options),
    )


def tried_layers(run: Run, count: int | None) -> tuple[int, ...]:
    """So many layers, evenly spaced, the first and the last among them.

    Raises:
        UsageError: the model has fewer.
    """
    known = run.cache.layout.layers
    chosen = min(known, MOST_LAYERS) if count is None else count
    if not 1 <= chosen <= known:
        fix = f"take 1 to {known}"
        raise UsageError(f"{run.model} has {known} layers", place=f"--layers {count}", fix=fix)
    return tuple(round(at) for at in np.linspace(known - 1, 0, chosen)[::-1])


def tried_steps(steps: int, every: int | None) -> tuple[int, ...]:
    """The steps at which layers are replaced, from the second on."""
    last = range(max(1, steps - LAST), steps) if every is None else ()
    return tuple(sorted({*range(1, steps, every or EVERY), *last}))


def _of_model(
    run: Run,
    options: Options,
    parts: Parts,
    *,
    layers: tuple[int, ...],
    steps: tuple[int, ...],
    cached: Sequence[Run],
) -> Sensitivity:
    where = features.prepare(run, options)
    batches = {f"{run.model}-{batch[0]:06d}": batch for batch in features.batches(run)}
    whole: dict[str, Measure] = {
        name: functools.partial(generate, run, batch, where) for name, batch in batches.items()
    }
    parts.compute(whole, f"{run.model}, uncached")
    tried: dict[str, Measure] = {
        f"{name}-{step}": functools.partial(
            replace_layers, run, batch, where, layers, step, (parts.folder, name)
        )
        for name, batch in batches.items()
        for step in steps
    }
    parts.compute(tried, run.model)
    strayed, gain = (
        np.concatenate(
            [
                np.stack([parts.read(f"{name}-{step}")[what] for step in steps], axis=-1)
                for name in batches
            ]
        )
        for what in ("strayed", "gain")
    )
    return Sensitivity(
        run=run,
        layers=layers,
        steps=steps,
        caches={
            each.cache.short: reused(each, options) for each in cached if each.model == run.model
        },
        strayed=strayed,
        gain=gain,
    )


def generate(run: Run, indices: Sequence[int], where: Where) -> dict[str, Tensor]:
    """Generate a batch without a cache.

    Returns:
        outputs: of the network at every call, [calls, ...]; sample: latents, [B, ...].
    """
    outputs: list[Tensor] = []

    def keep(module: Any, args: Any, output: tuple[Tensor]) -> None:
        outputs.append(as_batch(output[0]).cpu())

    networks = Subject.of(run, features.network_of(run, where)).networks
    handles = [network.register_forward_hook(keep) for network in networks]
    try:
        sample = features.sample(run, indices, where, layers=(), see=lambda *seen: None)
    finally:
        for handle in handles:
            handle.remove()
    return {"outputs": torch.stack(outputs), "sample": sample}


def replace_layers(
    run: Run,
    indices: Sequence[int],
    where: Where,
    layers: Sequence[int],
    step: int,
    uncached: tuple[Path, str],
) -> dict[str, Tensor]:
    """Generate a batch again for each of some layers, which is reused at one step.

    Args:
        uncached: where the part is that `generate` gave: folder and name.
    Returns:
        strayed, gain: as in `Sensitivity`, [B, layers].
    """
    known = read(*uncached)
    before = known["sample"].flatten(1).double()
    reach = (before.amax(dim=1) - before.amin(dim=1)).square()
    strayed, gain = list[Tensor](), list[Tensor]()
    for layer in layers:
        sample, error = _replaced(run, indices, where, layer, step, known["outputs"])
        off = (sample.flatten(1).cpu().double() - before).square()
        strayed.append(off.mean(dim=1) / reach)
        gain.append((off.sum(dim=1) / error.cpu()).sqrt())
    return {"strayed": torch.stack(strayed, dim=1), "gain": torch.stack(gain, dim=1)}


def _replaced(
    run: Run, indices: Sequence[int], where: Where, layer: int, step: int, outputs: Tensor
) -> tuple[Tensor, Tensor]:
    """Samples of which one layer is reused at one step, and the square of the error put in, [B].

    Args:
        outputs: of the network at every call without that.
    """
    calls, kept, error = Counter[str](), dict[str, Tensor](), list[Tensor]()

    def see(_: int, x: Tensor, holds: str) -> Tensor | None:
        """The first call is of the step before."""
        calls[holds] += 1
        if calls[holds] == 1:
            kept[holds] = x
        if calls[holds] != 2:
            return None
        for off in halves(x - kept[holds], len(indices), holds).values():
            error.append(off.double().square().sum(dim=1))
        return kept.pop(holds)

    networks = Subject.of(run, features.network_of(run, where)).networks
    in_step = len(outputs) // len(run.timesteps)
    with given(networks, outputs[: in_step * (step - 1)]):
        sample = features.sample(run, indices, where, layers=[layer], see=see)
    return sample, torch.stack(error).sum(dim=0)


@contextmanager
def given(networks: Sequence[nn.Module], outputs: Tensor) -> Iterator[None]:
    """Let networks give what they are told at their first calls, and compute the others.

    So any sampler begins in the middle, whatever it keeps of the steps before.

    Args:
        outputs: [calls, ...].
    """
    left = [*outputs]

    def told(network: nn.Module) -> AbstractContextManager[None]:
        compute, device = network.forward, next(network.parameters()).device

        def forward(*args: Any, **kwargs: Any) -> Any:
            return (left.pop(0).to(device),) if left else compute(*args, **kwargs)

        return instead(network, forward)

    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(told(network))
        yield


def decibels(strayed: np.ndarray) -> np.ndarray:
    """Mean square over the square of the range, in dB; nan where nothing strays."""
    with np.errstate(divide="ignore"):
        found = 10 * np.log10(strayed)
    return np.where(np.isfinite(found), found, np.nan)


def _mean(values: np.ndarray, axis: int | tuple[int, ...] = 0) -> np.ndarray:
    """The mean of what there is; nan where there is nothing."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=axis) / known.sum(axis=axis)


def _maps(found: Sensitivity) -> list[Panel]:
    run = found.run
    shared: dict[str, Any] = {
        "down": "layer",
        "across": "timestep",
        "rows": tuple(map(str, found.layers)),
        "columns": tuple(str(run.timesteps[step]) for step in found.steps),
        "marks": marks(found.caches, found.layers, found.steps),
    }
    return [
        Map(
            title=f"{run.label}: how far samples stray if a layer is reused at a step",
            values=tuple(map(numbers, _mean(decibels(found.strayed)))),
            measure="dB of the range",
            **shared,
        ),
        Map(
            title=f"{run.label}: amplification of the error that a reused layer makes",
            values=tuple(map(numbers, _mean(found.gain))),
            measure="||sample error|| / ||feature error||",
            log=True,
            **shared,
        ),
    ]


def _summary(found: Sequence[Sensitivity]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for each in found for name in each.caches))
    lines = []
    for each in found:
        level, gain = decibels(each.strayed), _mean(each.gain)
        map_of = _mean(level)
        each_sample = _mean(level, axis=(1, 2))
        interval = interval_of_mean(each_sample[np.isfinite(each_sample)])
        line = {
            "model": each.run.label,
            "mean": _number(_mean(map_of, axis=(0, 1))),
            "95 % interval": interval and list(interval),
        }
        for name, sign in (("least", 1), ("most", -1)):
            order = np.where(np.isnan(map_of), np.inf, sign * map_of)
            row, column = np.unravel_index(order.argmin(), map_of.shape)
            line |= {
                name: _number(map_of[row, column]),
                f"{name} at layer": each.layers[row],
                f"{name} at timestep": each.run.timesteps[each.steps[column]],
            }
        line["amplification"] = _number(_mean(gain, axis=(0, 1)))
        for name in names:
            line[f"reused by {name}"] = _number(_inside(each, map_of, name))
        lines.append(line)
    return lines


def _inside(found: Sensitivity, values: np.ndarray, name: str) -> Any:
    """The mean over what a cache reuses."""
    places = marks({name: found.caches.get(name, ())}, found.layers, found.steps)[name]
    return _mean(values[mask(places, values.shape)])


def _number(value: Any) -> float | None:
    return numbers([value])[0]


def _notes(found: Sequence[Sensitivity]) -> list[str]:
    count = found[0].run.num_samples
    notes = [
        "At one step what leaves one layer, of both halves of guidance, is replaced by what left "
        "it at the step before, and all else is computed. Samples are latents; how far one strays "
        "is its root mean square difference from the uncached one over that one's range, in dB "
        "(20 log10; less is nearer, and where nothing strays there is none). Amplification is the "
        "norm of that difference over the norm of the error that was put in. Numbers are means of "
        f"these over {count} samples, the interval is a bootstrap over them.",
    ]
    for each in found:
        map_of = _mean(decibels(each.strayed))
        for name in each.caches:
            inside, everywhere = _inside(each, map_of, name), _mean(map_of, axis=(0, 1))
            if np.isfinite(inside):
                notes.append(
                    f"Where {name} reuses a layer of {each.run.label}, samples stray by "
                    f"{inside:.1f} dB on average; everywhere, by {everywhere:.1f} dB."
                )
    if len(found) == 2 and count > 1:
        means = [_mean(decibels(each.strayed), axis=(1, 2)) for each in found]
        if all(np.isfinite(each).all() for each in means):
            apart = paired(means[0].tolist(), means[1].tolist())
            between = apart.interval and f" ({apart.interval[0]:+.2g} to {apart.interval[1]:+.2g}"
            notes.append(
                f"{found[0].run.label} less {found[1].run.label}: {apart.mean:+.2g} dB{between}, "
                f"p = {apart.p:.2g}), over all layers and steps that were tried."
            )
    return notes
