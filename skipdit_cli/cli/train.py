"""skipdit train"""

import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show, stage
from skipdit_cli.precision import PRECISIONS
from skipdit_cli.train.settings import SCHEDULES, STAGES, TrainingSettings

if TYPE_CHECKING:
    from skipdit_cli.generate.options import Progress, Stage
    from skipdit_cli.storage.training import Logged
    from skipdit_cli.train.source import Source

PARTS = {
    "classifier": "the classifier of digits",
    "fashion-classifier": "the classifier of clothes",
    "text": "the text encoders",
    "flow-parts": "the pipeline around flow-digits",
}
DEFAULT = TrainingSettings


@app.command()
def train(
    model: Annotated[
        str,
        typer.Option(
            help="A checkpoint or a folder, whose architecture is trained; or classifier, "
            "fashion-classifier, text (the embedded encoders) or flow-parts.",
            autocompletion=complete.models,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder of images or clips in folders of their classes, or flat; a CSV or JSONL "
            "of paths and captions; or latents that were made of one. Else, of an embedded "
            "model, its own: digits, or clothes."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the result; else results/train/MODEL.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="The checkpoint or folder that training starts from: the vanilla model of a skip "
            "model, or the model itself. Else all weights are drawn."
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="official: the settings of the official code, where no option is given."),
    ] = None,
    trained: Annotated[
        str | None,
        typer.Option("--stage", help=f"{' or '.join(STAGES)}: what is trained, of a skip model."),
    ] = None,
    skip_steps: Annotated[
        int | None, typer.Option(min=0, help="Steps of a first stage: the skip branches alone.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of all other training. [default: 2000]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples per step, of all processes. [default: 64]")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Parts in which a process computes its batch.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate. [default: 0.002]")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help=f"{', '.join(SCHEDULES)}: of the learning rate.")
    ] = None,
    warm_up: Annotated[
        int | None,
        typer.Option(min=0, help="Steps up to the peak; else 200, or a tenth of --steps."),
    ] = None,
    ema: Annotated[
        float | None, typer.Option(help="Decay of the average of weights. [default: 0.995]")
    ] = None,
    drop: Annotated[
        float | None,
        typer.Option(help="Share of labels or captions left out, for guidance. [default: 0.1]"),
    ] = None,
    min_snr: Annotated[
        float | None,
        typer.Option(help="Cap of min-SNR weighting; 0 weighs steps alike. [default: 5]"),
    ] = None,
    noisy_weight: Annotated[
        float | None,
        typer.Option(help="The most that an error counts where there is little signal."),
    ] = None,
    clip: Annotated[
        float | None, typer.Option(help="Norm that gradients are cut to; 0: none. [default: 1]")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help=f"{', '.join(PRECISIONS)}: of the products.")
    ] = None,
    images_per_clip: Annotated[
        int | None, typer.Option(min=0, help="Images that are trained on beside each clip.")
    ] = None,
    architecture: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An argument of the network other than the checkpoint's: depth=8, hidden_size=96.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**40, help="Seed of data, noise and initial weights."),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            "--eval", help="Metrics of samples while it trains, comma-separated: fid@digits."
        ),
    ] = None,
    eval_every: Annotated[
        int, typer.Option(min=0, help="Steps between two looks at samples; 0: none.")
    ] = 0,
    eval_samples: Annotated[int, typer.Option(min=1, help="Samples of each look.")] = 500,
    eval_steps: Annotated[
        str | None, typer.Option(help="Sampling steps of each look; else the model's own.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Real samples that FID and the like compare with: a folder, or an npz."),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Write weights in float16.")] = False,
    checkpointing: Annotated[
        bool,
        typer.Option("--checkpointing", help="Compute layers again to save memory."),
    ] = False,
    log_every: Annotated[
        int, typer.Option(min=1, help="Steps between two lines of log.jsonl.")
    ] = 50,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Steps between two checkpoints.")
    ] = 500,
    interval: options.Interval = None,
    max_bad: options.MaxBad = 0,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that share the batch: as many as GPUs.")
    ] = 1,
    sharded: Annotated[
        bool,
        typer.Option(
            "--shard", help="FSDP: each process keeps a part of weights and optimizer alone."
        ),
    ] = False,
    device: options.Device = "auto",
) -> None:
    """Train a model of the four families on your images or clips, or an embedded one on its own;
    or the transformer of flow-digits, and of what it wrote of that, a pipeline of diffusers.

    A killed run continues. What comes out is a folder that other commands take: --model FOLDER.
    """
    if model in PARTS:
        _train_part(model, out or Path("results/train") / model, steps or DEFAULT.steps, seed or 0)
        return
    from skipdit_cli.checkpoints.catalog import card, cards, known
    from skipdit_cli.errors import UsageError, unknown
    from skipdit_cli.generate.options import silent
    from skipdit_cli.storage.disk import check_writable
    from skipdit_cli.storage.provenance import collect
    from skipdit_cli.train import architecture as networks
    from skipdit_cli.train import launch, loop, official, pipelines
    from skipdit_cli.train.judge import Judge
    from skipdit_cli.train.network import check_start
    from skipdit_cli.train.processes import check_shard, require

    if config not in (None, "official"):
        raise unknown("configuration", config, ["official"], place="--config")
    if not known(model):
        raise unknown("model", model, [*PARTS, *cards()], place="--model")
    where, base = options.device_name(device), card(model, place="--model")
    if base.pipeline:
        pipelines.check(base)
    folder = out or Path("results/train") / Path(model).name
    given = {
        "start": start,
        "stage": trained,
        "skip_steps": skip_steps,
        "steps": steps,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "warm_up": warm_up,
        "ema": ema,
        "drop": drop,
        "min_snr": min_snr,
        "noisy_weight": noisy_weight,
        "clip": clip,
        "precision": precision,
        "images_per_clip": images_per_clip,
        "seed": seed,
    }
    chosen = {
        **(official.settings(base) if config else {}),
        **{name: value for name, value in given.items() if value is not None},
        "model": model,
        "architecture": networks.changes(base, architecture or ()),
    }
    if "warm_up" not in chosen:
        chosen["warm_up"] = min(DEFAULT.warm_up, chosen.get("steps", DEFAULT.steps) // 10)
    tell = silent if launch.rank() else stage
    settings = TrainingSettings(**chosen)
    check_start(settings)
    settings.check_share(processes)
    if not launch.launched():
        check_shard(settings.precision, processes, sharded=sharded)
    if warm_up is not None:
        settings.check_warm_up()
    if architecture:
        networks.check(settings.card)
    further = settings.start == model and not card(model).by_path  # an embedded one, in its place
    if not (folder / loop.CHECKPOINT).exists() and not further:
        loop.refuse_other(folder)
    judge = None
    if eval_every or evaluate:
        if not eval_every:
            raise UsageError("is not given", place="--eval-every", fix="as in --eval-every 200")
        sampled = {"num_samples": eval_samples, "steps": eval_steps}
        judge = Judge(
            folder,
            [name.strip() for name in (evaluate or "").split(",") if name.strip()],
            {name: value for name, value in sampled.items() if value is not None},
            device=where,
            reference=reference,
            stage=tell,
        )
        judge.require(settings.card, own=data is not None)
    require()
    settings, source = _source(
        settings, data, device=where, interval=interval, max_bad=max_bad, tell=tell
    )
    check_writable(folder)
    if processes > 1 and not launch.launched():
        raise typer.Exit(launch.launch(processes, sys.argv[1:]))
    with tell(f"training {settings.label} on {where}") as update:
        loop.train(
            settings,
            folder,
            source=source,
            device=where,
            sharded=sharded,
            command=collect()["command"],
            watch=loop.Watch(
                log_every=log_every,
                checkpoint_every=checkpoint_every,
                on_log=_teller(folder, settings, update),
                judge_every=eval_every,
                judge=judge or (lambda step, export: None),
                half=half,
                checkpointing=checkpointing,
            ),
        )
    if not launch.rank():
        show(f"{settings.label} in {folder}")


def _source(
    settings: TrainingSettings,
    data: Path | None,
    *,
    device: str,
    interval: int | None,
    max_bad: int,
    tell: "Stage",
) -> "tuple[TrainingSettings, Source]":
    """Settings with what the data decides on, and the samples; they are encoded where need be."""
    from skipdit_cli.errors import UsageError
    from skipdit_cli.train import launch, pipelines
    from skipdit_cli.train.source import DRAWS, Encoded

    if data is None:
        if settings.card.data not in DRAWS:
            raise UsageError(
                f"the data of {settings.model} does not ship with skipdit",
                place="--data",
                fix="give a folder of images or clips, or train an embedded model",
            )
        return settings, pipelines.learnt(settings.card)
    if settings.card.pipeline:
        raise UsageError(
            f"{settings.model} is a pipeline, which is trained on captioned digits alone so far",
            place="--data",
            fix="leave it out, or train a model of the families",
        )
    from skipdit_cli.train import latents
    from skipdit_cli.train.shards import INDEX

    made = (data / INDEX).exists()
    if made and (interval or max_bad):
        raise UsageError(
            "the data is encoded already",
            place="--interval" if interval else "--max-bad",
            fix="leave it out, and encode the data with it",
        )
    place = data if made else latents.usual_folder(settings.card, data, interval=interval)
    if made:
        found = latents.opened(place, settings.card)
    elif rank := launch.rank():
        waiting = f"waiting: process {rank}, until the first has encoded {data} into {place}"
        found = latents.awaited(place, settings.card, tell=lambda: say(waiting))
    else:
        with tell(f"encoding {data}") as update:
            found = latents.encode(
                settings.card,
                data,
                place,
                device=device,
                interval=interval,
                max_bad=max_bad,
                progress=update,
            )
    classes = {"num_classes": len(found.classes)} if settings.card.num_classes else {}
    settings = replace(
        settings, data=found.identity, architecture={**settings.architecture, **classes}
    )
    return settings, Encoded(settings.card, found)


def _teller(
    folder: Path, settings: TrainingSettings, update: "Progress"
) -> "Callable[[Logged], None]":
    """What is written and said every few steps."""
    from skipdit_cli.storage import training

    def tell(logged: "Logged") -> None:
        training.append(folder / training.LOG, asdict(logged))
        update(logged.step, settings.total)
        say(
            f"step {logged.step} of {settings.total}: loss {logged.loss:.4f}, rate "
            f"{logged.learning_rate:.2g}, {logged.samples_per_second:.3g} samples/s, "
            f"{(logged.memory_bytes or 0) / 2**30:.2g} GiB"
        )

    return tell


def _train_part(model: str, folder: Path, steps: int, seed: int) -> None:
    """Train what the embedded models stand on, or are scored by."""
    from skipdit_cli.storage.disk import check_writable
    from skipdit_cli.storage.provenance import collect
    from skipdit_cli.train import data, fashion
    from skipdit_cli.train.classifier import train_digits, train_fashion
    from skipdit_cli.train.flow_parts import train_parts
    from skipdit_cli.train.text import train_text

    require, train_part, told = {
        "classifier": (data.require, train_digits, "accuracy {:.4f}"),
        "fashion-classifier": (fashion.require, train_fashion, "accuracy {:.4f}"),
        "text": (lambda: None, train_text, "accuracy {:.4f}"),
        "flow-parts": (data.require, train_parts, "PSNR {:.1f} dB of its autoencoder"),
    }[model]
    require()
    check_writable(folder)
    with stage(f"training {PARTS[model]}") as update:
        score = train_part(
            folder,
            steps=steps,
            seed=seed,
            command=collect()["command"],
            progress=lambda step, loss: update(step, steps),
        )
    show(f"{PARTS[model]}: {told.format(score)}, in {folder}")
