"""skipdit latents"""

from pathlib import Path
from typing import Annotated, Any

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import show, show_json, stage


@app.command()
def latents(
    model: Annotated[
        str,
        typer.Option(
            help="The model that is to be trained; `skipdit ls models` lists them.",
            autocompletion=complete.models,
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="A folder of images or clips, with a folder for each class where the model has "
            "classes; of a text model, a folder with metadata.csv or metadata.jsonl (file_name, "
            "caption), or such a file."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the latents; else under results/latents.")
    ] = None,
    crops: Annotated[int, typer.Option(min=1, help="Windows of each clip, at random places.")] = 1,
    interval: options.Interval = None,
    flips: Annotated[
        bool | None,
        typer.Option(
            "--flips/--no-flips",
            help="Keep each mirrored as well; else where there are no captions, as officially.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Files encoded together.")] = 8,
    max_bad: options.MaxBad = 0,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Seed of the places of windows.")
    ] = 0,
    precision: options.Precision = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Encode images or clips, and captions, once, for training; an interrupted call goes on.

    What is kept is what the model's autoencoder takes them for, or of a model on pixels the pixels.
    """
    from skipdit_cli.checkpoints.catalog import card
    from skipdit_cli.checkpoints.local import size_text
    from skipdit_cli.errors import unknown
    from skipdit_cli.precision import PRECISIONS
    from skipdit_cli.train.latents import encode, usual_folder

    chosen, precision = card(model, place="--model"), precision or "float32"
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS, place="--precision")
    where = options.device_name(device)
    given: Any = {"interval": interval, "crops": crops, "flips": flips, "seed": seed}
    given["precision"] = precision
    folder = out or usual_folder(chosen, data, **given)
    with stage(f"encoding {data} for {model} on {where}") as update:
        made = encode(
            chosen,
            data,
            folder,
            device=where,
            batch_size=batch_size,
            max_bad=max_bad,
            progress=update,
            **given,
        )
    if json:
        show_json({"folder": str(folder), **made.facts, "bad": made.bad})
        return
    facts = made.facts
    parts = [f"{facts['items']} of {model}"]
    parts += [f"{facts[key]} {key}" for key in ("classes", "captions", "entries") if facts[key]]
    parts += [f"{len(made.bad)} files left out"] if made.bad else []
    show(f"{', '.join(parts)}, {size_text(facts['bytes'])} in {folder}")
