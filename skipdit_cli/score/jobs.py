"""Jobs: the runs that a command means, each with the metrics it is scored by."""

from collections.abc import Sequence
from pathlib import Path
from string import hexdigits
from typing import TYPE_CHECKING

from skipdit_cli.checkpoints.card import EMBEDDED_DATA
from skipdit_cli.errors import unknown
from skipdit_cli.recipe import recipe, runs
from skipdit_cli.score import applicable

if TYPE_CHECKING:
    from skipdit_cli.checkpoints.card import Card
    from skipdit_cli.run import Run

Job = tuple["Run", list[str]]


def is_recipe(target: str) -> bool:
    """Whether a target is a recipe; else it is the beginning of a run key.

    Raises:
        UsageError: it can be neither.
    """
    if recipe.is_name(target):
        return True
    if not set(target) <= set(hexdigits):
        raise unknown("recipe or run", target, recipe.names())
    return False


def of_key(key: str, *, root: Path) -> list[Job]:
    """The run whose key starts so, with the metrics whose needs are all here.

    Raises:
        UsageError: there is no such run under the results folder, or more than one.
    """
    run = runs.find_run(root, key)
    return [(run, applicable.to_model_now(run.card))]


def with_all_metrics(jobs: Sequence[Job]) -> list[Job]:
    """The same runs, each with every metric that fits, whether what it needs is here or not."""
    return [(run, applicable.to_model(run.card, variants=True)) for run, _ in jobs]


def metrics_of(card: "Card", asked: Sequence[str] | None) -> list[str]:
    """The metrics that were asked for, or else the usual ones of a model.

    Raises:
        UsageError: a metric cannot score the samples of the model.
    """
    chosen = [name.strip() for name in asked] if asked is not None else usual_metrics(card)
    for name in chosen:
        applicable.check(name, card, place="--metrics")
    return chosen


def usual_metrics(card: "Card") -> list[str]:
    """PSNR and SSIM, and of embedded data whether samples show what was asked for."""
    asked = card.text or card.num_classes is not None
    shown = ["accuracy", *(["motion"] if card.task == "t2v" else [])]
    known = asked and card.dataset in EMBEDDED_DATA
    return ["psnr", "ssim", *(f"{name}@{card.dataset}" for name in shown if known)]
