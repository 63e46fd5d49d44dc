"""Plots of a table: how much quality a cache costs for the speed it gives."""

import io
from pathlib import Path

from skipdit_cli.errors import IncompleteError
from skipdit_cli.report.table import Line, Table
from skipdit_cli.storage.disk import write_whole

# Okabe and Ito's colours, told apart with every common colour vision. There is one marker more than
# there are colours, so that colour and marker together tell 56 series apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
CROWDED = 6  # series; the legend of more would lie over their markers, and stands beside them
WIDTH, HEIGHT, DPI = 1000, 640, 100  # pixels, pixels, per inch
SPEEDUPS = {"speedup": "measured speedup (×)", "ideal": "ideal speedup, from MACs (×)"}

Point = tuple[float, float, float | None, str]  # speedup, PSNR, spread of the speedup, label


def plot(table: Table, path: Path) -> Path:
    """Draw PSNR against speedup as PNG; returns the path.

    One marker per line of the table that has both numbers, joined in order of speedup for the
    lines of one series; beside several series, one of a single marker has its label in the legend.
    The speedup is the measured one where every line with a PSNR has it, and the ideal one
    otherwise. The reference, whose PSNR has no number, is a vertical line.

    Raises:
        IncompleteError: no line has both numbers.
        StoreError: the disk is full or the folder cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    key, series = points(table)
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvline(1, color="#777777", linestyle="--", linewidth=1.5, zorder=1)
    references = [line.names[0] for line in table.lines if line.reference]
    shown = f"reference: {references[0]}, uncached" if len(references) == 1 else "uncached"
    axes.annotate(
        f"{shown} (1×)",
        (1, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(6, 0),
        textcoords="offset points",
        rotation=90,
        color="#555555",
        fontsize=11,
    )
    for i, (label, series_points) in enumerate(series.items()):
        x, y, spread, names = zip(*sorted(series_points, key=lambda point: point[:2]), strict=True)
        colour = COLOURS[i % len(COLOURS)]
        axes.errorbar(
            x,
            y,
            xerr=[half or 0 for half in spread],
            label=f"{label}, {names[0]}" if len(names) == 1 != len(series) else label,
            color=colour,
            marker=MARKERS[i % len(MARKERS)],
            markersize=8,
            linewidth=2,
            elinewidth=1.2,
            capsize=3,
        )
        labelled = zip(names, zip(x, y, strict=True), strict=True)
        for name, place in labelled if len(names) > 1 or len(series) == 1 else ():
            axes.annotate(
                name,
                place,
                xytext=(7, 7),
                textcoords="offset points",
                fontsize=12,
                color=colour,
                zorder=4,
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )
    axes.set_xlabel(SPEEDUPS[key], fontsize=13)
    axes.set_ylabel("PSNR against the uncached samples (dB)", fontsize=13)
    axes.set_title(table.title, fontsize=13, loc="left")
    axes.tick_params(labelsize=12)
    axes.margins(0.12)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > CROWDED:
        axes.legend(fontsize=11, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    else:
        axes.legend(fontsize=12, frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    write_whole(path, data.getvalue())
    return path


def points(table: Table) -> tuple[str, dict[str, list[Point]]]:
    """What is drawn: which speedup ("speedup" or "ideal"), and the points of every series.

    Raises:
        IncompleteError: no line has both numbers.
    """
    scored = [ln for ln in table.lines if _ours(table, ln, "psnr") is not None and not ln.reference]
    measured = all(_ours(table, line, "speedup") is not None for line in scored)
    key = "speedup" if measured else "ideal"
    series: dict[str, list[Point]] = {}
    for line in scored:
        x, y = _ours(table, line, key), _ours(table, line, "psnr")
        if x is not None and y is not None:
            series.setdefault(line.series, []).append((x, y, _spread(table, line, key), line.point))
    if not series:
        raise IncompleteError("no line has a PSNR and a speedup to plot", place=table.title)
    return key, series


def _ours(table: Table, line: Line, metric: str) -> float | None:
    cell = table.cell(line, metric)
    return cell.ours if cell else None


def _spread(table: Table, line: Line, metric: str) -> float | None:
    cell = table.cell(line, metric)
    return cell.spread if cell else None
