"""Panels of analyses as figures: curves with bands, maps with outlines, surfaces with contours."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from skipdit_cli.report.look import (
    COLOURS,
    GRID,
    INK,
    MARKERS,
    Look,
    dashes,
    figure,
)
from skipdit_cli.storage.analysis import Lines, Map, Number, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 0.55  # of a figure's width, of curves and of a map
MARKS = 12  # markers of a curve at most
TICKS = 12  # texts at an axis of a map at most
SCALE = "cividis"  # told apart with every common colour vision, and in grey

OUTLINES = ("#e81379", "#1a1a1a", "#2773fd")  # seen on the whole scale


def draw(panel: Panel, look: Look) -> "Figure":
    """A panel as a figure; `look` has to be applied."""
    if isinstance(panel, Lines):
        return _lines(panel, look)
    return _surface(panel, look) if panel.surface else _map(panel, look)


def _lines(panel: Lines, look: Look) -> "Figure":
    from matplotlib.ticker import LogFormatter, MaxNLocator

    made = figure(look, look.width * HEIGHT + look.rows(panel.series))
    axes = made.add_subplot()
    at = _floats(panel.at)
    for i, (name, values) in enumerate(panel.series.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            at,
            _floats(values, positive=panel.log),
            label=name,
            color=colour,
            linestyle=dashes(i),
            marker=MARKERS[i % len(MARKERS)],
            markevery=max(1, len(at) // MARKS),
        )
        if name in panel.low:
            low, high = (_floats(e[name], positive=panel.log) for e in (panel.low, panel.high))
            axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(LogFormatter())
    if all(isinstance(x, int) for x in panel.at):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(at) > 1 and at[0] > at[-1]:
        axes.invert_xaxis()
    _titles(axes, panel, look, panel.across, panel.up)
    axes.grid(color=GRID, linewidth=0.4 * look.line)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    look.legend(made, axes.lines)
    return made


def _map(panel: Map, look: Look) -> "Figure":
    made = figure(look, look.width * HEIGHT + (look.rows(panel.marks) if panel.marks else 0))
    axes = made.add_subplot()
    values = [_floats(row, positive=panel.log) for row in panel.values]
    norm = "log" if panel.log and not all(math.isnan(v) for row in values for v in row) else None
    image = axes.imshow(values, cmap=SCALE, norm=norm, aspect="auto", interpolation="nearest")
    made.colorbar(image, ax=axes, label=_upright(panel.measure, look))
    for names, place in ((panel.columns, axes.set_xticks), (panel.rows, axes.set_yticks)):
        shown = range(0, len(names), math.ceil(len(names) / TICKS))
        place([*shown], [names[i] for i in shown])
    _titles(axes, panel, look, panel.across, panel.down)
    outlined = [
        axes.plot(
            *_outline(places),
            color=colour,
            linewidth=1.5 * look.line,
            linestyle=dashes(i),
            label=name,
        )[0]
        for i, ((name, places), colour) in enumerate(zip(panel.marks.items(), cycle(OUTLINES)))
    ]
    if outlined:
        look.legend(made, outlined)
    return made


def _surface(panel: Map, look: Look) -> "Figure":
    """The surface, and beside it its contours."""
    import numpy as np

    made = figure(look, look.width * HEIGHT)
    across, down = (np.array([*map(float, names)]) for names in (panel.columns, panel.rows))
    values = np.array([_floats(row) for row in panel.values])
    x, y = np.meshgrid(across, down)
    solid: Any = made.add_subplot(1, 2, 1, projection="3d")
    solid.plot_surface(x, y, values, cmap=SCALE, linewidth=0, antialiased=True)
    flat = made.add_subplot(1, 2, 2)
    if np.ptp(values) > 0:
        filled = flat.contourf(x, y, values, levels=12, cmap=SCALE)
        flat.contour(x, y, values, levels=filled.levels, colors=INK, linewidths=0.4 * look.line)
        both: Any = (solid, flat)
        made.colorbar(filled, ax=both, label=panel.measure, location="bottom", aspect=40, pad=0.1)
    flat.set_aspect("equal")
    for each in (solid, flat):
        each.set(xlabel=panel.across, ylabel=panel.down)
        each.set(xticks=[across.min(), 0, across.max()], yticks=[down.min(), 0, down.max()])
    solid.locator_params(axis="z", nbins=3)
    if not look.paper:
        made.suptitle(textwrap.fill(panel.title, look.characters(look.width)))
    return made


def _titles(axes: "Axes", panel: Panel, look: Look, across: str, up: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(_upright(up, look))
    if not look.paper:
        axes.set_title(textwrap.fill(panel.title, look.characters(look.width)), loc="left")


def _upright(text: str, look: Look) -> str:
    """A text along the height of a figure, on several lines if it is longer."""
    return textwrap.fill(text, look.characters(look.width * HEIGHT * 0.7))


def _floats(values: Iterable[Number], *, positive: bool = False) -> list[float]:
    """The values, with gaps where there are none."""
    return [
        math.nan if value is None or (positive and value <= 0) else float(value) for value in values
    ]


def _outline(places: Sequence[tuple[int, int]]) -> tuple[list[float], list[float]]:
    """The edges about places of a map, as one broken line: x and y.

    >>> _outline([(0, 0)])[0][:2]
    [-0.5, 0.5]
    """
    inside, x, y = {*places}, list[float](), list[float]()
    edges = {(-1, 0): (-1, -1, 1, -1), (1, 0): (-1, 1, 1, 1)}
    edges |= {(0, -1): (-1, -1, -1, 1), (0, 1): (1, -1, 1, 1)}
    for row, column in sorted(inside):
        for (down, across), (x0, y0, x1, y1) in edges.items():
            if (row + down, column + across) not in inside:
                x += [column + x0 / 2, column + x1 / 2, math.nan]
                y += [row + y0 / 2, row + y1 / 2, math.nan]
    return x, y
