"""A table as one HTML page that needs nothing beside it: works from a file, offline.

Table, plot of quality against speedup, heat maps, what every step computed and how far it led from
the uncached samples, samples side by side, and where all of it comes from. Style and script
(`page.css`, `page.js`) and samples are inside the page.
"""

import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from skipdit_cli import registry
from skipdit_cli.report import charts, heat, ranks
from skipdit_cli.report.cells import (
    ARROWS,
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
from skipdit_cli.report.curves import RunCurve, chart, curves
from skipdit_cli.report.gallery import Behind, Group, groups, labels, told
from skipdit_cli.report.plots import scatters
from skipdit_cli.report.stage import gallery
from skipdit_cli.report.table import Cell, Heading, Line, Table

OPEN = 2  # charts of errors that are seen without a click

# Whatever a text on the page may say, a browser loads nothing for it.
POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'"
)


def to_html(table: Table, behind: Behind | None = None) -> str:
    """The whole page.

    Args:
        behind: the runs of the table, for their schedules and samples; without it there are none.
    Raises:
        StoreError: what is on disk cannot be read.
    """
    sections = [
        ("Results", _results(table)),
        ("Quality against speedup", _plots(table)),
        ("What every step computes", _schedules(table, behind)),
        ("Error over timesteps", _errors(curves(table, behind) if behind else [])),
        ("Samples", gallery(groups(table, behind) if behind else [])),
        ("How this was made", _made(table)),
    ]
    if maps := heat.html(table, behind.runs if behind else ()):
        sections.insert(2, ("Over two settings", maps))
    return document(table.title, sections)


def of_samples(table: Table, groups: Sequence[Group]) -> str:
    """The page of samples that no runs are known of: the table, and samples side by side."""
    shown = [("Samples", gallery(groups))] if groups else []
    sections = [("Results", _results(table)), *shown, ("How this was made", _made(table))]
    return document(table.title, sections)


def document(text: str, sections: Sequence[tuple[str, str]]) -> str:
    """A page with sections, each with its heading and HTML."""
    title = escape(text)
    anchors = [re.sub(r"\W+", "-", name.lower()) for name, _ in sections]
    links = "".join(
        f'<a href="#{anchor}">{name}</a>'
        for anchor, (name, _) in zip(anchors, sections, strict=True)
    )
    body = "\n".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">'
        f'<h2 id="{anchor}-title">{name}</h2>\n{content}\n</section>'
        for anchor, (name, content) in zip(anchors, sections, strict=True)
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title}</title>
<style>
{_file("page.css")}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<nav aria-label="Sections">{links}</nav>
<button type="button" id="theme">Theme: automatic</button>
</header>
<main>
{body}
</main>
<script>
{_file("page.js")}</script>
</body>
</html>
"""


def _file(name: str) -> str:
    return files("skipdit_cli.report").joinpath(name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    """Text with its `code` marked."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def _results(table: Table) -> str:
    """The table: what a line is, speedup and quality first, what else is known of it last."""
    noted, chosen = footnotes(table), ranks.best(table)
    columns = sorted(range(len(table.headings)), key=lambda column: _order(table, column))
    counted = [place for place in table.shown if place not in told(table)]
    method = ", ".join(table.names[place] for place in told(table))
    heads = [f'<th scope="col">{_text(method)}</th>']
    for column in columns:
        each = table.headings[column]
        heads.append(f'<th scope="col" class="number">{_heading(each)}{_same(table, column)}</th>')
        heads += [f'<th scope="col" class="number paper">{PAPERS}</th>'] if each.paper else []
    heads += [f'<th scope="col" class="number">{_text(table.names[each])}</th>' for each in counted]
    rows = []
    for i, (line, name) in enumerate(zip(table.lines, labels(table), strict=True)):
        cells = []
        for column in columns:
            each, cell = table.headings[column], line.cells[column]
            aside = _aside(table, column, cell)
            bold = chosen.get((i, column), "")
            cells.append(_cell(each, cell, table, bold=bold, noted=noted, aside=aside))
            if each.paper:
                cells.append(f'<td class="number paper">{paper(each, cell)}</td>')
        rows.append(
            f"<tr{' class=baseline' if line.reference else ''}>"
            f'<th scope="row">{_text(name)}{_failure(line)}</th>'
            + "".join(cells)
            + "".join(f'<td class="number">{_text(line.names[each])}</td>' for each in counted)
            + "</tr>"
        )
    body = "\n".join(rows)
    said = _form(table)
    described = ' aria-describedby="form"' if said else ""
    grid = (
        f'<table class="results"{described}><caption>{_text(table.title)}</caption>'
        f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    )
    notes = (*([ranks.rule(table)] if chosen else []), *table.notes)
    return (
        said
        + f'<div class="scroll" tabindex="0" role="region" aria-label="Table">{grid}</div>\n'
        + _statuses(table)
        + _numbered(noted)
        + "".join(f"<p class=note>{_text(note)}</p>\n" for note in notes)
    )


