"""skipdit status"""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _estimate as estimates
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import show, show_json, table
from skipdit_cli.cli._pace import Pace, span
from skipdit_cli.cli._studies import called_after, is_there
from skipdit_cli.errors import several

if TYPE_CHECKING:
    from skipdit_cli.score.status import RunStatus, Status

HEADINGS = ("key", "model", "run", "window", "samples", "scores", "state")


@app.command()
def status(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE|STUDY]",
            help="A recipe (`skipdit ls recipes`) or a YAML file; or a study (`skipdit ls "
            "studies`); else all studies and other runs of the results folder.",
            autocompletion=complete.reported,
        ),
    ] = None,
    recipe: options.Recipe = None,
    scale: options.Scale = "auto",
    results: options.Root = "results",  # type: ignore[assignment]
    override: options.Override = None,
    gpu: options.Gpu = None,
    workers: options.Gpus = 1,
    json: options.Json = False,
) -> None:
    """Tell what is done, in progress, failed and left, from any machine that sees the folder.

    Nothing is written and nobody is held up. A run is "running" where this machine sees its process
    at work; "held" is by a process on another machine, of which the last sign of life is told.
    Hours are counted as `skipdit plan` counts them, by what was measured on this machine or is
    assumed of --gpu; of a run in progress the pace of its own files is told besides.

    Exit code 0: all is done. 1: something failed and nobody is at it again. 3: something is left.
    """
    from skipdit_cli.plan.tables import REPEATS
    from skipdit_cli.recipe.recipe import is_name, names
    from skipdit_cli.score import status as progress
    from skipdit_cli.score import study as studies

    if target and recipe is None:
        target = called_after(results, target)
    if recipe or (target and (is_name(target) or is_there(target))):
        named = options.recipe_named(target, recipe)
        asked = options.recipe_at(str(named), scale, override)
        found, place = progress.of_recipe(asked, results), f"{asked.name} in {results}"
    else:
        given = {"set": override, "scale": scale != "auto"}
        options.refuse(given, "is for recipes", place="skipdit status")
        place = f"study {target} in {results}" if target else str(results)
        if target:
            study = studies.named(results, target, others=names(), place="skipdit status")
            found = progress.of_study(study, results)
        else:
            found = progress.of_folder(results)
    left = None
    if found.jobs:
        left = estimates.told(
            found.jobs, gpu, root=results, timed=found.to_time, repeats=REPEATS, gpus=workers
        )
    now = time.time()
    if json:
        runs = [_content(run, now) for run in found.runs]
        show_json({**found.content, "runs": runs, "left": left and left.content})
    elif found.runs:
        show(table(HEADINGS, [_cells(run) for run in found.runs]))
        show("\n" + "\n".join(_lines(found, left, now)))
    progress.require(found, place=place)


def _cells(run: "RunStatus") -> tuple[str, ...]:
    from skipdit_cli.storage.shelf import SHORT

    asked = len(run.scored) + len(run.lacking)
    return (
        *(run.key[:SHORT], run.model, run.label, run.window),
        f"{run.finished} / {'?' if run.wanted is None else run.wanted}",
        f"{len(run.scored)} / {asked}",
        run.state,
    )


def _lines(found: "Status", left: "estimates.Told | None", now: float) -> list[str]:
    """What is told under the table: who works on what, what failed, what is left."""
    from skipdit_cli.storage.shelf import SHORT

    lines = [f"{run.key[:SHORT]}: {_at_work(run, now)}" for run in found.runs if run.holder]
    for run in found.of("failed"):
        lines += [f"{run.key[:SHORT]}: {what} failed: {why}" for what, why in run.failed.items()]
    lines += [f"{key[:SHORT]}: timing failed: {why}" for key, why in found.timing_failed.items()]
    lines.append(", ".join(f"{count} {state}" for state, count in found.counts.items()))
    if found.timed:
        lines[-1] += f"; {len(found.timed) - len(found.to_time)} of {len(found.timed)} loops timed"
    if found.unknown:
        count = len(found.unknown)
        lines.append(
            f"no hours are counted of {several(count, 'run')} that this code would make otherwise"
        )
    if left and not found.done:
        lines += [*(left.hours() or [left.unknown()]), *left.scoring()]
    return lines


def _at_work(run: "RunStatus", now: float) -> str:
    """Who works on a run, since when, and how long by the pace of its files."""
    told = f"{run.holder}"
    if run.holder and run.holder.since:
        told += f" since {run.holder.since:%Y-%m-%d %H:%M} UTC"
    if run.state == "held" and run.touched is not None:
        told += f", last sign of life {span(max(0.0, now - run.touched))} ago"
    seconds = _pace(run, now)
    return told if seconds is None else f"{told}, {span(seconds)} left by the pace of its files"


def _pace(run: "RunStatus", now: float) -> float | None:
    """Seconds that a run will go on by the times of its files; None before its second batch."""
    clock = [0.0]
    pace = Pace(clock=lambda: clock[0])
    before = run.finished - len(run.written)
    for done, moment in enumerate(run.written, 1):
        clock[0] = moment
        if done % run.batch_size == 0:
            pace.left(before + done, run.wanted or 0)
    clock[0] = max(now, *run.written[-1:], 0.0)
    return pace.seconds(
        before + len(run.written) // run.batch_size * run.batch_size, run.wanted or 0
    )


def _content(run: "RunStatus", now: float) -> dict[str, Any]:
    """A run for programs; times are in seconds."""
    holder = run.holder
    return {
        "key": run.key,
        "model": run.model,
        "run": run.label,
        "window": run.window,
        "samples": run.finished,
        "wanted": run.wanted,
        "scored": list(run.scored),
        "lacking": list(run.lacking),
        "state": run.state,
        "failed": dict(run.failed),
        "holder": holder
        and {
            "pid": holder.pid,
            "host": holder.host,
            "since": holder.since and holder.since.isoformat(),
        },
        "last_sign": None if run.touched is None else now - run.touched,
        "seconds_left": _pace(run, now),
    }
