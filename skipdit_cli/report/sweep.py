"""The table of a cache sweep: one line per run, what it costs and what it keeps."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.report.table import (
    DRY,
    Cell,
    Heading,
    Line,
    Table,
    by_batch,
    commands,
    count_unit,
    decimals,
    dry_run,
    is_dry,
    is_reference,
    known_to,
    margins,
    of_methods,
    one_protocol,
    protocols,
    scaled,
    score_status,
    summary,
    windows,
)

if TYPE_CHECKING:
    from skipdit_cli.score.sweep import SweepRow

PAIRS = ("psnr", "ssim")  # their columns come first
EMBEDDED = "Embedded model: compare the lines with one another, not with the paper."


def build_sweep_table(
    rows: "Sequence[SweepRow]", *, title: str = "", metrics: Sequence[str] = ()
) -> Table:
    """The table of a sweep; the uncached reference is one of its rows.

    Args:
        title: instead of what all runs share.
        metrics: what the runs were to be scored by; each has a column, even if all runs failed.
    """
    headings = _headings(rows, metrics)
    several = len({row.run.model for row in rows}) > 1
    embedded = any(row.run.card.embedded for row in rows)
    idle = [
        row.label for row in rows if row.run.cache.method.DYNAMIC and row.plan_row.cached_steps == 0
    ]
    notes = (
        *dry_run(row.run for row in rows),
        *([EMBEDDED] if embedded else []),
        *(f"{label} skipped nothing; a higher threshold skips more." for label in idle),
        *by_batch(row.run for row in rows),
        *windows(row.run for row in rows),
        *of_methods(row.run for row in rows),
    )
    facts = [result.provenance for row in rows for result in row.results.values()]
    lines = one_protocol(_line(row, headings, several=several) for row in rows)
    return Table(
        title=title or _title(rows),
        names=("model", "cache", "window", "full", "cached"),
        headings=headings,
        lines=lines,
        published=False,
        notes=(*notes, *protocols(headings, lines), *margins(lines)),
        provenance=summary(facts),
        command=commands(facts),
    )


def _title(rows: "Sequence[SweepRow]") -> str:
    """What all runs share: `moving-digits-skip: 16 samples, ddim 50, guidance 2, seed 0`.

    Where they were timed, how many samples at once: that need not be how they were made.
    """
    if not rows:
        return "cache sweep"
    run = rows[0].run
    guidance = "" if run.guidance is None else f", guidance {run.guidance:g}"
    models = ", ".join(dict.fromkeys(row.run.label for row in rows))
    how = f"{run.num_samples} samples, {run.sampler.name} {run.steps}{guidance}, seed {run.seed}"
    how += ", compiled" if run.compile else ""
    timed_rows = [row for row in rows if "latency" in row.results]
    batches = sorted({row.timed_batch or row.run.batch_size for row in timed_rows})
    timed = f"; latency of batch {', '.join(map(str, batches))}" if batches else ""
    return f"{models}: {how}{timed}"


def _headings(rows: "Sequence[SweepRow]", metrics: Sequence[str]) -> tuple[Heading, ...]:
    planned = [row.plan_row for row in rows]
    macs = count_unit([row.macs_paper for row in planned if row.macs_paper is not None])
    flops = count_unit([row.flops for row in planned if row.flops is not None])
    measured = {metric for row in rows for metric in row.results}
    scored = {*metrics, *(metric for metric in measured if registry.known("metrics", metric))}
    ordered = sorted(scored, key=lambda metric: (metric not in PAIRS, metric))
    return (
        Heading(f"macs_{macs.lower()}", "macs", "MACs", macs),
        Heading(f"flops_{flops.lower()}", "flops", "FLOPs", flops),
        Heading("ideal", "ideal", "ideal speedup"),
        Heading("speedup", "speedup", "speedup", better="higher"),
        Heading("latency_s", "latency", "latency", "s", "lower", decimals("latency")),
        Heading("memory_mib", "memory", "memory", "MiB", "", decimals("memory")),
        *([Heading("compile_s", "compile", "compiling", "s")] if "compile" in measured else []),
        *(_metric_heading(metric) for metric in ordered),
    )


def _metric_heading(metric: str) -> Heading:
    module = registry.load("metrics", metric)
    return Heading(metric, metric, module.LABEL, module.UNIT, module.BETTER, decimals(metric))


def _line(row: "SweepRow", headings: Sequence[Heading], *, several: bool) -> Line:
    counts = (row.plan_row.full_steps, row.plan_row.cached_steps)
    steps = tuple("" if count is None else str(count) for count in counts)
    cells = tuple(_cell(row, heading) for heading in headings)
    shown = row.run.cache.span
    name = row.run.cache.name
    interval = re.search(r" ((?:n|threshold)=\S+)", row.label)
    method = row.label.replace(interval[0], "") if interval else name
    series = f"{method}, window {shown}" if shown else method
    return Line(
        names=(row.run.label, row.label, shown, *steps),
        cells=cells,
        runs=(row.run.key,),
        series=f"{row.run.model} {series}" if several else series,
        point=interval[1] if interval else row.label,
        reference=row.run.is_reference,
    )


def _cell(row: "SweepRow", heading: Heading) -> Cell:
    done = "tiny scale" if row.run.card.embedded else "measured"
    counted = {"macs": "macs_paper", "flops": "flops", "ideal": "ideal_speedup"}.get(heading.metric)
    if counted:
        count = getattr(row.plan_row, counted)
        if count is None:
            return Cell(status="not run", note=row.failure)
        return Cell(ours=scaled(count, heading.unit), status=done)
    result = row.results.get(heading.metric)
    if result is None and row.failure:
        return Cell(status="failed", note=row.failure)
    if result is None and is_reference(row.run, heading.metric):
        return Cell(status="reference")
    if result is None or result.value is None:
        status = score_status(result)
        return Cell(status=status, note=result.note if result and status != "reference" else "")
    return Cell(
        ours=scaled(result.value, heading.unit, result.unit),
        **known_to(result, heading.unit),
        n=result.n,
        status=DRY if is_dry(row.run, heading.metric) else done,
        protocol=result.protocol,
    )
