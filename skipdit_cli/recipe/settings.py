"""Settings of a generation: their names and types, the same in a recipe and on a command line."""

import math
from typing import Any

from skipdit_cli import registry
from skipdit_cli.errors import UsageError, placed, unknown
from skipdit_cli.recipe.prompts import checked

MOST_SAMPLES = 10_000_000
SETTINGS = (
    *("num_samples", "batch_size", "seed", "sampler", "steps", "guidance"),
    *("prompts", "negative_prompt"),
)


def setting(key: str, value: Any, *, place: str = "") -> Any:
    """One setting in its type: steps is a respacing string, guidance a float or None, the sampler a
    name, prompts the name of a list or a file, negative_prompt a text or None for the model's own,
    the others integers. Numbers may come as text, as they do from a command line.

    Raises:
        UsageError: unknown key, or a value that does not fit.
    """
    with placed(place):
        if key == "sampler":
            return _sampler(value)
        if key == "steps":
            return _steps(value)
        if key == "guidance":
            return _guidance(value)
        if key == "prompts":
            return str(value)
        if key == "negative_prompt":
            return None if value is None else checked(value)
        if key in SETTINGS:
            return _integer(key, value, least=0 if key == "seed" else 1)
        raise unknown("setting", key, SETTINGS)


def _sampler(value: Any) -> str:
    known = registry.names("samplers")
    if value not in known:
        raise unknown("sampler", str(value), known)
    return value


def _steps(value: Any) -> str:
    from skipdit_cli.samplers import timesteps

    timesteps(str(value))
    return str(value).strip()


def _guidance(value: Any) -> float | None:
    if value is None or str(value).lower() in ("none", "null"):
        return None
    try:
        scale = float(str(value))
    except ValueError:
        scale = math.nan
    if not 1 <= scale < math.inf:
        raise UsageError(
            f"guidance '{value}' is not a scale of 1 or more", fix="write none for no guidance"
        )
    return scale if scale > 1 else None  # a scale of 1 is the conditional output alone


def _integer(key: str, value: Any, *, least: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if number < least:
        raise UsageError(f"{key} '{value}' is not a whole number", fix=f"{key} is {least} or more")
    if key == "num_samples" and number > MOST_SAMPLES:
        raise UsageError(f"{key} {number} is too many", fix=f"{key} is {MOST_SAMPLES} or less")
    return number
