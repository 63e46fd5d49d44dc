"""Spectral norms of models for people: curves and maps, a line of each step, what came out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from skipdit_cli.analyze import inputs, intervals
from skipdit_cli.analyze.inputs import Asked
from skipdit_cli.storage.analysis import Lines, Map, Number, Panel

DEFINITION = (
    "A norm is the largest singular value. The Jacobian of a layer is that of the hidden state "
    "that leaves it by the one that enters it, skips and conditions held; that of stack i, of "
    "layers i to L + 1 - i, is the same with the skips from layers of the stack moving along. Both "
    "are at the hidden states of the uncached samples; means are geometric, over both halves of "
    "guidance and over samples; intervals are Student's, 95 %, over samples. The product of the "
    "norms of a stack's layers bounds the stack's norm where it has no skips, and only there."
)


@dataclass(frozen=True)
class Spectra:
    """What was measured of one model.

    Attributes:
        weights: LAYER.NAME -> the norm of a weight matrix.
        layers: norms of Jacobians, [steps, layers, samples].
        numbers: of the stacks, from 1.
        stacks: norms of Jacobians, [steps, stacks, samples].
        unsettled, norms: how many had not converged, of how many, [steps, 1].
    """

    asked: Asked
    weights: dict[str, float]
    layers: np.ndarray
    numbers: tuple[int, ...]
    stacks: np.ndarray
    unsettled: np.ndarray
    norms: np.ndarray

    @property
    def name(self) -> str:
        return self.asked.run.label

    @property
    def products(self) -> np.ndarray:
        """The product of the norms of each stack's layers: [steps, stacks, samples]."""
        last = self.layers.shape[1]
        inside = [self.layers[:, i - 1 : last + 1 - i] for i in self.numbers]
        return np.stack([each.prod(axis=1) for each in inside], axis=1)

    @property
    def slack(self) -> np.ndarray:
        """How much larger the products are than the norms: [steps, stacks, samples]."""
        return self.products / self.stacks

    def largest(self, step: int) -> int:
        """The index of the stack whose norm is the largest."""
        return int(np.log(self.stacks[step]).mean(axis=-1).argmax())

    def matrices(self) -> dict[str, list[float | None]]:
        """Name -> the norm of that weight matrix in every layer."""
        found: dict[str, list[float | None]] = {}
        for key, value in self.weights.items():
            layer, _, name = key.partition(".")
            found.setdefault(name, [None] * self.layers.shape[1])[int(layer)] = value
        return dict(sorted(found.items()))


def _mean(values: np.ndarray) -> float:
    """The geometric mean."""
    return float(np.exp(np.log(values).mean()))


def panels(found: Sequence[Spectra]) -> tuple[Panel, ...]:
    """The norms of weights, layers and stacks; values are means over steps."""
    layer, stack = "layer, from 0", "stack i, from 1, the whole network"
    deepest = max(each.layers.shape[1] for each in found)
    widest = sorted({i for each in found for i in each.numbers})
    return (
        Lines(
            title="Largest norm of a weight matrix in each layer",
            across=layer,
            up="largest singular value",
            at=tuple(range(deepest)),
            series={each.name: _padded(_tops(each), deepest) for each in found},
        ),
        *(_map(each) for each in found if each.weights),
        _curves(
            found,
            lambda each: {i: each.layers[:, i] for i in range(each.layers.shape[1])},
            title="Norm of the Jacobian of each layer",
            across=layer,
            up="spectral norm",
            at=range(deepest),
        ),
        _curves(
            found,
            lambda each: {i: each.stacks[:, k] for k, i in enumerate(each.numbers)},
            title="Norm of the Jacobian of the stack of layers i to L + 1 - i",
            across=stack,
            up="spectral norm",
            at=widest,
        ),
        _curves(
            found,
            lambda each: {i: each.slack[:, k] for k, i in enumerate(each.numbers)},
            title="Product of the norms of a stack's layers, by the norm of the stack",
            across=stack,
            up="product / norm",
            at=widest,
        ),
    )


