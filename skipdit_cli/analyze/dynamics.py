"""Dynamics of features: how alike what leaves a layer is from one denoising step to another.

Source: arXiv 2411.17616, figure 4. A cache that reuses a layer takes what left it at an earlier
step for what would leave it now; the cosine similarity of the two says how wrong that is.
"""

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skipdit_cli.analyze import features
from skipdit_cli.analyze.features import SOME, Where, cosine, cosines, numbers, some
from skipdit_cli.analyze.looking import halves
from skipdit_cli.analyze.marked import Places, marks, mask, reused
from skipdit_cli.analyze.parts import Measure, Parts
from skipdit_cli.generate.options import Options
from skipdit_cli.run import Run
from skipdit_cli.score.certainty import interval_of_mean, intervals_of_means, paired
from skipdit_cli.sites import CONDITIONAL, NULL
from skipdit_cli.storage.analysis import Analysis, Lines, Map, Panel

KIND, VERSION = "dynamics", 1
MOST_STEPS = 64  # that are compared in all pairs, evenly spaced
DISTANCE = "1 - cosine similarity"
HALVES = (CONDITIONAL, NULL)  # of guidance; without it there is the first alone


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """What was found of one model.

    Attributes:
        run: uncached.
        layers: whose steps are compared in all pairs.
        caches: what is reused by each, under its name.
        neighbours: similarity to the step before, mean over samples: [halves, layers, steps - 1].
        pairs: of the conditional half, mean over samples: [len(layers), compared, compared].
        profiles: of every sample's conditional half, mean over layers: [samples, steps - 1].
        means: of every sample, over layers and steps: [samples, halves].
    """

    run: Run
    layers: tuple[int, ...]
    caches: dict[str, Places]
    neighbours: np.ndarray
    pairs: np.ndarray
    profiles: np.ndarray
    means: np.ndarray


def measure(
    runs: Sequence[Run],
    options: Options,
    *,
    cached: Sequence[Run] = (),
    layers: Sequence[int] | None = None,
) -> Analysis:
    """Compare what leaves every layer with what left it at the step before, and at all others.

    Args:
        runs: uncached, one per model.
        cached: the same under caches, to mark what they reuse.
        layers: whose steps are compared in all pairs; by default the first, middle and last.
    Raises:
        UsageError: a model has no such layer, or there is one step.
        MissingAssetError: weights or prompts are not here.
        SkipditError: what a model computes is not finite.
    """
    chosen = [_chosen(run, layers) for run in runs]
    said = f"{KIND} {VERSION} {[run.key for run in runs]} {chosen} {runs[0].num_samples}"
    with Parts(said, options, title=f"analyzing {KIND}").held() as parts:
        found = [
            _of_model(run, options, parts, layers=some_layers, cached=cached)
            for run, some_layers in zip(runs, chosen, strict=True)
        ]
    return Analysis(
        kind=KIND,
        models=tuple(run.model for run in runs),
        settings=features.settings_of(
            runs,
            layers=[*map(list, chosen)] if len({*chosen}) > 1 else list(chosen[0]),
            caches=sorted({name for each in found for name in each.caches}),
        ),
        panels=(*_profiles(found), *(panel for each in found for panel in _maps(each))),
        summary=tuple(_summary(found)),
        notes=tuple(_notes(found)),
        provenance=features.provenance_of(runs, options),
    )


