"""Which metrics can score the samples of a model, or the images of an npz."""

from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.metrics import Metric
from skipdit_cli.score import reference

if TYPE_CHECKING:
    from skipdit_cli.score.scoring import Samples


def check(metric: str, card: Card, *, place: str = "") -> None:
    """Raise a UsageError unless a metric is known and can score the samples of a model."""
    if not _fits(registry.load("metrics", metric, place=place), card):
        raise UsageError(
            f"{metric} cannot score samples of {card.name}",
            place=place,
            fix=f"take one of {', '.join(to_model(card))}",
        )


def check_npz(metric: str, *, place: str = "") -> None:
    """Raise a UsageError unless a metric is known and can score the images of an npz."""
    registry.load("metrics", metric, place=place)
    if metric not in (known := to_npz()):
        fix = f"take one of {', '.join(known)}"
        raise UsageError(f"{metric} cannot score an npz", place=place, fix=fix)


def to_model(card: Card, *, variants: bool = False) -> list[str]:
    """The metrics that can score the samples of a model.

    Args:
        card: of the checkpoint.
        variants: other protocols of a metric as well: `psnr@videosys` beside `psnr`.
    """
    fitting: list[str] = []
    for name in registry.names("metrics"):
        metric = registry.load("metrics", name)
        if _fits(metric, card) and (variants or not _variant(name, fitting)):
            fitting += [name, *(f"{name}.{part}" for part in metric.ANY_PROMPT)]
    return fitting


def to_model_now(card: Card) -> list[str]:
    """The metrics of `to_model` that need nothing from outside, or have all of it here."""
    ready = []
    for name in to_model(card):
        metric = registry.load("metrics", name)
        if metric.NEEDS == "prompted":
            continue  # takes hours
        try:
            reference.identities(metric, card.dataset, given=None)
        except MissingAssetError:
            continue
        ready.append(name)
    return ready


def to_npz() -> list[str]:
    """The metrics that can score the images of an npz: those of the ADM evaluator."""
    fitting = []
    for name in registry.names("metrics"):
        metric = registry.load("metrics", name)
        if metric.EXTRACTOR and "c2i" in metric.TASKS:
            fitting.append(name)
    return fitting


def check_size(metric: Metric, samples: "Samples") -> None:
    """Raise a UsageError where the samples are smaller or shorter than a metric takes."""
    if (metric.SMALLEST, metric.FRAMES) == (1, 1):
        return
    shape = samples.read(0).shape
    place, fix = str(samples.path), "score a model of larger samples"
    if min(shape[-3:-1]) < metric.SMALLEST:
        size = f"{shape[-3]}x{shape[-2]}, only {metric.SMALLEST} px and more"
        raise UsageError(f"{metric.NAME} cannot score {size}", place=place, fix=fix)
    frames = shape[0] if len(shape) == 4 else 1
    if frames < metric.FRAMES:
        problem = f"{metric.NAME} cannot score {frames} frames, only {metric.FRAMES} and more"
        raise UsageError(problem, place=place, fix=fix)


def _variant(name: str, others: list[str]) -> bool:
    """Whether a metric is another protocol of one of the others."""
    plain, _, protocol = name.partition("@")
    return protocol not in ("", "digits") and plain in others


def _fits(metric: Metric, card: Card) -> bool:
    return card.task in metric.TASKS and (card.embedded or not metric.NAME.endswith("@digits"))