def _curves(
    found: Sequence[Spectra],
    values: Callable[[Spectra], dict[int, np.ndarray]],
    *,
    title: str,
    across: str,
    up: str,
    at: Sequence[int],
) -> Lines:
    """A curve of each model, with a band over samples.

    Args:
        values: of a model, by place on the horizontal axis: [steps, samples].
    """
    series, low, high = {}, {}, {}
    for each in found:
        known = {i: np.exp(np.log(v).mean(axis=0)) for i, v in values(each).items()}
        means = [_mean(known[i]) if i in known else None for i in at]
        ends = [intervals.factor_interval(known[i]) if i in known else None for i in at]
        series[each.name] = tuple(means)
        if any(ends):
            lower, upper = intervals.band(ends)
            low[each.name], high[each.name] = tuple(lower), tuple(upper)
    return Lines(
        title=title,
        across=across,
        up=up,
        at=tuple(at),
        series=series,
        low=low,
        high=high,
        log=True,
    )


def _tops(found: Spectra) -> list[float | None]:
    columns = zip(*found.matrices().values(), strict=True)
    return [max((value for value in each if value is not None), default=None) for each in columns]


def _padded(values: Sequence[Number], count: int) -> tuple[Number, ...]:
    return (*values, *[None] * (count - len(values)))


def _map(found: Spectra) -> Map:
    matrices = found.matrices()
    return Map(
        title=f"Norms of the weight matrices of {found.name}",
        down="matrix",
        across="layer, from 0",
        rows=tuple(matrices),
        columns=tuple(map(str, range(found.layers.shape[1]))),
        values=tuple(map(tuple, matrices.values())),
        measure="largest singular value",
    )


def summary(found: Sequence[Spectra]) -> tuple[dict[str, object], ...]:
    """Of each model and step, a line."""
    return tuple(line for each in found for line in _lines(each))


def _lines(found: Spectra) -> list[dict[str, object]]:
    lines = []
    for k, (step, timestep) in enumerate(zip(found.asked.at, found.asked.timesteps, strict=True)):
        top = found.largest(k)
        norms = found.stacks[k, top]
        ends = intervals.factor_interval(norms)
        lines.append(
            {
                "model": found.name,
                "step": step,
                "timestep": timestep,
                "mean layer norm": _mean(found.layers[k]),
                "largest stack norm": _mean(norms),
                "95 % interval": ends and list(ends),
                "stack": found.numbers[top],
                "product of its layers": _mean(found.products[k, top]),
                "product / norm": _mean(found.slack[k, top]),
                "not converged": f"{int(found.unsettled[k, 0])} of {int(found.norms[k, 0])}",
            }
        )
    return lines


def notes(found: Sequence[Spectra], tolerance: float) -> tuple[str, ...]:
    """Whether the first model's norms are told apart from each other one's, and the definition."""
    first, *others = found
    verdicts = [
        _verdict(first, other, k)
        for other in others
        for k in range(min(len(first.asked.at), len(other.asked.at)))
    ]
    method = (
        "Norms of Jacobians are found by Lanczos bidiagonalisation, which approaches them from "
        f"below, until the last step has changed each by no more than {tolerance:g} of itself."
    )
    return *verdicts, DEFINITION, method


def _verdict(first: Spectra, second: Spectra, k: int) -> str:
    tops = [each.stacks[k, each.largest(k)] for each in (first, second)]
    ends = [intervals.factor_interval(values) for values in tops]
    said = " and ".join(
        f"{intervals.within(_mean(values), end)} in {each.name}"
        for each, values, end in zip((first, second), tops, ends, strict=True)
    )
    if intervals.apart(*ends):
        smaller = first if _mean(tops[0]) < _mean(tops[1]) else second
        judged = f"{smaller.name} stretches a change less."
    else:
        judged = "which stretches a change less cannot be told."
    where = inputs.step_name([first.asked, second.asked], k)
    return f"At {where} the norm of a stack is at most {said}: {judged}"
