"""Heat maps: a metric over two settings, where the runs of a method are a grid of them.

Of every method on every model the settings that vary are found; the two with most values are the
axes, and there is a map for each combination of the others. One that follows from another, as the
intervals of pab from its n, is no axis.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.cache import NONE, WHOLE, value_text
from skipdit_cli.report.cells import DASH, heading, ours
from skipdit_cli.report.gallery import title
from skipdit_cli.report.look import Look, figure
from skipdit_cli.report.table import Cell, Heading, Line, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from skipdit_cli.run import Run

LEGEND = "The stronger the colour, the better, among all maps of a metric. Hatched: no number."
FULL = 0.75  # of its places a map has a line for at least
ACROSS = 3  # maps beside one another in a figure, at most
SPEEDUPS = ("speedup", "ideal")  # the first of them that every line has is drawn


@dataclass(frozen=True)
class HeatMap:
    """A number for pairs of values of two settings.

    Attributes:
        title: method, model and the settings that are the same in all of it.
        down, across: names of the two settings.
        rows, columns: their values, as a spec has them.
        values: by (row, column), in the unit of the heading; a pair without a number is absent.
    """

    title: str
    down: str
    across: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: dict[tuple[int, int], float]


def maps(table: Table, runs: "Sequence[Run]") -> list[tuple[Heading, list[HeatMap]]]:
    """The maps of every metric and of the speedup, in the order of the table's columns.

    Args:
        runs: those that the lines of the table name.
    """
    known = {run.key: run for run in runs}
    grids: dict[tuple[str, str, str], list[tuple[Line, Run]]] = {}
    for line in table.lines:
        run = next((known[key] for key in line.runs if key in known), None)
        models = {known[key].model for key in line.runs if key in known}
        if run and run.cache.name != NONE and len(models) == 1:  # else their settings may differ
            of = (run.cache.name, run.label, run.reference.key)
            grids.setdefault(of, []).append((line, run))
    several = len({reference for *_, reference in grids}) > 1
    panels = [
        panel
        for (method, model, _), lines in grids.items()
        for panel in _panels(f"{method} on {_of(lines, model, several=several)}", lines)
    ]
    drawn = []
    for column, each in enumerate(_drawn(table)):
        if each is None:
            continue
        found = [_map(*panel, column) for panel in panels]
        if any(one.values for one in found):
            drawn.append((each, found))
    return drawn


def _of(lines: "Sequence[tuple[Line, Run]]", model: str, *, several: bool) -> str:
    """The model, and what its samples are where a table has those of several settings."""
    return title(lines[0][1].reference) if several else model


def _drawn(table: Table) -> list[Heading | None]:
    """The headings with a map: metrics, and one of the speedups; None in place of others."""

    def whole(metric: str) -> bool:
        cells = [table.cell(line, metric) for line in table.lines if not line.reference]
        return all(cell and cell.ours is not None for cell in cells)

    speedup = next((metric for metric in SPEEDUPS if whole(metric)), "")
    return [
        each if each.metric == speedup or registry.known("metrics", each.metric) else None
        for each in table.headings
    ]


Axis = tuple[str, list[Any]]  # name and values of a setting
Places = dict[tuple[Any, Any], tuple[Cell, ...]]  # (value down, value across) -> cells of the line


def _panels(
    title: str, lines: "Sequence[tuple[Line, Run]]"
) -> list[tuple[str, Axis, Axis, Places]]:
    """(title, down, across, places) of every map of a method; none where there is no grid."""
    axes = _axes([vars(run.cache.settings) for _, run in lines])
    if len(axes) < 2:
        return []
    longest = sorted(axes, key=lambda name: -len(axes[name]))[:2]
    down, across = (name for name in axes if name in longest)
    others = [name for name in axes if name not in longest]
    panels = []
    for fixed in product(*(axes[name] for name in others)):
        places: Places = {}
        for line, run in lines:
            own = vars(run.cache.settings)
            if all(own[name] == value for name, value in zip(others, fixed, strict=True)):
                places[own[down], own[across]] = line.cells
        rows = [value for value in axes[down] if any(value == key for key, _ in places)]
        columns = [value for value in axes[across] if any(value == key for _, key in places)]
        if min(len(rows), len(columns)) > 1 and len(places) >= FULL * len(rows) * len(columns):
            same = (f"{name}={_text(name, v)}" for name, v in zip(others, fixed, strict=True))
            panels.append((", ".join([title, *same]), (down, rows), (across, columns), places))
    return panels


def _axes(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of every setting that varies and does not follow from one before it, in order."""
    axes: dict[str, list[Any]] = {}
    for name in settings[0]:
        values = list(dict.fromkeys(each[name] for each in settings))
        follows = any(
            len({(each[other], each[name]) for each in settings}) == len(axes[other])
            for other in axes
        )
        if len(values) > 1 and not follows:
            axes[name] = sorted(values, key=_order)
    return axes


