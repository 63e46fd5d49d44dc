"""A table as LaTeX for a paper, with booktabs.

The file is a `table*` to be read with `\\input`; its first lines name the packages that it needs.
The best number of a column is bold, the uncached references are grey, and a cell without a number
says why. The commands and what made the numbers are comments.
"""

import re

from skipdit_cli.report import ranks
from skipdit_cli.report.cells import PAPERS, footnotes, margin, ours, paper
from skipdit_cli.report.table import Cell, Heading, Table

PACKAGES = ("booktabs", "graphicx", "xcolor")
ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "": ""}
DASH = "--"
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",  # a straight quote in every font encoding
    "×": r"$\times$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "µ": r"$\mu$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def to_latex(table: Table) -> str:
    """The whole file, ending in a line end."""
    noted = footnotes(table)
    marks = {note: rf"\textsuperscript{{{i}}}" for i, note in enumerate(noted, start=1)}
    chosen = ranks.best(table)
    heads = [escape(table.names[place]) for place in table.shown]
    for heading in table.headings:
        heads += [_heading(heading), *([escape(PAPERS)] if heading.paper else [])]
    rows = []
    for i, line in enumerate(table.lines):
        texts = [escape(line.names[place]) for place in table.shown]
        for column, (heading, cell) in enumerate(zip(table.headings, line.cells, strict=True)):
            text = _cell(heading, cell, table, bold=chosen.get((i, column), ""))
            texts.append(text + marks.get(cell.note, ""))
            texts += [escape(paper(heading, cell))] if heading.paper else []
        if line.reference:
            texts = [rf"\textcolor{{gray}}{{{text}}}" for text in texts]
            if i:
                rows.append(r"\midrule")
        rows.append(_row(texts))
    columns = "l" * len(table.shown) + "r" * (len(heads) - len(table.shown))
    return "\n".join(
        [
            *(f"% {line}" for line in _comments(table)),
            r"\begin{table*}[t]",
            r"\centering",
            rf"\caption{{{escape(_caption(table.title))}}}",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _row(heads),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\par\smallskip",
            r"\begin{minipage}{\textwidth}",
            r"\footnotesize\raggedright",
            *(f"{text}\\par" for text in _below(table, noted)),
            r"\end{minipage}",
            r"\end{table*}",
            "",
        ]
    )


def _caption(title: str) -> str:
    """The title without a number of its own, for LaTeX counts tables itself.

    >>> _caption("Table 3: video (tiny scale)"), _caption("a sweep")
    ('video (tiny scale), after Table 3 of arXiv 2411.17616', 'a sweep')
    """
    return re.sub(r"^Table (\d+): (.*)", r"\2, after Table \1 of arXiv 2411.17616", title)


def escape(text: str) -> str:
    r"""Text as LaTeX prints it; `code` in backquotes becomes \texttt.

    >>> escape("50 % of a_b"), escape("run `a --b`")
    ('50 \\% of a\\_b', 'run \\texttt{a -{}-b}')
    """
    parts = re.split(r"`([^`]*)`", text.replace("\n", " "))
    escaped = [
        rf"\texttt{{{_plain(part).replace('--', '-{}-')}}}" if i % 2 else _plain(part)
        for i, part in enumerate(parts)
    ]
    return "".join(escaped)


def _plain(text: str) -> str:
    return "".join(SPECIAL.get(sign, sign) for sign in text)


def _row(texts: list[str]) -> str:
    return " & ".join(texts) + r" \\"


def _heading(column: Heading) -> str:
    unit = column.shown or column.unit
    unit = f" ({escape(unit)})" if unit else ""
    return f"{escape(column.label)}{unit}{ARROWS[column.better]}"


def _cell(column: Heading, cell: Cell, table: Table, *, bold: str) -> str:
    """Our number, at paper scale beside the paper's; the status where there is none."""
    if cell.ours is None and (cell.paper is None or not table.published):
        return rf"\textit{{{escape(cell.status)}}}"
    text = DASH if cell.ours is None else ours(column, cell.ours, relative=cell.relative)
    shown = _bold(text, bold == "ours")
    if not table.published:
        return shown + (escape(margin(column, cell, text)) if table.margins else "")
    return f"{_bold(escape(paper(column, cell)), bold == 'paper')} / {shown}"


def _bold(text: str, chosen: bool) -> str:
    return rf"\textbf{{{text}}}" if chosen else text


def _comments(table: Table) -> list[str]:
    packages = ",".join(PACKAGES)
    made = "; ".join(f"{key} {value}" for key, value in table.provenance.items())
    lines = [rf"Needs \usepackage{{{packages}}}; read this file with \input."]
    lines += [f"Made with {made}."] if made else []
    return [part for line in (*lines, *table.command.splitlines()) for part in line.splitlines()]


def _below(table: Table, noted: list[str]) -> list[str]:
    """What stands below the table: how to read it, numbered notes, notes."""
    form = "A cell is: the paper's value / ours." if table.published else ""
    same = f"The same in all lines: {table.same}." if table.same else ""
    numbered = [rf"\textsuperscript{{{i}}} {escape(note)}" for i, note in enumerate(noted, start=1)]
    return [
        *filter(None, [escape(same), escape(form), escape(ranks.rule(table))]),
        *numbered,
        *map(escape, table.notes),
    ]
