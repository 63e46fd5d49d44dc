"""How far every cache is from its uncached reference, step by step, as a chart and as a figure.

A chart has the runs that share a reference: relative error of the latents, on a logarithmic axis,
against the timestep, from noise on the left to the sample on the right.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from skipdit_cli.report.charts import Place, dash, ticks
from skipdit_cli.report.gallery import Behind, title, together
from skipdit_cli.report.look import COLOURS, GRID, MARKERS, Look, dashes, figure
from skipdit_cli.report.table import Table
from skipdit_cli.storage import trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 920, 380
FIGURE_HEIGHT = 0.58  # of a figure's width, without its legend
LEFT, RIGHT, TOP, BOTTOM = 64, 250, 16, 48
LINE = 15  # pixels between the labels of two curves
AXES = ("timestep, from noise to sample", "relative error of the latents")
MARKS = 8  # markers along a curve of a figure
LEAST = 1e-7  # what is below, float32 cannot tell from nothing
MOST_DECADES = 6


@dataclass(frozen=True)
class RunCurve:
    """One run beside its reference.

    Attributes:
        label: its line of the table.
        run: its key.
        points: (timestep, mean relative error over the samples) after every step.
        samples: how many.
    """

    label: str
    run: str
    points: tuple[tuple[int, float], ...]
    samples: int


def curves(table: Table, behind: Behind) -> list[tuple[str, list[RunCurve]]]:
    """(what the reference is, its runs) of every reference with trajectories on disk.

    Raises:
        StoreError: what is on disk belongs to another run.
    """
    groups = []
    for (_, reference), *others in together(table, behind):
        group = []
        for label, run in others:
            if each := trajectory.compare(run, root=behind.root):
                points = tuple(zip(each.timesteps, each.errors.mean(axis=0).tolist(), strict=True))
                group.append(RunCurve(label, run.key, points, len(each.errors)))
        if group:
            groups.append((title(reference), group))
    return groups


def chart(group: Sequence[RunCurve]) -> str:
    """The curves of one reference as inline SVG, each labelled at its right end."""
    decades = _decades(group)
    if decades is None:
        return "<p>No run here differs from the uncached one at any step.</p>"
    bottom, top = decades
    first, last = group[0].points[0][0], group[0].points[-1][0]
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def place(timestep: float, error: float) -> tuple[float, float]:
        share = (math.log10(error) - bottom) / (top - bottom)
        x = LEFT + (first - timestep) / max(1, first - last) * (right - LEFT)
        return round(x, 1), round(floor - max(0.0, share) * (floor - TOP), 1)

    ends = [place(last, max(curve.points[-1][1], LEAST))[1] for curve in group]
    heights = _apart(ends, low=TOP + 6, high=floor)
    lines = [
        _line(i, curve, place, end=(right, ends[i]), label=heights[i])
        for i, curve in enumerate(group)
    ]
    inside = [*_axes(place, first, last, range(bottom, top + 1)), *lines]
    return (
        f'<svg class="plot errors" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
        f'aria-label="Relative error of the latents against the timestep">{"".join(inside)}</svg>'
    )


def draw(group: Sequence[RunCurve], look: Look, *, title: str) -> "Figure | None":
    """The curves of one reference as a figure; None where none differs from it.

    `look` has to be applied.
    """
    decades = _decades(group)
    if decades is None:
        return None
    labels = [textwrap.fill(each.label, look.characters(look.width - 0.5)) for each in group]
    made = figure(look, look.width * FIGURE_HEIGHT + look.rows(labels))
    axes = made.add_subplot()
    for i, (each, label) in enumerate(zip(group, labels, strict=True)):
        steps = max(1, len(each.points) // MARKS)
        axes.plot(
            [timestep for timestep, _ in each.points],
            [error if error > LEAST else math.nan for _, error in each.points],
            label=label,
            color=COLOURS[i % len(COLOURS)],
            linestyle=dashes(i),
            marker=MARKERS[i % len(MARKERS)],
            markevery=(i * steps // len(group), steps),
        )
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], 10.0 ** decades[0]))
    axes.set_xlim(group[0].points[0][0], group[0].points[-1][0])
    axes.set_xlabel(AXES[0])
    axes.set_ylabel(AXES[1])
    if not look.paper:
        axes.set_title(textwrap.fill(title, look.characters(look.width)), loc="left")
    axes.grid(color=GRID, linewidth=0.4 * look.line)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    look.legend(made, axes.lines)
    return made


def _decades(group: Sequence[RunCurve]) -> tuple[int, int] | None:
    """From which power of ten to which the errors go; None where there are none."""
    values = [error for curve in group for _, error in curve.points if error > LEAST]
    if not values:
        return None
    top = math.ceil(math.log10(max(values)) - 1e-9)
    bottom = max(math.floor(math.log10(min(values))), top - MOST_DECADES)
    return min(bottom, top - 1), top


def _axes(place: Place, first: int, last: int, decades: range) -> list[str]:
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for timestep in ticks(last, first):
        x, _ = place(timestep, 1)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{floor}"/>')
        parts.append(f'<text text-anchor="middle" x="{x}" y="{floor + 18}">{timestep:g}</text>')
    for decade in decades:
        _, y = place(first, 10.0**decade)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text text-anchor="end" x="{LEFT - 8}" y="{y + 4}">{10.0**decade:g}</text>')
    middle, centre = (LEFT + right) / 2, (TOP + floor) / 2
    parts.append(
        f'<text text-anchor="middle" x="{middle}" y="{HEIGHT - 8}">{AXES[0]}</text>'
        f'<text text-anchor="middle" transform="translate(14 {centre}) rotate(-90)">'
        f"{AXES[1]}</text>"
    )
    return parts


def _line(
    index: int, curve: RunCurve, place: Place, *, end: tuple[float, float], label: float
) -> str:
    """A curve, its label and what leads from one to the other; a gap where there is no error."""
    path, pen = "", "M"
    for timestep, error in curve.points:
        if error > LEAST:
            x, y = place(timestep, error)
            path, pen = f"{path}{pen}{x} {y}", "L"
        else:
            pen = "M"
    about, (x, y) = summary(curve), end
    return (
        f'<g class="curve s{index % len(COLOURS)}" tabindex="0" role="img" '
        f'aria-label="{escape(about)}"><title>{escape(about)}</title>'
        f'<path class="wide" d="{path}"/><path d="{path}" stroke-dasharray="{dash(index)}"/>'
        f'<path class="leader" d="M{x + 4} {y}L{x + 18} {label}"/>'
        f'<text x="{x + 24}" y="{label + 4}">{escape(curve.label)}</text></g>'
    )


def summary(curve: RunCurve) -> str:
    """A curve in words.

    >>> summary(RunCurve("n=2", "", ((900, 0.0), (500, 0.0), (100, 0.02), (0, 0.05)), 4))
    'n=2: none down to timestep 500, then at most 0.05; 0.05 after the last step, mean of 4 samples'
    """
    errors = [error for _, error in curve.points]
    exact = next((i for i, error in enumerate(errors) if error > LEAST), len(errors))
    parts = [f"none down to timestep {curve.points[exact - 1][0]}"] if exact else []
    if exact < len(errors):
        parts.append(f"{'then ' if exact else ''}at most {max(errors):.2g}")
    told = f"{', '.join(parts)}; {errors[-1]:.2g} after the last step"
    return f"{curve.label}: {told}, mean of {curve.samples} samples"


def _apart(wanted: Sequence[float], *, low: float, high: float) -> list[float]:
    """Heights near the wanted ones, in their order, LINE or more apart, within the range."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gap = min(LINE, (high - low) / max(1, len(wanted) - 1))
    heights = dict.fromkeys(order, 0.0)
    previous = low - gap
    for i in order:
        heights[i] = previous = max(wanted[i], previous + gap)
    following = high + gap
    for i in reversed(order):
        heights[i] = following = min(heights[i], following - gap)
    return [round(heights[i], 1) for i in range(len(wanted))]
