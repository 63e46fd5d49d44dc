"""Pipelines of diffusers on the command line: what names one, what fits it, how it is fetched."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli._output import say

if TYPE_CHECKING:
    from skipdit_cli.assets.wanted import Plans

Pipeline = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        metavar="FOLDER|HUB_ID",
        help="In place of --model: a pipeline of diffusers, its folder or its name on the hub.",
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


def named(model: str | None, pipeline: str) -> str:
    """The name that a pipeline has where others have a model's.

    Raises:
        UsageError: a model is named as well, or it is no pipeline that can be driven.
        MissingAssetError: it is one of the hub that is not here.
    """
    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.checkpoints import pipeline as pipelines
    from skipdit_cli.errors import UsageError

    if model is not None:
        raise UsageError("--model and --pipeline say the same", fix="give one of them")
    pipelines.card(pipeline, place="--pipeline")
    return catalog.named(pipeline) if Path(pipeline).is_dir() else pipeline


def fitting(pipeline: str) -> list[tuple[str, str]]:
    """Every caching method, and whether it fits a pipeline, or why not."""
    from skipdit_cli import registry
    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.recipe import called

    card = catalog.card(named(None, pipeline), place="--pipeline")
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
