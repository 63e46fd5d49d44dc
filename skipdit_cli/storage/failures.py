"""Failures: why a run has no samples, score or timing, on disk until it has.

They are JSON under ROOT/failures/RUN/WHAT.json, where WHAT is "samples", "timing" or a metric. A
report reads them, so that a cell says what went wrong and not merely that nothing is there.
"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.errors import StoreError
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import write_whole

if TYPE_CHECKING:
    from skipdit_cli.run import Run

FAILURE = kept.Kind("failure", 2)
SAMPLES, TIMING = "samples", "timing"
OF_REFERENCE = "its uncached reference failed"


def write_failure(root: Path, run: str, what: str, *, reason: str) -> None:
    """Keep why a run (its key) has no samples, timing or score; a full disk is passed over."""
    from skipdit_cli.storage import provenance

    record = {"run": run, "what": what, "reason": reason, "provenance": provenance.collect()}
    with suppress(StoreError):  # the failure itself is told all the same
        data = kept.sealed_json(record, FAILURE, of=f"run {run}, {what}")
        write_whole(_path(root, run, what), data)


def clear_failure(root: Path, run: str, what: str) -> None:
    """Forget a failure, for the run has now what it lacked."""
    path = _path(root, run, what)
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()  # unless it holds others


def read_failure(root: Path, run: str, what: str) -> str:
    """The reason that was kept, "" where there is none or its file cannot be read."""
    path = _path(root, run, what)
    with kept.damaged_is_absent():
        return kept.read_json(path, _reason, FAILURE, of=f"run {run}, {what}") or ""
    return ""


def why(root: Path, run: "Run", what: str) -> str:
    """Why a run has no timing or score: it failed itself, or its samples or reference did."""
    for key, each in ((run.key, SAMPLES), (run.key, what)):
        if reason := read_failure(root, key, each):
            return reason
    if not run.is_reference and (reason := read_failure(root, run.reference.key, SAMPLES)):
        return f"{OF_REFERENCE}: {reason}"
    return ""


def _reason(record: dict[str, Any]) -> str:
    if not isinstance(record["reason"], str):
        raise ValueError("its reason is not a text")
    return record["reason"]


def _path(root: Path, run: str, what: str) -> Path:
    return root / "failures" / run / f"{what}.json"
