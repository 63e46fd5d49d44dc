"""What changed between two tables, or two folders of them, and why.

A number moved if the 95 % intervals of both sides do not overlap; what has none, if it differs by
more than a relative 1e-6. Where the scores of single samples are here on both sides, and begin with
the same noise, they are compared in pairs instead: the mean moved if the sign-flip test says so.
The scores of one run on one device and torch moved if they differ at all: nothing but the code can
part them. A timing or a memory without an interval cannot be judged, and is counted as such.

In results folders the tables count of which a run is there. Those that ship with the tool were not
made there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipdit_cli.errors import ToleranceError, UsageError
from skipdit_cli.recipe.recipe import TIMINGS
from skipdit_cli.report import written
from skipdit_cli.report.cause import Side, cause, in_pairs, made_alike
from skipdit_cli.report.written import PAPER, Number, Written
from skipdit_cli.score.certainty import SURE
from skipdit_cli.storage import given
from skipdit_cli.storage.results import margin_of

RELATIVE = 1e-6
LOST = ("moved", "gone")  # what ends with an exit code
KINDS = (*LOST, "new", "within", "unjudged")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A number that is another one, or that only one of two tables has.

    Attributes:
        kind: "moved", "within" its uncertainty, "unjudged" for want of one, "gone" or "new".
        column: "" where the whole row is gone or new; then row may be "", for a whole table.
        uncertainty: of both numbers together, None where none is known or it does not count.
        cause: the first field that changed behind it.
    """

    kind: str
    table: str
    row: str = ""
    column: str = ""
    old: float | None = None
    new: float | None = None
    uncertainty: float | None = None
    cause: str = ""


@dataclass(frozen=True, kw_only=True)
class Diff:
    """What changed between the tables of two sides.

    Attributes:
        shared: by table, how many numbers both sides have; the tables that both have.
        changes: in the order of the tables.
        left_out: tables in a results folder of whose runs nothing is there.
    """

    shared: dict[str, int]
    changes: tuple[Change, ...]
    left_out: tuple[str, ...] = ()

    @property
    def numbers(self) -> int:
        """How many both sides have."""
        return sum(self.shared.values())

    def of(self, *kinds: str) -> list[Change]:
        """The changes of some kinds, in the order of the kinds and then of the tables."""
        return [change for kind in kinds for change in self.changes if change.kind == kind]

    @property
    def by_table(self) -> "dict[str, Diff]":
        """The tables in which something changed, one by one."""
        names = dict.fromkeys(change.table for change in self.changes)
        return {
            name: Diff(
                shared={name: self.shared[name]} if name in self.shared else {},
                changes=tuple(change for change in self.changes if change.table == name),
            )
            for name in names
        }

    @property
    def counts(self) -> str:
        """How many numbers moved, are gone, are new or did not move, for people."""
        return self._told("")

    def __str__(self) -> str:
        return self._told(f" in {len(self.shared)} table{'s' * (len(self.shared) != 1)}")

    def _told(self, where: str) -> str:
        count = {kind: len(self.of(kind)) for kind in KINDS}
        text = (
            f"{count['moved']} of {self.numbers} numbers{where} moved by more than their "
            f"uncertainty, {count['gone']} gone, {count['new']} new, {count['within']} within it"
        )
        more = f", {count['unjudged']} timings without an interval not judged"
        return text + (more if count["unjudged"] else "")


def diff(old: Path, new: Path, *, name: str = "") -> Diff:
    """Compare two tables, or the tables of two folders that have the same place in both.

    Args:
        old: a CSV or JSON file, a results folder or a folder of tables.
        new: the same, to compare with it.
        name: of a recipe, to compare its tables only, wherever they were made.
    Raises:
        UsageError: a path is not there or not of this kind, or there is no table in both.
    """
    before, after, left_out = _sides(old, new, name=name)
    both = {table: (before[table], after[table]) for table in before if table in after}
    changes = [Change(kind="gone", table=table) for table in before if table not in after]
    changes += [Change(kind="new", table=table) for table in after if table not in before]
    for table, pair in both.items():
        changes.extend(_changes(table, *pair))
    shared = {table: _shared(*pair) for table, pair in both.items()}
    return Diff(shared=shared, changes=tuple(changes), left_out=left_out)


def require(difference: Diff) -> None:
    """Raise ToleranceError if a number moved by more than its uncertainty, or is gone."""
    if lost := difference.of(*LOST):
        first = lost[0]
        place = ", ".join(text for text in (first.table, first.row, first.column) if text)
        how = "gone" if first.kind == "gone" else f"{first.old:.7g} -> {first.new:.7g}"
        why = f" ({first.cause})" if first.cause else ""
        raise ToleranceError(f"{difference}; first {place}: {how}{why}", place="--diff")


