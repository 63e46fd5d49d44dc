"""Trials: what methods that decide while they run did reuse, where only that was asked.

They are JSON under ROOT/trials/RUN.json. A search for a threshold runs a batch under each that it
tries, and keeps nothing of its samples.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import write_whole

if TYPE_CHECKING:
    from skipdit_cli.run import Run

TRIAL = kept.Kind("trial of a threshold", 1, fix="run the same command again: it is made again")


def write_trial(root: Path, run: "Run", reused: list[int]) -> None:
    """Keep which steps of the first batch of a run did reuse.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    record = {"run": run.to_dict(), "reused_steps": reused}
    write_whole(_path(root, run), kept.sealed_json(record, TRIAL, of=run.key))


def read_trial(root: Path, run: "Run") -> list[int] | None:
    """The same again; None where it is not there, or damaged."""
    with kept.damaged_is_absent():
        return kept.read_json(_path(root, run), _reused, TRIAL, of=run.key)
    return None


def _path(root: Path, run: "Run") -> Path:
    return root / "trials" / f"{run.key}.json"


def _reused(record: dict[str, Any]) -> list[int]:
    if not kept.fits(steps := record["reused_steps"], list[int]):
        raise ValueError("its steps are not whole numbers")
    return steps
