"""skipdit plan"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipdit_cli.cli import _estimate as estimates
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import _pipelines as pipelines
from skipdit_cli.cli import _target as targets
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show, show_json, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipdit_cli.plan.plan import RunPlan
    from skipdit_cli.plan.tables import Line
    from skipdit_cli.recipe.shape import Recipe
    from skipdit_cli.run import Run

HEADINGS = (
    "run",
    "window",
    "full",
    "cached",
    "MACs",
    "MACs executed",
    "FLOPs",
    "ideal speedup",
    "hours",
    "memory",
    "disk",
    "missing",
)


@app.command()
def plan(
    target: options.RecipeArgument = None,
    model: options.Model = None,
    pipeline: pipelines.Pipeline = None,
    call: pipelines.Call = None,
    recipe: options.Recipe = None,
    cache: options.Caches = None,
    n: options.Intervals = None,
    window: options.Windows = None,
    method: options.Methods = None,
    target_speedup: targets.Speedup = None,
    target_macs: targets.Macs = None,
    no_fewer_steps: options.NoFewerSteps = False,
    scale: options.Scale = "auto",
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    precision: options.Precision = None,
    decode_precision: options.DecodePrecision = None,
    classes: options.Classes = None,
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    negative_prompt: options.NegativePrompt = None,
    seeds: options.Seeds = None,
    num_samples: options.NumSamples = None,
    batch_size: options.BatchSize = None,
    weights: options.Weights = None,
    compile: options.Compile = False,
    quantize: pipelines.Quantize = None,
    offload: options.Offload = "",
    results: options.Root = "results",  # type: ignore[assignment]
    override: options.Override = None,
    out: Annotated[
        Path | None, typer.Option(help="Write a recipe's costs there, as RECIPE.md and RECIPE.csv.")
    ] = None,
    gpu: options.Gpu = None,
    workers: options.Gpus = 1,
    tables: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every table of the paper, a line each: hours as assumed of an A100 and an H100.",
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Count what a run or a table will do and cost; needs no weights and no GPU.

    MACs are for one batch over the whole trajectory, as the paper counts them on the official
    implementation; "executed" is the same rule on this one, which computes the modulation of a clip
    once. FLOPs are two per multiply-accumulate, attention included. What a dynamic method saves
    ("at run") is known once its first batch is there. Below the caches of a model are uncached runs
    of as many steps as cost their MACs.

    Hours are those FLOPs, and the autoencoder's, at the rate of a GPU: as `skipdit profile
    --calibrate` measured it, or else assumed. Memory is the most that tensors take at a time, disk
    that of samples before compression with all that is kept beside them. A row has those of all its
    samples; what is left to do is told below, where what rows share counts once.
    """
    from skipdit_cli.errors import UsageError
    from skipdit_cli.plan import plan as planning
    from skipdit_cli.recipe.specs import specs
    from skipdit_cli.report.notes import counted, windows

    recipe = options.recipe_named(target, recipe)
    if tables:
        one = {"model": model, "gpu": gpu, "out": out, "workers": workers > 1}
        options.refuse(one, "is of one table", place="--all")
        if recipe:
            raise UsageError(f"{recipe} is one table", place="--all", fix="leave it out")
        _show_tables(json=json)
        return
    given = options.settings(
        call=call,
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        precision=precision,
        decode_precision=decode_precision,
        classes=classes,
        prompt=prompt,
        prompts=prompts,
        negative_prompt=negative_prompt,
        seeds=seeds,
        num_samples=num_samples,
        batch_size=batch_size,
        weights=weights,
        compile=compile or None,
        quantize=quantize,
    )
    path = options.weights_file(weights)
    how: dict[str, Any] = {"gpu": gpu, "gpus": workers, "offload": offload}
    if recipe:
        names = {
            "model": model,
            "pipeline": pipeline,
            "call": call,
            "cache": cache,
            "n": n,
            "window": window,
            "method": method,
        }
        names |= {"target-speedup": target_speedup, "target-macs": target_macs}
        options.fixed_by_recipe(recipe, **names, classes=classes, weights=path)
        options.fixed_by_recipe(recipe, **{"no-fewer-steps": no_fewer_steps})
        given_recipe = options.recipe_at(recipe, scale, options.overrides(given, override))
        _show_recipe(given_recipe, how, root=results, json=json, out=out)
        return
    if out is not None:
        raise UsageError("--out is for recipes", place="--out", fix="name one, or take --json")
    options.refuse_overrides(override)
    chosen = options.model_at(model, scale, pipeline)
    found = targets.search(
        chosen,
        given,
        speedup=target_speedup,
        macs=target_macs,
        method=method,
        n=n,
        window=window,
        trial=lambda run: planning.observed(run, results),
        weights_path=path,
    )
    if found:
        near = [each for nearest in found.found.values() for each in nearest]
        asked = [each.spec.brief for each in near]
        names = {str(each.cache): each.spec.brief for each in near}
    else:
        asked, names = specs(method, n=n, window=window), {}
    runs = options.runs(chosen, ["none", *(cache or []), *asked], given, weights_path=path)
    runs = options.with_fewer_steps(runs, root=results, off=no_fewer_steps)
    pipelines.check_offload(runs, offload, device="cuda")
    rows = [planning.plan(run, batch=run.batch_size, root=results) for run in runs]
    jobs: list[estimates.Job] = [(run, ()) for run in runs]
    costs = [estimates.told([job], **how) for job in jobs]
    left = estimates.told(jobs, root=results, **how)
    if json:
        pairs = zip(rows, costs, strict=True)
        more = {"target": targets.content(found)} if found else {}
        show_json({"rows": [_content(*pair) for pair in pairs], "left": left.content, **more})
        return
    run = runs[0]
    sampling = f"{run.sampled}, guidance {run.guidance}, batch {run.batch_size}"
    show(f"{run.label}: {sampling}\n")
    shown = [
        (names.get(str(row.run.cache), _short(row.run)), *_cells(row, cost))
        for row, cost in zip(rows, costs, strict=True)
    ]
    show(table(HEADINGS, shown))
    lines = [*(targets.told(found) if found else windows(runs)), *counted(runs)]
    show("\n" + "\n".join((*lines, *left.lines)))


