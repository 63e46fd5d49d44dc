"""Similarity of cached generations to uncached ones: features and latents at every timestep.

Source: the teaser of arXiv 2411.17616 (ICCV 2025). Both begin with the same noise; how far the
cached one has gone astray is the cosine similarity to the uncached one, and the relative error,
the norm of the difference over the norm of the uncached one.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skipdit_cli.analyze import features
from skipdit_cli.analyze.features import SOME, Where, cosine, numbers, some
from skipdit_cli.analyze.looking import halves
from skipdit_cli.analyze.parts import Measure, Parts
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.options import Options
from skipdit_cli.run import Run
from skipdit_cli.score.certainty import interval_of_mean, intervals_of_means, paired
from skipdit_cli.sites import CONDITIONAL, NULL, Site
from skipdit_cli.storage.analysis import Analysis, Lines, Panel

KIND, VERSION = "similarity", 1
MEASURES = (("cosine similarity", False), ("relative error", True))  # and whether it is logarithmic

# (step, latents that enter the network, what leaves layers) of one step.
AtStep = Callable[[int, Tensor, Mapping[int, Tensor]], None]


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """What was found of one model under one cache; the second dimension is that of MEASURES.

    Attributes:
        run: under the cache.
        name: of its curves.
        layers: whose features are compared.
        features: of the conditional half: [samples, 2, layers, steps], nan where there are none.
        latents: that enter the network: [samples, 2, steps].
        sample: that comes out: [samples, 2].
    """

    run: Run
    name: str
    layers: tuple[int, ...]
    features: np.ndarray
    latents: np.ndarray
    sample: np.ndarray


def measure(
    runs: Sequence[Run],
    options: Options,
    *,
    cached: Sequence[Run],
    layers: Sequence[int] | None = None,
) -> Analysis:
    """Compare the features and latents of cached generations to those of uncached ones.

    Args:
        runs: uncached, one per model.
        cached: the same under caches.
        layers: whose features are compared; by default the last.
    Raises:
        UsageError: there is no cache, a model has no such layer, or there is one step.
        MissingAssetError: weights or prompts are not here.
        SkipditError: what a model computes is not finite.
    """
    if not cached:
        raise UsageError("nothing is compared without a cache", place="--cache", fix="name one")
    used = [run for run in runs if any(each.model == run.model for each in cached)]
    chosen = [_chosen(run, layers) for run in used]
    keys = [run.key for run in (*used, *cached)]
    said = f"{KIND} {VERSION} {keys} {chosen} {runs[0].num_samples}"
    with Parts(said, options, title=f"analyzing {KIND}").held() as parts:
        found = [
            each
            for run, some_layers in zip(used, chosen, strict=True)
            for each in _of_model(
                run,
                [each for each in cached if each.model == run.model],
                options,
                parts,
                layers=some_layers,
                alone=len(used) == 1,
            )
        ]
    return Analysis(
        kind=KIND,
        models=tuple(run.model for run in runs),
        settings=features.settings_of(
            used,
            layers="last" if layers is None else list(chosen[0]),
            caches=list(dict.fromkeys(each.cache.short for each in cached)),
        ),
        panels=tuple(_panels(found, last=layers is None)),
        summary=tuple(_line(each, i) for each in found for i in range(len(each.layers))),
        notes=tuple(_notes(found)),
        provenance=features.provenance_of(used, options),
    )


def _chosen(run: Run, layers: Sequence[int] | None) -> tuple[int, ...]:
    return features.chosen_layers(run, layers, [run.cache.layout.layers - 1])


def _of_model(
    run: Run,
    cached: Sequence[Run],
    options: Options,
    parts: Parts,
    *,
    layers: tuple[int, ...],
    alone: bool,
) -> list[Similarity]:
    where = features.prepare(run, options)
    names: dict[str, Measure] = {
        f"{run.model}-{batch[0]:06d}": functools.partial(
            compare, run, tuple(cached), batch, where, layers
        )
        for batch in features.batches(run)
    }
    parts.compute(names, run.model)
    read = [parts.read(name) for name in names]
    together = {key: np.concatenate([each[key] for each in read], axis=1) for key in read[0]}
    return [
        Similarity(
            run=each,
            name=each.cache.short if alone else f"{each.model}, {each.cache.short}",
            layers=layers,
            features=together["features"][i],
            latents=together["latents"][i],
            sample=together["sample"][i],
        )
        for i, each in enumerate(cached)
    ]


def compare(
    run: Run, cached: Sequence[Run], indices: Sequence[int], where: Where, layers: Sequence[int]
) -> dict[str, Tensor]:
    """Generate a batch without a cache and under each of several, and compare them.

    Of what leaves a layer, SOME values are compared.

    Returns:
        features [caches, B, 2, layers, steps], latents [caches, B, 2, steps] and sample
        [caches, B, 2]; the dimension of 2 is that of MEASURES.
    """
    reference: list[tuple[Tensor, Mapping[int, Tensor]]] = []

    def keep(step: int, x: Tensor, left: Mapping[int, Tensor]) -> None:
        reference.append((x.flatten(1).cpu(), left))

    sample = _generate(run, indices, where, layers, keep)
    found = [_against(reference, sample, each, indices, where, layers) for each in cached]
    return {name: torch.stack([each[name] for each in found]) for name in found[0]}


def _against(
    reference: Sequence[tuple[Tensor, Mapping[int, Tensor]]],
    uncached: Tensor,
    run: Run,
    indices: Sequence[int],
    where: Where,
    layers: Sequence[int],
) -> dict[str, Tensor]:
    """What `compare` gives, of one cache.

    Args:
        reference: latents and features of every step without a cache.
        uncached: the samples.
        run: under the cache.
    """
    latents, near = list[Tensor](), list[Tensor]()
    nothing = torch.full((len(indices), 2), torch.nan, dtype=torch.float64)

    def see(step: int, x: Tensor, left: Mapping[int, Tensor]) -> None:
        before, known = reference[step]
        latents.append(_near(x.flatten(1).cpu(), before))
        compared = [_near(left[i], known[i]) if i in left else nothing for i in layers]
        near.append(torch.stack(compared, dim=-1))

    sample = _generate(run, indices, where, layers, see)
    return {
        "features": torch.stack(near, dim=-1),
        "latents": torch.stack(latents, dim=-1),
        "sample": _near(sample.flatten(1), uncached.flatten(1)).cpu(),
    }


def _generate(
    run: Run, indices: Sequence[int], where: Where, layers: Sequence[int], at_step: AtStep
) -> Tensor:
    """Generate a batch, with what leaves layers at every step as it is compared."""
    last, left = run.cache.layout.layers - 1, dict[int, tuple[Tensor, str]]()

    def on_step(at: features.At) -> None:
        known = {
            layer: some(both[CONDITIONAL]).float().cpu()
            for layer, (each, holds) in left.items()
            # what leaves a reused layer goes nowhere, but what leaves the last is used
            if layer == last or Site("layer", layer) not in at.reused
            if CONDITIONAL in (both := halves(each, len(indices), at.holds or holds))
        }
        left.clear()
        at_step(at.step, at.x, known)

    def see(layer: int, x: Tensor, holds: str) -> None:
        if holds != NULL:  # in a call of its own
            left[layer] = x, holds

    return features.sample(run, indices, where, layers=layers, see=see, on_step=on_step)


def _near(x: Tensor, reference: Tensor) -> Tensor:
    """Cosine similarity and relative error of every row: [B, values] -> [B, 2]."""
    off, size = ((y.double().square().sum(-1)).sqrt() for y in (x - reference, reference))
    return torch.stack([cosine(x, reference), torch.where(size > 0, off / size, off)], dim=-1)


def _panels(found: Sequence[Similarity], *, last: bool) -> list[Panel]:
    """Curves of what was compared, of models that visit the same timesteps together."""
    curves: dict[tuple[tuple[int, ...], str], dict[str, np.ndarray]] = defaultdict(dict)
    for each in found:
        at = each.run.timesteps
        for i, layer in enumerate(each.layers):
            what = "features that leave " + ("the last layer" if last else f"layer {layer}")
            curves[at, what][each.name] = each.features[:, :, i]
        curves[at, "latents"][each.name] = each.latents
    return [
        _curves(f"{name.capitalize()}, {what}", at, series, i)
        for (at, what), series in curves.items()
        for i, (name, _) in enumerate(MEASURES)
    ]


def _curves(
    title: str, at: tuple[int, ...], series: Mapping[str, np.ndarray], number: int
) -> Lines:
    name, log = MEASURES[number]
    bands = {key: intervals_of_means(values[:, number]) for key, values in series.items()}
    known = {key: ends for key, ends in bands.items() if ends is not None}
    return Lines(
        title=title,
        across="timestep",
        up=name,
        at=at,
        series={key: numbers(values[:, number].mean(axis=0)) for key, values in series.items()},
        low={key: numbers(ends[0]) for key, ends in known.items()},
        high={key: numbers(ends[1]) for key, ends in known.items()},
        log=log,
    )


def _line(found: Similarity, i: int) -> dict[str, Any]:
    """What is printed of one layer."""
    similarity, error = found.features[:, :, i].mean(axis=0)
    interval = interval_of_mean(found.sample[:, 1])
    worst = int(np.nanargmin(similarity))
    return {
        "model": found.run.label,
        "cache": found.run.cache.short,
        "layer": found.layers[i],
        "feature similarity": float(np.nanmean(similarity)),
        "worst": float(similarity[worst]),
        "at timestep": found.run.timesteps[worst],
        "feature error": float(np.nanmean(error)),
        "worst error": float(np.nanmax(error)),
        "latent similarity": float(found.latents[:, 0].mean()),
        "latent error": float(found.latents[:, 1].mean()),
        "sample error": float(found.sample[:, 1].mean()),
        "95 % interval": interval and list(interval),
    }


def _notes(found: Sequence[Similarity]) -> list[str]:
    count = found[0].run.num_samples
    notes = [
        "Features are what leaves a layer, of the conditional half of guidance, at most "
        f"{SOME} values of a sample and the same ones at every step; latents are what enters the "
        "network, and samples what comes out. Each sample is compared, as one vector, with that of "
        "the uncached generation from the same noise: by cosine similarity, and by relative error, "
        "||x - reference|| / ||reference||. Curves and columns are means over "
        f"{count} samples, bands and intervals a bootstrap over them (95 %)."
    ]
    if any(np.isnan(each.features).any() for each in found):
        notes.append(
            "There is no value where a layer but the last is reused, as nothing uses what leaves "
            "it, and where the conditional half is not computed."
        )
    others = [each for each in found if not each.run.is_reference]
    ranked = sorted(others, key=lambda each: each.sample[:, 1].mean())
    if len(ranked) > 1:
        first, second = ranked[:2]
        apart = paired(second.sample[:, 1].tolist(), first.sample[:, 1].tolist())
        between = apart.interval and f", {apart.interval[0]:.3g} to {apart.interval[1]:.3g}"
        notes.append(
            f"Samples stray least with {first.name} ({first.sample[:, 1].mean():.3g}), then with "
            f"{second.name} (by {apart.mean:.3g} more{between or ''}, p = {apart.p:.2g})."
        )
    return notes
