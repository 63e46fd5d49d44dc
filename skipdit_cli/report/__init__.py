"""Reports: results on disk beside the published values, as tables and pictures.

    table.build    a recipe: every cell is paper / ours / difference / n / status
    sweep.build    the runs of a cache sweep, one line each
    write          a table as files
    plots.plot     PSNR against speedup
    grid.grid      the samples of several runs side by side

Nothing here computes a number: what is not on disk or in the plan is reported as missing.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from skipdit_cli.errors import unknown
from skipdit_cli.report import _files, delimited, latex, markdown
from skipdit_cli.report.table import Table

FORMATS: dict[str, Callable[[Table], str]] = {
    "md": markdown.to_markdown,
    "csv": delimited.to_csv,
    "tex": latex.to_latex,
}


def write(
    table: Table, folder: Path, *, name: str, formats: Iterable[str] = ("md", "csv")
) -> list[Path]:
    """Write a table as `folder/name.format`, once per format; returns the files.

    Raises:
        UsageError: a format is not known; then nothing is written.
        StoreError: the disk is full or the folder cannot be written.
    """
    formats = list(formats)
    for each in formats:
        if each not in FORMATS:
            raise unknown("report format", each, FORMATS)
    return [
        _files.replace(folder / f"{name}.{each}", FORMATS[each](table).encode()) for each in formats
    ]
