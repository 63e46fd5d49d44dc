"""Everything a sweep leaves behind for people: the table, plots, maps and grids of samples."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import report
from skipdit_cli.errors import IncompleteError, warn
from skipdit_cli.report import figures as drawing
from skipdit_cli.report.curves import curves
from skipdit_cli.report.figures import Wanted
from skipdit_cli.report.gallery import Behind, sample_label, title
from skipdit_cli.report.grid import GridColumn, grid
from skipdit_cli.report.table import Table

if TYPE_CHECKING:
    from skipdit_cli.score.sweep import SweepRow

GRID_ROWS = 8


def publish(
    table: Table,
    folder: Path,
    *,
    name: str,
    rows: "Sequence[SweepRow]",
    root: Path,
    figures: Wanted | None = None,
) -> list[Path]:
    """Write a table in every format, its plot, heat maps, and a grid for each reference with
    cached runs.

    Args:
        rows: the runs behind the table.
        root: the results folder that holds their samples.
        figures: for a paper, which of them; where none are asked for and earlier ones are there it
            is told that these are of another table.
    Returns:
        The files; a picture for which there is nothing to show is left out, and an earlier one of
        that name is removed.
    """
    behind = Behind(root, [row.run for row in rows])
    paths = report.write_table(table, folder, name=name, formats=report.FORMATS, behind=behind)
    for each in dict.fromkeys((None, figures)):
        paths += drawing.draw(table, behind, folder, name=name, figures=each)
    if figures is None and (old := drawing.for_paper(folder, name=name)):
        fix = "give --figure to draw them again"
        warn(f"{len(old)} figures are of an earlier table", place=str(folder), fix=fix)
    groups: dict[str, list[SweepRow]] = {}
    for row in rows:
        if not row.failure and _has_samples(row, root):
            groups.setdefault(row.run.reference.key, []).append(row)
    shown = [group for group in groups.values() if len(group) > 1]
    for number, group in enumerate(shown, start=1):
        suffix = f"-{number}" if len(shown) > 1 else ""
        paths.append(_grid(group, folder / f"{name}-samples{suffix}.png", root=root))
    ours = re.compile(rf"{re.escape(name)}-samples(-\d+)?\.png")
    for path in set(folder.iterdir()) - set(paths):
        if ours.fullmatch(path.name):
            path.unlink()
    return list(dict.fromkeys(paths))


def _has_samples(row: "SweepRow", root: Path) -> bool:
    """Whether what a grid shows of a run is on disk."""
    from skipdit_cli.storage.store import open_store

    return not open_store(root, row.run).missing(range(min(GRID_ROWS, row.run.num_samples)))


def _grid(group: "Sequence[SweepRow]", path: Path, *, root: Path) -> Path:
    from skipdit_cli.storage.store import open_store

    ordered = sorted(group, key=lambda row: not row.run.is_reference)
    count = min(GRID_ROWS, ordered[0].run.num_samples)
    spans = [row.run.cache.span for row in ordered]
    several = len(set(filter(None, spans))) > 1
    columns = []
    for row, span in zip(ordered, spans, strict=True):
        store = open_store(root, row.run)
        name = f"{row.label}, {span}" if several and span else row.label
        psnr = row.results.get("psnr")
        quality = f"{psnr.value:.2f} dB" if psnr and psnr.value is not None else ""
        quality = "reference" if row.run.is_reference else quality
        columns.append(GridColumn(name, quality, [store.read(i) for i in range(count)]))
    store = open_store(root, ordered[0].run)
    labels = [sample_label(i, store.meta(i)) for i in range(count)]
    return grid(columns, path, rows=labels, title=title(ordered[0].run))


def records(table: Table, behind: Behind | None = None) -> list[dict[str, Any]]:
    """The table as JSON can hold it, one dictionary per line.

    Args:
        behind: with it a line has its "trajectories" as well: for each of its runs the relative
            error of the latents after every step.
    """
    all_records = []
    drawn = curves(table, behind) if behind else []
    errors = {curve.run: curve.points for _, group in drawn for curve in group}
    for line in table.lines:
        record: dict[str, Any] = dict(zip(table.names, line.names, strict=True))
        for heading, cell in zip(table.headings, line.cells, strict=True):
            record[heading.key] = {
                "ours": cell.ours,
                "paper": cell.paper,
                "spread": cell.spread,
                "interval": cell.interval,
                "n": cell.n,
                "status": cell.status,
                "note": cell.note,
            }
        record["spec"] = line.spec
        record["runs"] = list(line.runs)
        if behind:
            record["trajectories"] = [
                {"run": run, "errors": [{"timestep": t, "error": e} for t, e in errors[run]]}
                for run in line.runs
                if run in errors
            ]
        all_records.append(record)
    return all_records


def require(table: Table, rows: "Sequence[SweepRow]") -> None:
    """Raise IncompleteError, which names the first, if a run or a cell of a sweep failed."""
    again = "the same command tries these again and keeps the others"
    if failed := [row for row in rows if row.failure]:
        raise IncompleteError(
            f"{len(failed)} of {len(rows)} runs failed, first {failed[0].run.cache} "
            f"({failed[0].failure})",
            fix=again,
        )
    cells = [
        f"{line.names[0]}, {heading.label} ({cell.note})"
        for line in table.lines
        for heading, cell in zip(table.headings, line.cells, strict=True)
        if cell.status == "failed"
    ]
    if cells:
        raise IncompleteError(f"{len(cells)} cells failed, first {cells[0]}", fix=again)