def _show_recipe(
    chosen: "Recipe",
    how: "Mapping[str, Any]",
    *,
    root: Path,
    json: bool,
    out: Path | None = None,
) -> None:
    """What every row of a recipe costs, the published FLOPs beside ours; also as files in `out`.

    Args:
        how: as `estimates.told` takes it.
    """
    from skipdit_cli.plan import costs
    from skipdit_cli.plan.tables import REPEATS
    from skipdit_cli.recipe import runs
    from skipdit_cli.report.notes import windows

    content, shown = [], []
    counted = costs.cost_lines(chosen)
    by_row: dict[str, list[estimates.Job]] = {}
    for row, run, metrics in runs.jobs_of(chosen):
        by_row.setdefault(row.id, []).append((run, metrics))
    for path in costs.write_costs(chosen, counted, out) if out else ():
        say(f"wrote {path}")
    for line in counted:
        if line.counted is None:
            shown.append((line.row.label, *[""] * len(HEADINGS), line.row.planned))
            continue
        beside = ("", "")
        if line.difference is not None:
            beside = (f"{line.published:.2f}", f"{line.difference:+.3f} %")
        cost = estimates.told(by_row[line.row.id], **how)
        cells = _cells(line.counted, cost)
        shown.append((line.row.label, *cells[:4], *beside, *cells[4:]))
        published = {"row": line.row.id, "published_macs_t": line.published}
        content.append({**published, **_content(line.counted, cost)})
    jobs = [job for of_row in by_row.values() for job in of_row]
    timed = runs.timed(chosen)
    left = estimates.told(jobs, root=root, timed=timed, repeats=REPEATS, **how)
    if json:
        show_json({"rows": content, "left": left.content})
        return
    counted_runs = [line.counted.run for line in counted if line.counted]
    headings = (*HEADINGS[:5], "published", "difference", *HEADINGS[5:])
    drawn = ", random weights" if any(run.card.random for run, _ in jobs) else ""
    show(f"{chosen.title} ({chosen.scale} scale{drawn})\n")
    show(table(headings, shown))
    show("\n" + "\n".join((*windows(counted_runs), *left.lines)))


def _show_tables(*, json: bool) -> None:
    """A line for every table of the paper."""
    from skipdit_cli.plan import tables

    lines = list(tables.lines())
    if json:
        costs = {
            line.name: [estimates.about(each, line.runs) for each in line.whole] for line in lines
        }
        show_json({name: [cost.content for cost in each] for name, each in costs.items()})
        return
    machines = (f"{machine.label} hours" for machine in tables.MACHINES)
    headings = ("table", "precision", *machines, "hours of scoring", "memory", "disk, at most")
    show(table(headings, [hours_of(line) for line in lines]))


def hours_of(line: "Line") -> tuple[str, ...]:
    """What `--all` says of a table."""
    costs = [estimates.about(found, line.runs) for found in line.whole]
    hours = []
    for cost, rest in zip(costs, line.rest, strict=True):
        after = f" ({rest.hours:.0f} after {_spoken(line.after)})" if line.after else ""
        hours.append(f"{cost.found.hours:.0f}{after}")
    _, memory, disk = costs[0].cells
    scoring = (f"{value:.0f} of {what}" for what, value in costs[0].found.scoring.items())
    return (
        _spoken(line.name),
        line.runs[0].precision,
        *hours,
        "; ".join(scoring) or "–",
        f"{memory} at batch {costs[0].run.batch_size}",
        disk,
    )


def _spoken(name: str) -> str:
    """A table as people name it: Table 1."""
    return name.replace("table", "Table ") if name.startswith("table") else name


def _cells(row: "RunPlan", cost: estimates.Told) -> tuple[str, ...]:
    from skipdit_cli.plan.costs import AT_RUN

    return (
        row.run.cache.span,
        AT_RUN if row.full_steps is None else str(row.full_steps),
        AT_RUN if row.cached_steps is None else str(row.cached_steps),
        _count(row.macs_paper),
        _count(row.macs_executed),
        _count(row.flops),
        AT_RUN if row.ideal_speedup is None else f"{row.ideal_speedup:.3f}",
        *cost.cells,
        ", ".join(row.missing) or "nothing",
    )


def _count(value: float | None) -> str:
    if value is None:
        from skipdit_cli.plan.costs import AT_RUN

        return AT_RUN
    units = (("T", 1e12), ("G", 1e9), ("M", 1e6))
    unit, size = next((pair for pair in units if value >= pair[1]), units[-1])
    return f"{value / size:.3f} {unit}"


def _short(run: "Run") -> str:
    steps = f", {len(run.timesteps)} steps" if run.reference_steps else ""
    return f"{run.cache.short}{steps}"


def _content(row: "RunPlan", cost: estimates.Told) -> dict:
    return {**vars(row), "run": row.run.to_dict(), "key": row.run.key, "estimate": cost.content}
