"""skipdit plan"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show, show_json, table

if TYPE_CHECKING:
    from skipdit_cli.plan.plan import RunPlan
    from skipdit_cli.recipe.shape import Recipe

HEADINGS = (
    "run",
    "full",
    "cached",
    "MACs",
    "MACs executed",
    "FLOPs",
    "ideal speedup",
    "disk",
    "missing",
)


@app.command()
def plan(
    target: options.RecipeArgument = None,
    model: options.Model = None,
    recipe: options.Recipe = None,
    cache: options.Caches = None,
    n: options.Intervals = None,
    window: options.Windows = None,
    method: options.Methods = None,
    scale: options.Scale = "auto",
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    precision: options.Precision = None,
    num_samples: options.NumSamples = None,
    batch_size: options.BatchSize = None,
    results: options.Root = "results",  # type: ignore[assignment]
    override: options.Override = None,
    out: Annotated[
        Path | None, typer.Option(help="Write a recipe's costs there, as RECIPE.md and RECIPE.csv.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Count what a run or a table will do and cost; needs no weights and no GPU.

    MACs are for one batch over the whole trajectory, as the paper counts them on the official
    implementation; "executed" is the same rule on this one, which computes the modulation of a clip
    once. FLOPs are two per multiply-accumulate, attention included. What a dynamic method saves
    ("at run") is known once its first batch is there.
    """
    from skipdit_cli.errors import UsageError
    from skipdit_cli.plan import plan as planning
    from skipdit_cli.recipe.specs import specs

    recipe = options.recipe_named(target, recipe)
    given = options.settings(
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        precision=precision,
        num_samples=num_samples,
        batch_size=batch_size,
    )
    if recipe:
        options.fixed_by_recipe(recipe, model=model, cache=cache, n=n, window=window, method=method)
        given_recipe = options.recipe_at(recipe, scale, options.overrides(given, override))
        _show_recipe(given_recipe, json=json, out=out)
        return
    if out is not None:
        raise UsageError("--out is for recipes", place="--out", fix="name one, or take --json")
    options.refuse_overrides(override)
    chosen = options.model_at(model, scale)
    wanted = ["none", *(cache or []), *specs(method, n=n, window=window)]
    runs = options.runs(chosen, wanted, given)
    rows = [planning.plan(run, batch=run.batch_size, root=results) for run in runs]
    if json:
        show_json([_content(row) for row in rows])
        return
    run = runs[0]
    sampling = f"{run.sampler.name} {run.steps}, guidance {run.guidance}, batch {run.batch_size}"
    show(f"{chosen}: {sampling}\n")
    show(table(HEADINGS, [(row.run.cache.short, *_cells(row)) for row in rows]))


def _show_recipe(chosen: "Recipe", *, json: bool, out: Path | None = None) -> None:
    """What every row of a recipe costs, the published FLOPs beside ours; also as files in `out`."""
    from skipdit_cli.plan import costs

    content, shown = [], []
    counted = costs.cost_lines(chosen)
    for path in costs.write_costs(chosen, counted, out) if out else ():
        say(f"wrote {path}")
    for line in counted:
        if line.counted is None:
            shown.append((line.row.label, *[""] * len(HEADINGS), line.row.planned))
            continue
        beside = ("", "")
        if line.difference is not None:
            beside = (f"{line.published:.2f}", f"{line.difference:+.3f} %")
        cells = _cells(line.counted)
        shown.append((line.row.label, *cells[:3], *beside, *cells[3:]))
        published = {"row": line.row.id, "published_macs_t": line.published}
        content.append({**published, **_content(line.counted)})
    if json:
        show_json(content)
        return
    headings = (*HEADINGS[:4], "published", "difference", *HEADINGS[4:])
    show(f"{chosen.title} ({chosen.scale} scale)\n")
    show(table(headings, shown))


def _cells(row: "RunPlan") -> tuple[str, ...]:
    from skipdit_cli.checkpoints.local import size_text
    from skipdit_cli.plan.costs import AT_RUN

    return (
        AT_RUN if row.full_steps is None else str(row.full_steps),
        AT_RUN if row.cached_steps is None else str(row.cached_steps),
        _count(row.macs_paper),
        _count(row.macs_executed),
        _count(row.flops),
        AT_RUN if row.ideal_speedup is None else f"{row.ideal_speedup:.3f}",
        size_text(row.disk_bytes),
        ", ".join(row.missing) or "nothing",
    )


def _count(value: float | None) -> str:
    if value is None:
        from skipdit_cli.plan.costs import AT_RUN

        return AT_RUN
    units = (("T", 1e12), ("G", 1e9), ("M", 1e6))
    unit, size = next((pair for pair in units if value >= pair[1]), units[-1])
    return f"{value / size:.3f} {unit}"


def _content(row: "RunPlan") -> dict:
    return {**vars(row), "run": row.run.to_dict(), "key": row.run.key}
