"""skipdit report training: training runs beside one another."""

from pathlib import Path
from typing import Annotated, Any

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _options as options
from skipdit_cli.cli._output import say, show, show_json
from skipdit_cli.cli.report import TRAINING, reports


@reports.command(TRAINING)
def training(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN [RUN]...",
            help="Folders of trainings, as results/train/NAME.",
            autocompletion=complete.trainings,
        ),
    ],
    metric: Annotated[
        str | None,
        typer.Option(
            help="What is drawn against steps; else the one metric that all were scored by.",
            autocompletion=complete.metrics,
        ),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="Also the curves of the paper, compared the same way.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the table and the figures.")] = Path(
        "results/training"
    ),
    figure: options.Figure = None,
    width: options.FigureWidth = None,
    json: options.Json = False,
) -> None:
    """Draw scores and losses of training runs against steps, and count steps to equal quality.

    Runs that differ in their seed alone are one line: the mean, and its 95 % interval. The ratio is
    of the step of the best score of one run over the step at which the other is as good; the first
    is the one without skip branches, else the one that is named first.
    """
    from skipdit_cli.report import figures, training_figure, training_told
    from skipdit_cli.report import training as report
    from skipdit_cli.storage.disk import write_whole

    wanted = figures.wanted(figure, width)
    compared = {TRAINING: report.compare(runs, metric)}
    if paper:
        compared[f"{TRAINING}-published"] = report.of_paper()
    paths: list[Path] = []
    for name, found in compared.items():
        for end, text in (
            ("md", training_told.to_markdown(found)),
            ("csv", training_told.to_csv(found)),
        ):
            paths.append(out / f"{name}.{end}")
            write_whole(paths[-1], text.encode())
        paths += training_figure.write(found, out, name=name, figures=wanted)
    if json:
        content: dict[str, Any] = training_told.record(compared[TRAINING])
        if paper:
            content["published"] = training_told.record(compared[f"{TRAINING}-published"])
        show_json({**content, "files": [str(path) for path in paths]})
        return
    show("\n".join(training_told.to_markdown(found) for found in compared.values()).rstrip("\n"))
    for path in paths:
        say(f"wrote {path}")
