"""Pipelines of diffusers on the command line: what names one, what fits it, how it is fetched."""

from pathlib import Path
from typing import Annotated

import typer

from skipdit_cli.cli._output import stage

Pipeline = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        metavar="FOLDER|HUB_ID",
        help="In place of --model: a pipeline of diffusers, its folder or its name on the hub; or "
        "flow-digits, which ships.",
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
    if pipeline in catalog.PIPELINES:
        return pipeline
    pipelines.card(pipeline, place="--pipeline")
    return catalog.named(pipeline) if Path(pipeline).is_dir() else pipeline


def fitting(pipeline: str) -> list[tuple[str, str]]:
    """Every caching method, and whether it fits a pipeline, or why not."""
    from skipdit_cli import registry
    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.recipe import called

    card = catalog.card(named(None, pipeline), place="--pipeline")
    return [(name, called.fit(card, name)) for name in registry.names("caches")]


def fetch(pipeline: str, *, configs: bool) -> Path:
    """Fetch a pipeline from the hub, or its configurations and tokenizers alone.

    Raises:
        UsageError: it is no name on the hub.
        MissingAssetError: the hub cannot be reached, or has no such pipeline.
    """
    from skipdit_cli.checkpoints import pipeline as pipelines
    from skipdit_cli.errors import UsageError

    if not pipelines.HUB.fullmatch(pipeline):
        fix = "give OWNER/NAME"
        raise UsageError(f"{pipeline} is no name on the hub", place="--pipeline", fix=fix)
    with stage(f"fetching {pipeline}"):
        return pipelines.fetch(pipeline, configs=configs)
