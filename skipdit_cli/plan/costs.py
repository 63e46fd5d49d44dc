"""Costs: what every row of a recipe computes, beside the FLOPs that the paper printed.

All of it is counted by `plan`: no weights, no GPU, seconds for a table. The files depend on the
recipe and on the models' structure alone, so that the same version writes the same bytes anywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skipdit_cli.plan import plan
from skipdit_cli.recipe import published, runs
from skipdit_cli.recipe.shape import Recipe, RecipeRow
from skipdit_cli.storage.disk import write_whole
from skipdit_cli.storage.markup import in_cell, plain
from skipdit_cli.storage.spreadsheet import csv_text

TERA = 1e12
AT_RUN = "at run"  # of a dynamic method, which decides while it runs
LEGEND = (
    "MACs: multiply-accumulates of one batch over the whole trajectory, as the paper counts them "
    "on the official implementation (its column is called FLOPs).",
    "MACs executed: the same rules on this implementation, which computes the modulation of a "
    "clip, and the keys and values of its caption, once instead of once per frame.",
    "FLOPs: two per multiply-accumulate, with attention's matrix products, as executed. The ideal "
    "speedup is their ratio to the same model without cache.",
    "Samples: size of all samples of the row, of all data sets, before lossless compression.",
)
HEADINGS = (
    *("row", "model", "cache", "one batch", "full", "cached", "MACs (T)", "published (T)"),
    *("difference (%)", "MACs executed (T)", "FLOPs (T)", "ideal speedup", "samples (GB)"),
)
COLUMNS = (
    *("row", "label", "model", "cache", "sampler", "steps", "guidance", "batch_size"),
    *("text_tokens", "full_steps", "cached_steps", "macs", "published_t", "difference_percent"),
    *("macs_executed", "flops", "ideal_speedup", "samples_bytes"),
)


@dataclass(frozen=True)
class CostLine:
    """One row of a recipe.

    Attributes:
        counted: of the run that the cost columns are about; disk_bytes and missing are those of
            the row's runs on all data sets together. None where the row cannot be run yet.
        published: the paper's FLOPs, in T, or None.
        difference: of our MACs from these, in percent; None at the tiny scale.
    """

    row: RecipeRow
    counted: plan.RunPlan | None = None
    published: float | None = None
    difference: float | None = None


def cost_lines(recipe: Recipe) -> list[CostLine]:
    """What every row costs, in the order of the table."""
    groups: dict[str, list[plan.RunPlan]] = {row.id: [] for row in recipe.rows}
    for row, _, run in runs.of_recipe(recipe):
        groups[row.id].append(plan.plan(run))
    of_runs = (row for row in recipe.rows if row.difference is None)
    return [_line(recipe, row, groups[row.id]) for row in of_runs]


def _line(recipe: Recipe, row: RecipeRow, counts: Sequence[plan.RunPlan]) -> CostLine:
    if row.planned is not None:
        return CostLine(row)
    counted = replace(
        plan.profile(recipe, row),
        disk_bytes=sum(each.disk_bytes for each in counts),
        missing=list(dict.fromkeys(lack for each in counts for lack in each.missing)),
    )
    known = recipe.table if row.published else None
    paper = published.numbers(known, row.published).get("flops_t") if known else None
    difference = None
    if paper is not None and counted.macs_paper is not None and recipe.scale != "tiny":
        difference = (counted.macs_paper / TERA / paper - 1) * 100
    return CostLine(row, counted, paper, difference)


def write_costs(recipe: Recipe, counted: Sequence[CostLine], folder: Path) -> list[Path]:
    """Write FOLDER/NAME.md and FOLDER/NAME.csv; each is the old file or the new one, never half.

    Raises:
        StoreError: the folder cannot be written.
    """
    written = []
    for ending, text in (("md", to_markdown(recipe, counted)), ("csv", to_csv(counted))):
        path = folder / f"{recipe.name}.{ending}"
        write_whole(path, text.encode(errors="backslashreplace"))
        written.append(path)
    return written


def to_markdown(recipe: Recipe, counted: Sequence[CostLine]) -> str:
    """The table for people, with what its columns mean."""
    from tabulate import tabulate

    table = tabulate(
        [[*map(in_cell, _texts(line))] for line in counted],
        HEADINGS,
        tablefmt="pipe",
        disable_numparse=True,
        colalign=("left",) * 4 + ("right",) * (len(HEADINGS) - 4),
    )
    title = f"# {plain(recipe.title)}: what it costs ({recipe.scale} scale)"
    command = f"Counted, not measured: `skipdit plan {recipe.name} --scale {recipe.scale}`."
    return "\n\n".join((title, table, "\n".join(f"- {text}" for text in LEGEND), command)) + "\n"


def to_csv(counted: Sequence[CostLine]) -> str:
    """The table for programs: counts in full, \\n line ends; what is not known is empty."""
    lines = [["" if value is None else value for value in _values(line)] for line in counted]
    return csv_text([COLUMNS, *lines])


def _values(line: CostLine) -> tuple[object, ...]:
    row, counted = line.row, line.counted
    if counted is None:
        return (row.id, row.label, *[None] * (len(COLUMNS) - 2))
    run = counted.run
    return (
        *(row.id, row.label, run.model, run.cache, run.sampler.name, run.steps, run.guidance),
        *(
            counted.batch,
            row.text_tokens,
            counted.full_steps,
            counted.cached_steps,
            counted.macs_paper,
        ),
        *(line.published, None if line.difference is None else f"{line.difference:.4f}"),
        *(counted.macs_executed, counted.flops),
        None if counted.ideal_speedup is None else f"{counted.ideal_speedup:.4f}",
        counted.disk_bytes,
    )


def _texts(line: CostLine) -> tuple[str, ...]:
    counted = line.counted
    if counted is None:
        return (line.row.label, *[""] * (len(HEADINGS) - 2), line.row.planned or "")
    run, tokens = counted.run, line.row.text_tokens
    batch = f"{counted.batch}, {run.sampled}, "
    batch += "unguided" if run.guidance is None else f"guidance {run.guidance:g}"
    batch += f", {tokens} text tokens" if tokens else ""
    return (
        *(line.row.label, run.model, str(run.cache), batch),
        *(AT_RUN if n is None else str(n) for n in (counted.full_steps, counted.cached_steps)),
        _tera(counted.macs_paper),
        "" if line.published is None else f"{line.published:.2f}",
        "" if line.difference is None else f"{line.difference:+.3f}",
        *(_tera(counted.macs_executed), _tera(counted.flops)),
        AT_RUN if counted.ideal_speedup is None else f"{counted.ideal_speedup:.3f}",
        f"{counted.disk_bytes / 1e9:.2f}",
    )


def _tera(count: int | None) -> str:
    return AT_RUN if count is None else f"{count / TERA:.3f}"