def record(difference: Diff) -> dict[str, Any]:
    """Content that JSON can hold."""
    return {
        "tables": len(difference.shared),
        "numbers": difference.numbers,
        "changes": [vars(change) for change in difference.changes],
        "by_table": {
            table: {"numbers": each.numbers} | {kind: len(each.of(kind)) for kind in KINDS}
            for table, each in difference.by_table.items()
        },
        "left_out": difference.left_out,
    }


def _sides(
    old: Path, new: Path, *, name: str
) -> tuple[dict[str, Written], dict[str, Written], tuple[str, ...]]:
    """The tables of both sides, by what they are called, and the names of those left out."""
    for path in (old, new):
        if not path.is_dir():
            given.check(path, place=f"--diff {path}", fix="name two files or two folders")
    if old.is_file() or new.is_file():
        a, b = (a if a.is_file() else a / b.name for a, b in ((old, new), (new, old)))
        called = old.stem if old.is_file() else new.stem
        return {called: written.read_table(a)}, {called: written.read_table(b)}, ()
    sides = [
        {table: written.read_table(path) for table, path in written.tables(side, name=name).items()}
        for side in (old, new)
    ]
    foreign = {
        table
        for side, folder in zip(sides, (old.absolute(), new.absolute()), strict=True)
        for table, each in side.items()
        if not name and each.root == folder and not written.made_there(each)
    }
    left_out = tuple(sorted(foreign))
    before, after = (
        {table: each for table, each in side.items() if table not in foreign} for side in sides
    )
    if not before.keys() & after.keys():
        more = f" but {', '.join(left_out)}, of whose runs nothing is there" if left_out else ""
        raise UsageError(
            f"no table is in both {old} and {new}{more}",
            place="--diff",
            fix=f"name {'a recipe, ' * bool(left_out)}two files, two results folders, or two "
            "folders of tables",
        )
    return before, after, left_out


def _shared(old: Written, new: Written) -> int:
    """How many numbers both have."""
    return sum(
        number.value is not None and _number(new, row, column).value is not None
        for row, line in old.rows.items()
        for column, number in line.numbers.items()
        if not column.endswith(PAPER)
    )


def _changes(table: str, old: Written, new: Written) -> Iterator[Change]:
    for row, line in old.rows.items():
        if row not in new.rows:
            yield Change(kind="gone", table=table, row=row)
            continue
        for column in dict.fromkeys((*line.numbers, *new.rows[row].numbers)):
            sides = _number(old, row, column), _number(new, row, column)
            if kind := _kind(column, *sides):
                a, b = (
                    Side(number.value, each.rows[row].runs, each.root, each.made)
                    for number, each in zip(sides, (old, new), strict=True)
                )
                known = _margins(*sides)
                if not _timed(column) and kind in ("within", "moved"):
                    if sides[0].n == sides[1].n and made_alike(column, a, b):
                        kind, known = "moved", []
                    elif pairs := in_pairs(column, a, b):
                        kind = "moved" if pairs.p < SURE else "within"
                        known = _margins(Number(pairs.mean, pairs.interval))
                gone = sides[1].status or "not in the table"
                yield Change(
                    kind=kind,
                    table=table,
                    row=row,
                    column=column,
                    old=a.value,
                    new=b.value,
                    uncertainty=sum(known) if known else None,
                    cause=gone if kind == "gone" else "" if kind == "new" else cause(column, a, b),
                )
    for row in new.rows:
        if row not in old.rows:
            yield Change(kind="new", table=table, row=row)


def _number(table: Written, row: str, column: str) -> Number:
    line = table.rows.get(row)
    return line.numbers.get(column, Number(None)) if line else Number(None)


def _kind(column: str, old: Number, new: Number) -> str:
    """What became of a number; "" if it is the same to a relative 1e-6."""
    if old.value is None or new.value is None:
        if old.value is new.value or column.endswith(PAPER):  # shown in one of the tables only
            return ""
        return "new" if old.value is None else "gone"
    apart = abs(new.value - old.value)
    if apart <= RELATIVE * max(abs(old.value), abs(new.value)):
        return ""
    known = _margins(old, new)
    if not known and _timed(column):
        return "unjudged"
    return "within" if apart <= sum(known) else "moved"


def _margins(*sides: Number) -> list[float]:
    """The margins of error of those that have one."""
    return [known for each in sides if (known := margin_of(each.interval)) is not None]


def _timed(column: str) -> bool:
    return column.partition("_")[0] in TIMINGS
