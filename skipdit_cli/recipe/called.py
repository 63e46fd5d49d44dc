"""What a run of a pipeline is called with: its own scheduler, and arguments of its call."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from skipdit_cli import registry
from skipdit_cli.cache import CacheSpec
from skipdit_cli.checkpoints import catalog, pipeline
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.errors import MissingAssetError, UsageError, placed
from skipdit_cli.profiling import counts, traced
from skipdit_cli.profiling.traced import Scheduler
from skipdit_cli.recipe import calibration

if TYPE_CHECKING:
    from skipdit_cli.cache import Cache
    from skipdit_cli.caches import Method
    from skipdit_cli.checkpoints.traced import Traced
    from skipdit_cli.run import Run
    from skipdit_cli.samplers import Sampler


def parse(given: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE texts as arguments of a call: numbers, true, false, null, lists, else text.

    >>> parse(["height=512", "negative=blurry"])
    {'height': 512, 'negative': 'blurry'}
    """
    found: dict[str, Any] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not (equals and value and re.fullmatch(r"[A-Za-z_]\w*", key)):
            raise UsageError(f"'{text}' is not KEY=VALUE", place="--call", fix="as height=512")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def settings(run: "Run") -> dict[str, Any]:
    """What a run of a pipeline is called with beyond its card, as `make_run` takes it."""
    call = _differing(run.card) if run.card.pipeline else {}
    return {"call": call} if call else {}


def _differing(card: Card) -> dict[str, Any]:
    """Arguments of a pipeline's call that its own card has not."""
    own = catalog.card(card.name).arguments
    return {key: value for key, value in card.arguments.items() if own.get(key) != value}


def written(call: Mapping[str, Any]) -> list[str]:
    """Arguments of a call as words of a command line, which `parse` reads."""
    pairs = (
        (key, each if isinstance(each, str) else json.dumps(each)) for key, each in call.items()
    )
    return [word for key, text in pairs for word in ("--call", f"{key}={text}")]


def with_call(card: Card, call: Mapping[str, Any]) -> Card:
    """The card of a pipeline that is called with these arguments.

    Raises:
        UsageError: it is no pipeline, or its call does not take one of them.
    """
    if not call:
        return card
    if not card.pipeline:
        problem = f"{card.name} is no pipeline of diffusers, whose call takes arguments"
        raise UsageError(problem, place="--call", fix="leave it out")
    known = pipeline.facts(card.variant)
    for key in call:
        if _reserved(key, known):
            raise UsageError(
                f"{key} is not for --call", place="--call", fix=_own_option(key, known)
            )
        if key not in known.keywords:
            taken = [each for each in known.keywords if not _reserved(each, known)]
            near = get_close_matches(key, taken, 1)
            fix = f"did you mean {near[0]}?" if near else f"it takes {', '.join(taken)}"
            raise UsageError(f"{card.variant} takes no {key}", place="--call", fix=fix)
    return replace(card, arguments={**card.arguments, **call})


def _reserved(key: str, known: pipeline.Facts) -> bool:
    """Whether an argument is not for --call."""
    ours = {*pipeline.OURS, known.scale}
    return key in ours or key.startswith(("callback", "prompt_emb"))


def _own_option(key: str, known: pipeline.Facts) -> str:
    options = {
        "prompt": "--prompt",
        "negative_prompt": "--negative-prompt",
        "num_inference_steps": "--steps",
        "generator": "--seed",
        known.scale: "--guidance",
    }
    return f"give it with {options[key]}" if key in options else "leave it out"


def scheduler(card: Card, name: str, chosen: Mapping[str, Any]) -> "Sampler":
    """The scheduler of a pipeline, where other runs have a sampler.

    Raises:
        UsageError: another one is asked for.
    """
    if name != card.sampling.sampler:
        problem = f"{card.name} has a scheduler of its own, {card.sampling.sampler}"
        raise UsageError(problem, place="--sampler", fix="leave it out")
    negative = chosen.get("negative_prompt") or ""
    return cast("Sampler", Scheduler(card, chosen["guidance"], negative))


