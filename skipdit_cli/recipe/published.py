"""The paper's own numbers (arXiv 2411.17616, version 1): results/published/*.csv, one per table.

An empty field is a value that the paper does not give. training.csv has the points of a figure of
the ICCV version, as far as they were read, with their source.
"""

import csv
import functools

from skipdit_cli.embedded import shipped
from skipdit_cli.errors import UsageError, unknown


@functools.cache
def lines(table: str) -> tuple[dict[str, str], ...]:
    """The lines of one table ("table1") as they are written: column name to text.

    Raises:
        UsageError: there is no such table; the nearest name is given.
    """
    files = {path.stem: path for path in shipped.published().glob("*.csv")}
    if table not in files:
        raise unknown("published table", table, files)
    with files[table].open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def numbers(table: str, keys: dict[str, str], *, place: str = "") -> dict[str, float]:
    """The numbers of the one line whose key columns have these values: column name to number.

    Columns that the line leaves empty, or that hold text, are left out.

    Raises:
        UsageError: a key is not a column, or not exactly one line fits.
    """
    known = lines(table)
    for key in keys:
        if key not in known[0]:
            raise unknown(f"key column of {table}", key, known[0], place=place)
    matching = [line for line in known if all(line[k] == str(v) for k, v in keys.items())]
    if len(matching) != 1:
        wanted = ", ".join(f"{key}={value}" for key, value in keys.items())
        raise UsageError(
            f"{len(matching)} lines of {table}.csv have {wanted}",
            place=place,
            fix="name the key columns of exactly one line",
        )
    return {
        column: value
        for column, text in matching[0].items()
        if column not in keys and (value := _number(text)) is not None
    }


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
