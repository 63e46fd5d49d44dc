"""Scales: what a name stands for at the tiny and at the paper scale, and which one is meant.

Tiny is the embedded models, paper the published checkpoints and settings; `auto` takes paper where
all that it needs is here.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from skipdit_cli.checkpoints import catalog, local
from skipdit_cli.checkpoints.card import RANDOM
from skipdit_cli.errors import UsageError, unknown
from skipdit_cli.recipe import recipe

if TYPE_CHECKING:
    from skipdit_cli.recipe.shape import Recipe

SCALES = ("auto", "tiny", "paper")
MODEL = "moving-digits-skip"  # what runs when nothing is asked for: embedded, offline, on a CPU


def check(scale: str) -> None:
    """Raise UsageError unless a scale is known."""
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES, place="--scale")


def model_at(name: str | None, scale: str) -> tuple[str, str]:
    """The model that a name stands for at a scale; a named model is taken as it is otherwise.

    Returns:
        The model, and a line that tells what was chosen, "" where the user chose it.
    Raises:
        UsageError: unknown model or scale, or an embedded model at paper scale.
    """
    check(scale)
    if name is None:
        if scale == "paper":
            raise UsageError("no model is named", place="--scale paper", fix="give --model")
        return MODEL, f"scale tiny: the embedded model {MODEL}; name another with --model"
    card = catalog.card(name, place="--model")
    if scale == "paper" and card.embedded:
        raise UsageError(f"{name} is an embedded model", place="--scale paper", fix="leave it out")
    return (card.tiny or card.name) if scale == "tiny" else card.name, ""


def recipe_at(name: str, scale: str, *, overrides: Iterable[str] = ()) -> "tuple[Recipe, str]":
    """A recipe at a scale; `auto` takes paper where all its weights and a GPU are here.

    Returns:
        The recipe, and a line that tells why it is at this scale, "" where the user chose it.
    Raises:
        UsageError: unknown scale or recipe, or a recipe or override with mistakes.
    """
    check(scale)
    overrides = tuple(overrides)
    known = recipe.scales(name)
    if scale == "auto" and len(known) == 1:
        (scale,) = known
    if scale != "auto":
        return recipe.load_recipe(name, scale=scale, overrides=overrides), ""
    paper = recipe.load_recipe(name, scale="paper", overrides=overrides)
    models = {model for row in paper.rows for model in row.models.values()}
    drawn = paper.settings.get("weights") == RANDOM
    absent = sorted(
        model for model in models if not drawn and local.locate(catalog.card(model)) is None
    )
    if not absent and _gpu():
        here = "a GPU is" if drawn else "weights and a GPU are"
        return paper, f"scale paper: {here} here; --scale tiny runs the embedded models"
    why = f"the weights of {', '.join(absent)} are not here" if absent else "there is no GPU"
    tiny = recipe.load_recipe(name, scale="tiny", overrides=overrides)
    return tiny, f"scale tiny: {why}; --scale paper asks for the published setting"


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()
