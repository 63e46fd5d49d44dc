"""Settings of a generation: their names and types, the same in a recipe and on a command line."""

import math
import re
from contextlib import suppress
from typing import Any

from skipdit_cli import registry
from skipdit_cli.checkpoints.card import RANDOM
from skipdit_cli.errors import UsageError, placed, unknown
from skipdit_cli.precision import PRECISIONS

MOST = {"num_samples": 10_000_000, "batch_size": 10_000_000, "seed": 2**63 - 1}
DIGITS = 30  # more than any setting has: Python refuses to read thousands
SETTINGS = (
    *("num_samples", "batch_size", "seed", "sampler", "steps", "guidance"),
    *("prompts", "negative_prompt", "precision", "decode_precision", "compile", "weights"),
)


def setting(key: str, value: Any, *, place: str = "") -> Any:
    """One setting in its type: steps is a respacing string, guidance a float or None, the sampler a
    name, the two precisions of PRECISIONS, prompts the name of a list or a file, negative_prompt a
    text or None for the model's own, compile true or false, weights RANDOM, the others integers.
    All may come as text, as they do from a command line.

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
        if key in ("precision", "decode_precision"):
            return _precision(key, value)
        if key == "compile":
            return _switch(key, value)
        if key == "negative_prompt":
            from skipdit_cli.recipe.prompts import checked

            return None if value is None else checked(value)
        if key == "weights":
            return _weights(value)
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
    scale = math.nan
    if re.fullmatch(r"[0-9eE.+-]{1,99}", str(value)):
        with suppress(ValueError):
            scale = float(str(value))
    if not 1 <= scale < math.inf:
        raise UsageError(
            f"guidance '{value}' is not a scale of 1 or more", fix="write none for no guidance"
        )
    return scale if scale > 1 else None  # a scale of 1 is the conditional output alone


def _precision(key: str, value: Any) -> str:
    if value not in PRECISIONS:
        raise unknown(key, str(value), PRECISIONS)
    return value


def _switch(key: str, value: Any) -> bool:
    known = {"true": True, "false": False}
    if (text := str(value).lower()) not in known:
        raise UsageError(f"{key} '{value}' is neither true nor false", fix="write one of them")
    return known[text]


def _weights(value: Any) -> str:
    if value != RANDOM:
        raise UsageError(
            f"weights '{value}' cannot be a setting",
            fix=f"write {RANDOM}, or give a file with --weights and --model",
        )
    return RANDOM


def _integer(key: str, value: Any, *, least: int) -> int:
    text = str(value).strip()
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise UsageError(f"{key} '{value}' is not a whole number", fix=f"{key} is {least} or more")
    number = int(text.lstrip("+-").lstrip("0")[:DIGITS] or 0) * (-1 if text[0] == "-" else 1)
    if number < least:
        raise UsageError(f"{key} {text} is too small", fix=f"{key} is {least} or more")
    if number > (most := MOST[key]):
        raise UsageError(f"{key} {text} is too many", fix=f"{key} is {most} or less")
    return number
