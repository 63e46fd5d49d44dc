"""A table as CSV for other programs: numbers in full, one group of columns per heading.

A heading `psnr` becomes `psnr_paper, psnr_ours, psnr_spread, psnr_low, psnr_high, psnr_difference,
psnr_n, psnr_status`; where there is no published value to stand beside ours `psnr, psnr_spread,
psnr_low, psnr_high, psnr_n, psnr_status`. `spread` is the standard deviation over samples, `low`
and `high` the ends of the 95 % interval of the number. The last columns are the spec of the cache,
the keys of the runs behind the line and its notes.
"""

from skipdit_cli.report.table import Cell, Heading, Table
from skipdit_cli.storage.spreadsheet import csv_text

KNOWN = ("spread", "low", "high")  # what a number is known to


def to_csv(table: Table) -> str:
    """The table as text with \\n line ends; what is not known is empty."""
    beside = [table.published or heading.paper for heading in table.headings]
    columns = map(_columns, table.headings, beside)
    rows = [[*table.names, *(name for group in columns for name in group), "spec", "runs", "notes"]]
    for line in table.lines:
        cells = (value for group in map(_values, line.cells, beside) for value in group)
        notes = dict.fromkeys(cell.note for cell in line.cells if cell.note)
        rows.append([*line.names, *cells, line.spec, " ".join(line.runs), "; ".join(notes)])
    return csv_text(rows)


def _columns(heading: Heading, beside: bool) -> list[str]:
    if beside:
        parts = ("paper", "ours", *KNOWN, "difference", "n", "status")
        return [f"{heading.key}_{part}" for part in parts]
    return [heading.key, *(f"{heading.key}_{part}" for part in (*KNOWN, "n", "status"))]


def _values(cell: Cell, beside: bool) -> list[str]:
    ours = (cell.ours, cell.spread, *(cell.interval or (None, None)))
    shown = (cell.paper, *ours, cell.difference) if beside else ours
    return [*map(_text, shown), "" if cell.n is None else str(cell.n), cell.status]


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:.10g}"
