"""Tables: what each table of the paper takes at paper scale, by what GPUs are assumed to do.

Nothing of this machine is in it, neither what was measured here nor what is here already, so that
the same version gives the same lines anywhere; docs/tables.md has them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from skipdit_cli.plan.estimate import Estimate, estimate
from skipdit_cli.plan.gpus import GPUS
from skipdit_cli.plan.rates import Machine
from skipdit_cli.recipe import recipe, runs
from skipdit_cli.run import Run

MACHINES = tuple(Machine(GPUS[name].label, name) for name in ("a100", "h100"))
REPEATS = 3  # of each timed loop, as a sweep has them


@dataclass(frozen=True)
class Line:
    """One table.

    Attributes:
        name: of the recipe.
        runs: all of them.
        whole: by machine, where nothing is there yet.
        rest: the same where the tables before it are there.
        after: a table before it that shares runs with it, if any does.
    """

    name: str
    runs: tuple[Run, ...]
    whole: tuple[Estimate, ...]
    rest: tuple[Estimate, ...]
    after: str


def lines(names: Iterable[str] | None = None) -> Iterator[Line]:
    """A line for each recipe of a published table, in the order of their names.

    Args:
        names: of the recipes, all of them by default.
    """
    made: dict[str, str] = {}  # run key -> the first table that has it
    for name in recipe.names() if names is None else names:
        if "paper" not in recipe.scales(name):  # nor a published table
            continue
        loaded = recipe.load_recipe(name, scale="paper")
        if loaded.table is None:
            continue
        jobs, timed = runs.scored(loaded), runs.timed(loaded)
        new = [job for job in jobs if job[0].key not in made]
        whole, rest = (
            tuple(estimate(each, machine, timed=timed, repeats=REPEATS) for machine in MACHINES)
            for each in (jobs, new)
        )
        after = next((made[run.key] for run, _ in jobs if run.key in made), "")
        yield Line(name, tuple(run for run, _ in jobs), whole, rest, after)
        for run, _ in jobs:
            made.setdefault(run.key, name)
