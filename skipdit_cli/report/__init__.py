"""Reports: results on disk beside the published values, as tables and pictures.

    recipe.build_recipe_table   a recipe: every cell is paper / ours / difference / n / status
    sweep.build_sweep_table     the runs of a cache sweep, one line each
    write_table                 a table as files
    figures.draw                plots as files: a metric against speedup, heat maps, errors
    grid.grid                   the samples of several runs side by side
    explained.explain           all that is known of one run
    export.plan, export.write   samples as files to give away

Nothing here computes a number: what is not on disk or in the plan is reported as missing.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from skipdit_cli.errors import StoreError, UsageError, unknown
from skipdit_cli.report import delimited, latex, markdown, page, written
from skipdit_cli.report.gallery import Behind
from skipdit_cli.report.table import Table
from skipdit_cli.storage.disk import write_whole

FORMATS: dict[str, Callable[[Table], str]] = {
    "md": markdown.to_markdown,
    "csv": delimited.to_csv,
    "tex": latex.to_latex,
    "html": page.to_html,
}


def keep_numbers(table: Table, folder: Path, *, name: str) -> None:
    """Raise StoreError where a table with numbers would give way to one in which none is measured.

    Runs of other settings, a fourth of the samples say, are not those of a recipe as it stands.
    """
    path = folder / f"{name}.csv"
    with suppress(UsageError):  # there is none, or it is no table
        there = written.measured(written.read_table(path).rows)
        if there and not written.measured(written.rows_of(delimited.to_csv(table))):
            raise StoreError(
                "it has numbers, and nothing of these settings is scored or timed",
                place=str(path),
                fix="give the settings that it was made with, as --set, or remove it",
            )


def write_table(
    table: Table,
    folder: Path,
    *,
    name: str,
    formats: Iterable[str] = ("md", "csv"),
    behind: Behind | None = None,
) -> list[Path]:
    """Write a table as `folder/name.format`, once per format; returns the files.

    Args:
        behind: the runs of the table, whose schedules and samples the HTML page shows.
    Raises:
        UsageError: a format is not known; then nothing is written.
        StoreError: the disk is full or the folder cannot be written, or samples cannot be read.
    """
    formats = list(formats)
    for each in formats:
        if each not in FORMATS:
            raise unknown("report format", each, FORMATS)
    texts = FORMATS | {"html": partial(page.to_html, behind=behind)}
    paths = [folder / f"{name}.{each}" for each in formats]
    for path, each in zip(paths, formats, strict=True):
        write_whole(path, texts[each](table).encode(errors="backslashreplace"))
    return paths
