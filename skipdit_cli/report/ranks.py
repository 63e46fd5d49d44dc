"""Which number of a column is the best one."""

from skipdit_cli.report.markdown import PAPER_DECIMALS, ours
from skipdit_cli.report.table import DRY, Cell, Heading, Table

RULE = (
    "Bold: best of a column among our numbers (the paper's where the column has none of ours); the "
    "uncached baselines, grey, do not compete."
)


def best(table: Table) -> dict[tuple[int, int], str]:
    """The best numbers of every column that says which direction is better.

    A column of which one number is ours is decided among ours alone: ours and the paper's are never
    compared. The uncached baselines do not compete. Numbers that are printed alike tie.

    Returns:
        By (line, column): "ours" or "paper", the number of the cell that is best.
    """
    sides: dict[tuple[int, int], str] = {}
    for column, heading in enumerate(table.headings):
        if not heading.better:
            continue
        cells = {i: ln.cells[column] for i, ln in enumerate(table.lines) if not ln.reference}
        for side in ("ours", "paper"):
            printed = {i: _printed(cell, heading, side) for i, cell in cells.items()}
            values = {i: value for i, value in printed.items() if value is not None}
            if values:
                top = (max if heading.better == "higher" else min)(values.values())
                sides |= {(i, column): side for i, value in values.items() if value == top}
                break
    return sides


def _printed(cell: Cell, heading: Heading, side: str) -> float | None:
    if side == "ours":
        if cell.ours is None or cell.status == DRY:
            return None
        return float(ours(heading, cell.ours))
    return None if cell.paper is None else round(cell.paper, PAPER_DECIMALS)
