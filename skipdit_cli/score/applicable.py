"""Which metrics can score the samples of a model, or what other tools made."""

from contextlib import suppress
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.checkpoints.card import Card, data_of
from skipdit_cli.errors import MissingAssetError, UsageError, placed
from skipdit_cli.metrics import Metric
from skipdit_cli.score import reference, sources
from skipdit_cli.score.outside import DATASET, Outside, asks

if TYPE_CHECKING:
    from skipdit_cli.score.sources import Samples

TEXTS = {"t2i", "t2v"}  # tasks whose samples have prompts


def check(metric: str, card: Card, *, place: str = "") -> None:
    """Raise a UsageError unless a metric is known and can score the samples of a model."""
    if not _fits(registry.load("metrics", metric, place=place), card):
        raise UsageError(
            f"{metric} cannot score samples of {card.name}",
            place=place,
            fix=f"take one of {', '.join(to_model(card))}",
        )


def check_outside(metric: str, given: Outside, *, place: str = "") -> None:
    """Raise a UsageError that says what to give, unless a metric can score what others made."""
    chosen = registry.load("metrics", metric, place=place)
    samples, kind = given.samples, "clips" if given.samples.clips else "images"
    if not sources.takes(chosen, clips=samples.clips):
        known = ", ".join(to_kind(clips=samples.clips))
        raise UsageError(f"{metric} cannot score {kind}", place=place, fix=f"take one of {known}")
    if chosen.NEEDS == "pairs":
        with placed(place):
            given.paired(metric)
    if asks(chosen) and set(chosen.TASKS) <= TEXTS and not given.prompts:
        problem = f"{metric} needs to know what each sample was to show"
        raise UsageError(problem, place=place, fix="give the prompts with --prompts FILE")
    if chosen.NEEDS == "prompted" and None in map(samples.video, range(len(samples))):
        problem = f"{metric} reads video files"
        raise UsageError(problem, place=str(samples.path), fix="give a folder of such files")
    if samples.clips and "{dataset}" in chosen.REFERENCE and not given.reference:
        problem = f"{metric} compares clips with real ones, and does not know with which"
        raise UsageError(problem, place=place, fix="give them with --reference FOLDER")


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


def to_outside(given: Outside, *, variants: bool = False) -> list[str]:
    """The metrics that can score what others made.

    Those of the embedded models are left out, and VBench, which takes hours.

    Args:
        given: what is scored; of its first sample it depends which metrics are left.
        variants: as of `to_model`.
    """
    fitting: list[str] = []
    for name in registry.names("metrics"):
        metric = registry.load("metrics", name)
        hours = metric.NEEDS == "prompted"
        if hours or data_of(name) or (_variant(name, fitting) and not variants):
            continue
        with suppress(UsageError):
            check_outside(name, given)
            check_size(metric, given.samples)
            fitting.append(name)
    return fitting


def to_outside_now(given: Outside) -> list[str]:
    """Those of `to_outside` that need nothing from outside, or have all of it here.

    All of them where there are none of these: what they lack is said instead of their scores.
    """
    fitting, ready = to_outside(given), []
    for name in fitting:
        with suppress(MissingAssetError):
            reference.identities(registry.load("metrics", name), DATASET, given=given.reference)
            ready.append(name)
    return ready or fitting


def to_kind(*, clips: bool) -> list[str]:
    """The metrics of clips, or of images."""
    every = registry.names("metrics")
    return [name for name in every if sources.takes(registry.load("metrics", name), clips=clips)]


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
    return protocol != data_of(name) and plain in others


def _fits(metric: Metric, card: Card) -> bool:
    """Whether a metric is of a model's task; of a pipeline's, of what its samples are."""
    clips = card.task in sources.TASKS[True]
    fits = sources.takes(metric, clips=clips) if card.pipeline else card.task in metric.TASKS
    return fits and data_of(metric.NAME) in ("", card.dataset)