def _chosen(run: Run, layers: Sequence[int] | None) -> tuple[int, ...]:
    count = run.cache.layout.layers
    return features.chosen_layers(run, layers, (0, count // 2, count - 1))


def _of_model(
    run: Run, options: Options, parts: Parts, *, layers: tuple[int, ...], cached: Sequence[Run]
) -> Dynamics:
    where = features.prepare(run, options)
    names: dict[str, Measure] = {
        f"{run.model}-{batch[0]:06d}": functools.partial(watch, run, batch, where, layers)
        for batch in features.batches(run)
    }
    parts.compute(names, run.model)
    neighbours = pairs = 0.0
    profiles, means = list[np.ndarray](), list[np.ndarray]()
    for name in names:
        found = parts.read(name)
        neighbours = neighbours + found["neighbours"].sum(axis=0)
        pairs = pairs + found["pairs"].sum(axis=0)
        profiles.append(found["neighbours"][:, 0].mean(axis=1))
        means.append(found["neighbours"].mean(axis=(2, 3)))
    return Dynamics(
        run=run,
        layers=layers,
        caches={
            each.cache.short: reused(each, options) for each in cached if each.model == run.model
        },
        neighbours=np.asarray(neighbours) / run.num_samples,
        pairs=np.asarray(pairs) / run.num_samples,
        profiles=np.concatenate(profiles),
        means=np.concatenate(means),
    )


def watch(
    run: Run, indices: Sequence[int], where: Where, layers: Sequence[int]
) -> dict[str, Tensor]:
    """Generate a batch, and compare what leaves its layers.

    Returns:
        neighbours: [B, halves, all layers, steps - 1]; pairs: [B, len(layers), compared, compared].
    """
    compared = {*_compared(len(run.timesteps))}
    before: dict[tuple[str, int], Tensor] = {}
    neighbours: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
    kept: dict[int, list[Tensor]] = {layer: [] for layer in layers}

    def see(layer: int, x: Tensor, holds: str) -> None:
        for half, now in halves(x, len(indices), holds).items():
            at = half, layer
            if at in before:
                neighbours[at].append(cosine(now, before[at]))
            before[at] = now
            step = len(neighbours[at])
            if half == CONDITIONAL and layer in kept and step in compared:
                kept[layer].append(some(now).float().cpu())

    every = range(run.cache.layout.layers)
    features.sample(run, indices, where, layers=every, see=see)
    seen = [half for half in HALVES if (half, 0) in before]
    near = [torch.stack([torch.stack(neighbours[h, i], dim=-1) for i in every], 1) for h in seen]
    alike = [cosines(torch.stack(kept[layer], dim=1)) for layer in layers]
    return {"neighbours": torch.stack(near, dim=1), "pairs": torch.stack(alike, dim=1)}


def _compared(steps: int) -> range:
    """The steps that are compared in all pairs."""
    return range(0, steps, -(-steps // MOST_STEPS))


def _profiles(found: Sequence[Dynamics]) -> list[Panel]:
    """The models beside one another, if they visit the same timesteps."""
    if len(found) < 2 or len({each.run.timesteps for each in found}) > 1:
        return []
    ends = {each.run.model: intervals_of_means(1 - each.profiles) for each in found}
    bands = [
        {name: numbers(each[i]) for name, each in ends.items() if each is not None} for i in (0, 1)
    ]
    return [
        Lines(
            title="Distance to the step before, mean over layers, conditional half",
            across="timestep",
            up=DISTANCE,
            at=found[0].run.timesteps[1:],
            series={each.run.model: numbers(1 - each.profiles.mean(axis=0)) for each in found},
            low=bands[0],
            high=bands[1],
            log=True,
        )
    ]


def _maps(found: Dynamics) -> list[Panel]:
    run, (halves, layers, _) = found.run, found.neighbours.shape
    timesteps = tuple(map(str, run.timesteps))
    steps = range(1, len(timesteps))
    compared = tuple(timesteps[step] for step in _compared(len(timesteps)))
    neighbours = [
        Map(
            title=f"{run.label}: distance to the step before{_half(half, halves)}",
            down="layer",
            across="timestep",
            rows=tuple(map(str, range(layers))),
            columns=timesteps[1:],
            values=tuple(map(numbers, 1 - found.neighbours[half])),
            measure=DISTANCE,
            marks=marks(found.caches, range(layers), steps),
            log=True,
        )
        for half in range(halves)
    ]
    pairs = [
        Map(
            title=f"{run.label}: similarity between steps, layer {layer}{_half(0, halves)}",
            down="timestep",
            across="timestep",
            rows=compared,
            columns=compared,
            values=tuple(map(numbers, values)),
            measure="cosine similarity",
        )
        for layer, values in zip(found.layers, found.pairs, strict=True)
    ]
    return [*neighbours, *pairs]


def _half(half: int, halves: int) -> str:
    return f", {HALVES[half]} half" if halves > 1 else ""


def _summary(found: Sequence[Dynamics]) -> list[dict[str, object]]:
    """A line per model and half of guidance."""
    names = list(dict.fromkeys(name for each in found for name in each.caches))
    lines = []
    for each in found:
        for half, similarity in enumerate(each.neighbours):
            layer, step = np.unravel_index(np.argmin(similarity), similarity.shape)
            interval = interval_of_mean(each.means[:, half])
            lines.append(
                {
                    "model": each.run.label,
                    "half": HALVES[half] if each.run.guided else "all",
                    "similarity": float(similarity.mean()),
                    "95 % interval": interval and list(interval),
                    "lowest": float(similarity.min()),
                    "at layer": int(layer),
                    "at timestep": each.run.timesteps[step + 1],
                }
                | {f"reused by {name}": _reused(each, half, name)[0] for name in names}
            )
    return lines


def _reused(found: Dynamics, half: int, name: str) -> tuple[float | None, float | None]:
    """Mean similarity where a cache reuses, and elsewhere; None where there is no such place."""
    similarity = found.neighbours[half]
    places = tuple((layer, step - 1) for layer, step in found.caches.get(name, ()) if step)
    chosen = mask(places, similarity.shape)
    here, elsewhere = similarity[chosen], similarity[~chosen]
    return (
        float(here.mean()) if here.size else None,
        float(elsewhere.mean()) if elsewhere.size else None,
    )


def _notes(found: Sequence[Dynamics]) -> list[str]:
    count = found[0].run.num_samples
    notes = [
        "Similarity is the cosine between all values that leave a layer at two steps, of one "
        "sample and one half of guidance, as one vector; of neighbours, maps and curves show what "
        f"it lacks of 1. Numbers are means over {count} samples, intervals a bootstrap over them. "
        f"Of pairs of steps, at most {SOME} values of a layer and {MOST_STEPS} steps are compared, "
        "the same values at every step."
    ]
    for each in found:
        for name, places in each.caches.items():
            here, elsewhere = _reused(each, 0, name)
            if here is not None and elsewhere is not None:
                notes.append(
                    f"{name} reuses {len(places)} places (layer, step) of {each.run.label}, whose "
                    f"similarity to the step before is {here:.4f}; elsewhere it is {elsewhere:.4f}."
                )
    if len(found) == 2 and count > 1:
        first, second = found
        apart = paired(first.means[:, 0].tolist(), second.means[:, 0].tolist())
        said = "" if apart.interval is None else f" ({apart.interval[0]:+.2g} to "
        said += "" if apart.interval is None else f"{apart.interval[1]:+.2g}, p = {apart.p:.2g})"
        notes.append(
            f"{first.run.label} less {second.run.label}: {apart.mean:+.2g}{said}, of the "
            "conditional half over all layers and steps, from the same noise."
        )
    return notes
