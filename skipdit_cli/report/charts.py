"""Charts of a page as inline SVG: quality against speedup, and what every step computed.

Colours are classes (`s0` to `s9`, `full`, `partly`, `reused`) that the page's style sheet defines,
so that they follow its dark and light modes; a marker's shape, a bar's height and a text say the
same without colour.
"""

import math
from collections.abc import Callable, Sequence
from html import escape

from skipdit_cli.report.cells import margin, ours
from skipdit_cli.report.look import COLOURS, DASHES
from skipdit_cli.report.plots import UNCACHED, Extent, Point, Scatter, called
from skipdit_cli.report.room import Box, room
from skipdit_cli.report.table import Cell

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 20, 52
CHARACTER, LINE, RISE = (
    7.2,
    14,
    11,
)  # pixels of a label: a character at most, height, above its foot
SHAPES = (  # one per marker of the plots, in a box from -6 to 6
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "M-5 -5h10v10h-10z",
    "M0 -6l6 11h-12z",
    "M0 -6.5l6.5 6.5l-6.5 6.5l-6.5 -6.5z",
    "M0 6l6 -11h-12z",
    "M-2 -6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
    "M0 -3l3 -3l3 3l-3 3l3 3l-3 3l-3 -3l-3 3l-3 -3l3 -3l-3 -3l3 -3z",
    "M0 -7l2 5h5l-4 3l2 5l-5 -3l-5 3l2 -5l-4 -3h5z",
    "M-6 0l11 -6v12z",
    "M6 0l-11 -6v12z",
    "M0 -6l5.2 3v6l-5.2 3l-5.2 -3v-6z",
)
Place = Callable[[float, float], tuple[float, float]]  # values -> pixels
STRIP, BAR = 600, 24  # pixels: width of a strip, height of a step that is computed in full
KINDS = {
    "full": "computed in full",
    "partly": "half or more computed, the rest reused",
    "reused": "less than half computed, most of it reused",
}


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers within a range, about so many.

    >>> ticks(1.1, 1.62), ticks(22, 46)
    ([1.1, 1.2, 1.3, 1.4, 1.5, 1.6], [25, 30, 35, 40, 45])
    """
    raw = (high - low) / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [round(i * step, 10) for i in range(first, last + 1)]
    return [int(value) if step >= 1 else value for value in values]


def scatter(one: Scatter) -> str:
    """A metric against speedup: a marker per line, a broken line along the front, a legend."""
    across, up = one.extents

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            round(LEFT + (x - across[0]) / (across[1] - across[0]) * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - (y - up[0]) / (up[1] - up[0]) * (HEIGHT - TOP - BOTTOM), 1),
        )

    path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in _outline(one)))
    to_beat = sorted(point.at for point in one.series.get(one.to_beat, ()))
    beat = " ".join(f"{x},{y}" for x, y in (place(*at) for at in to_beat))
    start = place(1, up[0])[0]
    said = (start + 5, TOP, start + 5 + CHARACTER * len(UNCACHED), TOP + 16)
    levels = [place(1, score)[1] for score in one.baselines]
    inside = [
        *_axes(across, up, place, one.axes),
        f'<line class="reference" x1="{start}" x2="{start}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>',
        *(
            f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            for y in levels
        ),
        f'<text class="faint" x="{start + 5}" y="{TOP + 12}">{UNCACHED}</text>',
        f'<polyline class="front" points="{path}"/>',
        *([f'<polyline class="to-beat" points="{beat}"/>'] if beat else []),
        *_markers(one, place, said),
    ]
    label = escape(" against ".join(reversed(one.axes)))
    picture = (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
        f'aria-label="{label}">{"".join(inside)}</svg>'
    )
    return f'<div class="scroll" tabindex="0" role="region" aria-label="Plot">{picture}</div>' + (
        _legend(one)
    )


def _outline(one: Scatter) -> list[tuple[float, float]]:
    """Where the broken line along a front goes: through the points that nothing exceeds in both."""
    kept: list[tuple[float, float]] = []
    sign = 1 if one.heading.better == "higher" else -1
    best = {point.at for point in one.front}
    for at in sorted(best, key=lambda at: (at[0], sign * at[1]), reverse=True):
        if not kept or sign * (at[1] - kept[-1][1]) > 0:
            kept.append(at)
    return kept[::-1]


def _axes(across: Extent, up: Extent, place: Place, titles: tuple[str, str]) -> list[str]:
    floor, left = HEIGHT - BOTTOM, LEFT
    parts = []
    for x in ticks(*across):
        at = place(x, up[0])[0]
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{floor}"/>')
        parts.append(f'<text text-anchor="middle" x="{at}" y="{floor + 18}">{x:g}</text>')
    for y in ticks(*up):
        at = place(across[0], y)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text text-anchor="end" x="{left - 8}" y="{at + 4}">{y:g}</text>')
    middle, centre = (left + WIDTH - RIGHT) / 2, (TOP + floor) / 2
    parts.append(f'<text text-anchor="middle" x="{middle}" y="{HEIGHT - 10}">{titles[0]}</text>')
    parts.append(
        f'<text text-anchor="middle" transform="translate(16 {centre}) rotate(-90)">'
        f"{escape(titles[1])}</text>"
    )
    return parts


def _markers(one: Scatter, place: Place, said: Box) -> list[str]:
    """Markers with their label: shown where it has room, else when pointed at or in focus.

    Args:
        place: values of the axes -> pixels.
        said: the box of a text that is already drawn.
    """
    spots = [place(*point.at) for point in one.points]
    taken = [said, *((x - 7, y - 7, x + 7, y + 7) for x, y in spots)]
    best = one.front
    inside = (LEFT, TOP, WIDTH, HEIGHT - BOTTOM)
    parts = []
    for i, (name, series_points) in enumerate(one.series.items()):
        for point in sorted(series_points, key=lambda point: point.at):
            label, at = point.label, place(*point.at)
            size = (CHARACTER * len(label), LINE)
            found = room(at, size, gap=9, inside=inside, taken=taken)
            if found:
                taken.append(found[1])
            about = f"{called(name, label)}: {_said(one, point)}"
            about += ", on the Pareto front" if point in best else ""
            parts.append(
                f'<g class="point {_class(one, name, i)}" tabindex="0" role="img" '
                f'aria-label="{escape(about)}" transform="translate({at[0]} {at[1]})">'
                f'<title>{escape(about)}</title>{_bars(point, place)}<circle class="halo" r="11"/>'
                f'<path d="{_shape(one, name, i)}"/>'
                f"{_label(label, at, found)}</g>"
            )
    return parts


def _label(label: str, at: tuple[float, float], found: tuple[str, Box] | None) -> str:
    """The label of a marker, relative to it; hidden where there is no room."""
    hidden = "" if found else "hidden"
    if found:
        anchor, (left, top, right, _) = found
        x = {"start": left, "middle": (left + right) / 2, "end": right}[anchor] - at[0]
        y = top + RISE - at[1]
    else:  # it is seen above everything else then, and has to stay within the picture
        anchor = "end" if at[0] + 9 + CHARACTER * len(label) > WIDTH else "start"
        x, y = (-9 if anchor == "end" else 9), -7
    return (
        f'<text class="{hidden}" text-anchor="{anchor}" x="{x:g}" y="{y:g}">{escape(label)}</text>'
    )


def _said(one: Scatter, point: Point) -> str:
    """A point in words: `30.00 ± 2.13 dB at 1.46 ± 0.03×`."""
    x, y = point.at
    score = ours(one.heading, y)
    unit = f" {one.heading.unit}" if one.heading.unit else ""
    speed = f"{x:.2f}{_margin(point.speedup)}×"
    return f"{score}{margin(one.heading, point.quality, score)}{unit} at {speed}"


def _margin(cell: Cell) -> str:
    return "" if cell.margin is None else f" ± {cell.margin:.2f}"


def _bars(point: Point, place: Place) -> str:
    """Lines from end to end of the intervals of both numbers, about the marker."""
    (x, y), (across, up) = point.at, point.bars
    at = place(x, y)
    left, right = (place(end, y)[0] - at[0] for end in across)
    low, high = (place(x, end)[1] - at[1] for end in up)
    return f'<path class="bars" d="M{left:.1f} 0H{right:.1f}M0 {low:.1f}V{high:.1f}"/>'


def dash(index: int) -> str:
    """The dashes of a series, as SVG takes them; "" for a whole line."""
    return " ".join(f"{2 * each:g}" for each in DASHES[index % len(DASHES)])


def _class(one: Scatter, name: str, index: int) -> str:
    """What the style sheet tells a series by."""
    return "to-beat" if name == one.to_beat else f"s{index % len(COLOURS)}"


def _shape(one: Scatter, name: str, index: int) -> str:
    """The marker of a series."""
    return SHAPES[0 if name == one.to_beat else index % len(SHAPES)]


def _legend(one: Scatter) -> str:
    items = [
        f'<li><svg class="key {_class(one, name, i)}" viewBox="-8 -8 16 16" aria-hidden="true">'
        f'<path d="{_shape(one, name, i)}"/></svg>{escape(name)}</li>'
        for i, name in enumerate(one.series)
    ]
    items.append(
        '<li><svg class="key wide" viewBox="0 -8 28 16" aria-hidden="true">'
        '<line class="front" x1="0" x2="28" y1="0" y2="0"/></svg>Pareto front</li>'
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def kind(share: float) -> str:
    """Which of KINDS a step is, by the share of its operations that is executed."""
    if share > 0.9995:
        return "full"
    return "partly" if share >= 0.5 else "reused"


def strip(steps: Sequence[tuple[int, float]]) -> str:
    """A bar per step, from the first on the left, as high as the share that is computed."""
    width = _step_width(len(steps))
    gap = 1 if width >= 4 else 0
    paths = dict.fromkeys(KINDS, "")
    for i, (_, share) in enumerate(steps):
        height = max(1, round(share * BAR, 1))
        paths[kind(share)] += f"M{i * width} {BAR}v-{height:g}h{width - gap}v{height:g}z"
    bars = "".join(f'<path class="{name}" d="{d}"/>' for name, d in paths.items() if d)
    whole = width * len(steps)
    return (
        f'<svg class="strip" width="{whole}" height="{BAR}" viewBox="0 0 {whole} {BAR}" role="img" '
        f'aria-label="{escape(summary(steps))}"><title>{escape(summary(steps))}</title>'
        f'<rect class="track" width="{whole}" height="{BAR}"/>{bars}</svg>'
    )


def summary(steps: Sequence[tuple[int, float]]) -> str:
    """How many steps of each kind there are.

    >>> summary([(999, 1.0), (500, 0.25), (0, 1.0)])
    '2 full, 0 partly, 1 reused of 3 steps'
    """
    kinds = [kind(share) for _, share in steps]
    counts = ", ".join(f"{kinds.count(name)} {name}" for name in KINDS)
    return f"{counts} of {len(steps)} steps"


def ruler(timesteps: Sequence[int], marks: int = 6) -> str:
    """The axis above strips: the timestep at which some of the steps are."""
    width, count = _step_width(len(timesteps)), min(marks, len(timesteps))
    whole, parts = width * len(timesteps), []
    for j in range(count):
        i = round(j * (len(timesteps) - 1) / max(1, count - 1))
        x = round((i + 0.5) * width, 1)
        anchor = "start" if j == 0 else "end" if j == count - 1 else "middle"
        at = 0 if j == 0 else whole if j == count - 1 else x
        parts.append(f'<line class="mark" x1="{x}" x2="{x}" y1="15" y2="20"/>')
        parts.append(f'<text x="{at}" y="11" text-anchor="{anchor}">{timesteps[i]}</text>')
    return (
        f'<svg class="ruler" width="{whole}" height="20" viewBox="0 0 {whole} 20" role="img" '
        f'aria-label="timesteps {timesteps[0]} to {timesteps[-1]}">{"".join(parts)}</svg>'
    )


def _step_width(count: int) -> int:
    return max(2, STRIP // max(1, count))
