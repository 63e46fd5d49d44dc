"""Settings of a generation: their names and types, the same in a recipe and on a command line."""

import math
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from skipdit_cli import registry
from skipdit_cli.checkpoints.card import RANDOM
from skipdit_cli.errors import UsageError, placed, unknown
from skipdit_cli.precision import PRECISIONS, QUANTIZATIONS
from skipdit_cli.spec import MOST_SEED, parse_range, parse_whole

MOST = {"num_samples": 10_000_000, "batch_size": 10_000_000, "seed": MOST_SEED}
SETTINGS = (
    *("num_samples", "batch_size", "seed", "seeds", "sampler", "steps", "guidance"),
    *("prompts", "negative_prompt", "precision", "decode_precision", "compile", "quantize"),
    *("weights", "reference_steps", "call"),
)


def setting(key: str, value: Any, *, place: str = "") -> Any:
    """One setting in its type.

    Steps and reference_steps are respacing strings, guidance a float or None, the sampler a name,
    the two precisions of PRECISIONS, prompts the name of a list or a file, negative_prompt a text
    or None for the model's own, compile true or false, quantize of QUANTIZATIONS, weights RANDOM,
    seeds several integers, each once, call arguments of a pipeline's call, the others one integer.
    All but call may come as text, as they do from a command line: seeds as 0..4.

    Raises:
        UsageError: unknown key, or a value that does not fit.
    """
    with placed(place):
        if key == "sampler":
            return _sampler(value)
        if key in ("steps", "reference_steps"):
            return _steps(value)
        if key == "guidance":
            return _guidance(value)
        if key == "prompts":
            return str(value)
        if key in ("precision", "decode_precision"):
            return _one_of(PRECISIONS, key, value)
        if key == "quantize":
            return _one_of(QUANTIZATIONS, key, value)
        if key == "compile":
            return _switch(key, value)
        if key == "negative_prompt":
            from skipdit_cli.recipe.prompts import checked

            return None if value is None else checked(value)
        if key == "weights":
            return _weights(value)
        if key == "seeds":
            return _seeds(value)
        if key == "call":
            return _call(value)
        if key in SETTINGS:
            return parse_whole(key, value, least=0 if key == "seed" else 1, most=MOST[key])
        raise unknown("setting", key, SETTINGS)


def _sampler(value: Any) -> str:
    known = registry.names("samplers")
    if value not in known:
        raise unknown("sampler", str(value), known)
    return value


def _steps(value: Any) -> str:
    from skipdit_cli.samplers import timesteps

    timesteps(str(value))
    return re.sub(r"(?<!\d)0+(?=\d)", "", str(value).strip())  # one run for 4 and 04


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
    return scale


def _one_of(known: Collection[str], key: str, value: Any) -> str:
    if value not in known:
        raise unknown(key, str(value), known)
    return str(value)


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


def _call(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        fix = "write arguments of a pipeline's call into the recipe, as {height: 512}"
        raise UsageError(f"call cannot be '{value}'", fix=fix)
    return dict(value)


def over(settings: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others in place of them; a seed takes the place of seeds, and they of it."""
    twins = {"seed": "seeds", "seeds": "seed"}
    gone = {twins[key] for key in more if key in twins}
    return {key: value for key, value in settings.items() if key not in gone} | dict(more)


def _seeds(value: Any) -> tuple[int, ...]:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return tuple(dict.fromkeys(parse_range(text)))
