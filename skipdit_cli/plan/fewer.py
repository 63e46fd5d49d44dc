"""Fewer steps: uncached runs that cost what a cache leaves, the line that a cache has to beat.

A cache saves work at every step, and so do fewer steps. A row of a cache is matched with as many
uncached steps as come nearest to its MACs; their samples begin with the same noise, and are
compared with the same samples of all steps.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from math import floor
from pathlib import Path

from skipdit_cli.cache import NONE
from skipdit_cli.errors import UsageError
from skipdit_cli.plan import plan
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
        if text := _respaced(reference, steps):
            made = replace(reference, steps=text, reference_steps=reference.steps)
            found[made.key, reference.key] = made
    return list(found.values())


def _respaced(reference: Run, steps: int) -> str:
    """So many steps as the sampler of a run takes them, spaced as its own are where it can.

    Returns:
        "" where the sampler cannot take so many.
    """
    for text in (re.sub(r"\d+", str(steps), reference.steps, count=1), str(steps)):
        with suppress(UsageError):
            if len(reference.sampler.timesteps(text)) == steps:
                return text
    return ""