def _order(table: Table, column: int) -> int:
    """Speedup, then quality, then the rest, each as the table has them."""
    measured = any((cell := table.cell(line, "speedup")) and cell.ours for line in table.lines)
    metric = table.headings[column].metric
    if metric == ("speedup" if measured else "ideal"):
        return 0
    return 1 if registry.known("metrics", metric) else 2


def _sizes(table: Table, column: int) -> set[int]:
    """The different numbers of samples, or of repetitions, behind a column; none if told in all."""
    counts = {line.cells[column].n for line in table.lines}
    return {n for n in counts if n is not None} if table.counted else set()


def _same(table: Table, column: int) -> str:
    """The number of samples, below the heading, where all numbers of a column have the same."""
    sizes = _sizes(table, column)
    return f"<small>n={next(iter(sizes))}</small>" if len(sizes) == 1 else ""


def _aside(table: Table, column: int, cell: Cell) -> list[str]:
    """What stands below a number: its difference, and its number of samples if others differ."""
    heading, parts = table.headings[column], []
    if cell.difference is not None:
        parts.append(signed(cell.difference, heading.decimals))
    if cell.ours is not None and cell.n is not None and len(_sizes(table, column)) > 1:
        parts.append(f"n={cell.n}")
    return parts


def _heading(column: Heading) -> str:
    """A heading that breaks before "@" if need be, and never before its arrow."""
    arrow = ARROWS[column.better]
    text = heading(column).removesuffix(arrow) + arrow.replace(" ", "\N{NO-BREAK SPACE}")
    return _text(text).replace("@", "<wbr>@")


def _form(table: Table) -> str:
    """What is the same in all lines, and how a cell is read where it does not go without saying."""
    same = f"The same in all lines: {table.same}. " if table.same else ""
    said = same + (f"{form(table)}." if table.published else "")
    return f'<p id="form" class="note">{_text(said)}</p>\n' if said else ""


def _failure(line: Line) -> str:
    """Why a line lacks numbers, below its name."""
    said = dict.fromkeys(cell.note for cell in line.cells if cell.status == "failed" and cell.note)
    return "".join(f'<small class="reason">failed: {_text(text)}</small>' for text in said)


def _cell(
    column: Heading, cell: Cell, table: Table, *, bold: str, noted: list[str], aside: list[str]
) -> str:
    status = f'<span class="status {cell.status.replace(" ", "-")}">{cell.status}</span>'
    mark = ""
    if cell.note:
        at = noted.index(cell.note) + 1
        mark = f'<sup><a href="#note-{at}" aria-label="note {at}">{at}</a></sup>'
    if cell.ours is None and (cell.paper is None or not table.published):
        return f'<td class="number">{status}{mark}</td>'
    text = DASH if cell.ours is None else ours(column, cell.ours, relative=cell.relative)
    shown = _bold(text, bold == "ours")
    if not table.published:
        known = margin(column, cell, text) if table.margins else ""
        small = f"<small>{', '.join(aside)}</small>" if aside else ""
        return f'<td class="number">{shown}{known}{mark}{small}</td>'
    theirs = _bold(paper(column, cell), bold == "paper")
    small = f"<small>{', '.join(aside)} {status}</small>"
    return f'<td class="number">{theirs} / {shown}{mark}{small}</td>'


def _bold(text: str, chosen: bool) -> str:
    return f'<strong title="best of the column">{text}</strong>' if chosen else text


