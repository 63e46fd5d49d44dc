"""Arguments of a network that differ from those of its checkpoint: `--set depth=8`."""

import inspect
from collections.abc import Iterable
from typing import Any

import yaml

from skipdit_cli import registry
from skipdit_cli.checkpoints import networks
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.errors import UsageError, shortened, unknown

PLACE = "--set"
FIXED = ("self", "skip", "num_classes", "learn_sigma")  # what model, data and loss decide on


def changes(chosen: Card, given: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE, each a constructor argument of the checkpoint's network.

    Raises:
        UsageError: there is no such argument, or its value is of another kind.
    """
    if chosen.pipeline:
        if [*given]:
            fix = "edit the config.json of its transformer"
            raise UsageError(f"{chosen.name} is a pipeline", place=PLACE, fix=fix)
        return {}
    network = registry.load("models", chosen.family).MODEL
    known = {
        name: parameter
        for name, parameter in inspect.signature(network.__init__).parameters.items()
        if name not in FIXED
    }
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"'{text}' is not KEY=VALUE", place=PLACE, fix="as in depth=8")
        if name not in known:
            raise unknown("argument", name, known, place=PLACE)
        found[name] = _value(name, value, known[name].default)
    return found


def check(chosen: Card) -> None:
    """Raise a UsageError unless a network of these arguments can be built and called."""
    import torch

    try:
        model = networks.build(chosen)
        if model.layout().layers < 2:
            raise ValueError("there are fewer than two layers")
        with torch.no_grad():
            given = model.inputs(1, device="meta")
            (sample, *_) = model(**given, return_dict=False)
        if sample.shape[-2:] != given["hidden_states"].shape[-2:]:
            raise ValueError("input_size is no multiple of patch_size")
    except Exception as error:  # whatever the shapes do not fit says
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"the arguments do not fit together ({shortened(told)})",
            place=PLACE,
            fix="hidden_size is a multiple of num_heads, input_size of patch_size; depth is even",
        ) from None


def _value(name: str, text: str, default: Any) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    kinds = (int,) if default is None or default is inspect.Parameter.empty else kinds
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise UsageError(f"{name}={text} is not {expected}", place=PLACE, fix="as in depth=8")
    if not isinstance(value, bool) and value <= 0:
        raise UsageError(f"{name}={text} is not above 0", place=PLACE, fix="as in depth=8")
    return value
