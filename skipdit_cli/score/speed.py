"""The speed of a machine: operations a second of a model's uncached loop, counted over measured."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from skipdit_cli.generate import memory
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Options
from skipdit_cli.plan import plan, rates
from skipdit_cli.plan.rates import Measured
from skipdit_cli.score.timing import clocked

if TYPE_CHECKING:
    from skipdit_cli.run import Run

STEPS = "4"  # as fast as any number of them, and the loop is short


def calibrate(runs: "Iterable[Run]", options: Options) -> list[Measured]:
    """Time the loops of uncached runs, one batch each, and keep what they reach.

    Speed does not depend on the weights, which are random.

    Raises:
        UsageError: a batch cannot fit in memory.
        SkipditError: out of memory.
        StoreError: the measurements cannot be written.
    """
    from skipdit_cli.storage.provenance import device_name

    measured = []
    for run in runs:
        memory.require(run, device=options.device, offload=options.offload)
        with memory_checked(run.batch_size):
            measured.append(_measured(run, options))
        rates.keep(device_name(options.device), measured[-1:])
    return measured


def _measured(run: "Run", options: Options) -> Measured:
    from skipdit_cli.score.body import loop_of

    flops = plan.plan(run, batch=run.batch_size).flops
    assert flops is not None  # it is uncached
    loop = loop_of(run, device=options.device)
    loops, what = {"none": partial(loop, run.cache)}, f"{run.model}, {run.precision}"
    timed = clocked(loops, options, reference="none", what=what)
    return Measured(
        precision=run.precision,
        model=run.model,
        work=flops / len(run.timesteps),
        tflops=flops / timed["none"].median / 1e12,
    )