def _statuses(table: Table) -> str:
    items = [
        f'<div><dt><span class="status {status.replace(" ", "-")}">{status}</span></dt>'
        f"<dd>{_text(meaning)}</dd></div>"
        for status, meaning in statuses(table).items()
    ]
    return f'<dl class="statuses">{"".join(items)}</dl>\n' if items else ""


def _numbered(noted: list[str]) -> str:
    items = [f'<li id="note-{i}">{_text(note)}</li>' for i, note in enumerate(noted, start=1)]
    return f'<ol class="note">{"".join(items)}</ol>\n' if items else ""


def _plots(table: Table) -> str:
    """A plot for every metric; only the first is open."""
    blocks = [
        f"<details{'' if i else ' open'}><summary>{_heading(one.heading)}</summary>"
        f"{charts.scatter(one)}</details>"
        for i, one in enumerate(scatters(table))
    ]
    return "\n".join(blocks) or "<p>No line of this table has both a score and a speedup.</p>"


def _schedules(table: Table, behind: Behind | None) -> str:
    """A strip for every line, in one list for each sequence of timesteps."""
    from skipdit_cli.plan import plan

    runs = {run.key: run for run in behind.runs} if behind else {}
    lists: dict[str, list[tuple[str, list[tuple[int, float]] | None]]] = {}
    for name, line in zip(labels(table), table.lines, strict=True):
        own = {(str(run.cache), run.steps): run for key in line.runs if (run := runs.get(key))}
        for run in own.values():
            label = f"{name}, {run.model}" if len(own) > 1 else name
            steps = plan.shares(run, root=behind.root if behind else None)
            lists.setdefault(run.steps, []).append((label, steps))
    if not lists:
        return "<p>No run of this table is known here.</p>"
    keys = "".join(
        f'<li><span class="swatch {name}"></span>{name}: {meaning}</li>'
        for name, meaning in charts.KINDS.items()
    )
    return (
        "<p>One bar per sampling step, the first on the left; its height is the share of an "
        "uncached step's operations that is executed.</p>"
        f'<ul class="legend">{keys}</ul>' + "\n".join(map(_strips, lists.values()))
    )


def _strips(schedules: list[tuple[str, list[tuple[int, float]] | None]]) -> str:
    known = next((steps for _, steps in schedules if steps), [])
    ruler = charts.ruler([timestep for timestep, _ in known]) if known else ""
    rows = []
    for label, steps in schedules:
        shown = charts.strip(steps) if steps else "at run: the method decides while it runs"
        counts = charts.summary(steps).partition(" of ")[0] if steps else "at run"
        rows.append(
            f'<tr><th scope="row">{_text(label)}</th><td>{shown}</td>'
            f'<td class="counts">{counts}</td></tr>'
        )
    head = (
        f'<tr><th scope="col">method</th><th scope="col">timestep{ruler}</th>'
        '<th scope="col">steps</th></tr>'
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Schedules">'
        f'<table class="strips"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _errors(references: list[tuple[str, list[RunCurve]]]) -> str:
    """A chart for every reference; only the first few are open."""
    if not references:
        return "<p>No run here was made with a cache and without, so there is no error to show.</p>"
    blocks = "".join(
        f"<details{' open' if i < OPEN else ''}><summary>{escape(title)}</summary>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Errors, {escape(title)}">'
        f"{chart(group)}</div></details>"
        for i, (title, group) in enumerate(references)
    )
    samples = max(curve.samples for _, group in references for curve in group)
    return (
        "<p>How far the latents are from the uncached ones after every step: "
        f"‖x − x<sub>ref</sub>‖ / ‖x<sub>ref</sub>‖, the mean over the first {samples} samples. "
        f"Where a line has not begun there is no difference.</p>{blocks}"
    )


def _made(table: Table) -> str:
    facts = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>"
        for key, value in table.provenance.items()
    )
    parts = [f'<dl class="made">{facts}</dl>' if facts else ""]
    if table.command:
        parts.append(
            '<h3>Commands</h3><pre class="scroll" tabindex="0">'
            f"<code>{escape(table.command)}</code></pre>"
        )
    return "".join(parts) or "<p>Nothing was recorded.</p>"
