"""Fewer steps: uncached runs that cost what a cache leaves, the line that a cache has to beat.

A cache saves work at every step, and so do fewer steps. A row of a cache is matched with as many
uncached steps as come nearest to its MACs; their samples begin with the same noise, and are
compared with the same samples of all steps.
"""

from collections.abc import Iterable
from contextlib import suppress
from math import floor
from pathlib import Path

from skipdit_cli.cache import NONE
from skipdit_cli.errors import UsageError
from skipdit_cli.plan import plan
from skipdit_cli.recipe.runs import with_steps
from skipdit_cli.run import Run


def count(planned: plan.RunPlan) -> int | None:
    """How many uncached steps come nearest to the MACs of a run, at least one.

    They cost half a step more than the run at most, or half a step less. None for a dynamic method
    that has not run.
    """
    reference = planned.run.reference
    whole = plan.plan(reference, batch=planned.batch).macs_paper
    if planned.macs_paper is None or whole is None:
        return None
    return max(1, floor(planned.macs_paper * len(reference.timesteps) / whole + 0.5))


def fewer_steps(runs: Iterable[Run], *, root: Path | None = None) -> list[Run]:
    """The uncached runs that cost what cached ones do, each once; none of a run that saves nothing.

    Args:
        root: the results folder, to find what dynamic methods did reuse; one that has not run has
            no row here.
    """
    found: dict[tuple[str, str], Run] = {}
    for run in runs:
        steps = None if run.cache.name == NONE else count(plan.plan(run, root=root))
        reference = run.reference
        if steps is None or steps >= len(reference.timesteps):
            continue
        with suppress(UsageError):  # a sampler that cannot take so many
            made = with_steps(run, steps)
            found[made.key, reference.key] = made
    return list(found.values())
