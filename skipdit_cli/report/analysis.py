"""Analyses for people: what is printed, their figures, and one page that puts them together."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from skipdit_cli.report import panels, panels_page
from skipdit_cli.report.cells import DASH
from skipdit_cli.report.figures import Wanted
from skipdit_cli.report.look import save
from skipdit_cli.report.page import document
from skipdit_cli.report.table import summary
from skipdit_cli.storage.analysis import Analysis, write_analysis
from skipdit_cli.storage.disk import write_whole

PAGE = "analysis.html"


def publish(found: Analysis, root: Path, *, figures: Wanted | None = None) -> list[Path]:
    """Write an analysis, its numbers as CSV and its figures; returns the files.

    Figures of these formats that it has no panels for any more are removed.

    Args:
        figures: for a paper, besides those for a screen.
    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    paths, at = write_analysis(root, found), found.folder(root)
    for asked in (Wanted(), figures) if figures else (Wanted(),):
        drawn = []
        with asked.look.applied():
            for number, panel in enumerate(found.panels, start=1):
                name = f"{found.kind}-{number}" if len(found.panels) > 1 else found.kind
                made = panels.draw(panel, asked.look)
                drawn += [save(made, at / f"{name}{end}") for end in asked.endings]
        for end in asked.endings:
            for path in {*at.glob(f"{found.kind}{end}"), *at.glob(f"{found.kind}-*{end}")}:
                if path not in drawn and path.name.endswith("-paper.png") == end.startswith("-"):
                    path.unlink()
        paths += drawn
    return paths


def write_page(found: Sequence[Analysis], root: Path) -> Path:
    """Write the page of several analyses of the same models; returns its path.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    path = found[0].folder(root) / PAGE
    write_whole(path, to_html(found).encode(errors="backslashreplace"))
    return path


def to_html(found: Sequence[Analysis]) -> str:
    """The page: a section per analysis, and where they come from."""
    sections = [(each.kind.capitalize(), _section(each)) for each in found]
    facts = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>"
        for key, value in summary([each.provenance for each in found]).items()
    )
    commands = [each.provenance.get("command", "") for each in found]
    said = escape("\n".join(dict.fromkeys(filter(None, commands))))
    made = (
        f'<dl class="made">{facts}</dl><pre class="scroll" tabindex="0"><code>{said}</code></pre>'
    )
    title = f"Why caching works: {' and '.join(found[0].models)}"
    return document(title, [*sections, ("How this was made", made)])


def _section(found: Analysis) -> str:
    notes = "".join(f"<p>{escape(note)}</p>" for note in found.notes)
    asked = ", ".join(f"{key} {_value(value)}" for key, value in found.settings.items())
    drawn = "".join(map(panels_page.html, found.panels))
    panels_html = f'<div class="panels">{drawn}</div>'
    return f'{notes}{_table(found)}{panels_html}<p class="note">{escape(asked)}</p>'


def _table(found: Analysis) -> str:
    headings, lines = rows(found)
    heads = "".join(f'<th scope="col">{escape(each)}</th>' for each in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in line) + "</tr>" for line in lines
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{found.kind}">'
        f'<table class="results"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def rows(found: Analysis) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and texts of what is printed."""
    headings = tuple(found.summary[0]) if found.summary else ()
    return headings, [
        tuple(DASH if value is None else _value(value) for value in line.values())
        for line in found.summary
    ]


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return "none" if value is None else str(value)
