"""skipdit plan"""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import show, show_json, table

if TYPE_CHECKING:
    from skipdit_cli.plan import Row

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

AT_RUN = "at run"  # of a dynamic method, which decides while it runs


@app.command()
def plan(
    recipe: Annotated[str | None, typer.Argument(help="A recipe, instead of --model.")] = None,
    recipe_option: Annotated[str | None, typer.Option("--recipe", hidden=True)] = None,
    model: options.Model = None,
    cache: Annotated[list[str] | None, typer.Option(help="A cache spec; may be repeated.")] = None,
    n: Annotated[str | None, typer.Option(help="Intervals, as 2..6.")] = None,
    window: Annotated[str | None, typer.Option(help="Windows, as 700-50,800-50.")] = None,
    method: Annotated[str, typer.Option(help="Methods that --n and --window are for.")] = (
        "skip-cache"
    ),
    scale: options.Scale = "auto",
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    num_samples: options.NumSamples = None,
    batch_size: options.BatchSize = None,
    results: options.Root = "results",  # type: ignore[assignment]
    override: options.Override = None,
    json: options.Json = False,
) -> None:
    """Count what a run or a table will do and cost; needs no weights and no GPU.

    MACs are for one batch over the whole trajectory, as the paper counts them on the official
    implementation; "executed" is the same rule on this one, which computes the modulation of a clip
    once. FLOPs are two per multiply-accumulate, attention included. What a dynamic method saves
    ("at run") is known once its first batch is there.
    """
    from skipdit_cli import plan as planning
    from skipdit_cli.errors import UsageError
    from skipdit_cli.spec import parse_cache
    from skipdit_cli.sweep import specs

    recipe = recipe or recipe_option
    given = options.settings(
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        num_samples=num_samples,
        batch_size=batch_size,
    )
    if recipe:
        options.fixed_by_recipe(recipe, model=model, cache=cache, n=n, window=window)
        show_recipe(options.recipe_at(recipe, scale, options.overrides(given, override)), json=json)
        return
    if override:
        raise UsageError("--set is for recipes", place="--set", fix="use the option of that name")
    chosen = options.model_at(model, scale)
    wanted = ["none", *(cache or []), *specs(method, n=n, window=window)]
    runs = options.runs(chosen, wanted, given)
    rows = [planning.plan(run, batch=run.batch_size, root=results) for run in runs]
    if json:
        show_json([_content(row) for row in rows])
        return
    run = runs[0]
    show(f"{chosen}: {run.sampler} {run.steps}, guidance {run.guidance}, batch {run.batch_size}\n")
    show(table(HEADINGS, [(parse_cache(row.run.cache).short, *_cells(row)) for row in rows]))


def show_recipe(chosen, *, json: bool) -> None:
    """What every row of a recipe costs, the published FLOPs beside ours."""
    from skipdit_cli import plan as planning
    from skipdit_cli import published

    content, shown = [], []
    groups: dict[str, list[Row]] = {row.id: [] for row in chosen.rows}
    for row, _, run in planning.runs(chosen):
        groups[row.id].append(planning.plan(run))
    for row in chosen.rows:
        if row.planned is not None:
            shown.append((row.label, *[""] * len(HEADINGS), row.planned))
            continue
        counted = replace(
            planning.profile(chosen, row),
            disk_bytes=sum(found.disk_bytes for found in groups[row.id]),
            missing=list(dict.fromkeys(lack for found in groups[row.id] for lack in found.missing)),
        )
        known = bool(chosen.table and row.published)
        paper = published.find(chosen.table, row.published).get("flops_t") if known else None
        beside: tuple[str, ...] = ()
        if paper is not None and counted.macs_paper is not None and chosen.scale != "tiny":
            tera = counted.macs_paper / 1e12
            beside = (f"{paper:.2f}", f"{(tera / paper - 1) * 100:+.3f} %")
        cells = _cells(counted)
        shown.append((row.label, *cells[:3], *(beside or ("", "")), *cells[3:]))
        content.append({"row": row.id, "published_macs_t": paper, **_content(counted)})
    if json:
        show_json(content)
        return
    headings = (*HEADINGS[:4], "published", "difference", *HEADINGS[4:])
    show(f"{chosen.title} ({chosen.scale} scale)\n")
    show(table(headings, shown))


def _cells(row: "Row") -> tuple[str, ...]:
    from skipdit_cli.weights import size_text

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
        return AT_RUN
    units = (("T", 1e12), ("G", 1e9), ("M", 1e6))
    unit, size = next((pair for pair in units if value >= pair[1]), units[-1])
    return f"{value / size:.3f} {unit}"


def _content(row: "Row") -> dict:
    from dataclasses import asdict

    return {**asdict(row), "run": row.run.to_dict(), "key": row.run.key}
