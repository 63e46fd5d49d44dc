"""Scores and features of many samples, made by several processes, each on a GPU of its own.

Chunks are what is shared out: whoever makes one, it holds the same bits.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from skipdit_cli.generate.engine import Engine, run_batches

Job = TypeVar("Job")

SHARES = 4  # that every process gets at least, so that none waits long for the last one
MOST = 16  # chunks of a share: samples of the next are read while one is looked at

_jobs: dict[str, Any] = {}  # of a worker process: the one job that it works on


def spread(
    make: Callable[[Job, list[int]], object],
    job: Callable[[], Job],
    chunks: Sequence[int],
    *,
    name: str,
    engine: Engine,
    on_done: Callable[[list[int]], object],
) -> None:
    """Have worker processes make chunks.

    Args:
        make: makes and keeps the chunks of these numbers; a module-level function.
        job: gives what `make` needs, in the process that asks; a `functools.partial` of a
            module-level function.
        chunks: numbers, ascending.
        name: what tells the job from others.
        on_done: called with the numbers of chunks that are there now.
    Raises:
        Exception: as `run_batches`.
    """
    size = min(MOST, max(1, math.ceil(len(chunks) / (engine.workers * SHARES))))
    shares = [list(chunks[start : start + size]) for start in range(0, len(chunks), size)]
    work = functools.partial(_make, make, job, name)
    run_batches(work, shares, engine=engine, of=name, on_done=on_done)


def _make(
    make: Callable[[Job, list[int]], object], job: Callable[[], Job], name: str, chunks: list[int]
) -> None:
    if name not in _jobs:
        _jobs.clear()
        _jobs[name] = job()
    make(_jobs[name], chunks)
