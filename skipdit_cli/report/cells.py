"""What people read of a table's cells and headings, in every format."""

from skipdit_cli.report.table import STATUSES, Cell, Heading, Table

PAPER_DECIMALS = 2  # what the published tables print
ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
DASH = "–"
PAPERS = "paper's"  # heading of a column of published values


def heading(column: Heading) -> str:
    """What stands above a column: `PSNR (dB) ↑`."""
    unit = column.shown or column.unit
    unit = f" ({unit})" if unit else ""
    return f"{column.label}{unit}{ARROWS[column.better]}"


def ours(column: Heading, value: float, *, relative: bool = False) -> str:
    """A number of ours, in the unit that people read; a difference with its sign."""
    if relative:
        return signed(value * column.factor, column.decimals)
    return number(value * column.factor, column.decimals)


def paper(column: Heading, cell: Cell) -> str:
    """The paper's number, a dash where there is none."""
    if cell.paper is None:
        return DASH
    return f"{cell.paper:.{min(PAPER_DECIMALS, column.decimals)}f}"


def margin(column: Heading, cell: Cell, shown: str) -> str:
    """` ± 0.03`, with as many decimals as the number has that is shown; "" where none is known."""
    digits = len(shown.partition(".")[2])
    return "" if cell.margin is None else f" ± {cell.margin * column.factor:.{digits}f}"


def within(interval: tuple[float, float] | None, form: str = ".4g") -> str:
    """An interval in full: `[27.87, 32.13]`; "" where none is known.

    >>> within((27.874, 32.126)), within((-0.5, 0.25), "+.2g"), within(None)
    ('[27.87, 32.13]', '[-0.5, +0.25]', '')
    """
    return "" if interval is None else f"[{interval[0]:{form}}, {interval[1]:{form}}]"


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
