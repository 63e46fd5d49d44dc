"""skipdit download"""

from pathlib import Path
from typing import Annotated

import typer

from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show


@app.command()
def download(
    names: Annotated[list[str] | None, typer.Argument(help="Models to fetch.")] = None,
    recipe: Annotated[str | None, typer.Option(help="All models of a recipe.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="An official file that is here already.")
    ] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept non-commercial licences.")
    ] = False,
) -> None:
    """Fetch released checkpoints and convert them; without names, list what there is.

    Loading a file runs no code from it, and every key must belong to the model.
    """
    from skipdit_cli import recipe as recipes
    from skipdit_cli import weights
    from skipdit_cli.errors import UsageError
    from skipdit_cli.weights.download import convert
    from skipdit_cli.weights.download import download as fetch

    wanted = list(names or [])
    if recipe:
        paper = recipes.load(recipe, scale="paper")
        wanted += [model for row in paper.rows for model in row.models.values()]
    cards = [weights.card(name, place="skipdit download") for name in dict.fromkeys(wanted)]
    if source is not None and len(cards) != 1:
        raise UsageError("--from is for one model", place="--from", fix="name the model")
    if not cards:
        for card in (card for card in weights.CARDS.values() if not card.embedded):
            here = "here" if weights.locate(card.name) else weights.size_text(card.size)
            show(f"{card.name:20} {here:10} {card.licence:14} {card.source}")
        return
    for card in cards:
        say(f"{card.name}: {card.source}, {weights.size_text(card.size)}, {card.licence}")
        path = convert(card, source) if source else fetch(card, accept_license=accept_license)
        show(f"{card.name} {path}")
