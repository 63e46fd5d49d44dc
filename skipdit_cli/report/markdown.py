"""A table as Markdown: compact cells, what their status means below, then where it comes from.

A cell reads `paper / ours (difference, n=samples) status`. Where one of the two numbers is missing
it is a dash; where both are, only the status is left. In a table without published values a cell is
the number with its spread. `[1]` points to a numbered note below the table.
"""

from skipdit_cli.report.table import STATUSES, Cell, Heading, Table

PAPER_DECIMALS = 2  # what the published tables print
ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
DASH = "–"


def to_markdown(table: Table) -> str:
    """The whole report section, ending in a line end."""
    noted = footnotes(table)
    parts = [f"# {table.title}", body(table, noted), _legend(table), _numbered(noted)]
    parts.append("\n".join(f"- {note}" for note in table.notes))
    if table.provenance:
        made = "; ".join(f"{key} {value}" for key, value in table.provenance.items())
        parts.append(f"Made with {made}.")
    if table.command:
        parts.append(f"```\n{table.command}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def body(table: Table, noted: list[str] | None = None) -> str:
    """The table alone; `[1]` is put only behind cells whose note is in `noted`."""
    from tabulate import tabulate

    marks = {note: f" [{i}]" for i, note in enumerate(noted or (), start=1)}
    rows = []
    for line in table.lines:
        cells = zip(table.headings, line.cells, strict=True)
        texts = (_cell(h, c, table.published) + marks.get(c.note, "") for h, c in cells)
        rows.append([_escape(text) for text in (*line.names, *texts)])
    return tabulate(
        rows,
        headers=[_escape(text) for text in (*table.names, *map(heading, table.headings))],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=("left",) * len(table.names) + ("right",) * len(table.headings),
    )


def heading(column: Heading) -> str:
    """What stands above a column: `PSNR (dB) ↑`."""
    unit = f" ({column.unit})" if column.unit else ""
    return f"{column.label}{unit}{ARROWS[column.better]}"


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


def _cell(column: Heading, cell: Cell, published: bool) -> str:
    if cell.ours is None and cell.paper is None:
        return cell.status
    ours = DASH if cell.ours is None else number(cell.ours, column.decimals)
    if not published:
        shown = len(ours.partition(".")[2])
        return ours if cell.spread is None else f"{ours} ± {cell.spread:.{shown}f}"
    paper = DASH if cell.paper is None else f"{cell.paper:.{PAPER_DECIMALS}f}"
    inside = []
    if cell.difference is not None:
        inside.append(signed(cell.difference, column.decimals))
    if cell.ours is not None and cell.n is not None:
        inside.append(f"n={cell.n}")
    aside = f" ({', '.join(inside)})" if inside else ""
    return f"{paper} / {ours}{aside} {cell.status}"


def _legend(table: Table) -> str:
    said = [f"- {status}: {text}" for status, text in statuses(table).items()]
    form = ["A cell reads: paper / ours (difference, n = samples) status.", ""]
    return "\n".join([*form, *said] if table.published else said)


def statuses(table: Table) -> dict[str, str]:
    """The statuses that the cells show, with their meanings.

    In a table without published values a cell that has a number does not show its status.
    """
    cells = [cell for line in table.lines for cell in line.cells]
    seen = {cell.status for cell in cells if table.published or cell.ours is None}
    return {status: text for status, text in STATUSES.items() if status in seen}


def footnotes(table: Table) -> list[str]:
    """The notes of the cells, each once; a cell refers to one by its place, from 1."""
    notes = (cell.note for line in table.lines for cell in line.cells)
    return list(dict.fromkeys(note for note in notes if note))


def _numbered(noted: list[str]) -> str:
    return "\n".join(f"{i}. {note}" for i, note in enumerate(noted, start=1))


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
