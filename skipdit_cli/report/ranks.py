"""Which numbers of a column are the best: one, and all that cannot be told from it."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from skipdit_cli.recipe.recipe import TIMINGS
from skipdit_cli.report.cells import PAPER_DECIMALS, ours
from skipdit_cli.report.table import DRY, Cell, Heading, Table
from skipdit_cli.score.certainty import SURE, holm, sign_flip

PAIRS = 6  # samples: the fewest of which all signs alike are rarer than one in twenty
RULE = (
    "Bold: best of a column among our numbers, with all that cannot be told from it (p of 0.05 or "
    "more by the sign-flip test of samples in pairs, adjusted by Holm; timings, intervals that "
    "overlap), or of the paper's where the column has none of ours; the uncached references "
    "do not compete."
)


def rule(table: Table) -> str:
    """What bold means in a table, and what it cannot mean there."""
    cells = [line.cells for line in table.lines if not line.reference]
    counts = {
        len(cell.scores)
        for row in cells
        for heading, cell in zip(table.headings, row, strict=True)
        if heading.better and heading.metric not in TIMINGS and cell.scores
    }
    unsure = any(
        _untold(heading, [row[i] for row in cells]) for i, heading in enumerate(table.headings)
    )
    said = [RULE]
    if counts and min(counts) < PAIRS:
        said.append(
            f"Fewer than {PAIRS} samples, {min(counts)} here, are too few to tell any two apart."
        )
    if unsure:
        said.append("Timings of a single repetition are not told apart: no best is bold.")
    return " ".join(said)


def _untold(heading: Heading, cells: Sequence[Cell]) -> bool:
    """Whether a column has timings of which nothing says how sure they are."""
    return (
        heading.better != ""
        and heading.metric in TIMINGS
        and any(cell.ours is not None and cell.interval is None for cell in cells)
    )


def best(table: Table) -> dict[tuple[int, int], str]:
    """The best numbers of every column that says which direction is better.

    A column of which one number is ours is decided among ours alone: ours and the paper's are never
    compared. The uncached references do not compete. Numbers that are printed alike tie, and so do
    ours that cannot be told apart.

    Returns:
        By (line, column): "ours" or "paper", the number of the cell that is best.
    """
    sides: dict[tuple[int, int], str] = {}
    for column, heading in enumerate(table.headings):
        if not heading.better:
            continue
        all_cells = {i: ln.cells[column] for i, ln in enumerate(table.lines) if not ln.reference}
        cells = {i: cell for i, cell in all_cells.items() if not cell.relative}
        for side in ("ours", "paper"):
            if side == "ours" and _untold(heading, [*cells.values()]):
                break
            printed = {i: _printed(cell, heading, side) for i, cell in cells.items()}
            values = {i: value for i, value in printed.items() if value is not None}
            if values:
                top = (max if heading.better == "higher" else min)(values.values())
                group = {i for i, value in values.items() if value == top}
                if side == "ours":
                    others = {i: cells[i] for i in values if i not in group}
                    group |= {*others} - told_apart(heading, cells[min(group)], others)
                sides |= {(i, column): side for i in group}
                break
    return sides


def told_apart(heading: Heading, one: Cell, others: Mapping[int, Cell]) -> set[int]:
    """Which of several numbers of ours are surely others than one of their column.

    Scores of as many samples are compared in pairs, for those of one index begin with the same
    noise; timings and other numbers by their intervals; what has none, as it is.
    """
    scores, ps = () if heading.metric in TIMINGS else one.scores or (), dict[int, float]()
    for i, other in others.items():
        if scores and len(scores) == len(other.scores or ()):
            ps[i] = probability(one, other)
    adjusted = dict(zip(ps, holm(list(ps.values())), strict=True))
    return {
        i
        for i, other in others.items()
        if (adjusted[i] < SURE if i in adjusted else _disjoint(one, other))
    }


def probability(one: Cell, other: Cell) -> float:
    """The p of a difference of samples in pairs; 1 where the two have no scores that pair."""
    mine, theirs = one.scores or (), other.scores or ()
    return _probability(mine, theirs) if mine and len(mine) == len(theirs) else 1.0


@functools.lru_cache(maxsize=4096)  # every format of a table, and its plots, ask for the same ones
def _probability(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return sign_flip(np.subtract(one, other))


def _disjoint(one: Cell, other: Cell) -> bool:
    if one.interval is None or other.interval is None:
        return one.ours != other.ours
    return one.interval[1] < other.interval[0] or other.interval[1] < one.interval[0]


def _printed(cell: Cell, heading: Heading, side: str) -> float | None:
    if side == "ours":
        if cell.ours is None or cell.status == DRY:
            return None
        return float(ours(heading, cell.ours))
    return None if cell.paper is None else round(cell.paper, PAPER_DECIMALS)
