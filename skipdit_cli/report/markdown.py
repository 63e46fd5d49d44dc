"""A table as Markdown: compact cells, what their status means below, then where it comes from.

At paper scale a cell reads `paper / ours (difference) status`. Where one of the two numbers is
missing it is a dash; where both are, only the status is left. In other tables a cell is our number,
with its spread in that of a sweep, and a status only where there is none; the paper's number stands
in a column of its own where the two compare. `[1]` points to a numbered note below the table.
"""

from skipdit_cli.report.table import STATUSES, Cell, Heading, Table
from skipdit_cli.storage.markup import fenced, in_cell, plain

PAPER_DECIMALS = 2  # what the published tables print
ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
DASH = "–"
PAPERS = "paper's"  # heading of a column of published values


def to_markdown(table: Table) -> str:
    """The whole report section, ending in a line end."""
    noted = footnotes(table)
    parts = [f"# {plain(table.title)}", body(table, noted), _legend(table), _numbered(noted)]
    parts.append("\n".join(f"- {plain(note)}" for note in table.notes))
    if table.provenance:
        made = "; ".join(f"{key} {value}" for key, value in table.provenance.items())
        parts.append(f"Made with {plain(made)}.")
    if table.command:
        parts.append(fenced(table.command))
    return "\n\n".join(part for part in parts if part) + "\n"


def body(table: Table, noted: list[str] | None = None) -> str:
    """The table alone; `[1]` is put only behind cells whose note is in `noted`."""
    from tabulate import tabulate

    marks = {note: f" [{i}]" for i, note in enumerate(noted or (), start=1)}
    rows = []
    for line in table.lines:
        texts = [in_cell(name) for name in line.names]
        for column, cell in zip(table.headings, line.cells, strict=True):
            texts.append(in_cell(_cell(column, cell, table)) + marks.get(cell.note, ""))
            texts += [paper(column, cell)] if column.paper else []
        rows.append(texts)
    heads = [*table.names]
    for column in table.headings:
        heads += [heading(column), *([PAPERS] if column.paper else [])]
    return tabulate(
        rows,
        headers=[in_cell(text) for text in heads],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=("left",) * len(table.names) + ("right",) * (len(heads) - len(table.names)),
    )


def heading(column: Heading) -> str:
    """What stands above a column: `PSNR (dB) ↑`."""
    unit = column.shown or column.unit
    unit = f" ({unit})" if unit else ""
    return f"{column.label}{unit}{ARROWS[column.better]}"


def ours(column: Heading, value: float) -> str:
    """A number of ours, in the unit that people read."""
    return number(value * column.factor, column.decimals)


def paper(column: Heading, cell: Cell) -> str:
    """The paper's number, a dash where there is none."""
    if cell.paper is None:
        return DASH
    return f"{cell.paper:.{min(PAPER_DECIMALS, column.decimals)}f}"


def spread(column: Heading, cell: Cell, shown: str) -> str:
    """` ± 0.03`, with as many decimals as the number has that is shown; "" without a spread."""
    digits = len(shown.partition(".")[2])
    return "" if cell.spread is None else f" ± {cell.spread * column.factor:.{digits}f}"


def number(value: float, decimals: int) -> str:
    """A number to so many decimals, or to three digits where that would leave only one or none.

    >>> number(180.676, 2), number(0.033, 2), number(0, 2)
    ('180.68', '0.0330', '0.00')
    """
    if 0 < abs(value) < 10 ** (1 - decimals):
        return f"{value:#.3g}"
    return f"{value:.{decimals}f}"


def signed(value: float, decimals: int) -> str:
    """A difference to so many decimals, with its sign unless it rounds to nothing."""
    text = f"{value:+.{decimals}f}"
    return text if float(text) else text[1:]


def _cell(column: Heading, cell: Cell, table: Table) -> str:
    if cell.ours is None and (cell.paper is None or not table.published):
        return cell.status
    shown = DASH if cell.ours is None else ours(column, cell.ours)
    if not table.published and table.spreads:
        return shown + spread(column, cell, shown)
    inside = []
    if cell.difference is not None:
        inside.append(signed(cell.difference, column.decimals))
    if table.counted and cell.ours is not None and cell.n is not None:
        inside.append(f"n={cell.n}")
    aside = f" ({', '.join(inside)})" if inside else ""
    if not table.published:
        return shown + aside
    return f"{paper(column, cell)} / {shown}{aside} {cell.status}"


def _legend(table: Table) -> str:
    said = [f"- {status}: {text}" for status, text in statuses(table).items()]
    return "\n".join([f"{form(table)}.", "", *said] if table.published else said)


def form(table: Table) -> str:
    """How to read a cell of a table that has the paper's number and ours in one."""
    n = ", n = samples" if table.counted else ""
    return f"A cell reads: paper / ours (difference{n}) status"


def statuses(table: Table) -> dict[str, str]:
    """The statuses that the cells show, with their meanings.

    But for tables with the paper's number in each cell, one with a number shows no status.
    """
    cells = [cell for line in table.lines for cell in line.cells]
    seen = {cell.status for cell in cells if table.published or cell.ours is None}
    return {status: text for status, text in STATUSES.items() if status in seen}


def footnotes(table: Table) -> list[str]:
    """The notes of the cells, each once; a cell refers to one by its place, from 1."""
    notes = (cell.note for line in table.lines for cell in line.cells)
    return list(dict.fromkeys(note for note in notes if note))


def _numbered(noted: list[str]) -> str:
    return "\n".join(f"{i}. {plain(note)}" for i, note in enumerate(noted, start=1))
