"""Pipelines of diffusers on the command line: what names one, what fits it, how it is fetched."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli._output import say
from skipdit_cli.precision import QUANTIZATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skipdit_cli.assets.wanted import Plans
    from skipdit_cli.run import Run

Pipeline = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        metavar="FOLDER|HUB_ID",
        help="In place of --model: a pipeline of diffusers, its folder or its name on the hub, of "
        "which no code is ever run; or flow-digits, which ships.",
    ),
]
Call = Annotated[
    list[str] | None,
    typer.Option(
        "--call",
        metavar="KEY=VALUE",
        help="Of a pipeline, may be repeated: an argument of its call, as height=512.",
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(QUANTIZATIONS),
        help="Of a pipeline: the weights of its transformers, by torchao; its samples are others.",
    ),
]


def named(model: str | None, pipeline: str) -> str:
    """The name that a pipeline has where others have a model's; of a folder that is one, its path.

    Raises:
        UsageError: a model is named as well, or it is no pipeline that can be driven.
        MissingAssetError: it is one of the hub that is not here.
    """
    from skipdit_cli.checkpoints import catalog, folder
    from skipdit_cli.checkpoints import pipeline as pipelines
    from skipdit_cli.errors import UsageError

    if model is not None:
        raise UsageError("--model and --pipeline say the same", fix="give one of them")
    if pipeline in catalog.PIPELINES and not pipelines.is_one(pipeline):
        return pipeline
    pipelines.card(pipeline, place="--pipeline")
    return folder.called(Path(pipeline)) if Path(pipeline).is_dir() else pipeline


def fitting(pipeline: str, call: list[str] | None) -> list[tuple[str, str]]:
    """Every caching method, and whether it fits a pipeline that is called so, or why not."""
    from skipdit_cli import registry
    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.recipe import called, keywords

    card = catalog.card(named(None, pipeline), place="--pipeline")
    card = keywords.with_call(card, keywords.parse(call))
    return [(name, called.fit(card, name)) for name in registry.names("caches")]


def plans(pipeline: str, *, configs: bool) -> "Plans":
    """What has to be fetched of a pipeline of the hub, or of its configurations and tokenizers.

    Raises:
        UsageError: it is no name on the hub, or no pipeline.
        MissingAssetError: the hub cannot be reached, or has no such repository.
    """
    from skipdit_cli.assets.wanted import Plans
    from skipdit_cli.checkpoints import hub_pipeline, local
    from skipdit_cli.checkpoints import pipeline as pipelines
    from skipdit_cli.errors import UsageError

    if not pipelines.HUB.fullmatch(pipeline):
        fix = "give OWNER/NAME"
        raise UsageError(f"{pipeline} is no name on the hub", place="--pipeline", fix=fix)
    planned = hub_pipeline.plan(pipeline, configs=configs)
    if planned.items:
        licence = planned.licence or "not stated"
        say(f"{pipeline}: {local.size_text(planned.size)} to fetch, licence {licence}")
    return Plans(pipelines=(planned,))


def check_offload(runs: "Iterable[Run]", given: str, *, device: str) -> None:
    """Raise an error where what --offload says cannot be had of some runs.

    Args:
        given: as `Options` has it.
    Raises:
        UsageError: it is not for these runs, or there is no GPU.
        MissingAssetError: a package is not here.
    """
    from skipdit_cli.errors import MissingAssetError, UsageError, unknown
    from skipdit_cli.generate.accelerated import OF_PIPELINES, OFFLOADS

    runs, place = [*runs], "--offload"
    if not given:
        return
    if given not in OFFLOADS:
        raise unknown("way to offload", given, OFFLOADS, place=place)
    of_pipelines = {run.card.pipeline for run in runs}
    if of_pipelines != {given in OF_PIPELINES}:
        other, fix = ("a pipeline", "give model or group") if True in of_pipelines else ("", "")
        problem = f"{given} is not for {other or 'a model, which is no pipeline'}"
        raise UsageError(problem, place=place, fix=fix or "write --offload alone")
    if given not in OF_PIPELINES:
        return
    if device == "cpu":
        problem = "there is no GPU that anything could be kept off"
        raise UsageError(problem, place=place, fix="leave it out")
    if given == "group" and any(run.compile for run in runs):
        problem = "blocks that come and go are not compiled"
        raise UsageError(problem, place="--offload group", fix="take model, or leave --compile out")
    if given == "model" and find_spec("accelerate") is None:
        fix = "run `pip install accelerate`"
        raise MissingAssetError("accelerate is not installed", place="--offload model", fix=fix)