def most_at_once(card: Card, *, asked: int | None) -> int:
    """How many samples a pipeline computes together where nothing is said: 1.

    Raises:
        UsageError: more are asked for than it can take generators for.
    """
    if (asked or 1) > 1 and not pipeline.facts(card.variant).lists:
        problem = f"{card.variant} takes one generator, and so one sample at a time"
        raise UsageError(problem, place="--batch-size", fix="leave it out")
    return 1


def unfit(card: Card, cache: "Cache", call: "Traced") -> str:
    """Why a cache cannot act on a pipeline, or "".

    Args:
        call: of the pipeline.
    """
    method = cache.method
    guided = max(call.samples) > 1
    if method.has("guide") and guided and not call.doubled:
        return "it changes guidance, which is two calls of the transformer"
    looks = method.SEES_INPUT and (guided or not method.has("guide"))
    if looks and traced.input_dims(card) not in (4, 5):
        return "it looks at latents as a picture, and the transformer is given them in a row"
    if cache.name != "none" and not cache.hooked:
        return "the transformer has none of the sites that it acts on"
    return ""


def fit(card: Card, name: str) -> str:
    """Whether a caching method fits a pipeline: "fits", or why not."""
    method = registry.load("caches", name)
    layout = counts.layout(card)
    try:
        config = method.Config()
        if method.CALIBRATED:
            _check_turns(card)
            config = replace(config, **_some(method, card))
        problem = unfit(card, CacheSpec(method, config).resolve(layout), traced.usual(card))
    except UsageError as error:
        problem = error.problem
    if problem:
        return f"no: {problem}"
    if not method.CALIBRATED:
        return "fits"
    there = calibration.files(card, f"{name}-*.json")
    return "fits, and is calibrated" if there else "fits, once it is calibrated"


def _check_turns(card: Card) -> None:
    """Raise a UsageError where what is measured of all steps would be of two transformers."""
    if len(traced.usual(card).stretches) > 1:
        raise UsageError("its transformers take turns, and it is calibrated for all steps of one")


def _some(method: "Method", card: Card) -> dict[str, Any]:
    """Calibrated settings of the right kind."""
    steps = len(traced.usual(card).timesteps)
    found = method.stand_in(method.Config(), counts.layout(card), steps)
    return {**found} or dict.fromkeys(method.CALIBRATED, (1.0,))


def check_method(card: Card, name: str) -> None:
    """Raise a UsageError where a caching method does not fit a pipeline, whatever its settings."""
    said = fit(card, name)
    if said.startswith("no: "):
        raise _misfit(card, name, said.removeprefix("no: "))


def _misfit(card: Card, name: str, problem: str) -> UsageError:
    call = "".join(f" {shlex.quote(word)}" for word in written(_differing(card)))
    return UsageError(
        f"{name} does not fit {card.variant}: {problem}",
        fix=f"`skipdit ls caches --pipeline {shlex.quote(card.name)}{call}` tells which do",
    )


def check(card: Card, cache: "Cache", chosen: Mapping[str, Any]) -> None:
    """Raise an error where a setting has no meaning on a pipeline, or needs what is not here."""
    with placed("--steps"):
        traced.call_arguments(card, chosen["steps"], chosen["guidance"])
    negative = chosen["negative_prompt"] or ""
    call = traced.traced(card, chosen["steps"], chosen["guidance"], negative)
    if problem := unfit(card, cache, call):
        raise _misfit(card, cache.name, problem)
    if chosen["quantize"] and find_spec("torchao") is None:
        fix = "run `pip install 'skipdit[quantize]'`"
        raise MissingAssetError("torchao is not installed", place="--quantize", fix=fix)
    known = pipeline.facts(card.variant)
    if chosen["guidance"] is not None and not known.scale:
        raise UsageError(
            f"{card.variant} takes no guidance", place="--guidance", fix="leave it out"
        )
    if chosen["negative_prompt"] and not known.negative:
        problem = f"{card.variant} takes no negative prompt"
        raise UsageError(problem, place="--negative-prompt", fix="leave it out")
