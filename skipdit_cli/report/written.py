"""Tables as they were written: CSV, or what --json printed, read back for a comparison."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skipdit_cli.errors import StoreError, UsageError
from skipdit_cli.report.delimited import KNOWN
from skipdit_cli.report.table import COUNTS
from skipdit_cli.score.certainty import Interval
from skipdit_cli.storage import given
from skipdit_cli.storage.disk import read_json
from skipdit_cli.storage.spreadsheet import read_csv

FOLDERS = ("*.csv", "*/*.csv", "sweeps/*/*.csv")  # where tables lie in a results folder
RUNS = "runs"  # the column of the keys behind a row, by which a table is known
KEPT = ("samples", "scores")  # what a results folder has of runs
STEPS = ("full", "cached")  # columns of a sweep that stand among the names and are counts
ASIDE = ("spec", RUNS, "notes")  # columns of texts by which a row is not called
PAPER = ", paper"  # what follows the name of a column in that of its published values
MADE = re.compile(r"^Made with (.*)\.$", re.MULTILINE)


@dataclass(frozen=True)
class Number:
    """One number of a table: its value, its 95 % interval and how many samples are behind it."""

    value: float | None
    interval: Interval | None = None
    n: int | None = None
    status: str = ""


@dataclass(frozen=True)
class WrittenRow:
    """One row: numbers by column, and the keys of the runs behind them."""

    numbers: dict[str, Number]
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Written:
    """A table on disk.

    Attributes:
        rows: by what the row begins with.
        root: the results folder that the file lies in, if samples or scores are there.
        made: what the Markdown beside it says made the numbers: version, device, torch.
    """

    rows: dict[str, WrittenRow]
    root: Path | None = None
    made: dict[str, str] = field(default_factory=dict)


def tables(place: Path, *, name: str = "") -> dict[str, Path]:
    """The tables in a results folder, or in a folder of tables: "tiny/table1" -> its CSV.

    Published values, what `plan --out` writes and the files of others are none.

    Args:
        name: of a recipe, to find its tables only.
    """
    paths = sorted({path for pattern in FOLDERS for path in place.glob(pattern)})
    return {
        path.relative_to(place).with_suffix("").as_posix(): path
        for path in paths
        if name in ("", path.stem) and _tells_of_runs(path)
    }


def _tells_of_runs(path: Path) -> bool:
    """Whether a CSV has a column of runs; True where its heading cannot be read."""
    with suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        heading = file.readline().strip()
        return not heading or RUNS in heading.split(",")
    return True


def read_table(path: Path) -> Written:
    """A table from CSV, or from JSON that `report --json` or `cache-sweep --json` printed.

    Raises:
        UsageError: the file is not there, cannot be read, or is not such a table.
    """
    text = given.read_text(path, fix="name a CSV or JSON file")
    try:
        rows = _json(text) if path.suffix == ".json" else rows_of(text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"is not a table that skipdit wrote ({error})",
            place=str(path),
            fix="name a CSV of `skipdit report`, or what --json printed",
        ) from None
    roots = (p for p in path.absolute().parents if any((p / name).is_dir() for name in KEPT))
    return Written(rows=rows, root=next(roots, None), made=_made(path.with_suffix(".md")))


def made_there(table: Written) -> bool:
    """Whether anything of its runs is in the results folder of a table, or it lies in none.

    The tables that ship in a checkout's results, and others that were copied there, are not.
    """
    keys = {key for row in table.rows.values() for key in row.runs}
    root = table.root
    return root is None or any((root / place / key).is_dir() for place in KEPT for key in keys)


def measured(rows: Mapping[str, WrittenRow]) -> bool:
    """Whether any number in a table was scored or timed, rather than counted or published."""
    return any(
        number.value is not None and not column.endswith(PAPER) and not counted(column)
        for row in rows.values()
        for column, number in row.numbers.items()
    )


def counted(column: str) -> bool:
    """Whether a column has operations or steps."""
    return column.partition("_")[0] in (*COUNTS, "ideal", *STEPS)


def rows_of(text: str) -> dict[str, WrittenRow]:
    """The rows of a CSV.

    Raises:
        ValueError: it is not a table that skipdit wrote.
    """
    lines = read_csv(text)
    if not lines or RUNS not in lines[0]:
        raise ValueError("it has no column of runs")
    head = lines[0]
    keys = [name.removesuffix("_status") for name in head if name.endswith("_status")]
    paper = [key for key in keys if f"{key}_ours" in head]
    parts = {f"{key}_{part}" for key in keys for part in (*KNOWN, "n", "status", "difference")}
    parts |= {f"{key}_{part}" for key in paper for part in ("paper", "ours")}
    names = [name for name in head if name not in {*parts, *keys, *STEPS, *ASIDE}]
    rows = []
    for line in lines[1:]:
        record = dict(zip(head, line, strict=True))
        numbers = {
            key: Number(
                _float(record[f"{key}_ours" if key in paper else key]),
                _interval(_float(record.get(f"{key}_{end}", "")) for end in ("low", "high")),
                _int(record.get(f"{key}_n", "")),
                record[f"{key}_status"],
            )
            for key in keys
        }
        numbers |= {key + PAPER: Number(_float(record[f"{key}_paper"])) for key in paper}
        numbers |= {key: Number(_float(record[key])) for key in STEPS if key in record}
        rows.append(
            (_name(record[name] for name in names), WrittenRow(numbers, _runs(record[RUNS])))
        )
    return _unique(rows)


def _json(text: str) -> dict[str, WrittenRow]:
    rows = []
    for record in json.loads(text)["rows"]:
        cells = {key: cell for key, cell in record.items() if isinstance(cell, dict)}
        numbers = {
            key: Number(cell["ours"], _interval(cell["interval"]), cell["n"], cell["status"])
            for key, cell in cells.items()
        }
        if any(cell["paper"] is not None for cell in cells.values()):
            numbers |= {key + PAPER: Number(cell["paper"]) for key, cell in cells.items()}
        steps = {key: Number(_float(record[key])) for key in STEPS if key in record}
        names = (v for k, v in record.items() if isinstance(v, str) and k not in (*STEPS, *ASIDE))
        rows.append((_name(names), WrittenRow(numbers | steps, tuple(record["runs"]))))
    return _unique(rows)


def _name(parts: Iterable[str]) -> str:
    return ", ".join(part for part in parts if part)


def _unique(rows: list[tuple[str, WrittenRow]]) -> dict[str, WrittenRow]:
    by_name: dict[str, WrittenRow] = {}
    for name, row in rows:
        count = sum(known == name or known.startswith(f"{name} #") for known in by_name)
        by_name[f"{name} #{count + 1}" if count else name] = row
    return by_name


def _runs(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _float(text: str) -> float | None:
    number = float(text) if text else None
    if number is not None and not math.isfinite(number):
        raise ValueError(f"{text} is not a number")
    return number


def _interval(ends: Iterable[float | None] | None) -> Interval | None:
    low, high = ends or (None, None)
    return None if low is None or high is None else (low, high)


def _int(text: str) -> int | None:
    return int(text) if text else None


def _made(path: Path) -> dict[str, str]:
    """What "Made with skipdit 0.1.0 (commit ...); device ..." says, {} where it is not there."""
    try:
        said = MADE.search(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    parts = (part.partition(" ") for part in said[1].split("; ")) if said else ()
    return {key: value for key, _, value in parts}


def content(path: Path) -> Mapping[str, Any]:
    """A JSON file's mapping; {} where it is not there or cannot be read."""
    with suppress(StoreError):
        return read_json(path, dict, what="record", fix="") or {}
    return {}
