"""A table as CSV for other programs: numbers in full, one group of columns per heading.

A heading `psnr` becomes `psnr_paper, psnr_ours, psnr_spread, psnr_difference, psnr_n, psnr_status`;
in a table without published values `psnr, psnr_spread, psnr_n, psnr_status`. The last columns are
the keys of the runs behind the line and its notes.
"""

import csv
import io

from skipdit_cli.report.table import Cell, Heading, Table


def to_csv(table: Table) -> str:
    """The table as text with \\n line ends; what is not known is empty."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    columns = (_columns(heading, table.published) for heading in table.headings)
    write([*table.names, *(name for group in columns for name in group), "runs", "notes"])
    for line in table.lines:
        cells = (value for cell in line.cells for value in _values(cell, table.published))
        notes = dict.fromkeys(cell.note for cell in line.cells if cell.note)
        write([*line.names, *cells, " ".join(line.runs), "; ".join(notes)])
    return text.getvalue()


def _columns(heading: Heading, published: bool) -> list[str]:
    if published:
        parts = ("paper", "ours", "spread", "difference", "n", "status")
        return [f"{heading.key}_{part}" for part in parts]
    return [heading.key, *(f"{heading.key}_{part}" for part in ("spread", "n", "status"))]


def _values(cell: Cell, published: bool) -> list[str]:
    numbers = (cell.paper, cell.ours, cell.spread, cell.difference)
    shown = numbers if published else numbers[1:3]
    return [*map(_text, shown), "" if cell.n is None else str(cell.n), cell.status]


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:.10g}"
