"""A trial: what a method that decides while it runs reuses in the first batch of a run."""

import itertools
from dataclasses import replace

from torch import Tensor

from skipdit_cli.checkpoints import local
from skipdit_cli.errors import UsageError
from skipdit_cli.generate import conditioning, loaded, memory
from skipdit_cli.generate.batch import latents_of, network
from skipdit_cli.generate.hooks import Session
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Options
from skipdit_cli.plan.plan import observed
from skipdit_cli.run import Run
from skipdit_cli.sites import Site
from skipdit_cli.storage.disk import check_writable
from skipdit_cli.storage.trials import write_trial


def tried(run: Run, options: Options) -> list[frozenset[Site]]:
    """The sites that are reused at every step, looked up or found by running the batch.

    It is the batch that the run begins with, so that the run does the same. Nothing is decoded, and
    what was reused is kept.

    Raises:
        UsageError: the weights are random, or the batch does not fit in memory.
        MissingAssetError: weights or prompts are not here.
        SkipditError: out of memory.
        StoreError: the results folder cannot be written.
    """
    if run.card.random:
        raise UsageError(f"what {run.cache.name} reuses depends on the weights, which are random")
    if (known := observed(run, options.root)) is not None:
        return known
    local.require(run.card, path=options.weights_path)
    memory.require(run, device=options.device, offload=options.offload)
    check_writable(options.root)
    reused: list[int] = []
    with (
        options.stage(f"trying {run.cache.short} on {run.model}") as update,
        memory_checked(run.batch_size),
    ):
        batch = replace(run, num_samples=run.batch_size)
        if conditioning.pending(batch, options.root):
            loaded.release()  # a text encoder may be larger than the denoiser
        conditioning.prepare(batch, options.root, device=options.device)

        steps = itertools.count()

        def note(session: Session, x: Tensor) -> None:
            step = next(steps)  # a pipeline's sessions count those of their transformer
            update(step + 1, len(run.timesteps))
            if session.reused[session.step]:
                reused.append(step)

        model = network(run, device=options.device, weights_path=options.weights_path)
        latents_of(run, range(run.batch_size), model=model, root=options.root, on_step=note)
    write_trial(options.root, run, reused)
    return observed(run, options.root) or []
