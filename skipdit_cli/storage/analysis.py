"""Analyses on disk: what looking into models has found, as numbers that are printed and drawn.

One is strict JSON, sealed, under ROOT/analysis/MODELS/KIND.json; beside it stands KIND.csv, a line
for every number, and the figures. MODELS are the names of the models, as `file_name` gives them,
joined by "+". Those of dry runs are under ROOT/random, as their tables are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skipdit_cli.checkpoints.card import RANDOM, file_name
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import write_whole
from skipdit_cli.storage.spreadsheet import csv_text

FOLDER = "analysis"  # under the results folder
ANALYSIS = kept.Kind("analysis", 1)
COLUMNS = ("panel", "series", "at", "value", "low", "high")

Number = float | int | None  # None where there is none


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Curves over one axis.

    Attributes:
        title: what is drawn.
        across, up: what stands at the axes.
        at: values along the horizontal axis, in the order in which they are drawn from the left.
        series: name -> a value for each of `at`.
        low, high: name -> the ends of a band about the values; of some series or none.
        log: whether the vertical axis is logarithmic; values of 0 or less are left out there.
    """

    title: str
    across: str
    up: str
    at: tuple[Number, ...]
    series: dict[str, tuple[Number, ...]]
    low: dict[str, tuple[Number, ...]] = field(default_factory=dict)
    high: dict[str, tuple[Number, ...]] = field(default_factory=dict)
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Map:
    """A number for every pair of a row and a column.

    Attributes:
        title: what is drawn.
        down, across: what rows and columns are.
        rows, columns: what each is called, the first row at the top.
        values: one tuple per row.
        measure: what a number is.
        marks: name -> (row, column) places that are outlined.
        surface: whether rows and columns are numbers, and the map a surface over them.
        log: whether colours follow the logarithm; values of 0 or less are left out there.
    """

    title: str
    down: str
    across: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[Number, ...], ...]
    measure: str
    marks: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    surface: bool = False
    log: bool = False


Panel = Lines | Map


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What one analysis has found.

    Attributes:
        kind: which one, as its command is called.
        models: names, in the order they were given in.
        settings: what was asked for, with everything filled in.
        panels: what is drawn, in that order.
        summary: what is printed, a mapping from heading to value per line; all have the same.
        notes: sentences that say what came out, and by which definition.
        provenance: what `provenance.collect` says.
    """

    kind: str
    models: tuple[str, ...]
    settings: dict[str, Any]
    panels: tuple[Panel, ...]
    summary: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def dry(self) -> bool:
        """Whether the weights were drawn at random."""
        return self.settings.get("weights") == RANDOM

    def folder(self, root: Path) -> Path:
        """Where it is, under a results folder."""
        return _folder(root, self.models, dry=self.dry)


def _folder(root: Path, models: Sequence[str], *, dry: bool) -> Path:
    return (root / RANDOM if dry else root) / FOLDER / "+".join(map(file_name, models))


def write_analysis(root: Path, found: Analysis) -> list[Path]:
    """Write an analysis in place of an earlier one; returns its files, JSON first.

    Raises:
        StoreError: the disk is full or the folder cannot be written; what was there stays.
        ValueError: a number is not finite.
    """
    at = found.folder(root)
    panels = [{"form": type(each).__name__.lower(), **asdict(each)} for each in found.panels]
    content = asdict(found) | {"panels": panels}
    data = kept.sealed_json(content, ANALYSIS, of=_identity(found.kind, found.models))
    paths = [at / f"{found.kind}.json", at / f"{found.kind}.csv"]
    write_whole(paths[0], data)
    write_whole(paths[1], to_csv(found).encode())
    return paths


def read_analysis(
    root: Path, kind: str, models: Sequence[str], *, dry: bool = False
) -> Analysis | None:
    """What was found earlier; None where nothing was, or it is damaged, which is told.

    Args:
        dry: with weights that were drawn at random.
    Raises:
        StoreError: the disk cannot be read.
    """
    path = _folder(root, models, dry=dry) / f"{kind}.json"
    with kept.damaged_is_absent():
        return kept.read_json(path, _parse, ANALYSIS, of=_identity(kind, models))
    return None


def to_csv(found: Analysis) -> str:
    """A line for every number: of curves with its band, of a map with its row and column."""
    lines: list[Sequence[Any]] = [COLUMNS]
    for panel in found.panels:
        if isinstance(panel, Lines):
            for name, values in panel.series.items():
                nothing = (None,) * len(values)
                ends = panel.low.get(name, nothing), panel.high.get(name, nothing)
                for each in zip(panel.at, values, *ends, strict=True):
                    lines.append((panel.title, name, *map(_text, each)))
        else:
            for row, values in zip(panel.rows, panel.values, strict=True):
                for column, value in zip(panel.columns, values, strict=True):
                    lines.append((panel.title, row, column, _text(value), "", ""))
    return csv_text(lines)


def _text(number: Number) -> str:
    return "" if number is None else f"{number:.10g}"


def _identity(kind: str, models: Sequence[str]) -> str:
    return f"{kind} of {'+'.join(models)}"


def _parse(record: dict[str, Any]) -> Analysis:
    panels = tuple(_panel(each) for each in record["panels"])
    listed = {key: tuple(record[key]) for key in ("models", "summary", "notes")}
    return kept.shaped(Analysis, record | listed | {"panels": panels})


def _panel(record: Mapping[str, Any]) -> Panel:
    given = {key: value for key, value in record.items() if key != "form"}
    if record["form"] == "lines":
        many = {key: _tuples(given[key]) for key in ("series", "low", "high")}
        return kept.shaped(Lines, given | many | {"at": tuple(given["at"])})
    many = {"marks": {name: _pairs(each) for name, each in given["marks"].items()}}
    lists = {key: tuple(given[key]) for key in ("rows", "columns")}
    values = tuple(map(tuple, given["values"]))
    return kept.shaped(Map, given | many | lists | {"values": values})


def _tuples(given: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(each) for name, each in given.items()}


def _pairs(given: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(row), int(column)) for row, column in given)
