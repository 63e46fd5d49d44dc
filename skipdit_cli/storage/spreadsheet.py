"""CSV that a spreadsheet can open: nothing that a person wrote is computed as a formula."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

_FORMULA = ("=", "+", "-", "@", "\t")  # what a cell begins with that is computed
_NUMBER = r"[-+]?([0-9.]+(e[-+]?[0-9]+)?|inf|nan)"


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    r"""Rows as CSV with \n line ends.

    A text that would be taken for a formula gets an apostrophe in front; numbers stay as they are.
    """
    text = io.StringIO()
    write_row = csv.writer(text, lineterminator="\n").writerow
    for row in rows:
        write_row([_harmless(cell) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue()


def read_csv(text: str) -> list[list[str]]:
    """The rows of what `csv_text` wrote, without its apostrophes."""
    return [[*map(_as_given, row)] for row in csv.reader(io.StringIO(text, newline=""))]


def _harmless(text: str) -> str:
    text = text.replace("\r", " ")  # which would end the row
    if not text.startswith(_FORMULA) or re.fullmatch(_NUMBER, text):
        return text
    return f"'{text}"


def _as_given(text: str) -> str:
    inner = text.removeprefix("'")
    return inner if _harmless(inner) == text else text
