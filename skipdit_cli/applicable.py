"""Which metrics can score the samples of a model, or the images of an npz."""

from types import ModuleType

from skipdit_cli import reference, registry, weights
from skipdit_cli.errors import MissingAssetError, UsageError


def check(metric: str, model: str, *, place: str = "") -> None:
    """Raise a UsageError unless a metric is known and can score the samples of a model."""
    card, module = weights.card(model), registry.load("metrics", metric, place=place)
    if not _fits(module, card):
        raise UsageError(
            f"{metric} cannot score samples of {model}",
            place=place,
            fix=f"take one of {', '.join(to_model(model))}",
        )


def check_npz(metric: str, *, place: str = "") -> None:
    """Raise a UsageError unless a metric is known and can score the images of an npz."""
    registry.load("metrics", metric, place=place)
    if metric not in (known := to_npz()):
        fix = f"take one of {', '.join(known)}"
        raise UsageError(f"{metric} cannot score an npz", place=place, fix=fix)


def to_model(model: str, *, variants: bool = False) -> list[str]:
    """The metrics that can score the samples of a model.

    Args:
        variants: other protocols of a metric as well: `psnr@videosys` beside `psnr`.
    """
    card = weights.card(model)
    found: list[str] = []
    for name in registry.names("metrics"):
        module = registry.load("metrics", name)
        if _fits(module, card) and (variants or not _variant(name, found)):
            found += [name, *(f"{name}.{part}" for part in getattr(module, "ANY_PROMPT", ()))]
    return found


def to_model_now(model: str) -> list[str]:
    """Those of them that need nothing from outside, or all of whose needs are here."""
    dataset = weights.card(model).dataset
    found = []
    for name in to_model(model):
        module = registry.load("metrics", name)
        if module.NEEDS == "prompted":
            continue  # takes hours
        try:
            reference.identities(module, dataset, given=None)
        except MissingAssetError:
            continue
        found.append(name)
    return found


def to_npz() -> list[str]:
    """The metrics that can score the images of an npz: those of the ADM evaluator."""
    modules = {name: registry.load("metrics", name) for name in registry.names("metrics")}
    return [
        name
        for name, module in modules.items()
        if hasattr(module, "EXTRACTOR") and "c2i" in module.TASKS
    ]


def _variant(name: str, found: list[str]) -> bool:
    """Whether a metric is another protocol of one that was found."""
    plain, _, protocol = name.partition("@")
    return protocol not in ("", "digits") and plain in found


def _fits(module: ModuleType, card: weights.Card) -> bool:
    return card.task in module.TASKS and (card.embedded or not module.NAME.endswith("@digits"))
