"""`evaluate` of what other tools made: images and clips in folders, files and npz."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli.cli._output import (
    lacking,
    raise_last,
    say,
    show,
    show_json,
    stage,
    table,
    value_of,
)

if TYPE_CHECKING:
    from skipdit_cli.report.outside import Scored
    from skipdit_cli.score.outside import Outside
    from skipdit_cli.score.scoring import How

NAME = "scores"  # of the files that --out writes, without endings


def evaluate(
    places: Sequence[Path],
    *,
    reference: Path | None,
    prompts: str | None,
    asked: Sequence[str] | None,
    every: bool,
    how: "How",
    root: Path,
    redo: bool,
    out: Path | None,
    json: bool,
) -> None:
    """Score what is in some places, print the scores and write them.

    Args:
        asked: the metrics that were named; None for the usual ones, or with `every` for all.
    """
    from skipdit_cli.recipe.prompts import read_prompts
    from skipdit_cli.score import applicable, outside
    from skipdit_cli.score import redo as again
    from skipdit_cli.score.evaluate import evaluate_outside

    listed = read_prompts(prompts, place="--prompts") if prompts else None
    jobs = []
    for place in dict.fromkeys(places):
        given = outside.taken(place, reference=reference, prompts=listed)
        for name in asked or ():
            applicable.check_outside(name, given, place="--metrics")
        jobs.append((given, asked or _usual(given, every=every)))
    if redo:
        for given, count in again.outside(jobs, root=root):
            say(f"removed {count} scores of {given.samples.path}")
    scored = evaluate_outside(jobs, root=root, how=how, stage=stage)
    if json:
        from skipdit_cli.report.outside import records

        show_json(records(scored.results))
    else:
        _print(scored.results)
    if out is not None and scored.results:
        _write(scored.results, out)
    raise_last([*lacking(result for _, result in scored.results if asked), *scored.errors])


def _usual(given: "Outside", *, every: bool) -> list[str]:
    """The metrics where none are named: with `every` all that fit, else those whose needs are here.

    Raises:
        UsageError: there are none.
    """
    from skipdit_cli.errors import UsageError, warn
    from skipdit_cli.score import applicable

    fitting = applicable.to_outside_now(given)
    if every:
        fitting = applicable.to_outside(given, variants=True)
    if given.reference:
        try:
            given.paired("psnr")
        except UsageError as error:
            if not fitting:
                raise
            warn(f"no pairs are scored: {error.problem}", place=error.place, fix=error.fix)
    if not fitting:
        fix = "give what they are compared with, --reference, or name --metrics"
        problem = "no metric can score them by themselves"
        raise UsageError(problem, place=str(given.samples.path), fix=fix)
    return fitting


def _print(results: "Scored") -> None:
    """A line per score; what all are compared with, and why there is no number, stand below."""
    from skipdit_cli.report.cells import within
    from skipdit_cli.report.outside import compared

    several = len({given.samples.path for given, _ in results}) > 1
    notes: dict[str, int] = {}
    rows = []
    for given, result in results:
        value, ends = value_of(result, notes), within(result.interval)
        place = (str(given.samples.path),) if several else ()
        rows.append((*place, result.metric, value, ends, str(result.n), result.protocol))
    if rows:
        heads = ("samples",) if several else ()
        show(table((*heads, "metric", "value", "95 % interval", "n", "protocol"), rows))
    for note in compared(results):
        show(note)
    for note, number in notes.items():
        show(f"[{number}] {note}")


def _write(results: "Scored", folder: Path) -> None:
    import json

    from skipdit_cli import report
    from skipdit_cli.report import page
    from skipdit_cli.report.outside import build_outside_table, groups, records
    from skipdit_cli.storage.disk import write_whole

    built = build_outside_table(results)
    paths = report.write_table(built, folder, name=NAME)
    for ending, text in (
        ("json", json.dumps(records(results), indent=1, allow_nan=False)),
        ("html", page.of_samples(built, groups(results))),
    ):
        paths.append(folder / f"{NAME}.{ending}")
        write_whole(paths[-1], text.encode(errors="backslashreplace"))
    for path in paths:
        say(f"wrote {path}")
