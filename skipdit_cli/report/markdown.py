"""A table as Markdown: compact cells, what their status means below, then where it comes from.

At paper scale a cell reads `paper / ours (difference) status`. Where one of the two numbers is
missing it is a dash; where both are, only the status is left. In other tables a cell is our number,
with its margin of error in that of a sweep, and a status only where there is none; the paper's
number stands in a column of its own where the two compare. `[1]` points to a
numbered note below the table.
"""

from skipdit_cli.report import ranks
from skipdit_cli.report.cells import (
    DASH,
    PAPERS,
    footnotes,
    form,
    heading,
    margin,
    ours,
    paper,
    signed,
    statuses,
)
from skipdit_cli.report.table import Cell, Heading, Table
from skipdit_cli.storage.markup import fenced, in_cell, plain


def to_markdown(table: Table) -> str:
    """The whole report section, ending in a line end."""
    noted = footnotes(table)
    parts = [f"# {plain(table.title)}"]
    parts += [f"The same in all lines: {plain(table.same)}."] if table.same else []
    parts += [body(table, noted), _legend(table), _numbered(noted)]
    notes = (*([ranks.rule(table)] if ranks.best(table) else []), *table.notes)
    parts.append("\n".join(f"- {plain(note)}" for note in notes))
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
    rows, chosen = [], ranks.best(table)
    for i, line in enumerate(table.lines):
        texts = [in_cell(line.names[place]) for place in table.shown]
        for j, (column, cell) in enumerate(zip(table.headings, line.cells, strict=True)):
            text = _cell(column, cell, table, bold=chosen.get((i, j), ""))
            texts.append(in_cell(text) + marks.get(cell.note, ""))
            texts += [paper(column, cell)] if column.paper else []
        rows.append(texts)
    heads = [table.names[place] for place in table.shown]
    for column in table.headings:
        heads += [heading(column), *([PAPERS] if column.paper else [])]
    return tabulate(
        rows,
        headers=[in_cell(text) for text in heads],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=("left",) * len(table.shown) + ("right",) * (len(heads) - len(table.shown)),
    )


def _cell(column: Heading, cell: Cell, table: Table, *, bold: str) -> str:
    if cell.ours is None and (cell.paper is None or not table.published):
        return cell.status
    text = DASH if cell.ours is None else ours(column, cell.ours, relative=cell.relative)
    shown = _bold(text, bold == "ours")
    if not table.published and table.margins:
        return shown + margin(column, cell, text)
    inside = []
    if cell.difference is not None:
        inside.append(signed(cell.difference, column.decimals))
    if table.counted and cell.ours is not None and cell.n is not None:
        inside.append(f"n={cell.n}")
    aside = f" ({', '.join(inside)})" if inside else ""
    if not table.published:
        return shown + aside
    return f"{_bold(paper(column, cell), bold == 'paper')} / {shown}{aside} {cell.status}"


def _bold(text: str, chosen: bool) -> str:
    return f"**{text}**" if chosen else text


def _legend(table: Table) -> str:
    said = [f"- {status}: {text}" for status, text in statuses(table).items()]
    return "\n".join([f"{form(table)}.", "", *said] if table.published else said)


def _numbered(noted: list[str]) -> str:
    return "\n".join(f"{i}. {plain(note)}" for i, note in enumerate(noted, start=1))
