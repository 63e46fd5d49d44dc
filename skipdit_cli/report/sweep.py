"""The table of a cache sweep: one line per run, what it costs and what it keeps."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.cache import NONE
from skipdit_cli.plan import fewer
from skipdit_cli.report import notes
from skipdit_cli.report.table import (
    DRY,
    FEWER,
    Cell,
    Heading,
    Line,
    Table,
    commands,
    count_unit,
    decimals,
    in_order,
    is_dry,
    is_reference,
    known_to,
    metric_heading,
    one_protocol,
    scaled,
    score_status,
    summary,
)
from skipdit_cli.score.labels import about

if TYPE_CHECKING:
    from skipdit_cli.score.sweep import SweepRow

EACH = "latency_per_sample_s"  # seconds, of a batch that is timed over its samples
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
    lines = one_protocol(_line(row, headings, several=several) for row in rows)
    embedded = any(row.run.card.embedded for row in rows)
    idle = [
        row.label for row in rows if row.run.cache.method.DYNAMIC and row.plan_row.cached_steps == 0
    ]
    said = (
        *notes.dry_run(row.run for row in rows),
        *([EMBEDDED] if embedded else []),
        *(f"{label} skipped nothing; a higher threshold skips more." for label in idle),
        *notes.by_batch(row.run for row in rows),
        *notes.windows(row.run for row in rows),
        *notes.counted(row.run for row in rows),
        *notes.of_methods(row.run for row in rows),
        *_beaten(rows, headings, lines),
        *notes.series(
            (row.label, row.results["latency"]) for row in rows if "latency" in row.results
        ),
    )
    facts = [result.provenance for row in rows for result in row.results.values()]
    return Table(
        title=title or _title(rows),
        names=("model", "cache", "window", "full", "cached"),
        headings=headings,
        lines=lines,
        published=False,
        notes=(*said, *notes.protocols(headings, lines), *notes.margins(lines)),
        provenance=summary(facts),
        command=commands(facts),
    )


def _beaten(
    rows: "Sequence[SweepRow]", headings: Sequence[Heading], lines: Sequence[Line]
) -> tuple[str, ...]:
    """The note that names the caches that lose to the uncached run of equal cost, or none."""
    found: dict[tuple[str, int | None], Line] = {
        (row.run.reference.key, row.plan_row.steps): line
        for row, line in zip(rows, lines, strict=True)
        if line.fewer
    }
    cached = zip(rows, lines, strict=True) if found else ()
    beside = [
        (row.label, line, found.get((row.run.reference.key, fewer.count(row.plan_row))))
        for row, line in cached
        if row.run.cache.name != NONE
    ]
    return notes.beaten(
        (label, *numbers)
        for label, line, other in beside
        for numbers in (zip(headings, line.cells, other.cells, strict=True) if other else ())
    )


def _title(rows: "Sequence[SweepRow]") -> str:
    """What all runs share: `moving-digits-skip: 16 samples, ddim 50, guidance 2, seed 0`."""
    if not rows:
        return "cache sweep"
    models = ", ".join(dict.fromkeys(row.run.label for row in rows))
    return f"{models}: {about([row.run for row in rows])}"


def _headings(rows: "Sequence[SweepRow]", metrics: Sequence[str]) -> tuple[Heading, ...]:
    planned = [row.plan_row for row in rows]
    macs = count_unit([row.macs_paper for row in planned if row.macs_paper is not None])
    flops = count_unit([row.flops for row in planned if row.flops is not None])
    measured = {metric for row in rows for metric in row.results}
    scored = {*metrics, *(metric for metric in measured if registry.known("metrics", metric))}
    batches = sorted({_batch(row) for row in rows if "latency" in row.results})
    timed = f"latency of batch {' or '.join(map(str, batches))}" if batches else "latency"
    each = Heading(EACH, "latency", "latency per sample", "s", "lower", decimals("latency"))
    return (
        Heading(f"macs_{macs.lower()}", "macs", "MACs", macs),
        Heading(f"flops_{flops.lower()}", "flops", "FLOPs", flops),
        Heading("ideal", "ideal", "ideal speedup"),
        Heading("speedup", "speedup", "speedup", better="higher"),
        Heading("latency_s", "latency", timed, "s", "lower", decimals("latency")),
        *([each] if any(batch > 1 for batch in batches) else []),
        Heading("memory_mib", "memory", "memory", "MiB", "", decimals("memory")),
        *([Heading("compile_s", "compile", "compiling", "s")] if "compile" in measured else []),
        *(metric_heading(metric) for metric in in_order(scored)),
    )


def _line(row: "SweepRow", headings: Sequence[Heading], *, several: bool) -> Line:
    counts = (row.plan_row.full_steps, row.plan_row.cached_steps)
    steps = tuple("" if count is None else str(count) for count in counts)
    cells = tuple(_cell(row, heading) for heading in headings)
    shown = row.run.cache.span
    name = row.run.cache.name
    is_fewer = row.run.cache.name == NONE and not row.run.is_reference
    interval = re.search(r" ((?:n|full|threshold)=\S+|\d+ steps)", row.label)
    method = row.label.replace(interval[0], "") if interval else name
    line = FEWER if is_fewer else f"{method}, window {shown}" if shown else method
    return Line(
        names=(row.run.label, row.label, shown, *steps),
        cells=cells,
        runs=(row.run.key,),
        series=f"{row.run.model} {line}" if several else line,
        point=interval[1] if interval else row.label,
        reference=row.run.is_reference,
        fewer=is_fewer,
        spec=row.run.cache.short,
    )


def _batch(row: "SweepRow") -> int:
    """How many samples its latency is of."""
    return row.timed_batch or row.run.batch_size


def _cell(row: "SweepRow", heading: Heading) -> Cell:
    done = "tiny scale" if row.run.card.embedded else "measured"
    counted = {"macs": "macs_paper", "flops": "flops", "ideal": "ideal_speedup"}.get(heading.metric)
    if counted:
        count = getattr(row.plan_row, counted)
        if count is None:
            return Cell(status="not run", note=row.failure)
        return Cell(ours=scaled(count, heading.unit), status=done)
    per = _batch(row) if heading.key == EACH else 1
    result = row.results.get(heading.metric)
    if result is None and row.failure:
        return Cell(status="failed", note=row.failure)
    if result is None and is_reference(row.run, heading.metric):
        return Cell(status="reference")
    if result is None or result.value is None:
        status = score_status(result)
        return Cell(status=status, note=result.note if result and status != "reference" else "")
    scored = registry.known("metrics", heading.metric)
    part = scored and result.n != row.run.num_samples
    return Cell(
        note=f"of {result.n} samples, and the run has {row.run.num_samples}" if part else "",
        ours=scaled(result.value, heading.unit, result.unit) / per,
        **known_to(result, heading.unit, per=per),
        n=result.n,
        status=DRY if is_dry(row.run, heading.metric) else done,
        protocol=result.protocol,
    )
