"""Heat maps: a metric over two settings, where the runs of a method are a grid of them.

Of every method on every model the settings that vary are found; the two with most values are the
axes, and there is a map for each combination of the others. One that follows from another, as the
intervals of pab from its n, is no axis.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.cache import WHOLE, value_text
from skipdit_cli.report.cells import DASH, heading, ours
from skipdit_cli.report.table import Cell, Heading, Line, Table
from skipdit_cli.storage.disk import write_whole

if TYPE_CHECKING:
    from skipdit_cli.run import Run

LEGEND = "The stronger the colour, the better, among all maps of a metric. Hatched: no number."
FULL = 0.75  # of its places a map has a line for at least
ACROSS, DPI = 3, 100  # maps beside one another in a picture; pixels per inch
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
    grids: dict[tuple[str, str], list[tuple[Line, Run]]] = {}
    for line in table.lines:
        run = next((known[key] for key in line.runs if key in known), None)
        if run and not run.is_reference:
            grids.setdefault((run.cache.name, run.label), []).append((line, run))
    panels = [panel for of, lines in grids.items() for panel in _panels(" on ".join(of), lines)]
    drawn = []
    for column, each in enumerate(_drawn(table)):
        if each is None:
            continue
        found = [_map(*panel, column) for panel in panels]
        if any(one.values for one in found):
            drawn.append((each, found))
    return drawn


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


def draw(table: Table, runs: "Sequence[Run]", folder: Path, *, name: str) -> list[Path]:
    """Write a picture per metric, `NAME-heat-METRIC.png`; returns the paths.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    paths = []
    for each, found in maps(table, runs):
        metric = re.sub(r"\W+", "-", each.key)
        paths.append(_draw(table.title, each, found, folder / f"{name}-heat-{metric}.png"))
    return paths


def _draw(title: str, each: Heading, found: Sequence[HeatMap], path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(ACROSS, len(found))
    down = math.ceil(len(found) / across)
    width = max(2.2 + 0.95 * len(one.columns) for one in found)
    height = max(1.5 + 0.5 * len(one.rows) for one in found)
    figure = Figure(
        figsize=(max(5.0, width * across), height * down + 0.6), dpi=DPI, layout="constrained"
    )
    FigureCanvasAgg(figure)
    figure.suptitle(f"{heading(each)}\n{title}", fontsize=11)
    panels = figure.subplots(down, across, squeeze=False).flat
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
            axes.text(j, i, ours(each, value), ha="center", va="center", color=colour, fontsize=10)
        axes.set_xticks(range(len(one.columns)), one.columns, fontsize=10)
        axes.set_yticks(range(len(one.rows)), one.rows, fontsize=10)
        axes.set_xlabel(one.across, fontsize=10)
        axes.set_ylabel(one.down, fontsize=10)
        axes.set_title(one.title, fontsize=10)
    for axes in list(figure.axes)[len(found) :]:
        axes.set_visible(False)
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    write_whole(path, data.getvalue())
    return path
