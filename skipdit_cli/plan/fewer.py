"""Fewer steps: uncached runs that cost what a cache leaves, the line that a cache has to beat.

A cache saves work at every step, and so do fewer steps. A row of a cache is matched with as many
uncached steps as come nearest to its FLOPs (the paper's MACs leave out the products of attention,
which some methods save most of); their samples begin with the same noise, and are compared with the
same samples of all steps.
"""

from collections.abc import Iterable
from math import floor
from pathlib import Path

from skipdit_cli.cache import NONE
from skipdit_cli.errors import UsageError, warn
from skipdit_cli.plan import plan
from skipdit_cli.recipe.runs import with_steps
from skipdit_cli.run import Run


def count(planned: plan.RunPlan) -> int | None:
    """How many uncached steps come nearest to the FLOPs of a run, at least one.

    They cost half a step more than the run at most, or half a step less. None for a dynamic method
    that has not run.
    """
    cost = _in_steps(planned)
    return None if cost is None else max(1, floor(cost + 0.5))


def of_equal_cost(planned: plan.RunPlan, steps: Iterable[int | None]) -> int | None:
    """Which of the numbers of steps that a recipe has costs what a run does, if one does.

    That is to half a step, as for `count`, or to a fortieth of the cost where that is more.
    """
    cost = _in_steps(planned) or 0.0
    near = min(filter(None, steps), key=lambda each: (abs(each - cost), -each), default=None)
    return near if near and abs(near - cost) <= max(0.5, cost / 40) else None


def _in_steps(planned: plan.RunPlan) -> float | None:
    """What a run costs, in steps of its reference."""
    reference = planned.run.reference
    whole = plan.plan(reference, batch=planned.batch).flops
    if planned.flops is None or whole is None:
        return None
    return planned.flops * len(reference.timesteps) / whole


def fewer_steps(runs: Iterable[Run], *, root: Path | None = None) -> list[Run]:
    """The uncached runs that cost what cached ones do, each once; none of a run that saves nothing.

    Where a sampler cannot take so many steps there is a warning.

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
        try:
            made = with_steps(run, steps)
        except UsageError as error:  # as of a scheduler that calls the network twice in a step
            problem = f"no uncached run is held against {run.cache.short}: {error.problem}"
            warn(problem, place=run.model)
        else:
            found[made.key, reference.key] = made
    return list(found.values())
