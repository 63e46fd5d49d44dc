"""skipdit train"""

import math
from pathlib import Path
from typing import Annotated

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import show, stage
from skipdit_cli.train.settings import TrainingSettings

PARTS = {"classifier": "the classifier", "text": "the text encoders"}


@app.command()
def train(
    model: Annotated[
        str, typer.Option(help="An embedded model, or classifier, or text (the encoders).")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the result; else results/train/MODEL.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="The vanilla model that a skip model starts from, or --model itself."),
    ] = None,
    skip_steps: Annotated[
        int, typer.Option(min=0, help="Steps of the first stage: the skip branches alone.")
    ] = TrainingSettings.skip_steps,
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of training everything.")
    ] = TrainingSettings.steps,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Samples per step.")
    ] = TrainingSettings.batch_size,
    learning_rate: Annotated[
        float, typer.Option(help="Peak learning rate.")
    ] = TrainingSettings.learning_rate,
    noisy_weight: Annotated[
        float,
        typer.Option(min=1, help="The most that an error counts where there is little signal."),
    ] = TrainingSettings.noisy_weight,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Seed of data, noise and initial weights.")
    ] = TrainingSettings.seed,
    device: options.Device = "auto",
) -> None:
    """Train an embedded model on digits that scikit-learn ships; a killed run continues.

    A skip model is trained in two stages, as in the paper: its skip branches, then everything.
    """
    from skipdit_cli.checkpoints.catalog import CARDS
    from skipdit_cli.errors import UsageError, unknown
    from skipdit_cli.storage.disk import check_writable
    from skipdit_cli.storage.provenance import collect
    from skipdit_cli.train import data

    if not 0 < learning_rate < math.inf:
        raise UsageError(
            f"{learning_rate} is not a learning rate",
            place="--learning-rate",
            fix="give a number above 0",
        )
    folder = out or Path("results/train") / model
    command = collect()["command"]
    if model in PARTS:
        from skipdit_cli.train.classifier import train_classifier
        from skipdit_cli.train.text import train_text

        if model == "classifier":
            data.require()
        check_writable(folder)
        train_part = {"classifier": train_classifier, "text": train_text}[model]
        with stage(f"training {PARTS[model]}") as update:
            accuracy = train_part(
                folder,
                steps=steps,
                seed=seed,
                command=command,
                progress=lambda step, loss: update(step, steps),
            )
        show(f"{PARTS[model]}: accuracy {accuracy:.4f}, in {folder}")
        return
    if model not in CARDS:
        known = [*PARTS, *(card.name for card in CARDS.values() if card.embedded)]
        raise unknown("model", model, known, place="--model")
    from skipdit_cli.train.loop import train as run

    settings = TrainingSettings(
        model=model,
        start=start,
        skip_steps=skip_steps,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        noisy_weight=noisy_weight,
        seed=seed,
    )
    where = options.device_name(device)
    data.require()
    check_writable(folder)
    with stage(f"training {model} on {where}") as update:
        run(
            settings,
            folder,
            device=where,
            command=command,
            progress=lambda step, loss: update(step, skip_steps + steps),
        )
    show(f"{model} in {folder}")