def _order(value: Any) -> tuple[bool, Any]:
    """Numbers and windows by size, None last; texts as they are."""
    return value is None, str(value) if isinstance(value, str) else value or 0


def _text(name: str, value: Any) -> str:
    if value is None:
        return WHOLE if name == "window" else DASH
    return value_text(value, window=name == "window")


def _map(title: str, down: Axis, across: Axis, places: Places, column: int) -> HeatMap:
    values = {
        (i, j): places[row, one][column].ours
        for (i, row), (j, one) in product(enumerate(down[1]), enumerate(across[1]))
        if (row, one) in places
    }
    return HeatMap(
        title=title,
        down=down[0],
        across=across[0],
        rows=tuple(_text(down[0], value) for value in down[1]),
        columns=tuple(_text(across[0], value) for value in across[1]),
        values={place: value for place, value in values.items() if value is not None},
    )


def _shades(found: Sequence[HeatMap], each: Heading) -> list[dict[tuple[int, int], float]]:
    """How good every value is among all of the maps, 0 to 1; 1 is the best."""
    every = [value for one in found for value in one.values.values()]
    low, high = min(every), max(every)
    span, lower = high - low, each.better == "lower"
    return [
        {
            place: abs(lower - (value - low) / span) if span else 0.5
            for place, value in one.values.items()
        }
        for one in found
    ]


def html(table: Table, runs: "Sequence[Run]") -> str:
    """The maps as tables of coloured cells; nothing where there are none."""
    parts = []
    for each, found in maps(table, runs):
        blocks = "".join(
            _html(one, each, shades)
            for one, shades in zip(found, _shades(found, each), strict=True)
        )
        parts.append(f'<h3>{escape(heading(each))}</h3><div class="heats">{blocks}</div>')
    return f"<p>{LEGEND}</p>\n" + "\n".join(parts) if parts else ""


def _html(one: HeatMap, each: Heading, shades: Mapping[tuple[int, int], float]) -> str:
    head = "".join(f'<th scope="col">{escape(value)}</th>' for value in one.columns)
    body = ""
    for i, row in enumerate(one.rows):
        cells = "".join(
            f'<td style="--heat: {shades[i, j] * 100:.0f}%">{ours(each, one.values[i, j])}</td>'
            if (i, j) in one.values
            else '<td class="absent" title="no number"></td>'
            for j in range(len(one.columns))
        )
        body += f'<tr><th scope="row">{escape(row)}</th>{cells}</tr>'
    corner = f'<th scope="col">{escape(one.down)} \\ {escape(one.across)}</th>'
    label = escape(f"{heading(each)}, {one.title}")
    return (
        f'<figure class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f'<figcaption>{escape(one.title)}</figcaption><table class="heat">'
        f"<thead><tr>{corner}{head}</tr></thead><tbody>{body}</tbody></table></figure>"
    )


def draw(each: Heading, found: Sequence[HeatMap], look: Look, *, title: str) -> "Figure":
    """The maps of a column as a figure; `look` has to be applied."""
    em = look.small / 72
    natural = max(10 * em + 6.5 * em * len(one.columns) for one in found)
    across = min(ACROSS, len(found), max(1, int(look.width / natural)))
    tallest = [
        max(len(one.rows) for one in found[start : start + across])
        for start in range(0, len(found), across)
    ]
    heights = [8 * em + 3.5 * em * rows for rows in tallest]
    width = look.width if look.paper else max(look.width / 2, natural * across)
    made = figure(look, sum(heights) + (2 if look.paper else 4) * em, width=width)
    made.suptitle(heading(each) if look.paper else f"{heading(each)}\n{title}")
    panels = made.subplots(len(heights), across, squeeze=False, height_ratios=heights).flat
    for axes, one, shades in zip(panels, found, _shades(found, each), strict=False):
        grid = [
            [shades.get((i, j), math.nan) for j in range(len(one.columns))]
            for i in range(len(one.rows))
        ]
        axes.set_facecolor("white")
        axes.patch.set(hatch="////", edgecolor="#999999")  # seen where there is no number
        axes.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in one.values.items():
            colour = "black" if shades[i, j] > 0.5 else "white"
            axes.text(j, i, ours(each, value), ha="center", va="center", color=colour)
        axes.set_xticks(range(len(one.columns)), one.columns)
        axes.set_yticks(range(len(one.rows)), one.rows)
        axes.set_xlabel(one.across)
        axes.set_ylabel(one.down)
        wide = look.characters(width / across - 4 * em)
        axes.set_title(textwrap.fill(one.title, wide), fontsize=look.small)
    for axes in list(made.axes)[len(found) :]:
        axes.set_visible(False)
    return made
