"""Time a model's caches side by side, interleaved with the uncached reference."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli.checkpoints import local
from skipdit_cli.errors import UsageError
from skipdit_cli.generate import memory
from skipdit_cli.generate.options import Options
from skipdit_cli.plan import plan
from skipdit_cli.score.labels import labels
from skipdit_cli.score.sweep import SweepRow
from skipdit_cli.score.timing import time_together
from skipdit_cli.storage.disk import check_writable

if TYPE_CHECKING:
    from skipdit_cli.run import Run


def require(runs: Sequence["Run"], *, weights_path: Path | None = None) -> None:
    """Raise an error unless runs of one model can be timed.

    Raises:
        MissingAssetError: the weights are not here.
        UsageError: the weights are random, and what a method reuses depends on them.
    """
    if weights_path is None:
        local.require(runs[0].card)
    for run in runs:
        if run.card.random and run.cache.method.DYNAMIC:
            raise UsageError(
                f"what {run.cache.name} reuses depends on the weights",
                place="--weights random",
                fix="leave it out, or give a file",
            )


def compare(runs: Sequence["Run"], options: Options) -> list[SweepRow]:
    """The timings of runs that share an uncached reference, each run once, in their order.

    Raises:
        UsageError: a batch cannot fit in memory.
        SkipditError: out of memory.
        StoreError: the results folder cannot be written.
    """
    for run in runs:
        memory.require(run, device=options.device, offload=options.offload)
    check_writable(options.root)
    timings, named = time_together(runs, options), labels(runs)
    return [
        SweepRow(
            named[run.key],
            run,
            plan.plan(run, seen=plan.observed(run, options.root)),
            timings[run.key],
        )
        for run in dict.fromkeys(runs)
    ]
