"""What a training run tells while it goes on: one line of JSON each, appended in its folder.

    log.jsonl      loss, learning rate and speed, every few steps
    scores.jsonl   what samples of the weights at a step scored by a metric

A kill may leave half a line at the end, which counts as not written. A run that goes on from its
last checkpoint tells of the steps behind it again, and the later line counts. What a run was asked
for stands under "settings" in training.json, and in settings.json from its first step on.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from skipdit_cli.storage import disk
from skipdit_cli.storage.disk import DamagedError, on_disk, read_json, read_whole

T = TypeVar("T", "Logged", "Scored")

LOG, SCORES, RECORD = "log.jsonl", "scores.jsonl", "training.json"
ASKED = "settings.json"  # as in the record, from the first step on
REQUIRED = ("step", "loss", "metric", "value")  # of either; what else there is may be absent
LONGEST = 1 << 16  # bytes of a line
MOST_STEPS = 10**15


@dataclass(frozen=True, kw_only=True)
class Logged:
    """A step of the log; None where a number was not finite, or was not told.

    Attributes:
        step: steps done, of all stages.
        loss: its mean since the line before.
        gradient_norm: before gradients are cut.
        seconds: of training so far.
        memory_bytes: the most that the device had in use.
    """

    step: int
    loss: float | None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    samples_per_second: float | None = None
    seconds: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A score of the weights that a run had at a step.

    Attributes:
        step: steps done, of all stages.
        metric: as in `skipdit ls metrics`.
        value: None where it could not be computed.
        samples: how many were scored.
        seconds: of sampling and scoring.
    """

    step: int
    metric: str
    value: float | None
    samples: int | None = None
    seconds: float | None = None


def _types(hint: Any) -> set[type]:
    """What JSON may have where a field is of a type."""
    types = {*(get_args(hint) or (hint,))}
    return types | {int} if float in types else types


_TYPES = {
    kind: {name: _types(hint) for name, hint in get_type_hints(kind).items()}
    for kind in (Logged, Scored)
}


def append(path: Path, content: Mapping[str, object]) -> None:
    """Append a line to the log or the scores of a run, of which there is one writer.

    Half a line that a kill left at the end is cut off first.

    Args:
        path: the file; it is made with its folder if there is none.
        content: numbers, texts and None; a number that is not finite is written as null.
    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    plain = {key: None if _not_finite(value) else value for key, value in content.items()}
    line = json.dumps(plain, allow_nan=False).encode() + b"\n"
    with on_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _cut_off_half_a_line(path)
        disk.append(path, line)


def logged(folder: Path) -> list[Logged]:
    """The log of a run, in the order of steps; [] if there is none.

    Raises:
        DamagedError: a line is none of a log; its number is named.
        StoreError: the disk cannot be read.
    """
    lines = _read(folder / LOG, Logged, what="log of a training")
    return sorted({each.step: each for each in lines}.values(), key=lambda each: each.step)


def scored(folder: Path) -> list[Scored]:
    """The scores of a run, in the order of steps and metrics; otherwise as `logged`."""
    lines = _read(folder / SCORES, Scored, what="list of scores")
    by_step = {(each.step, each.metric): each for each in lines}
    return [by_step[key] for key in sorted(by_step)]


def settings(folder: Path) -> dict[str, Any]:
    """What a run was asked for, finished or not; {} where that is not told.

    Raises:
        DamagedError: the record is no readable one.
        StoreError: the disk cannot be read.
    """
    for path in (folder / RECORD, folder / ASKED):
        found = read_json(
            path,
            lambda content: dict(content["settings"]),
            what="record of a training",
            fix="move it away, and the run is known by its folder alone",
        )
        if found is not None:
            return found
    return {}


def _not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _cut_off_half_a_line(path: Path) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LONGEST))
        last = file.read().rpartition(b"\n")[2]
        if last and not _is_json(last):
            file.truncate(size - len(last))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _read(path: Path, kind: type[T], *, what: str) -> list[T]:
    """The lines of a file, in its order; of an object no part but the whole is JSON."""
    data = read_whole(path, bytes, what=what, fix="delete it") or b""
    *lines, last = data.split(b"\n")
    if _is_json(last):
        lines.append(last)
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(_parse(line, kind))
        except (ValueError, LookupError, OverflowError, RecursionError) as error:
            why = f"it has no {error}" if isinstance(error, LookupError) else str(error)
            problem = f"is not a line of a {what} ({why})"
            place = f"{path} line {number}"
            raise DamagedError(problem, place=place, fix="delete the line") from None
    return found


def _parse(line: bytes, kind: type[T]) -> T:
    """A line; what it says beyond the fields is left out, and what may be None may be absent."""
    content = json.loads(line)
    if not isinstance(content, dict):
        raise ValueError("it is not a mapping")
    values = {}
    for name, types in _TYPES[kind].items():
        if name not in content and name not in REQUIRED:
            continue
        value = values[name] = content[name]
        if type(value) not in types or _not_finite(value):
            raise ValueError(f"its {name} cannot be {str(value)[:40]!r}")
        if float in types and value is not None:
            values[name] = float(value)
    if not 0 <= values["step"] <= MOST_STEPS:
        raise ValueError(f"its step cannot be {values['step']:.6g}")
    return kind(**values)
