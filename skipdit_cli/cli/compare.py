"""skipdit compare"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import _studies as studies
from skipdit_cli.cli import app
from skipdit_cli.cli._output import show, show_json, stage, table

if TYPE_CHECKING:
    from skipdit_cli.score.paired import Comparison


@app.command()
def compare(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="A B [C ...]",
            help="Runs, by key, its beginning, or cache spec; or two results folders.",
            autocompletion=complete.runs,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Metrics that score samples one by one, comma-separated; else psnr and ssim, and "
            "of two folders all that are scored.",
            autocompletion=complete.metrics,
        ),
    ] = None,
    model: options.Model = None,
    study: options.InStudy = None,
    results: options.Root = "results",  # type: ignore[assignment]
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Tell which of several runs is better, by how much and how sure, sample by sample.

    Samples of one seed and index begin with the same noise, so that runs are compared in pairs: the
    mean difference, its 95 % bootstrap interval, the p of a two-sided sign-flip test, and the same
    adjusted for all lines of the table (Holm). What is not scored yet is scored first.
    """
    from skipdit_cli.errors import UsageError
    from skipdit_cli.recipe.runs import find_run
    from skipdit_cli.score.measure import How, measure
    from skipdit_cli.score.paired import METRICS, beside, compare, compare_folders
    from skipdit_cli.storage import shelf

    names = None if metric is None else [name.strip() for name in metric.split(",")]
    targets = targets or []
    folders = [Path(target) for target in targets if Path(target).is_dir()]
    gone = [target for target in targets if folders and not Path(target).is_dir()]
    if gone:
        raise UsageError(f"{gone[0]} is no folder", place="skipdit compare", fix="name two folders")
    few = len(targets) < 2 and not (study and not targets)
    if few or (folders and (len(targets), len(folders)) != (2, 2)):
        fix = "name two runs or more, or two results folders"
        raise UsageError("there is nothing to compare with", place="skipdit compare", fix=fix)
    if folders:
        _print(compare_folders(folders[0], folders[1], names or ()), json=json)
        return
    here = [run for run in shelf.shelf(results) if options.is_of(model, run.model)]
    meant = studies.meant(targets, here, root=results, study=study)
    chosen = beside([find_run(results, run.key) for run in meant])
    if not targets:  # what all are compared with is none of them
        references = {run.reference.key for run in chosen}
        chosen = [run for run in chosen if run.key not in references]
    if len(chosen) < 2:
        problem = "all of them are one run" if targets else "there is one run beside the reference"
        fix = "name two that differ" if targets else "name the runs"
        raise UsageError(problem, place="skipdit compare", fix=fix)
    how = How(device=options.device_name(device))
    with stage(f"scoring {len(chosen)} runs") as update:
        compared = compare(
            chosen,
            names or METRICS,
            lambda run, name: measure(run, name, root=results, how=how, progress=update),
        )
    _print(compared, json=json)


def _print(compared: "list[Comparison]", *, json: bool) -> None:
    if json:
        show_json([vars(each) | {"difference": vars(each.difference)} for each in compared])
        return
    from skipdit_cli.report.cells import within

    headings = ("metric", "A", "B", "mean A", "mean B", "A - B", "95 % interval", "p", "p (Holm)")
    rows = []
    for each in compared:
        difference, unit = each.difference, f" {each.unit}" if each.unit else ""
        rows.append(
            (
                *(each.metric, each.first, each.second),
                *(f"{mean:.5g}" for mean in each.means),
                f"{difference.mean:+.4g}{unit}",
                within(difference.interval, "+.4g"),
                *(_probability(p) for p in (difference.p, each.p_holm)),
                str(difference.n),
                {"first": "A", "second": "B", "": "cannot be told"}[each.better],
            )
        )
    show(table((*headings, "n", "better"), rows))


def _probability(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"
