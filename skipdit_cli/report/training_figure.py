"""Training runs as a figure: loss and score against steps, and what is saved to equal quality."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli.errors import warn
from skipdit_cli.report import cells
from skipdit_cli.report.figures import Wanted
from skipdit_cli.report.look import COLOURS, GRID, INK, MARKERS, Look, dashes, figure, save
from skipdit_cli.report.training import EqualQuality, Point, Training
from skipdit_cli.report.training_told import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER = (".pdf", ".svg", "-paper.png")  # endings of figures for a paper
HEIGHT = 0.68  # of a panel's width
TITLE = 0.3  # inches
WIDE = 5  # inches of a figure from which its panels stand beside one another
NEAR = 0.3  # of the way between two runs, where the curve of the slower one is far off
DECADE = 10  # between the least and the greatest loss, from which its axis is logarithmic


def write(found: Training, folder: Path, *, name: str, figures: Wanted | None = None) -> list[Path]:
    """Write the figure as `folder/NAME.png`, and those for a paper; returns the paths.

    Where earlier ones for a paper stay there, it is told that these are of another comparison.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    paths = []
    for asked in (Wanted(), figures) if figures else (Wanted(),):
        with asked.look.applied():
            made = draw(found, asked.look)
            paths += [save(made, folder / f"{name}{end}") for end in asked.endings]
    earlier = {folder / f"{name}{end}" for end in PAPER} - {*paths}
    if old := [path for path in earlier if path.exists()]:
        fix = "give --figure to draw them again"
        warn(f"{len(old)} figures are of an earlier comparison", place=str(folder), fix=fix)
    return paths


def draw(found: Training, look: Look) -> "Figure":
    """Both panels, or one, of losses or where no loss is known; `look` has to be applied."""
    names = [each.name for each in found.series]
    losses = [each.losses for each in found.series]
    panels = 2 if any(losses) else 1
    beside = panels if look.width >= WIDE else 1
    height = look.width / beside * HEIGHT * (panels // beside) + (0 if look.paper else TITLE)
    made = figure(look, height + look.rows(names))
    axes = made.subplots(panels // beside, beside, squeeze=False).flatten()
    score = axes[-1]
    if any(losses):
        _curves(axes[0], names, losses, look, marked=False)
        _loss_axis(axes[0], losses)
    scores = [each.scores for each in found.series]
    _curves(score, names, scores, look, marked=not found.of_losses)
    score.set_ylabel(cells.heading(found.heading))
    if found.of_losses:
        _loss_axis(score, scores)
    if len(found.pairs) == 1:
        _saved(score, found.pairs[0], look, better=found.heading.better)
    if not look.paper:
        made.suptitle(textwrap.fill(title(found), look.characters(look.width)))
    look.legend(made, score.lines[: len(names)])
    return made


def _curves(
    axes: "Axes",
    names: Sequence[str],
    curves: Sequence[Sequence[Point]],
    look: Look,
    *,
    marked: bool,
) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    for i, (name, points) in enumerate(zip(names, curves, strict=True)):
        at, colour = [each.step for each in points], COLOURS[i % len(COLOURS)]
        axes.plot(
            at,
            [each.value for each in points],
            label=name,
            color=colour,
            linestyle=dashes(i),
            marker=MARKERS[i % len(MARKERS)] if marked else "",
        )
        if sure := [(each.step, *each.interval) for each in points if each.interval]:
            across, low, high = zip(*sure, strict=True)
            axes.fill_between(across, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlabel("training steps")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(color=GRID, linewidth=0.4 * look.line)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _loss_axis(axes: "Axes", curves: Sequence[Sequence[Point]]) -> None:
    axes.set_ylabel("loss")
    values = [each.value for points in curves for each in points]
    if min(values) > 0 and max(values) >= DECADE * min(values):
        axes.set_yscale("log")


def _saved(axes: "Axes", pair: EqualQuality, look: Look, *, better: str) -> None:
    """The level, from the step of one run to that of the other, and the ratio."""
    if pair.ratio is None or pair.other_steps is None:
        return
    start, end = pair.other_steps, float(pair.first_steps)
    levels = pair.level, pair.level
    axes.plot((start, end), levels, color=INK, linewidth=0.6 * look.line, marker="|")
    above = better == "lower"
    axes.annotate(
        f"{pair.ratio:.2f}x",
        (start + NEAR * (end - start), pair.level),
        xytext=(0, 0.4 * look.text if above else -0.4 * look.text),
        textcoords="offset points",
        ha="center",
        va="bottom" if above else "top",
        size=look.small,
    )
