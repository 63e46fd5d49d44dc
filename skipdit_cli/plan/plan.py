"""Plan: what a Run will do and what that costs, before anything runs.

Counted on the meta device: no weights, no GPU, seconds for a whole table.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skipdit_cli.cache import Cache
from skipdit_cli.checkpoints import local
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.errors import IncompleteError
from skipdit_cli.profiling import counts
from skipdit_cli.recipe.prompts import fetching
from skipdit_cli.recipe.runs import profile_run
from skipdit_cli.recipe.shape import Recipe, RecipeRow
from skipdit_cli.run import Run
from skipdit_cli.sites import BOTH, Site
from skipdit_cli.storage.store import open_store
from skipdit_cli.storage.trials import read_trial

VAE_SCALE = 8  # pixels per latent, along each side


@dataclass(frozen=True)
class RunPlan:
    """What a Run will do. What a dynamic method saves is None until it has run.

    Attributes:
        run: the run that was planned.
        steps: calls of the model.
        full_steps: calls that compute everything.
        cached_steps: calls that reuse a site or a half of guidance.
        batch: number of samples that the three counts below are for, guidance included.
        macs_paper: multiply-accumulates of the whole trajectory in the paper's counting.
        macs_executed: the same rules on what this implementation executes.
        flops: floating-point operations with attention, as executed.
        ideal_speedup: flops of the uncached model, in all steps, over flops.
        disk_bytes: size of all samples before lossless compression.
        missing: what has to be there or made first, one line each.
    """

    run: Run
    steps: int
    full_steps: int | None
    cached_steps: int | None
    batch: int
    macs_paper: int | None
    macs_executed: int | None
    flops: int | None
    ideal_speedup: float | None
    disk_bytes: int
    missing: list[str]


def profile(
    recipe: Recipe, row: RecipeRow, group: str = "", *, root: Path | None = None
) -> "RunPlan":
    """What the cost columns of a row count, those of a group where it is named; it has runs."""
    run = profile_run(recipe, row, group)
    seen = observed(run, root) if root else None
    return plan(run, batch=run.batch_size, text_tokens=row.text_tokens, seen=seen)


def plan(
    run: Run,
    *,
    batch: int = 1,
    root: Path | None = None,
    text_tokens: int | None = None,
    seen: Sequence[frozenset[Site]] | None = None,
) -> RunPlan:
    """Count what a run does and find what it lacks.

    Args:
        batch: number of samples that MACs and FLOPs are given for.
        root: the results folder, to find the samples that are there already; each is verified.
        text_tokens: of a prompt; by default as many as the model's inputs for counting have.
        seen: what a dynamic method did reuse, per step (see `observed`).
    """
    row = RunPlan(
        run=run,
        steps=len(run.timesteps),
        full_steps=None,
        cached_steps=None,
        batch=batch,
        macs_paper=None,
        macs_executed=None,
        flops=None,
        ideal_speedup=None,
        disk_bytes=sample_bytes(run.card) * run.num_samples,
        missing=_missing(run, root),
    )
    seen = observed(run, root) if root and seen is None else seen
    if seen is None and run.cache.method.DYNAMIC:
        return row
    steps = schedule(run.cache, run, seen)
    costs = counts.costs(run.counted, text_tokens)
    cost = costs.trajectory(Counter(steps)) * batch
    whole = _halves(run.reference)
    uncached = costs.trajectory(Counter((frozenset(), halves) for halves in whole)) * batch
    cached_steps = sum(
        bool(sites) or halves < most
        for (sites, halves), most in zip(steps, _halves(run), strict=True)
    )
    return replace(
        row,
        full_steps=len(steps) - cached_steps,
        cached_steps=cached_steps,
        macs_paper=cost.macs_paper,
        macs_executed=cost.macs_executed,
        flops=cost.flops,
        ideal_speedup=uncached.flops / cost.flops,
    )


def shares(run: Run, *, root: Path | None = None) -> list[tuple[int, float]] | None:
    """(timestep, share of an uncached step's operations that are executed) of every step.

    Args:
        root: the results folder, to find what a dynamic method did reuse.
    Returns:
        None for a dynamic method that has not run.
    """
    seen = observed(run, root) if root else None
    if run.cache.method.DYNAMIC and seen is None:
        return None
    costs = counts.costs(run.counted)
    steps, whole = schedule(run.cache, run, seen), _halves(run)
    done = [
        costs.step(sites, halves).flops / costs.step((), most).flops
        for (sites, halves), most in zip(steps, whole, strict=True)
    ]
    return list(zip(run.timesteps, done, strict=True))


def observed(run: Run, root: Path) -> list[frozenset[Site]] | None:
    """What a dynamic method reused at every step of the run's first batch.

    None where that was neither generated nor tried yet, or the method is not dynamic.
    """
    if not run.cache.method.DYNAMIC:
        return None
    try:
        steps = open_store(root, run).meta(0)["reused_steps"]
    except IncompleteError:
        steps = read_trial(root, run)
    if steps is None:
        return None
    skipped = run.cache.skipped
    return [skipped if i in steps else frozenset() for i in range(len(run.timesteps))]


def _halves(run: Run) -> list[int]:
    """How many times each step of a run computes every sample without a cache.

    Some pipelines guide at some steps alone.
    """
    if run.card.pipeline:
        return [*run.traced.samples]
    return [2 if run.guided else 1] * len(run.timesteps)


def schedule(
    cache: Cache, run: Run, seen: Sequence[frozenset[Site]] | None = None
) -> list[tuple[frozenset[Site], int]]:
    """(sites that are reused, halves of guidance that are computed) at every step of a run.

    Args:
        cache: in place of the run's own.
        seen: what a dynamic method did reuse.
    """
    reused = seen or run.reused(cache)
    halves = cache.halves(run.timesteps, guided=run.guided)
    return [
        (sites, min(2 if computed == BOTH else 1, most))
        for sites, computed, most in zip(reused, halves, _halves(run), strict=True)
    ]


def sample_bytes(card: Card) -> int:
    """A sample's uint8 RGB pixels, before they are compressed."""
    if card.pipeline:
        return math.prod(counts.sizes(card).latents)
    scale = VAE_SCALE if "vae" in card.components else 1
    return counts.places(card) * scale**2 * 3


def _missing_of_pipeline(run: Run, root: Path | None) -> list[str]:
    lacks = ["weights"] if run.weights == "absent" else []
    lacks += ["prompts: give --prompt or --prompts"] if run.prompts is None else []
    if root is not None and (absent := open_store(root, run).missing(range(run.num_samples))):
        lacks.append(f"samples: {len(absent)} of {run.num_samples}")
    return lacks


def _missing(run: Run, root: Path | None) -> list[str]:
    """What the run lacks: weights and components, prompts, and samples under a results folder."""
    card, lacks = run.card, []
    if card.pipeline:
        return _missing_of_pipeline(run, root)
    lacking = local.absent_components(card)
    size = sum(card.components[key].size for key in lacking)
    if run.weights == "absent":
        lacking, size = ["weights", *lacking], size + card.size
    if card.by_path and "weights" in lacking:
        lacks.append(f"weights: there is no {local.weights_file(card)}")
        lacking = lacking[1:]
    if lacking and card.embedded:
        fix = local.reinstall(card) if lacking == ["weights"] else "install it again"
        lacks.append(f"{', '.join(lacking)}: they ship with skipdit and are gone; {fix}")
    elif lacking:
        command = f"{local.fetching(card)} (about {local.size_text(size)})"
        lacks.append(f"{', '.join(lacking)}: {command}")
    if card.text and run.prompts is None:
        lacks.append(f"prompts: {fetching(card.prompts) or 'give --prompt or --prompts'}")
    if root is not None and (absent := open_store(root, run).missing(range(run.num_samples))):
        lacks.append(f"samples: {len(absent)} of {run.num_samples}")
    return lacks
