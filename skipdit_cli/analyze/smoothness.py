"""Smoothness: how a model's prediction changes as its weights move along random directions.

Skip-DiT, Fig. 2 and equations 3 to 5: over a grid of (alpha, beta) the weights w become
w + alpha d1 + beta d2 (`perturb.py`), and the prediction at chosen denoising steps is compared with
that of w, on the inputs that the uncached samples of the run have there.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skipdit_cli.analyze import inputs, intervals
from skipdit_cli.analyze.features import cosine, provenance_of, settings_of
from skipdit_cli.analyze.inputs import Asked
from skipdit_cli.analyze.parts import Parts
from skipdit_cli.analyze.perturb import direction, moved
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.options import Options
from skipdit_cli.run import Run
from skipdit_cli.score.certainty import Interval
from skipdit_cli.storage.analysis import Analysis, Lines, Map

VERSION = 1  # raised when the same weights and inputs would give other numbers
HIGH = 0.95  # similarity above which a point of the surface counts as unchanged
GRID, DIRECTIONS, RADIUS = 11, 3, 0.3
DEFINITION = (
    "Similarity is the cosine between the predicted noise or velocity with and without moved "
    "weights, of each half of guidance, averaged over both and over samples. A direction is normal "
    "noise, each filter of which has the norm of that filter of the weights; biases and other "
    "parameters of one dimension do not move. Curvature is the second derivative at the origin by "
    "finite differences of the innermost points, the mean of both axes. Intervals are Student's, "
    "95 %, over pairs of directions."
)


def measure(
    runs: Sequence[Run],
    options: Options,
    *,
    at: Sequence[int] | None = None,
    grid: int = GRID,
    directions: int = DIRECTIONS,
    radius: float = RADIUS,
) -> Analysis:
    """Measure the surfaces of several models.

    Args:
        runs: uncached, one of each model.
        at: steps, from 1; else an early, a middle and the last one.
        grid: points along each side, odd, so that the origin is one of them.
        directions: pairs of directions.
        radius: the largest alpha and beta, in norms of the weights.
    Raises:
        UsageError: a number is out of range.
        MissingAssetError: weights or prompts are not here.
        SkipditError: what a model computes is not finite.
    """
    _check(grid, directions, radius)
    steps = [inputs.steps_at(run, at) for run in runs]
    inputs.prepared(runs, options)
    said = f"smoothness {VERSION} {inputs.keys(runs)} {steps} {grid} {directions} {radius}"
    surfaces = []
    with Parts(said, options, title="analyzing smoothness").held() as parts:
        for run, chosen in zip(runs, steps, strict=True):
            asked = inputs.asked(run, chosen, options, parts.folder)
            values = _computed(asked, parts, grid, directions, radius)
            surfaces.append(Surfaces(asked, values, radius))
    own = {
        "at": inputs.alike([[*each] for each in steps]),
        "grid": grid,
        "directions": directions,
        "radius": radius,
    }
    return Analysis(
        kind="smoothness",
        models=tuple(run.model for run in runs),
        settings=settings_of(runs) | own,
        panels=(*_curves(surfaces), *_maps(surfaces)),
        summary=tuple(line for each in surfaces for line in _lines(each)),
        notes=(*_verdicts(surfaces), DEFINITION),
        provenance=provenance_of(runs, options),
    )


def _check(grid: int, directions: int, radius: float) -> None:
    if grid < 3 or grid % 2 == 0:
        raise UsageError(
            f"{grid} points have no origin among them",
            place="--grid",
            fix="take an odd number, 3 or more",
        )
    if directions < 1:
        raise UsageError(f"{directions} is too few", place="--directions", fix="give 1 or more")
    if not 0 < radius < float("inf"):
        raise UsageError(f"{radius:g} is no radius", place="--radius", fix="give one above 0")


def _computed(asked: Asked, parts: Parts, grid: int, directions: int, radius: float) -> np.ndarray:
    """Similarities, float64 [directions, steps, grid, grid, samples]."""
    run, batches = asked.run, asked.batches
    inputs.recording(asked, parts)
    named = {
        (number, batch): f"{run.model}-direction-{number}-{batch.start:06d}"
        for number in range(directions)
        for batch in batches
    }
    work = {
        name: functools.partial(surface, asked, batch, number, grid, radius)
        for (number, batch), name in named.items()
    }
    parts.compute(work, run.label)
    return np.stack(
        [
            np.concatenate(
                [parts.read(named[number, batch])["similarity"] for batch in batches], -1
            )
            for number in range(directions)
        ]
    )


def surface(
    asked: Asked, indices: range, number: int, grid: int, radius: float
) -> dict[str, Tensor]:
    """How similar the predictions of a batch are over the plane of one pair of directions.

    Returns:
        similarity: float64 [steps, grid, grid, samples]; beta by row, alpha by column.
    """
    offsets, run = _offsets(grid, radius), asked.run
    with inputs.model_of(asked) as model:
        given = [*inputs.recorded(asked, indices, model).values()]
        plain = [inputs.called(model, each) for each in given]
        pair = [direction(model, seed=run.seed, number=2 * number + i) for i in (0, 1)]

        def similar(alpha: float, beta: float) -> Tensor:  # [steps, samples]
            with moved(model, [*zip(pair, (alpha, beta), strict=True)]):
                there = [inputs.called(model, each) for each in given]
            cosines = [
                cosine(x.flatten(1), inputs.finite(run, y, "take a smaller --radius").flatten(1))
                for x, y in zip(plain, there, strict=True)
            ]
            return inputs.by_sample(run, torch.stack(cosines)).cpu()

        rows = [torch.stack([similar(alpha, beta) for alpha in offsets], 1) for beta in offsets]
    return {"similarity": torch.stack(rows, dim=1)}


def _offsets(grid: int, radius: float) -> list[float]:
    half = grid // 2
    return [radius * i / half for i in range(-half, half + 1)]


@dataclass(frozen=True)
class Surfaces:
    """What was measured of one model.

    Attributes:
        values: [directions, steps, grid, grid, samples].
    """

    asked: Asked
    values: np.ndarray
    radius: float

    @property
    def name(self) -> str:
        return self.asked.run.label

    @property
    def offsets(self) -> list[float]:
        """Alpha of the columns and beta of the rows."""
        return _offsets(self.values.shape[2], self.radius)

    def high(self, step: int) -> np.ndarray:
        """The share of the grid, of all samples, that is above HIGH: [directions]."""
        return (self.values[:, step] > HIGH).mean(axis=(1, 2, 3))

    def curvature(self, step: int) -> np.ndarray:
        """The second derivative at the origin, the mean over samples: [directions]."""
        means = self.values[:, step].mean(axis=-1)
        middle = means.shape[1] // 2
        near = [means[:, middle + i, middle + j] for i, j in ((0, -1), (0, 1), (-1, 0), (1, 0))]
        apart = self.offsets[middle + 1]
        return (sum(near) - 4 * means[:, middle, middle]) / (2 * apart**2)

    def rings(self, step: int) -> np.ndarray:
        """Mean similarity by distance, each within half a spacing: [directions, grid // 2 + 1]."""
        means = self.values[:, step].mean(axis=-1)
        half = means.shape[1] // 2
        away = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
        near = [np.abs(away - radius) <= 0.5 for radius in range(half + 1)]
        return np.stack([means[:, ring].mean(axis=1) for ring in near], axis=1)


def _share(values: np.ndarray) -> Interval | None:
    """The interval of shares, or similarities, which are between 0 and 1."""
    found = intervals.interval(values)
    return (max(found[0], 0.0), min(found[1], 1.0)) if found else None


def _lines(found: Surfaces) -> list[dict[str, object]]:
    """Of each step, a line of the summary."""
    lines = []
    for i, (step, timestep) in enumerate(zip(found.asked.at, found.asked.timesteps, strict=True)):
        high, curvature = found.high(i), found.curvature(i)
        shares, ends = _share(high), intervals.interval(curvature)
        lines.append(
            {
                "model": found.name,
                "step": step,
                "timestep": timestep,
                f"share above {HIGH}": float(high.mean()),
                "95 % interval": shares and list(shares),
                "curvature": float(curvature.mean()),
                "interval of curvature": ends and list(ends),
            }
        )
    return lines


def _curves(found: Sequence[Surfaces]) -> list[Lines]:
    """Of each step, similarity against distance, the models side by side."""
    panels = []
    for i in range(max(len(each.asked.at) for each in found)):
        there = [each for each in found if i < len(each.asked.at)]
        where = inputs.step_name([each.asked for each in there], i)
        rings = {each.name: each.rings(i) for each in there}
        ends = {name: intervals.band([*map(_share, values.T)]) for name, values in rings.items()}
        many = there[0].values.shape[0] > 1
        panels.append(
            Lines(
                title=f"Similarity against distance from the weights, {where}",
                across="distance, in norms of the weights",
                up="similarity of the prediction",
                at=tuple(there[0].offsets[len(there[0].offsets) // 2 :]),
                series={
                    name: tuple(map(float, values.mean(axis=0))) for name, values in rings.items()
                },
                low={name: tuple(low) for name, (low, _) in ends.items()} if many else {},
                high={name: tuple(high) for name, (_, high) in ends.items()} if many else {},
            )
        )
    return panels


def _maps(found: Sequence[Surfaces]) -> list[Map]:
    """Of each model and step, the surface: mean over directions and samples, beta upwards."""
    return [
        Map(
            title=f"Similarity of {each.name} moved, {inputs.step_name([each.asked], i)}",
            down="beta",
            across="alpha",
            rows=tuple(f"{beta:g}" for beta in reversed(each.offsets)),
            columns=tuple(f"{alpha:g}" for alpha in each.offsets),
            values=tuple(
                tuple(map(float, row)) for row in each.values[:, i].mean(axis=(0, -1))[::-1]
            ),
            measure="similarity of the prediction",
            surface=True,
        )
        for each in found
        for i in range(len(each.asked.at))
    ]


def _verdicts(found: Sequence[Surfaces]) -> list[str]:
    """Of each step, whether the first model's surface is told apart from each other one's."""
    first, *others = found
    return [
        _verdict(first, other, i)
        for other in others
        for i in range(min(len(first.asked.at), len(other.asked.at)))
    ]


def _verdict(first: Surfaces, second: Surfaces, i: int) -> str:
    shares = [each.high(i) for each in (first, second)]
    ends = [_share(values) for values in shares]
    said = " and ".join(
        f"{intervals.within(float(values.mean()), end)} of the grid of {each.name}"
        for each, values, end in zip((first, second), shares, ends, strict=True)
    )
    if intervals.apart(*ends):
        smoother = first if shares[0].mean() > shares[1].mean() else second
        judged = f"{smoother.name} is the smoother one."
    else:
        judged = "which is the smoother one cannot be told."
    where = inputs.step_name([first.asked, second.asked], i)
    return f"At {where} similarity is above {HIGH} on {said}: {judged}"
