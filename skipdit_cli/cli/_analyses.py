"""What the commands of `skipdit analyze` share: their options, and what they leave behind."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _engines as engines
from skipdit_cli.cli import _options as options
from skipdit_cli.cli._output import say, show, show_json, stage, table

if TYPE_CHECKING:
    from skipdit_cli.generate.options import Options
    from skipdit_cli.run import Run
    from skipdit_cli.storage.analysis import Analysis

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="A model, or the folder of one of your own; may be repeated, and the models are then "
        "put beside one another.",
        autocompletion=complete.models,
    ),
]


def runs_of(
    models: list[str] | None, weights: str | None, *, pipeline: str | None = None, **given: Any
) -> "list[Run]":
    """The uncached run of every model.

    Args:
        models: as `--model` gives them; by default the embedded one.
        pipeline: in place of them.
        weights: as `--weights` gives them.
        given: what the options of a generation hold, by setting; None is not given.
    Raises:
        UsageError: a setting does not fit a model, a model is named twice, or a file of weights is
            given for several.
    """
    from skipdit_cli.errors import UsageError

    asked: list[str | None] = [*models] if models else [None]
    names = [options.model_at(name, "auto", pipeline) for name in asked]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{twice[0]} is named twice", place="--model", fix="name it once")
    path = options.weights_file(weights)
    if path and len(names) > 1:
        fix = "analyse one model, or leave it out"
        raise UsageError("a file is of one model", place="--weights", fix=fix)
    settings = options.settings(**given, weights=weights)
    return [
        options.runs(name, ["none"], settings, weights_path=path)[0].reference for name in names
    ]


def how(
    results: Path,
    *,
    device: str,
    engine: str | None = None,
    workers: int | None = None,
    slurm: list[str] | None = None,
    weights: str | None = None,
    figure: str | None = None,
    width: str | None = None,
) -> "Options":
    """Where an analysis runs.

    Raises:
        UsageError: there is no such place, or no such figure, which is told before all the work.
    """
    from skipdit_cli.generate.options import Options
    from skipdit_cli.report import figures
    from skipdit_cli.storage.disk import check_writable

    figures.wanted(figure, width)
    used, where = engines.chosen(engine, device, workers=workers, root=results, slurm=slurm)
    check_writable(results)
    path = options.weights_file(weights)
    return Options(root=results, device=used, stage=stage, engine=where, weights_path=path)


def finish(
    found: "Sequence[Analysis]",
    results: Path,
    *,
    figure: str | None = None,
    width: str | None = None,
    json: bool = False,
) -> None:
    """Write analyses and their figures, print what they found, and say where it is."""
    from skipdit_cli.checkpoints.card import DRY_RUN
    from skipdit_cli.report import analysis as report
    from skipdit_cli.report import figures

    wanted, content = figures.wanted(figure, width), []
    for each in found:
        paths = report.publish(each, results, figures=wanted)
        headings, rows = report.rows(each)
        content.append({**vars(each), "panels": [vars(panel) for panel in each.panels]})
        if not json:
            show(f"{each.kind} of {' and '.join(each.models)}\n")
            show(table(headings, rows))
            show("".join(f"\n{note}" for note in each.notes))
        for path in paths:
            say(f"wrote {path}")
        if each.dry:
            say(DRY_RUN)
    if json:
        show_json(content if len(content) > 1 else content[0])
