"""A check of a table: whether what was computed agrees with the paper.

Cells that have a published value and a number that could match it are compared. A cell that was not
run, failed, needs weights or is of tiny scale counts neither as a match nor as a failure; the check
says how many of these there are.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skipdit_cli.errors import IncompleteError, ToleranceError, UsageError
from skipdit_cli.recipe.recipe import TIMINGS
from skipdit_cli.report.table import COUNTS, Cell, Table

if TYPE_CHECKING:
    from skipdit_cli.recipe.shape import Column, Recipe


@dataclass(frozen=True, kw_only=True)
class Outside:
    """A cell outside its tolerance.

    Attributes:
        tolerance: of the column, relative to the paper's value.
        look: what to look at.
    """

    row: str
    column: str
    paper: float
    ours: float
    tolerance: float
    look: str

    def __str__(self) -> str:
        apart = abs(self.ours - self.paper) / abs(self.paper) if self.paper else float("inf")
        return (
            f"{self.row}, {self.column}: paper {self.paper:.10g}, ours {self.ours:.7g}, "
            f"{100 * apart:.2g} % apart, tolerance {100 * self.tolerance:.3g} %"
        )


@dataclass(frozen=True, kw_only=True)
class Check:
    """How a table compares with the paper.

    Attributes:
        compared: number of cells that were compared.
        outside: those of them that are outside their tolerance.
        left_out: why other cells that have a published value were not compared: status -> number.
    """

    compared: int
    outside: tuple[Outside, ...]
    left_out: dict[str, int]

    def __str__(self) -> str:
        cells = self.compared + sum(self.left_out.values())
        why = ", ".join(f"{count} {status}" for status, count in self.left_out.items())
        inside = f"{self.compared - len(self.outside)} within tolerance"
        text = f"{self.compared} of {cells} published values compared, {inside}"
        return f"{text}; left out: {why}" if why else text

    def record(self) -> dict[str, Any]:
        """Content that JSON can hold."""
        return {
            "compared": self.compared,
            "outside": [vars(each) for each in self.outside],
            "left_out": self.left_out,
        }


def check(table: Table, recipe: "Recipe") -> Check:
    """Compare a recipe's table with the paper.

    Raises:
        UsageError: the recipe does not name a table of the paper.
    """
    if recipe.table is None:
        raise UsageError(
            f"{recipe.name} does not name a table of the paper",
            place="--check",
            fix="use a recipe that names one, such as table1",
        )
    compared, outside, left_out = 0, [], Counter[str]()
    for line in table.lines:
        for column, heading, cell in zip(recipe.columns, table.headings, line.cells, strict=True):
            if cell.paper is None:
                continue
            if cell.status not in ("match", "off"):
                left_out[cell.status] += 1
                continue
            compared += 1
            if cell.status == "off" and cell.ours is not None:
                unit = f" ({heading.unit})" if heading.unit else ""
                outside.append(
                    Outside(
                        row=line.names[0],
                        column=f"{heading.label}{unit}",
                        paper=cell.paper,
                        ours=cell.ours,
                        tolerance=column.tolerance,
                        look=_look(column, cell, table=table, recipe=recipe),
                    )
                )
    return Check(compared=compared, outside=tuple(outside), left_out=dict(left_out.most_common()))


def require(comparison: Check, recipe: "Recipe") -> None:
    """Raise an error unless cells were compared and all are within their tolerance.

    Raises:
        ToleranceError: a cell is outside its tolerance; the first is named.
        IncompleteError: no cell could be compared.
    """
    place = f"{recipe.name} at {recipe.scale} scale"
    if comparison.outside:
        count, first = len(comparison.outside), comparison.outside[0]
        are = "is" if count == 1 else "are"
        raise ToleranceError(
            f"{count} of {comparison.compared} compared cells {are} outside tolerance, "
            f"first {first}",
            place=place,
            fix=first.look,
        )
    if not comparison.compared:
        tiny = "use --scale paper, whose FLOPs need no weights"
        more = f"run `skipdit cache-sweep --recipe {recipe.name} --scale paper` first"
        raise IncompleteError(
            f"no number to compare with the paper ({comparison})",
            place=place,
            fix=tiny if recipe.scale == "tiny" else more,
        )


def _look(column: "Column", cell: Cell, *, table: Table, recipe: "Recipe") -> str:
    """Where a difference may come from, by what kind of number it is."""
    if column.metric in COUNTS:
        plan = f"`skipdit plan {recipe.name} --scale {recipe.scale}`"
        return f"look at the schedule and the text tokens of the row: {plan}"
    if column.metric in TIMINGS:
        theirs, ours = recipe.paper.get("hardware", "unknown"), table.provenance.get("device", "")
        return f"look at the hardware: the paper's is {theirs}, this was timed on {ours}"
    if cell.note:
        return f"look at the samples: {cell.note}"
    return f"look at the samples (n={cell.n}), the weights and the protocol ({cell.protocol})"
