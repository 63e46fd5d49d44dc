"""Panels of analyses on a page, as inline SVG whose colours follow its dark and light modes."""

import math
from collections.abc import Sequence
from html import escape

from skipdit_cli.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Place, dash, ticks
from skipdit_cli.report.look import COLOURS
from skipdit_cli.storage.analysis import Lines, Map, Number, Panel

MARGIN = 0.05  # of the range of values, above and below curves
SIDE, TALL = 26, 22  # pixels of a place of a map, at most
TEXTS = 14  # at an axis of a map, at most
NAME = 7.2  # pixels of a character
ABOVE = 6  # pixels above a map, for the name of a low first row


def html(panel: Panel) -> str:
    """A panel with its title, as a figure of a page."""
    drawn = _lines(panel) if isinstance(panel, Lines) else _map(panel)
    return (
        f'<figure class="panel"><figcaption>{escape(panel.title)}</figcaption>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(panel.title)}">'
        f"{drawn}</div></figure>"
    )


def _lines(panel: Lines) -> str:
    ends = [*panel.series.values(), *panel.low.values(), *panel.high.values()]
    known = [_height(panel, y) for values in ends for y in values]
    heights = [y for y in known if y is not None]
    if not heights:
        return "<p>There is nothing to draw.</p>"
    low, high = min(heights), max(heights)
    room = (high - low) * MARGIN or MARGIN
    low, high = low - room, high + room
    xs = [float(x) for x in panel.at if x is not None]
    first, last = xs[0], xs[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        share = 0.5 if first == last else (x - first) / (last - first)
        up = (y - low) / (high - low)
        return (
            round(LEFT + share * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    parts = _axes(panel, place, (min(xs), max(xs)), (low, high))
    for i, (name, values) in enumerate(panel.series.items()):
        kind = f"s{i % len(COLOURS)}"
        if name in panel.low:
            parts.append(f'<path class="band {kind}" d="{_band(panel, name, place)}"/>')
        path = _path(panel, values, place)
        shown = [float(y) for y in values if y is not None]
        about = f"{name}: {min(shown):.4g} to {max(shown):.4g}" if shown else f"{name}: nothing"
        parts.append(
            f'<g class="curve {kind}" tabindex="0" role="img" aria-label="{escape(about)}">'
            f'<title>{escape(about)}</title><path class="wide" d="{path}"/>'
            f'<path d="{path}" stroke-dasharray="{dash(i)}"/></g>'
        )
    keys = "".join(
        f'<li><svg class="key wide s{i % len(COLOURS)}" viewBox="0 0 28 16" aria-hidden="true">'
        f'<path d="M0 8H28" fill="none" stroke="currentColor" stroke-width="2" '
        f'stroke-dasharray="{dash(i)}"/></svg>{escape(name)}</li>'
        for i, name in enumerate(panel.series)
    )
    label = escape(f"{panel.up} against {panel.across}")
    return (
        f'<svg class="plot errors" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
        f'aria-label="{label}">{"".join(parts)}</svg><ul class="legend">{keys}</ul>'
    )


def _height(panel: Panel, y: Number) -> float | None:
    """Where a value stands on the vertical axis, or the scale of a map; None where it does not."""
    if y is None or (panel.log and y <= 0):
        return None
    return math.log10(y) if panel.log else float(y)


def _path(panel: Lines, values: Sequence[Number], place: Place) -> str:
    """A curve through the values that there are."""
    path, pen = "", "M"
    for x, value in zip(panel.at, values, strict=True):
        y = _height(panel, value)
        if x is None or y is None:
            pen = "M"
            continue
        across, up = place(float(x), y)
        path, pen = f"{path}{pen}{across} {up}", "L"
    return path


def _band(panel: Lines, name: str, place: Place) -> str:
    """The outline of a band, there along its high ends and back along the low ones."""
    there, back = list[str](), list[str]()
    for x, low, high in zip(panel.at, panel.low[name], panel.high[name], strict=True):
        bottom, top = _height(panel, low), _height(panel, high)
        if x is not None and bottom is not None and top is not None:
            there.append("{} {}".format(*place(float(x), top)))
            back.append("{} {}".format(*place(float(x), bottom)))
    return f"M{'L'.join([*there, *reversed(back)])}Z" if there else ""


def _axes(
    panel: Lines, place: Place, across: tuple[float, float], up: tuple[float, float]
) -> list[str]:
    floor, right, parts = HEIGHT - BOTTOM, WIDTH - RIGHT, list[str]()
    whole = all(isinstance(x, int) for x in panel.at)
    for x in ticks(*across) if across[0] < across[1] else [across[0]]:
        if whole and x != int(x):
            continue
        at = place(x, up[0])[0]
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{floor}"/>')
        parts.append(f'<text text-anchor="middle" x="{at}" y="{floor + 18}">{x:g}</text>')
    for shown in _powers(*up) if panel.log else ticks(*up):
        at = place(across[0], math.log10(shown) if panel.log else shown)[1]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text text-anchor="end" x="{LEFT - 8}" y="{at + 4}">{shown:.3g}</text>')
    middle, centre = (LEFT + right) / 2, (TOP + floor) / 2
    parts.append(
        f'<text text-anchor="middle" x="{middle}" y="{HEIGHT - 8}">{escape(panel.across)}</text>'
        f'<text text-anchor="middle" transform="translate(14 {centre}) rotate(-90)">'
        f"{escape(panel.up)}</text>"
    )
    return parts


def _powers(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis: powers of ten, or where these are few, between them.

    Args:
        low, high: logarithms of the ends.

    >>> _powers(-2.1, 0.3), _powers(0.2, 1.5)
    ([0.01, 0.1, 1.0], [2.0, 5.0, 10.0, 20.0])
    """
    decades = range(math.floor(low), math.floor(high) + 1)
    for factors in ((1,), (1, 2, 5)):
        found = [factor * 10.0**decade for decade in decades for factor in factors]
        if len(found := [x for x in found if low <= math.log10(x) <= high]) > 2:
            return found
    return list[float](ticks(10**low, 10**high))


def _map(panel: Map) -> str:
    heights = [_height(panel, v) for row in panel.values for v in row]
    known = [v for v in heights if v is not None]
    if not known:
        return "<p>There is nothing to draw.</p>"
    low, high = min(known), max(known)
    left = 30 + NAME * max(map(len, panel.rows))
    side = min(SIDE, (WIDTH - left) / len(panel.columns))
    tall = min(TALL, max(4, HEIGHT / len(panel.rows)))
    width, height = left + side * len(panel.columns) + 8, tall * len(panel.rows)
    parts = []
    for i, (name, values) in enumerate(zip(panel.rows, panel.values, strict=True)):
        for j, (column, value) in enumerate(zip(panel.columns, values, strict=True)):
            if value is None or (place := _height(panel, value)) is None:
                continue
            share = 50 if low == high else 100 * (place - low) / (high - low)
            about = f"{panel.down} {name}, {panel.across} {column}: {value:.4g}"
            parts.append(
                f'<rect class="place" style="--heat:{share:.0f}%" x="{left + j * side:.1f}" '
                f'y="{i * tall:.1f}" width="{side + 0.3:.1f}" height="{tall + 0.3:.1f}">'
                f"<title>{escape(about)}</title></rect>"
            )
    for i in range(0, len(panel.rows), math.ceil(len(panel.rows) / TEXTS)):
        at = (i + 0.5) * tall + 4
        parts.append(
            f'<text text-anchor="end" x="{left - 6}" y="{at:.1f}">{escape(panel.rows[i])}</text>'
        )
    every = max(math.ceil(len(panel.columns) / TEXTS), 1)
    while every * side < NAME * (1 + max(map(len, panel.columns))):
        every += 1
    for j in range(0, len(panel.columns), every):
        parts.append(
            f'<text text-anchor="middle" x="{left + (j + 0.5) * side:.1f}" y="{height + 18}">'
            f"{escape(panel.columns[j])}</text>"
        )
    parts.append(
        f'<text text-anchor="middle" x="{(left + width) / 2:.1f}" y="{height + 38}">'
        f"{escape(panel.across)}</text>"
        f'<text text-anchor="middle" transform="translate(12 {height / 2}) rotate(-90)">'
        f"{escape(panel.down)}</text>"
    )
    for number, (name, places) in enumerate(panel.marks.items()):
        edges = "".join(_edges(places, left=left, side=side, tall=tall))
        parts.append(
            f'<path class="mark s{(number + 3) % len(COLOURS)}" d="{edges}">'
            f"<title>{escape(name)}</title></path>"
        )
    keys = "".join(
        f'<li><svg class="key wide s{(i + 3) % len(COLOURS)}" viewBox="0 0 28 16" '
        f'aria-hidden="true"><path class="mark" d="M1 2H27V14H1Z"/></svg>{escape(name)}</li>'
        for i, name in enumerate(panel.marks)
    )
    ends = " to ".join(f"{10**end if panel.log else end:.4g}" for end in (low, high))
    scale = f'<li><span class="scale"></span>{escape(panel.measure)}, {ends}</li>'
    return (
        f'<svg class="plot map" viewBox="0 {-ABOVE} {width:.0f} {height + 46 + ABOVE:.0f}" '
        f'style="width:{width:.0f}px" role="group" aria-label="{escape(panel.measure)}">'
        f'{"".join(parts)}</svg><ul class="legend">{scale}{keys}</ul>'
    )


def _edges(
    places: Sequence[tuple[int, int]], *, left: float, side: float, tall: float
) -> list[str]:
    """The lines about places of a map, each where its neighbour is none of them."""
    inside, parts = {*places}, []
    for row, column in sorted(inside):
        x, y = round(left + column * side, 1), round(row * tall, 1)
        across, down = round(x + side, 1), round(y + tall, 1)
        if (row - 1, column) not in inside:
            parts.append(f"M{x} {y}H{across}")
        if (row + 1, column) not in inside:
            parts.append(f"M{x} {down}H{across}")
        if (row, column - 1) not in inside:
            parts.append(f"M{x} {y}V{down}")
        if (row, column + 1) not in inside:
            parts.append(f"M{across} {y}V{down}")
    return parts
