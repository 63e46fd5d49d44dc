"""Every plot of a table as files: pictures for a screen, and figures for a paper.

    NAME-METRIC-speedup     a metric against speedup
    NAME-heat-METRIC        a metric, or the speedup, over two settings
    NAME-errors             how far the latents are from the uncached ones, step by step

Where a table has several columns of a metric the first is called by the metric, others by their
key; where it has several uncached references their errors are numbered.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.errors import UsageError, unknown, warn
from skipdit_cli.report import curves, heat, plots
from skipdit_cli.report.gallery import Behind
from skipdit_cli.report.look import FORMATS, SCREEN, WIDTHS, Look, save
from skipdit_cli.report.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawn = Iterator[tuple[str, "Figure"]]  # what follows the table's name, and the figure


@dataclass(frozen=True)
class Wanted:
    """Which figures: their formats and how they look."""

    formats: tuple[str, ...] = ("png",)
    look: Look = SCREEN

    @property
    def endings(self) -> list[str]:
        """Of the files: a PNG for a paper does not take the place of that for a screen."""
        paper = {"png": "-paper.png"} if self.look.paper else {}
        return [paper.get(each, f".{each}") for each in self.formats]


def wanted(formats: str | None, width: str | None) -> Wanted | None:
    """The figures that `--figure` and `--width` ask for; None if they ask for none.

    Raises:
        UsageError: no such format or width, or a width of no figure.
    """
    if formats is None:
        if width is not None:
            fix = "give --figure too, as --figure pdf"
            raise UsageError("it is the width of figures", place="--width", fix=fix)
        return None
    names = tuple(dict.fromkeys(each.strip() for each in formats.split(",")))
    for name in names:
        if name not in FORMATS:
            raise unknown("figure format", name, FORMATS, place="--figure")
    if width is not None and width not in WIDTHS:
        raise unknown("width", width, WIDTHS, place="--width")
    return Wanted(names, WIDTHS[width or "column"])


def draw(
    table: Table, behind: Behind, folder: Path, *, name: str, figures: Wanted | None = None
) -> list[Path]:
    """Write the figures of a table as `folder/NAME-...`; returns the paths.

    Earlier ones of this table in the same formats, for which there is nothing to show any more,
    are removed.

    Args:
        behind: the runs of the table, for their settings and trajectories.
        figures: for a paper; else PNG for a screen, of PSNR against speedup and the heat maps.
    Raises:
        StoreError: what is on disk cannot be read, the disk is full or the folder cannot be
            written.
    """
    asked = figures or Wanted()
    paths = []
    with asked.look.applied():
        for suffix, made in _drawn(table, behind, asked.look):
            paths += [save(made, folder / f"{name}-{suffix}{end}") for end in asked.endings]
    known = {_file(each) for each in (*registry.names("metrics"), *plots.SPEEDUPS)}
    known |= {_file(each.key) for each in table.headings}
    of = "|".join(map(re.escape, known))
    ours = re.compile(
        rf"{re.escape(name)}-(({of})-speedup|heat-({of})|errors(-\d+)?)"
        rf"({'|'.join(map(re.escape, asked.endings))})"
    )
    for path in set(folder.iterdir()) - set(paths) if folder.is_dir() else ():
        if ours.fullmatch(path.name):
            path.unlink()
    if figures and not paths:
        warn("there is nothing to draw", place=table.title, fix="no figure is written")
    return paths


def for_paper(folder: Path, *, name: str) -> list[Path]:
    """The figures for a paper that are there of a table."""
    paths = sorted(folder.glob(f"{name}-*"))
    return [path for path in paths if path.name.endswith((".pdf", ".svg", "-paper.png"))]


def _drawn(table: Table, behind: Behind, look: Look) -> Drawn:
    named: set[str] = set()
    for one in plots.scatters(table):
        metric = one.heading.metric
        called = one.heading.key if metric in named else metric
        named.add(metric)
        if look.paper or metric == "psnr":
            yield f"{_file(called)}-speedup", plots.draw(one, look, title=table.title)
    for each, found in heat.maps(table, behind.runs):
        yield f"heat-{_file(each.key)}", heat.draw(each, found, look, title=table.title)
    references = curves.curves(table, behind) if look.paper else []
    for number, (title, group) in enumerate(references, start=1):
        suffix = f"-{number}" if len(references) > 1 else ""
        if made := curves.draw(group, look, title=title):
            yield f"errors{suffix}", made


def _file(name: str) -> str:
    """A name of a metric or column, as a part of one of a file."""
    return re.sub(r"\W+", "-", name)
