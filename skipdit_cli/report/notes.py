"""Notes: what stands below a table of its numbers, each a sentence that is left out where it does
not apply."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.cache import NONE
from skipdit_cli.checkpoints.card import DRY_RUN
from skipdit_cli.errors import shortened
from skipdit_cli.profiling.traced import PROMPT
from skipdit_cli.report.ranks import probability
from skipdit_cli.report.table import DRY, Cell, Heading, Line, counts_of, protocols_of
from skipdit_cli.score.certainty import SURE, holm

if TYPE_CHECKING:
    from skipdit_cli.run import Run
    from skipdit_cli.storage.results import Result

MARGIN = (
    "half the width of the 95 % interval, of a mean over samples by bootstrap, of a timing's "
    "median over its repetitions (of fewer than six, half their range)"
)


def protocols(headings: Sequence[Heading], lines: Sequence[Line]) -> tuple[str, ...]:
    """One note that tells the protocol of every column that has one; none if none has."""
    labels_by_protocol: dict[str, list[str]] = {}
    for i, heading in enumerate(headings):
        for protocol in protocols_of(lines, i):
            labels_by_protocol.setdefault(protocol, []).append(heading.label)
    said = "; ".join(
        f"{', '.join(labels)}: {protocol}" for protocol, labels in labels_by_protocol.items()
    )
    return (f"Protocols: {said}.",) if said else ()


def by_batch(runs: Iterable["Run"]) -> tuple[str, ...]:
    """One note that names the methods whose samples depend on their batch; none if none does."""
    deciding = [run for run in runs if run.cache.method.BY_BATCH and run.batch_size > 1]
    names = ", ".join(dict.fromkeys(run.cache.name for run in deciding))
    note = (
        f"Decided for a whole batch, so that a sample depends on the others of its batch: {names}."
    )
    return (note,) if names else ()


def dry_run(runs: Iterable["Run"]) -> tuple[str, ...]:
    """One note that says that weights are random; none if none are."""
    drawn = [run for run in runs if run.card.random]
    if not drawn:
        return ()
    dynamic = ", ".join(dict.fromkeys(run.cache.name for run in drawn if run.cache.method.DYNAMIC))
    note = f"{DRY_RUN[0].upper()}{DRY_RUN[1:]}. What is counted or timed does not depend on weights"
    return (note + (f", but for what {dynamic} skips." if dynamic else "."),)


def windows(runs: Iterable["Run"]) -> tuple[str, ...]:
    """One note that tells the window of every method, where cached runs have different ones."""
    methods: dict[str, dict[str, None]] = {}
    for run in runs:
        if run.cache.name != NONE:
            methods.setdefault(run.cache.span, {})[run.cache.name] = None
    if len(methods) < 2:
        return ()
    said = "; ".join(f"{window} of {', '.join(names)}" for window, names in methods.items())
    return (f"Windows differ, so that the same n does not save the same: {said}.",)


def counted(runs: Iterable["Run"]) -> tuple[str, ...]:
    """One note that tells the prompt that was counted, where its length counts."""
    prompts = {str(run.counted.arguments[PROMPT][0]) for run in runs if run.counted is not run.card}
    if not prompts:
        return ()
    said = " and ".join(f'"{shortened(text)}"' for text in sorted(prompts))
    return (f"As many tokens as a prompt has are computed: counted with {said}.",)


def series(timed: Iterable[tuple[str, "Result"]]) -> tuple[str, ...]:
    """One note that names the series of timings; none if nothing was timed in one.

    Args:
        timed: what a line is called, and a timing of it.
    """
    by_reference: dict[str | None, dict[str, list[str]]] = {}
    for label, result in timed:
        if result.series:
            group = by_reference.setdefault(result.reference, {})
            group.setdefault(result.series, []).append(label)
    mixed = [group for group in by_reference.values() if len(group) > 1]
    names = dict.fromkeys(name for group in by_reference.values() for name in group)
    if not mixed:
        return (f"Timings: series {', '.join(names)}.",) if names else ()
    said = "; ".join(
        f"{name} of {', '.join(dict.fromkeys(labels))}"
        for group in mixed
        for name, labels in group.items()
    )
    return (f"Timings compare within a series, and these are of several: {said}.",)


def of_methods(runs: Iterable["Run"]) -> tuple[str, ...]:
    """What methods say of themselves, also with the sampler of the runs, each once."""
    said: dict[str, None] = {}
    for run in runs:
        beside = f"{run.cache.name} with {run.sampler.name}: {run.caution}."
        said |= dict.fromkeys([run.cache.note, beside if run.caution else ""])
    return tuple(filter(None, said))


def beaten(pairs: Iterable[tuple[str, Heading, Cell, Cell]]) -> tuple[str, ...]:
    """One note that names what is worse than an uncached run of equal cost; none if nothing is.

    Args:
        pairs: what a line is called, its column, its number, and that of the uncached run.
    """
    worse: list[tuple[str, str, float]] = []
    for label, heading, ours, theirs in pairs:
        if not heading.better or not registry.known("metrics", heading.metric):
            continue
        if ours.ours is None or theirs.ours is None or DRY in (ours.status, theirs.status):
            continue
        sign = 1 if heading.better == "higher" else -1
        if sign * (theirs.ours - ours.ours) > 0:
            worse.append((label, heading.label, probability(ours, theirs)))
    adjusted = holm([p for *_, p in worse])
    told: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
    for (label, metric, _), p in zip(worse, adjusted, strict=True):
        told[p < SURE].setdefault(label, []).append(metric)
    sure, unsure = (
        ", ".join(f"{label} ({', '.join(metrics)})" for label, metrics in told[each].items())
        for each in (True, False)
    )
    said = [f"than {sure}" if sure else "", f"by its mean alone than {unsure}" if unsure else ""]
    text = "; ".join(filter(None, said))
    return (f"At equal cost an uncached run of fewer steps is better {text}.",) if text else ()


def sizes(
    headings: Sequence[Heading], lines: Sequence[Line], *, each: bool = False
) -> tuple[str, ...]:
    """What is the same for many numbers: how many samples they are of, and what they are known to.

    Two notes: the number of samples, where all scores have the same; and the largest margin of
    every column that has margins, or what a margin is where each number has its own.
    """
    counts, largest = counts_of(lines), []
    for i, heading in enumerate(headings):
        known = [m for line in lines if (m := line.cells[i].margin) is not None]
        if any(known):
            unit = f" {heading.unit}" if heading.unit else ""
            largest.append(f"{heading.label} {max(known):.2g}{unit}")
    samples = f"Every score is of {counts[0]} samples." if len(counts) == 1 else ""
    if each:
        return tuple(filter(None, (samples, *margins(lines))))
    said = f"Largest margin of error of a column: {', '.join(largest)}; that is {MARGIN}."
    return tuple(filter(None, (samples, said if largest else "")))


def margins(lines: Iterable[Line]) -> tuple[str, ...]:
    """One note that says what stands behind ±; none if nothing does."""
    any_known = any(cell.margin is not None for line in lines for cell in line.cells)
    return (f"± is the margin of error: {MARGIN}.",) if any_known else ()
