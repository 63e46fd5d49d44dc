"""What every sample of a run is conditioned on: a class, a prompt, or nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.errors import MissingAssetError
from skipdit_cli.generate import text
from skipdit_cli.models import Conditions
from skipdit_cli.recipe.prompts import fetching

if TYPE_CHECKING:
    from skipdit_cli.run import Run


def meta(run: "Run", index: int) -> dict[str, Any]:
    """What a sample shows: {"prompt": ...}, {"class": ...} or {}; and its name, if it has one.

    Prompts and classes are taken in turn; without classes, one is drawn from seed and index.
    """
    if run.prompts:
        return {"prompt": run.prompts[index % len(run.prompts)], **named(run, index)}
    if run.classes:
        return {"class": run.classes[index % len(run.classes)]}
    if not (known := run.card.num_classes):
        return {}
    from skipdit_cli.generate import rng

    seed, place = run.stream(index)
    return {"class": rng.choice(known, seed=seed, index=place)}


def named(run: "Run", index: int) -> dict[str, Any]:
    """What a sample is called: {"name": ...} or {}."""
    return {"name": run.names[index % len(run.names)]} if run.names else {}


def require(run: "Run") -> None:
    """Raise MissingAssetError where a run wants prompts and there are none."""
    if run.card.text:
        _computed(run)


def pending(run: "Run", root: Path) -> int:
    """How many encodings of a prompt are not on disk yet; 0 without prompts.

    Raises:
        MissingAssetError: the model wants prompts and there are none.
    """
    require(run)
    card = run.card
    if not card.text or card.pipeline:  # which encodes its prompts itself
        return 0
    absent = text.absent(
        card, _computed(run), negative=run.negative_prompt, root=root, precision=run.precision
    )
    return sum(map(len, absent.values()))


def prepare(
    run: "Run",
    root: Path,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encode the prompts of a run that are not encoded yet, and warn of those that are cut.

    Args:
        progress: called with (done, total).
    Raises:
        MissingAssetError: the prompts or an encoder are not here.
    """
    card = run.card
    if card.text and not card.pipeline:
        prompts, negative = _computed(run), run.negative_prompt
        text.warn_of_cuts(card, prompts, negative=negative)
        text.encode(
            card,
            prompts,
            negative=negative,
            root=root,
            device=device,
            precision=run.precision,
            progress=progress,
        )


def files(run: "Run", indices: Sequence[int], *, root: Path) -> list[tuple[str, bytes]]:
    """The files of the embeddings of samples' prompts: name in the results folder, and content."""
    if not run.card.text or run.card.pipeline:
        return []
    prompts = [meta(run, index)["prompt"] for index in indices]
    paths = text.paths(
        run.card, prompts, negative=run.negative_prompt, root=root, precision=run.precision
    )
    return [(str(path.relative_to(root)), path.read_bytes()) for path in paths]


def _computed(run: "Run") -> Sequence[str]:
    """The prompts of a run's whole batches."""
    if not run.prompts:
        command = fetching(run.card.prompts)
        fix = f"run `{command}`, or give --prompt" if command else "give --prompt or --prompts"
        raise MissingAssetError(f"{run.model} has no prompts", fix=fix)
    return run.prompts[: -(-run.num_samples // run.batch_size) * run.batch_size]


def of_batch(
    run: "Run", indices: Sequence[int], *, root: Path, device: str = "cpu"
) -> tuple[Conditions, Conditions]:
    """Conditions of samples by diffusers' names, and those of the null half of guidance.

    Returns:
        Two dictionaries of [len(indices), ...] on the device; empty for an unconditional model.
    """
    import torch

    card = run.card
    metas = [meta(run, index) for index in indices]
    if card.text:
        prompts = [content["prompt"] for content in metas]
        negative = run.negative_prompt
        return text.conditions(
            card, prompts, negative=negative, root=root, device=device, precision=run.precision
        )
    if card.num_classes is None:
        return {}, {}
    labels = torch.tensor([content["class"] for content in metas], device=device)
    null = torch.full_like(labels, card.num_classes)
    return {"class_labels": labels}, {"class_labels": null}
