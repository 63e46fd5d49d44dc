"""Checkpoints become networks: built by their family, with their weights or without."""

import functools
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.checkpoints import drawn
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.checkpoints.local import require
from skipdit_cli.checkpoints.official import check_keys, converted, read_state
from skipdit_cli.errors import UsageError

if TYPE_CHECKING:
    from skipdit_cli.models import Network


def arguments(chosen: Card) -> dict:
    """The constructor arguments of a checkpoint's model.

    Raises:
        UsageError: it is a pipeline of diffusers, which is of no family.
    """
    if chosen.pipeline:
        raise UsageError(
            f"{chosen.name} is a pipeline of diffusers, which this command does not take yet",
            fix="take a model of the families, see `skipdit ls models`",
        )
    family = registry.load("models", chosen.family)
    taken = {**family.VARIANTS[chosen.variant], **chosen.arguments}
    if "skip" in inspect.signature(family.MODEL.__init__).parameters:  # else the skips are native
        taken["skip"] = chosen.skip
    return taken


@functools.cache
def meta(chosen: Card) -> "Network":
    """The checkpoint's model on the meta device: structure and shapes, no weights."""
    return build(chosen)


def build(chosen: Card, *, device: str = "meta") -> "Network":
    """The checkpoint's model with weights that mean nothing: for counting, timing, training."""
    import torch

    given = arguments(chosen)
    with torch.device(device):
        return registry.load("models", chosen.family).MODEL(**given)


def load(
    chosen: Card, *, path: Path | None = None, device: str = "cpu", dtype: str = "float32"
) -> "Network":
    """The model of a checkpoint with its weights, read or drawn, in eval mode.

    Args:
        path: an official file (.pt, .safetensors) or a converted one, instead of the known place.
    Raises:
        MissingAssetError: the weights are not here.
        UsageError: the file is truncated, foreign, or holds other keys; all are named.
        SkipditError: the family has tensors that are neither weights nor buffers.
    """
    from skipdit_cli.checkpoints.official import filled

    source = path or require(chosen)
    if source is None:
        given, family = arguments(chosen), registry.load("models", chosen.family)
        return drawn.fill(drawn.empty(lambda: family.MODEL(**given)), device=device, dtype=dtype)
    model = build(chosen)
    state = read_state(source)
    if path is not None:
        state = converted(chosen.family, model.config, state)
    check_keys(model, state, place=str(source))
    return filled(
        model,
        state,
        lambda where: build(chosen, device=where),
        family=chosen.family,
        device=device,
        dtype=dtype,
    )
